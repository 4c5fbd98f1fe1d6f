"""Gated PixelCNN (van den Oord et al., "Conditional Image Generation with PixelCNN Decoders", 2016)."""

from __future__ import annotations

from torch import Tensor, nn

from pygen.nn import GatedMaskedConv2d

from ._arguments import check_color_groups, check_int, check_odd, hidden_width
from ._conditional import ConditionalPixelModel
from ._pixel_model import in_layout_of
from ._program import Program
from .pixel_cnn import output_head


class GatedPixelCNN(ConditionalPixelModel):
    """A density of images, pixel by pixel, by two gated stacks of masked convolutions: no blind spot; can be conditional.

    The vertical stack sees the rows above, the horizontal one its row and the vertical stack. A gated layer of type A,
    then residual gated layers of type B, then relu, 1x1, relu, 1x1. Dead taps are skipped. Van den Oord et al. 2016,
    "Conditional Image Generation with PixelCNN Decoders". The twin is `pygen.reference.models.GatedPixelCNN`: same
    keys, same methods.

    Args:
        in_channels: of the images.
        hidden_channels: of each stack, a multiple of color_groups. None: 64, or 66 for three groups.
        num_blocks: layers of type B.
        num_levels: L; pixels are levels 0 .. L - 1.
        color_groups: as in `PixelCNN`.
        kernel_size: k of the layers of type B, odd.
        first_kernel_size: that of the first, odd.
        num_classes: conditions on a class: cond is int64 [N].
        cond_channels: conditions on features: cond is floating, [N, cond_channels], or a map [N, cond_channels, H, W].
        input_range: (low, high): as what the network sees levels 0 and num_levels - 1, others evenly between. (0, 1) suits
            weights of code that feeds the images of torchvision's `ToTensor`.

    Example:
        >>> model = pygen.models.GatedPixelCNN(hidden_channels=8, num_blocks=1, num_classes=10)
        >>> x, digit = torch.randint(2, (2, 1, 8, 8)), torch.tensor([3, 7])
        >>> model.loss(x, digit).backward()
        >>> model.log_prob(x, digit).shape, model.sample(2, cond=digit).shape
        (torch.Size([2]), torch.Size([2, 1, 8, 8]))
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
        num_classes: int | None = None,
        cond_channels: int | None = None,
        input_range: tuple[float, float] = (-1.0, 1.0),
    ) -> None:
        name = "GatedPixelCNN"
        in_channels, groups = check_color_groups(name, in_channels, color_groups)
        super().__init__(in_channels, num_levels, groups, num_classes, cond_channels, input_range)
        cond = self.num_classes or self.cond_channels
        width = hidden_width(name, hidden_channels, groups, "the number of color_groups")
        kernel_size = check_odd(name, "kernel_size", kernel_size)
        first_kernel_size = check_odd(name, "first_kernel_size", first_kernel_size)
        num_blocks = check_int(name, "num_blocks", num_blocks, at_least=0)
        self.first = GatedMaskedConv2d(
            in_channels, width, first_kernel_size, "A", color_groups=groups, cond_channels=cond
        )
        self.blocks = nn.ModuleList(
            GatedMaskedConv2d(width, width, kernel_size, "B", color_groups=groups, cond_channels=cond)
            for _ in range(num_blocks)
        )
        self.head = output_head(width, in_channels * self.num_levels, groups)

    def _logits(self, x: Tensor, cond: Tensor | None) -> Tensor:
        vertical, horizontal = (in_layout_of(self.blocks, t) for t in self.first(x, x, cond))
        for block in self.blocks:
            vertical, horizontal = block(vertical, horizontal, cond)
        return self.head(horizontal)

    def _program(self, cond: Tensor | None) -> Program:
        b = self._builder()
        vertical = horizontal = 0
        for layer in (self.first, *self.blocks):
            to_vertical, to_horizontal = layer.conditions(cond)
            v = b.conv(layer.vertical, vertical)
            h = b.conv(layer.horizontal, horizontal, add=b.conv(layer.vertical_to_horizontal, v))
            residual = None if layer.mask_type == "A" else horizontal
            horizontal = b.conv(layer.out, b.gate(h, to_horizontal), add=residual)
            vertical = b.gate(v, to_vertical)
        b.conv(self.head[3], b.conv(self.head[1], horizontal, relu=True), relu=True)
        return b.program()
