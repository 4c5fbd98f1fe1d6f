"""Pixel models that may be conditioned, on a class or on features."""

from __future__ import annotations

import torch
from torch import Tensor

from pygen._checks import check_tensor, fail

from ._arguments import check_int
from ._levels import INPUT_RANGE, InputRange, free_to_look_at
from ._pixel_model import PixelModel


class ConditionalPixelModel(PixelModel):
    """num_classes: cond is int64 [N]; cond_channels: floating, [N, cond_channels], or a map [N, cond_channels, H, W]."""

    def __init__(
        self,
        in_channels: int,
        num_levels: int,
        color_groups: int,
        num_classes: int | None,
        cond_channels: int | None,
        input_range: InputRange = INPUT_RANGE,
    ) -> None:
        super().__init__(in_channels, num_levels, color_groups, input_range)
        name = self._name
        if num_classes is not None and cond_channels is not None:
            raise fail(name, "cond_channels", "at most one of num_classes and cond_channels", "both")
        self.num_classes = None if num_classes is None else check_int(name, "num_classes", num_classes)
        self.cond_channels = None if cond_channels is None else check_int(name, "cond_channels", cond_channels)

    def _prepare_cond(self, cond: Tensor | None, n: int, size: torch.Size | tuple[int, int]) -> Tensor | None:
        if self.num_classes is None and self.cond_channels is None:
            return super()._prepare_cond(cond, n, size)
        if cond is None:  # in words only now: a size that is put into words is a constant of a compiled region
            expected = (
                f"classes [{n}]" if self.num_classes else f"features [{n}, {self.cond_channels}] or a map of them"
            )
            raise fail(self._name, "cond", f"{expected}, as this model is conditional", "None", kind=TypeError)
        check_tensor(self._name, "cond", cond)
        weight = self._weight
        if cond.device != weight.device:
            raise fail(self._name, "cond", f"a tensor on {weight.device}, where the model is", cond.device)
        return self._one_hot(cond, n) if self.num_classes else self._features(cond, n, size)

    def _one_hot(self, cond: Tensor, n: int) -> Tensor:
        """[N, num_classes]; on a GPU, where looking at the values would wait, a wrong class becomes NaN."""
        classes = self.num_classes or 0
        if cond.dtype != torch.int64:
            raise fail(self._name, "cond", f"classes 0 .. {classes - 1} as torch.int64", cond.dtype, kind=TypeError)
        if cond.shape != (n,):
            raise fail(self._name, "cond", f"shape [{n}]", list(cond.shape))
        one_hot = (cond.unsqueeze(1) == torch.arange(classes, device=cond.device)).to(self._weight.dtype)
        wrong = (cond < 0) | (cond >= classes)
        if free_to_look_at(cond) and not torch.compiler.is_compiling() and wrong.any():
            low, high = int(cond.min()), int(cond.max())
            raise fail(self._name, "cond", f"classes 0 .. {classes - 1}", f"{low} .. {high}")
        return one_hot.masked_fill(wrong.unsqueeze(1), float("nan"))

    def _features(self, cond: Tensor, n: int, size: torch.Size | tuple[int, int]) -> Tensor:
        if not cond.is_floating_point():
            raise fail(self._name, "cond", "a floating dtype", cond.dtype, kind=TypeError)
        vector = (n, self.cond_channels)
        if tuple(cond.shape) not in (vector, (*vector, *size)):
            raise fail(self._name, "cond", f"shape {list(vector)} or {[*vector, *size]}", list(cond.shape))
        return cond.to(self._weight.dtype)
