"""What the references of samplers share."""

import torch
from torch import Tensor

from pygen.reference import noise
from pygen.reference._layout import in_layout_of


def inverse_temperature(temperature: float, wide: torch.dtype) -> float:
    """1 / temperature, by which logits are multiplied once the largest is taken off: 0 and -inf keep their meaning."""
    limits = torch.finfo(wide)
    return 1 / min(max(temperature, 1 / limits.max), 1 / limits.tiny)


def position_uniforms(n: int, positions: int, channels: int, seed: Tensor, domain: int) -> Tensor:
    """float32 in (0, 1], [N, C, positions]: channel c of position p has word p C + c of its image."""
    return noise.uniforms(n, positions * channels, seed, domain).view(n, positions, channels).transpose(1, 2)


def as_levels(drawn: Tensor, num_levels: int, shape: tuple[int, ...], params: Tensor) -> Tensor:
    """int64 in the form that samplers return: uint8 up to 256 levels, channels_last where `params` are."""
    levels = drawn.to(torch.uint8 if num_levels <= 256 else torch.int64).reshape(shape)
    return in_layout_of(levels, params)
