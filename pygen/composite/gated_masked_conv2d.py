"""The split of masked_conv2d and torch's own gate, one after the other; `side` and `add` join what is already rounded."""

from collections.abc import Sequence

from torch import Tensor

from pygen.composite import masked_conv2d
from pygen.reference import gated_activation


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
    pre = masked_conv2d.forward(input, weight, bias, taps, color_groups, strict, dilation)
    if side is not None and side_weight is not None:
        pre.add_(masked_conv2d.forward(side, side_weight, None, (0,), 1, False, 1))
    if add is not None:
        pre.add_(add)
    return pre, gated_activation.forward(pre, cond, color_groups)
