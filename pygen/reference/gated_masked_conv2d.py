"""A layer's masked convolution and its gate in plain PyTorch: masked_conv2d.py and gated_activation.py one after the other.

    pre = conv(input) + conv1x1(side) + add        out = gate(pre + cond)

`side` and `add` join the sums before they are rounded (in float32, float64 for float64), so pre is rounded once; the gate
reads it rounded, as a call of its own would.
"""

from collections.abc import Sequence

from torch import Tensor

from pygen.reference import gated_activation, masked_conv2d
from pygen.reference._layout import in_layout_of


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
    """pre [N, 2 C, H, W] and out [N, C, H, W], channels_last iff the input is."""
    input, weight = input.resolve_neg(), weight.resolve_neg()
    pre = in_layout_of(_sum(input, weight, bias, add, side, side_weight, taps, color_groups, strict, dilation), input)
    return pre, gated_activation.forward(pre, cond, color_groups)


def compose(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    add: Tensor | None,
    cond: Tensor | None,
    taps: Sequence[int],
    color_groups: int,
    strict: bool,
    dilation: int,
    side: Tensor | None = None,
    side_weight: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """`forward` in whatever layout comes; differentiable to any order, and torch.func can transform it."""
    pre = _sum(input, weight, bias, add, side, side_weight, taps, color_groups, strict, dilation)
    return pre, gated_activation.compose(pre, cond, color_groups)


def _sum(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    add: Tensor | None,
    side: Tensor | None,
    side_weight: Tensor | None,
    *mask,
) -> Tensor:
    wide = masked_conv2d.compute_dtype(input.dtype)
    pre = masked_conv2d.compose(input.to(wide), weight.to(wide), bias if bias is None else bias.to(wide), *mask)
    if side is not None and side_weight is not None:
        pre = pre + masked_conv2d.compose(side.to(wide), side_weight.to(wide), None, (0,), 1, False, 1)
    return (pre if add is None else pre + add.to(wide)).to(input.dtype)
