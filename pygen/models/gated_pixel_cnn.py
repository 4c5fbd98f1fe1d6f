"""Gated PixelCNN (van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", 2016)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from pygen._checks import check_tensor, fail
from pygen.nn import GatedMaskedConv2d

from ._arguments import check_color_groups, check_int, check_odd, hidden_width
from ._pixel_model import PixelModel, in_layout_of
from ._program import Builder, Program
from .pixel_cnn import output_head


class GatedPixelCNN(PixelModel):
    """Two stacks and no blind spot: the vertical one sees the rows above, the horizontal one its row and the vertical stack.

    A gated layer of type A, then residual gated layers of type B, then relu, 1x1, relu, 1x1. Dead taps are skipped. The
    twin is `pygen.reference.models.GatedPixelCNN`: same keys, same methods.

    Args:
        in_channels: of the images.
        hidden_channels: of each stack, a multiple of color_groups. None: 64, or 66 for three groups.
        num_blocks: layers of type B.
        num_levels: L; pixels are levels 0 .. L - 1.
        color_groups: as in `PixelCNN`.
        kernel_size: k of the layers of type B, odd.
        first_kernel_size: that of the first, odd.
        num_classes: conditions on a class: cond is int64 [N].
        cond_channels: conditions on features: cond is floating, [N, cond_channels], or a map [N, cond_channels, H, W].
    """

    def __init__(
        self,
        in_channels: int = 1,
        *,
        hidden_channels: int | None = None,
        num_blocks: int = 7,
        num_levels: int = 2,
        color_groups: int = 1,
        kernel_size: int = 3,
        first_kernel_size: int = 7,
        num_classes: int | None = None,
        cond_channels: int | None = None,
    ) -> None:
        name = "GatedPixelCNN"
        in_channels, groups = check_color_groups(name, in_channels, color_groups)
        super().__init__(in_channels, num_levels, groups)
        if num_classes is not None and cond_channels is not None:
            raise fail(name, "cond_channels", "at most one of num_classes and cond_channels", "both")
        self.num_classes = None if num_classes is None else check_int(name, "num_classes", num_classes)
        self.cond_channels = None if cond_channels is None else check_int(name, "cond_channels", cond_channels)
        cond = self.num_classes or self.cond_channels
        width = hidden_width(name, hidden_channels, groups, "the number of color_groups")
        kernel_size = check_odd(name, "kernel_size", kernel_size)
        first_kernel_size = check_odd(name, "first_kernel_size", first_kernel_size)
        num_blocks = check_int(name, "num_blocks", num_blocks, at_least=0)
        self.first = GatedMaskedConv2d(
            in_channels, width, first_kernel_size, "A", color_groups=groups, cond_channels=cond
        )
        self.blocks = nn.ModuleList(
            GatedMaskedConv2d(width, width, kernel_size, "B", color_groups=groups, cond_channels=cond)
            for _ in range(num_blocks)
        )
        self.head = output_head(width, in_channels * self.num_levels, groups)

    def _logits(self, x: Tensor, cond: Tensor | None) -> Tensor:
        vertical, horizontal = (in_layout_of(self.blocks, t) for t in self.first(x, x, cond))
        for block in self.blocks:
            vertical, horizontal = block(vertical, horizontal, cond)
        return self.head(horizontal)

    def _program(self, cond: Tensor | None) -> Program:
        b = Builder(self.in_channels, self.num_levels, self.color_groups)
        vertical = horizontal = 0
        for layer in (self.first, *self.blocks):
            to_vertical, to_horizontal = layer.conditions(cond)
            v = b.conv(layer.vertical, vertical)
            h = b.conv(layer.horizontal, horizontal, add=b.conv(layer.vertical_to_horizontal, v))
            residual = None if layer.mask_type == "A" else horizontal
            horizontal = b.conv(layer.out, b.gate(h, to_horizontal), add=residual)
            vertical = b.gate(v, to_vertical)
        b.conv(self.head[3], b.conv(self.head[1], horizontal, relu=True), relu=True)
        return b.program()

    def _prepare_cond(self, cond: Tensor | None, n: int, size: torch.Size | tuple[int, int]) -> Tensor | None:
        if self.num_classes is None and self.cond_channels is None:
            return super()._prepare_cond(cond, n, size)
        expected = f"classes [{n}]" if self.num_classes else f"features [{n}, {self.cond_channels}] or a map of them"
        if cond is None:
            raise fail("GatedPixelCNN", "cond", f"{expected}, as this model is conditional", "None", kind=TypeError)
        check_tensor("GatedPixelCNN", "cond", cond)
        weight = self._weight
        if cond.device != weight.device:
            raise fail("GatedPixelCNN", "cond", f"a tensor on {weight.device}, where the model is", cond.device)
        return self._one_hot(cond, n) if self.num_classes else self._features(cond, n, size)

    def _one_hot(self, cond: Tensor, n: int) -> Tensor:
        """[N, num_classes]; on a GPU, where looking at the values would wait, a wrong class becomes NaN."""
        classes = self.num_classes or 0
        if cond.dtype != torch.int64:
            raise fail(
                "GatedPixelCNN", "cond", f"classes 0 .. {classes - 1} as torch.int64", cond.dtype, kind=TypeError
            )
        if cond.shape != (n,):
            raise fail("GatedPixelCNN", "cond", f"shape [{n}]", list(cond.shape))
        one_hot = (cond.unsqueeze(1) == torch.arange(classes, device=cond.device)).to(self._weight.dtype)
        wrong = (cond < 0) | (cond >= classes)
        if cond.device.type == "cpu" and not torch.compiler.is_compiling() and wrong.any():
            low, high = int(cond.min()), int(cond.max())
            raise fail("GatedPixelCNN", "cond", f"classes 0 .. {classes - 1}", f"{low} .. {high}")
        return one_hot.masked_fill(wrong.unsqueeze(1), float("nan"))

    def _features(self, cond: Tensor, n: int, size: torch.Size | tuple[int, int]) -> Tensor:
        if not cond.is_floating_point():
            raise fail("GatedPixelCNN", "cond", "a floating dtype", cond.dtype, kind=TypeError)
        vector = (n, self.cond_channels)
        if tuple(cond.shape) not in (vector, (*vector, *size)):
            raise fail("GatedPixelCNN", "cond", f"shape {list(vector)} or {[*vector, *size]}", list(cond.shape))
        return cond.to(self._weight.dtype)
