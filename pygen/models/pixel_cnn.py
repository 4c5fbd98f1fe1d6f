"""PixelCNN (van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural Networks", 2016)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from pygen.nn import MaskedConv2d
from pygen.nn._pointwise import PointwiseConv2d

from ._arguments import check_color_groups, check_int, check_odd, hidden_width
from ._pixel_model import PixelModel, in_layout_of
from ._program import Program


class PixelCNN(PixelModel):
    """A density of images, pixel by pixel, by one stack of masked convolutions: simple, with a blind spot to the upper right.

    One type A convolution, then residual blocks x + conv1x1(relu(masked B(relu(conv1x1(relu(x)))))) of widths C, C/2,
    C/2, C, then relu, 1x1, relu, 1x1. Dead taps are skipped. Van den Oord et al. 2016. The twin is
    `pygen.reference.models.PixelCNN`: same keys, same methods.

    Args:
        in_channels: of the images.
        hidden_channels: C, even; with colour groups a multiple of twice their number. None: 64, or 66 for three groups.
        num_blocks: residual blocks.
        num_levels: L; pixels are levels 0 .. L - 1.
        color_groups: 1: a pixel's channels are independent given the pixels before. More: the channels are that many contiguous
            groups, such as R|G|B, and each one sees those before it in its own pixel.
        kernel_size: k of the blocks' masked convolutions, odd.
        first_kernel_size: that of the first, odd.
        input_range: (low, high): as what the network sees levels 0 and num_levels - 1, others evenly between. (0, 1) suits
            weights of code that feeds the images of torchvision's `ToTensor`.

    Example:
        >>> model = pygen.models.PixelCNN(hidden_channels=8, num_blocks=1)
        >>> x = torch.randint(2, (2, 1, 8, 8))  # levels, int64 or uint8
        >>> model.loss(x).backward()
        >>> model.log_prob(x).shape, model.sample(4).shape
        (torch.Size([2]), torch.Size([4, 1, 8, 8]))
    """

    def __init__(
        self,
        in_channels: int = 1,
        *,
        hidden_channels: int | None = None,
        num_blocks: int = 7,
        num_levels: int = 2,
        color_groups: int = 1,
        kernel_size: int = 3,
        first_kernel_size: int = 7,
        input_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        in_channels, groups = check_color_groups("PixelCNN", in_channels, color_groups)
        super().__init__(in_channels, num_levels, groups, input_range)
        width = hidden_width("PixelCNN", hidden_channels, 2 * groups, "twice color_groups")
        kernel_size = check_odd("PixelCNN", "kernel_size", kernel_size)
        first_kernel_size = check_odd("PixelCNN", "first_kernel_size", first_kernel_size)
        num_blocks = check_int("PixelCNN", "num_blocks", num_blocks, at_least=0)
        self.first = MaskedConv2d(in_channels, width, first_kernel_size, "A", color_groups=groups)
        self.blocks = nn.Sequential(*(_Block(width, kernel_size, groups) for _ in range(num_blocks)))
        self.head = output_head(width, in_channels * self.num_levels, groups)

    def _logits(self, x: Tensor, cond: Tensor | None) -> Tensor:
        return self.head(self.blocks(in_layout_of(self.blocks, self.first(x))))

    def _program(self, cond: Tensor | None) -> Program:
        b = self._builder()
        x = b.conv(self.first, 0)
        for block in self.blocks:
            x = b.conv(
                block.widen, b.conv(block.masked, b.conv(block.narrow, x, relu=True), relu=True), relu=True, add=x
            )
        b.conv(self.head[3], b.conv(self.head[1], x, relu=True), relu=True)
        return b.program()


class _Block(nn.Module):
    def __init__(self, width: int, kernel_size: int, color_groups: int) -> None:
        super().__init__()
        self.narrow = pointwise(width, width // 2, color_groups)
        self.masked = MaskedConv2d(width // 2, width // 2, kernel_size, "B", color_groups=color_groups)
        self.widen = pointwise(width // 2, width, color_groups)

    def forward(self, x: Tensor) -> Tensor:  # [N, C, H, W] -> same
        y = F.relu(self.narrow(F.relu(x)), inplace=own(self.narrow))
        y = F.relu(self.masked(y), inplace=own(self.masked))
        return plus(self.widen(y), x, own(self.widen))


def own(layer: nn.Module) -> bool:
    """Whether what the layer returns is for its caller alone, who may change it in place: forward hooks may keep it, and backward
    hooks make it a view that autograd guards."""
    return not (layer._forward_hooks or layer._backward_hooks or layer._backward_pre_hooks)


def plus(y: Tensor, x: Tensor, in_place: bool) -> Tensor:
    return y.add_(x) if in_place else y + x


def pointwise(ins: int, outs: int, color_groups: int) -> nn.Conv2d:
    """A 1x1 convolution; masked where a pixel's channels are ordered, and only there (it would cut them off)."""
    return (
        PointwiseConv2d(ins, outs) if color_groups == 1 else MaskedConv2d(ins, outs, 1, "B", color_groups=color_groups)
    )


def output_head(width: int, outs: int, color_groups: int) -> nn.Sequential:
    """relu, 1x1, relu, 1x1."""
    return nn.Sequential(
        nn.ReLU(), pointwise(width, width, color_groups), nn.ReLU(), pointwise(width, outs, color_groups)
    )
