"""PixelRNN (van den Oord, Kalchbrenner, Kavukcuoglu, "Pixel Recurrent Neural Networks", 2016)."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from pygen._checks import fail
from pygen.nn import DiagonalBiLSTM, MaskedConv2d, RowLSTM

from ._arguments import check_color_groups, check_int, check_odd, hidden_width
from ._builder import Builder
from ._pixel_model import PixelModel, in_layout_of
from ._program import RecurrentProgram
from .pixel_cnn import output_head, own, plus, pointwise


class PixelRNN(PixelModel):
    """A density of images, pixel by pixel, by LSTMs that scan the image: slower than PixelCNN, and sees far.

    One type A convolution to 2 H features, then blocks x + conv1x1(LSTM(x)) of H hidden channels, then relu, 1x1, relu,
    1x1. The LSTM is `pygen.nn.DiagonalBiLSTM`, or `pygen.nn.RowLSTM`, which sees a triangle above. Of the diagonal kind
    a pixel sees all before it, but for one: the last of the row above, which the first convolution alone can show it,
    as no layer's features of a pixel know the pixel itself. Van den Oord et al. 2016. The twin is
    `pygen.reference.models.PixelRNN`: same keys, same methods.

    Args:
        in_channels: of the images.
        hidden_channels: H; with colour groups a multiple of their number. None: 64, or 66 for three groups.
        num_blocks: residual blocks.
        num_levels: L; pixels are levels 0 .. L - 1.
        color_groups: 1: a pixel's channels are independent given the pixels before. More: the channels are that many contiguous
            groups, such as R|G|B, and each one sees those before it in its own pixel.
        kind: "diagonal" or "row".
        first_kernel_size: that of the first convolution, odd.
        input_range: (low, high): as what the network sees levels 0 and num_levels - 1, others evenly between. (0, 1) suits
            weights of code that feeds the images of torchvision's `ToTensor`.

    Example:
        >>> model = pygen.models.PixelRNN(hidden_channels=4, num_blocks=1)
        >>> x = torch.randint(2, (2, 1, 6, 6))
        >>> model.loss(x).backward()
        >>> model.log_prob(x).shape, model.sample(2).shape
        (torch.Size([2]), torch.Size([2, 1, 6, 6]))
    """

    program_type = RecurrentProgram

    def __init__(
        self,
        in_channels: int = 1,
        *,
        hidden_channels: int | None = None,
        num_blocks: int = 7,
        num_levels: int = 2,
        color_groups: int = 1,
        kind: str = "diagonal",
        first_kernel_size: int = 7,
        input_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        in_channels, groups = check_color_groups("PixelRNN", in_channels, color_groups)
        super().__init__(in_channels, num_levels, groups, input_range)
        hidden = hidden_width("PixelRNN", hidden_channels, groups, "color_groups")
        first_kernel_size = check_odd("PixelRNN", "first_kernel_size", first_kernel_size)
        num_blocks = check_int("PixelRNN", "num_blocks", num_blocks, at_least=0)
        layers: dict[object, type[nn.Module]] = {"diagonal": DiagonalBiLSTM, "row": RowLSTM}
        if not isinstance(kind, str) or kind not in layers:
            raise fail("PixelRNN", "kind", "'diagonal' or 'row'", repr(kind))
        self.first = MaskedConv2d(in_channels, 2 * hidden, first_kernel_size, "A", color_groups=groups)
        self.blocks = nn.Sequential(*(_Block(layers[kind], hidden, groups) for _ in range(num_blocks)))
        self.head = output_head(2 * hidden, in_channels * self.num_levels, groups)

    def _logits(self, x: Tensor, cond: Tensor | None) -> Tensor:
        return self.head(self.blocks(in_layout_of(self.blocks, self.first(x))))

    def _program(self, cond: Tensor | None) -> RecurrentProgram:
        b = self._builder()
        x = b.conv(self.first, 0)
        for block in self.blocks:
            x = b.conv(block.widen, _program_of(block.lstm, b, x), add=x)
        b.conv(self.head[3], b.conv(self.head[1], x, relu=True), relu=True)
        return b.recurrent_program()


def _program_of(layer: Any, b: Builder, x: int) -> int:
    if isinstance(layer, DiagonalBiLSTM):
        return b.sum(b.lstm(layer.right, x), b.lstm(layer.left, x))
    return b.lstm(layer, x)


class _Block(nn.Module):
    def __init__(self, layer: type[nn.Module], hidden: int, color_groups: int) -> None:
        super().__init__()
        self.lstm = layer(2 * hidden, hidden, color_groups=color_groups)
        self.widen = pointwise(hidden, 2 * hidden, color_groups)

    def forward(self, x: Tensor) -> Tensor:  # [N, 2 H, R, W] -> same
        return plus(self.widen(self.lstm(x)), x, own(self.widen))
