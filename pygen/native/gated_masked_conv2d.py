"""Launcher of gated_masked_conv2d on CPUs: the C++ kernels of masked_conv2d and gated_activation one after the other."""

from collections.abc import Sequence

from torch import Tensor

from pygen.native import gated_activation, masked_conv2d
from pygen.native._arguments import strided


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
) -> tuple[Tensor, Tensor]:
    """pre [N, 2 C, H, W] and out [N, C, H, W]"""
    pre = masked_conv2d.forward(input, weight, bias, taps, color_groups, strict, dilation)
    if add is not None:
        strided(add)  # which refuses a tensor without memory; torch would read it
        pre.add_(add)
    return pre, gated_activation.forward(pre, cond, color_groups)
