"""Launcher of the C++ and the CUDA C++ kernels of pixel_lstm. CUDA: not yet run on a GPU."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pygen._layout import empty_images, to_output_layout
from pygen._lstm import by_gate, grad_of_weight
from pygen.native import masked_conv2d
from pygen.native._arguments import DTYPE_NAMES, on_gpu, strided, target
from pygen.reference.pixel_lstm import empty_kept

_QUAD = 4  # csrc/cuda/pixel_lstm.h


def _launch(
    backward: bool,
    weight: Tensor,
    direction: str,
    color_groups: int,
    input: Tensor,
    output: Tensor,
    kept: Tensor | None,
) -> None:
    where = compiled, there = target(input)
    strided(weight)  # raises where there is nothing to read
    sizes = (*output.shape, weight.shape[2], color_groups)
    call = (DTYPE_NAMES[input.dtype], direction, sizes)
    tensors = (strided(input), strided(output), None if kept is None else strided(kept))
    run = compiled.pixel_lstm_backward if backward else compiled.pixel_lstm_forward
    wide = weight.to(torch.promote_types(weight.dtype, torch.float32)).contiguous()
    if not on_gpu(where):
        run(*call, wide.data_ptr(), tensors, *there)
    elif output.numel():
        packed = _packed(by_gate(wide, color_groups), backward)
        numbers = compiled.pixel_lstm_workspace(*call, backward, there[0]) * output.shape[0]
        workspace = torch.empty(numbers, dtype=wide.dtype, device=input.device) if numbers else None
        run(*call, packed.data_ptr(), tensors, None if workspace is None else workspace.data_ptr(), *there)


def _packed(weight: Tensor, backward: bool) -> Tensor:
    """[4, H, H, k] as the CUDA kernels read it, with zeros up to whole quads of what is summed over."""
    _, hidden, _, kernel = weight.shape
    more = -hidden % _QUAD
    if not backward:
        return F.pad(weight.permute(3, 2, 1, 0), (0, 0, 0, 0, 0, more)).contiguous()
    rows = F.pad(weight, (0, 0, 0, 0, 0, more)).reshape(-1, _QUAD, hidden, kernel)
    return rows.permute(3, 0, 2, 1).contiguous()


def _channels_inner(t: Tensor) -> Tensor:
    """On a GPU neighbouring threads have neighbouring channels."""
    return t.contiguous(memory_format=torch.channels_last) if on_gpu(target(t)) and t.stride(1) != 1 else t


def _empty_channels_inner(like: Tensor, channels: int) -> Tensor:
    if not on_gpu(target(like)):
        return empty_images(like, channels)
    shape = (like.shape[0], channels, *like.shape[2:])
    return torch.empty(shape, dtype=like.dtype, device=like.device, memory_format=torch.channels_last)


def forward(
    input: Tensor,  # [N, 4 H, R, W]
    weight: Tensor,  # [4 H, H, k]
    direction: str,
    color_groups: int,
    keep: bool,
) -> tuple[Tensor, Tensor | None]:
    """h [N, H, R, W], and what backward needs."""
    output = _empty_channels_inner(input, weight.shape[1])
    kept = empty_kept(input, weight.shape[1], direction) if keep else None
    _launch(False, weight, direction, color_groups, _channels_inner(input), output, kept)
    return to_output_layout(output, input), kept


def backward(
    grad: Tensor,  # [N, H, R, W]
    weight: Tensor,  # [4 H, H, k]
    output: Tensor,  # [N, H, R, W]
    kept: Tensor,  # [N, 5 H, R, W]
    direction: str,
    color_groups: int,
    needs: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None]:
    """Gradients of input and weight, None where they are not needed."""
    sums = _empty_channels_inner(output, weight.shape[0])
    _launch(True, weight, direction, color_groups, sums, _channels_inner(grad), kept)
    taps = weight.shape[2]
    grad_weight = grad_of_weight(masked_conv2d.grad_weight, sums, output, direction, taps) if needs[1] else None
    return to_output_layout(sums, output) if needs[0] else None, grad_weight
