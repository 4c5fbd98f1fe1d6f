"""Launcher of the C++ kernels of gated_activation."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen._layout import empty_images
from pygen.native._arguments import DTYPE_NAMES, strided, target


def _channels_inner(input: Tensor) -> bool:
    """Whether channels lie closer together than pixels."""
    return input.dim() > 2 and input.stride(1) == 1 and input.stride(-1) != 1


def forward(input: Tensor, cond: Tensor | None, color_groups: int) -> Tensor:
    """input [N, C, ...], cond [N, C] or like input -> [N, C / 2, ...]"""
    output = empty_images(input, input.shape[1] // 2)
    compiled, where = target(input)
    compiled.gated_activation_forward(
        DTYPE_NAMES[input.dtype],
        input.shape,
        color_groups,
        _channels_inner(input),
        strided(input),
        None if cond is None else strided(cond),
        strided(output),
        *where,
    )
    return output


def backward(
    grad: Tensor,  # [N, C / 2, ...]
    input: Tensor,  # [N, C, ...]
    cond: Tensor | None,  # [N, C] or like input
    color_groups: int,
    needs: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of input and cond; None where needs is False."""
    grad_input = torch.empty_like(input) if needs[0] else None
    grad_cond = torch.empty_like(cond) if cond is not None and needs[1] else None
    compiled, where = target(input)
    compiled.gated_activation_backward(
        DTYPE_NAMES[input.dtype],
        input.shape,
        color_groups,
        _channels_inner(input),
        strided(input),
        None if cond is None else strided(cond),
        strided(grad),
        None if grad_input is None else strided(grad_input),
        None if grad_cond is None else strided(grad_cond),
        cond is not None and cond.dim() < input.dim(),
        *where,
    )
    return grad_input, grad_cond
