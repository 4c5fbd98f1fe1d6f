"""What the launchers of pixel_lstm share: the weight by gates, and its gradient by each backend's masked convolution."""

from collections.abc import Callable

from torch import Tensor

# Of a 3x3 kernel: above, and beside.
_TAPS = {"right": (1, 3), "left": (1, 5)}


def grad_of_weight(
    grad_weight: Callable[..., tuple[Tensor, Tensor | None]],  # a launcher's of masked_conv2d
    grad_sums: Tensor,  # [N, 4 H, R, W]
    output: Tensor,  # [N, H, R, W]
    direction: str,
    kernel: int,
) -> Tensor:
    """[4 H, H, k]"""
    size, taps = ((3, kernel), tuple(range(kernel))) if direction == "down" else ((3, 3), _TAPS[direction])
    grad, _ = grad_weight(grad_sums, output, size, taps, 1, True, 1, False)
    return grad.flatten(2)[:, :, list(taps)]


def by_gate(weight: Tensor, color_groups: int) -> Tensor:
    """[4 H, H, k], blocks of four gates, as [4, H, H, k]."""
    return weight.unflatten(0, (color_groups, 4, -1)).transpose(0, 1).flatten(1, 2)
