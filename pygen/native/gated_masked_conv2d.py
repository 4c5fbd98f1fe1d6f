"""Launcher of gated_masked_conv2d: on CPUs the kernels of masked_conv2d and gated_activation one after the other, in CUDA C++ one
of its own. CUDA: not yet run on a GPU.
"""

from collections.abc import Sequence

from torch import Tensor

from pygen import _tf32
from pygen._layout import empty_images, to_output_layout
from pygen.native import gated_activation, masked_conv2d
from pygen.native._arguments import Where, contiguous, launch, on_gpu, strided, target


def forward(
    input: Tensor,  # [N, Cin, H, W]
    weight: Tensor,  # [2 C, Cin, kH, kW]
    bias: Tensor | None,  # [2 C]
    add: Tensor | None,  # [N, 2 C, H, W]
    cond: Tensor | None,  # [N, 2 C] or [N, 2 C, H, W]
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
    side: Tensor | None = None,  # [N, K, H, W]
    side_weight: Tensor | None = None,  # [2 C, K, 1, 1]
) -> tuple[Tensor, Tensor]:
    """pre [N, 2 C, H, W] and out [N, C, H, W]"""
    where, mask = target(input), (taps, color_groups, strict, dilation)
    if on_gpu(where):
        return _forward_cuda(where, input, weight, bias, add, cond, *mask, side, side_weight)
    pre = masked_conv2d.forward(input, weight, bias, *mask)
    if side is not None and side_weight is not None:
        pre.add_(masked_conv2d.forward(side, side_weight, None, (0,), 1, False, 1))
    if add is not None:
        strided(add)  # which refuses a tensor without memory; torch would read it
        pre.add_(add)
    return pre, gated_activation.forward(pre, cond, color_groups)


def _forward_cuda(
    where: Where,
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    add: Tensor | None,
    cond: Tensor | None,
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
    side: Tensor | None,
    side_weight: Tensor | None,
) -> tuple[Tensor, Tensor]:
    pre, out = empty_images(input, weight.shape[0]), empty_images(input, weight.shape[0] // 2)
    # The kernel reads these by the output's strides: another layout is copied.
    bias = bias if bias is None else contiguous(bias)
    add = add if add is None else to_output_layout(add, pre)
    if cond is not None:
        cond = contiguous(cond) if cond.dim() == 2 else to_output_layout(cond, pre)
    bias_address, *addresses = [None if t is None else strided(t)[0] for t in (bias, add, cond)]
    beside = (0, None, None)
    if side is not None and side_weight is not None:
        beside = (side.shape[1], strided(side), strided(side_weight))
    launch(
        where,
        input.device,
        "gated_masked_conv2d_forward",
        _tf32.allowed(input),
        *masked_conv2d.product(input, pre, weight, taps, color_groups, strict, dilation),
        bias_address,
        *beside,
        *addresses,
        cond is not None and cond.dim() == 2,
        out.data_ptr(),
    )
    return pre, out
