"""Pixel models and their plain-PyTorch twins with equal weights, images for them, and Jacobians."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from pygen import models
from pygen.reference import models as plain_models


@dataclass(frozen=True)
class Case:
    """A model small enough to be looked at from all sides."""

    name: str  # of the class
    options: dict = field(default_factory=dict)
    cond: Callable[[int, int, int], Tensor] | None = None  # (n, H, W) -> the conditions
    gain: float = 2.0  # of random weights

    def images(self, n: int, height: int = 5, width: int = 4, seed: int = 0) -> Tensor:
        shape = (n, self.option("in_channels"), height, width)
        generator = torch.Generator().manual_seed(seed)
        return torch.randint(0, self.option("num_levels"), shape, generator=generator, dtype=torch.uint8)

    def option(self, name: str) -> Any:
        """As given, or the class's own."""
        return self.options.get(name, inspect.signature(getattr(models, self.name)).parameters[name].default)

    def conditions(self, n: int, height: int = 5, width: int = 4) -> Tensor | None:
        return None if self.cond is None else self.cond(n, height, width)


def _features(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)


_RECURRENT = {
    "rnn": Case("PixelRNN", {"hidden_channels": 4, "num_blocks": 2}),
    "rnn-row-grey": Case(
        "PixelRNN",
        {"hidden_channels": 4, "num_blocks": 2, "kind": "row", "num_levels": 5, "first_kernel_size": 3}
        | {"input_range": (0, 1)},
    ),
    "rnn-rgb": Case(
        "PixelRNN", {"in_channels": 3, "color_groups": 3, "hidden_channels": 6, "num_blocks": 1, "num_levels": 3}
    ),
}
# Widths are small; kernels, groups, levels, what they are scaled to and conditions all vary.
CASES = {
    "plain": Case("PixelCNN", {"hidden_channels": 8, "num_blocks": 2}),
    "plain-grey": Case("PixelCNN", {"hidden_channels": 6, "num_blocks": 1, "num_levels": 5, "first_kernel_size": 3}),
    "plain-rgb": Case(
        "PixelCNN",
        {"in_channels": 3, "color_groups": 3, "hidden_channels": 24, "num_blocks": 2, "num_levels": 4}
        | {"input_range": (0, 1)},
    ),
    "plain-two-independent": Case("PixelCNN", {"in_channels": 2, "hidden_channels": 8, "num_blocks": 1}),
    "plain-no-block": Case("PixelCNN", {"hidden_channels": 4, "num_blocks": 0}),
    "gated": Case("GatedPixelCNN", {"hidden_channels": 5, "num_blocks": 2}),
    "gated-k5": Case(
        "GatedPixelCNN",
        {"hidden_channels": 4, "num_blocks": 1, "kernel_size": 5, "first_kernel_size": 3, "input_range": (-0.5, 2)},
    ),
    "gated-rgb": Case(
        "GatedPixelCNN", {"in_channels": 3, "color_groups": 3, "hidden_channels": 12, "num_blocks": 2, "num_levels": 3}
    ),
    "gated-classes": Case(
        "GatedPixelCNN",
        {"hidden_channels": 4, "num_blocks": 1, "num_classes": 3},
        lambda n, h, w: torch.arange(n) % 3,
    ),
    "gated-features": Case(
        "GatedPixelCNN",
        {"hidden_channels": 4, "num_blocks": 1, "cond_channels": 2},
        lambda n, h, w: _features(n, 2),
    ),
    "gated-map": Case(
        "GatedPixelCNN",
        {"in_channels": 2, "color_groups": 2, "hidden_channels": 4, "num_blocks": 1, "cond_channels": 2},
        lambda n, h, w: _features(n, 2, h, w),
    ),
    "pp": Case(
        "PixelCNNPP",
        {"in_channels": 1, "hidden_channels": 6, "num_resnets": 1, "num_scales": 2, "num_mixtures": 2, "num_levels": 2}
        | {"dropout": 0},
        gain=1.5,
    ),
    "pp-rgb": Case(
        "PixelCNNPP",
        {"hidden_channels": 5, "num_resnets": 2, "num_scales": 3, "num_mixtures": 3, "num_levels": 6, "dropout": 0}
        | {"weight_norm": False},
        gain=1.0,
    ),
    "pp-one-scale-classes": Case(
        "PixelCNNPP",
        {"in_channels": 1, "hidden_channels": 4, "num_resnets": 1, "num_scales": 1, "num_mixtures": 1}
        | {"num_levels": 5, "dropout": 0, "weight_norm": False, "num_classes": 3},
        lambda n, h, w: torch.arange(n) % 3,
        gain=1.0,
    ),
    "pp-map": Case(
        "PixelCNNPP",
        {"hidden_channels": 4, "num_resnets": 1, "num_scales": 2, "num_mixtures": 2, "num_levels": 3, "dropout": 0}
        | {"weight_norm": False, "cond_channels": 2},
        lambda n, h, w: _features(n, 2, h, w),
        gain=1.0,
    ),
    **_RECURRENT,
}
RECURRENT = list(_RECURRENT)
SINGLE_SCALE = [name for name, case in CASES.items() if case.name in ("PixelCNN", "GatedPixelCNN")]


def randomise(model: nn.Module, gain: float = 2.0, seed: int = 0) -> nn.Module:
    """Weights that make everything matter: torch's initial ones leave some outputs nearly constant."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            scale = gain / parameter[0].numel() ** 0.5 if parameter.dim() > 1 else 0.1
            parameter.copy_(scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64))
    return model


def twins(case: Case | str, dtype: torch.dtype = torch.float64, **options: object) -> tuple[nn.Module, nn.Module]:
    """The plain one and pygen's."""
    case = CASES[case] if isinstance(case, str) else case
    plain = getattr(plain_models, case.name)(**case.options, **options)
    ours = getattr(models, case.name)(**case.options, **options)
    randomise(plain, case.gain)
    ours.load_state_dict(plain.state_dict(), strict=True)
    return plain.to(dtype), ours.to(dtype)


def jacobian(model: nn.Module, shape: tuple[int, ...], cond: Tensor | None = None, draws: int = 3) -> Tensor:
    """[P, C, P, C]: how far the logits of each pixel and channel depend on each pixel and channel, over random images.

    P counts pixels in raster order. An entry is 0 only where nothing flows in any draw. One image of a batch for each row.
    """
    channels, height, width = shape
    pixels = height * width
    row = torch.arange(pixels * channels)
    total = torch.zeros(pixels, channels, pixels, channels, dtype=torch.float64)
    for draw in range(draws):
        generator = torch.Generator().manual_seed(draw)
        image = torch.randn(1, *shape, generator=generator, dtype=torch.float64)
        x = image.repeat(len(row), 1, 1, 1).requires_grad_()
        logits = model._logits(x, None if cond is None else cond.expand(len(row), *cond.shape[1:]))
        if hasattr(model, "mixture_params"):  # all of them are of all channels
            logits = logits.unsqueeze(1).expand(-1, channels, -1, -1, -1)
        logits = logits.reshape(len(row), channels, -1, pixels)
        of_row = logits[row, row % channels, :, row // channels]  # [rows, L]
        levels = torch.linspace(-1, 2, of_row.shape[1], dtype=torch.float64)
        (grad,) = torch.autograd.grad((of_row * levels).sum(), x)
        total += grad.abs().view(pixels, channels, channels, pixels).transpose(2, 3)
    return total


def all_binary_images(height: int, width: int) -> Tensor:
    """uint8 [2^(H W), 1, H, W]"""
    bits = torch.arange(2 ** (height * width)).unsqueeze(1) >> torch.arange(height * width)
    return (bits & 1).to(torch.uint8).view(-1, 1, height, width)
