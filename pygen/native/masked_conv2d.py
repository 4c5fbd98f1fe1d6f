"""Launcher of the C++ and the CUDA C++ kernels of masked_conv2d. CUDA: not yet run on a GPU."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen import _tf32
from pygen._layout import empty_images, to_output_layout
from pygen.native._arguments import DTYPE_NAMES, contiguous, launch, on_gpu, strided, target


def _launch(name: str, t: Tensor, *arguments: object) -> None:
    launch(target(t), t.device, name, _tf32.allowed(t), *arguments)


def product(
    input: Tensor,  # [N, Cin, H, W]
    output: Tensor,  # [N, Cout, H, W]
    weight: Tensor,  # [Cout, Cin, kH, kW]
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
) -> tuple[object, ...]:
    """What every binding of such a product takes first."""
    shapes = (DTYPE_NAMES[input.dtype], input.shape, weight.shape)
    tensors = (strided(input), strided(output), strided(weight))
    return *shapes, tuple(taps), color_groups, strict, dilation, *tensors


def forward(
    input: Tensor,  # [N, Cin, H, W]
    weight: Tensor,  # [Cout, Cin, kH, kW]
    bias: Tensor | None,  # [Cout]
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
    add: Tensor | None = None,  # [N, Cout, H, W]
) -> Tensor:
    """[N, Cout, H, W]"""
    output = empty_images(input, weight.shape[0])
    bias = bias if bias is None else contiguous(bias)
    bias_address = None if bias is None else strided(bias)[0]
    arguments = (*product(input, output, weight, taps, color_groups, strict, dilation), bias_address)
    if add is None:
        _launch("masked_conv2d_forward", input, *arguments)
    elif on_gpu(target(input)):  # added before the sum is rounded
        add = to_output_layout(add, output)
        _launch("masked_conv2d_add_forward", input, *arguments, strided(add)[0])
    else:
        strided(add)  # which refuses a tensor without memory; torch would read it
        _launch("masked_conv2d_forward", input, *arguments)
        output.add_(add)
    return output


def filters(
    input: Tensor,  # [N, Cin, H, W]
    weight: Tensor,  # [Cout, Cin, kH, kW]
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
) -> bool:
    """Whether `forward` on CPUs takes the kernel of fewer multiplications."""
    compiled, where = target(input)
    nothing = (0, (0,) * 4)
    return compiled.does_masked_conv2d_filter(
        DTYPE_NAMES[input.dtype],
        input.shape,
        weight.shape,
        tuple(taps),
        color_groups,
        strict,
        dilation,
        nothing,
        nothing,
        nothing,
        None,
        *where,
    )


def grad_input(
    grad: Tensor,  # [N, Cout, H, W]
    weight: Tensor,  # [Cout, Cin, kH, kW]
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
) -> Tensor:
    """[N, Cin, H, W]"""
    result = empty_images(grad, weight.shape[1])
    _launch(
        "masked_conv2d_grad_input",
        grad,
        DTYPE_NAMES[grad.dtype],
        result.shape,
        weight.shape,
        tuple(taps),
        color_groups,
        strict,
        dilation,
        strided(result),
        strided(grad),
        strided(weight),
        None,
    )
    return result


def grad_weight(
    grad: Tensor,  # [N, Cout, H, W]
    input: Tensor,  # [N, Cin, H, W]
    kernel_size: Sequence[int],
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
    need_bias: bool,
) -> tuple[Tensor, Tensor | None]:
    """weight's gradient [Cout, Cin, kH, kW], 0 where it is dead, and bias's [Cout]."""
    channels = grad.shape[1]
    weight = torch.empty((channels, input.shape[1], *kernel_size), dtype=grad.dtype, device=grad.device)
    bias = torch.empty(channels, dtype=grad.dtype, device=grad.device) if need_bias else None
    _launch(
        "masked_conv2d_grad_weight",
        grad,
        DTYPE_NAMES[grad.dtype],
        input.shape,
        weight.shape,
        tuple(taps),
        color_groups,
        strict,
        dilation,
        strided(input),
        strided(grad),
        strided(weight),
        None if bias is None else bias.data_ptr(),
    )
    return weight, bias
