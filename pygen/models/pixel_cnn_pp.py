"""PixelCNN++ (Salimans, Karpathy, Chen, Kingma, "PixelCNN++: Improving the PixelCNN with Discretized Logistic Mixture Likelihood
and Other Modifications", 2017)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygen._checks import fail
from pygen.functional import logistic_mixture_nll
from pygen.nn._layers import at_each_pixel
from pygen.nn._pointwise import PointwiseConv2d

from ._arguments import check_int
from ._builder import Builder
from ._conditional import ConditionalPixelModel
from ._mixture import Mixture
from ._pixel_model import in_layout_of
from ._program import MultiScaleProgram
from ._shifted import ShiftedConv2d, down, down_right, grow, initialise_from, normalised

MIN_LOG_SCALE = -7.0

Layer = Callable[..., nn.Module]


class PixelCNNPP(ConditionalPixelModel):
    """PixelCNN++, a density of colour or grey images, pixel by pixel, in several resolutions; can be conditional.

    Two stacks of gated residual layers, with short cuts from each layer on the way down to one on the way up; a pixel's
    channels are drawn from one mixture of discretised logistics. The vertical stack sees the rows above, the horizontal
    one its row and the vertical stack. Images may have any size: rows and columns are halved upwards, and what is too
    much is cut off when they are doubled. Salimans et al. 2017. The twin is `pygen.reference.models.PixelCNNPP`: same
    keys, same methods.

    Args:
        in_channels: of the images: 1, or 3, of which green's mean depends on red, blue's on both.
        hidden_channels: C of every layer.
        num_resnets: gated residual layers in each resolution on the way down; up it is one more in all but the coarsest.
        num_scales: resolutions, each half of the one before.
        num_mixtures: K.
        num_levels: L; pixels are levels 0 .. L - 1.
        dropout: inside each layer, while training.
        weight_norm: every weight is length times direction of each output.
        num_classes: conditions on a class: cond is int64 [N].
        cond_channels: conditions on features: cond is floating, [N, cond_channels], or a map [N, cond_channels, H, W], of which
            coarser resolutions see every 2nd, 4th, .. row and column.

    Example:
        >>> model = pygen.models.PixelCNNPP(hidden_channels=4, num_resnets=1, num_scales=1, num_mixtures=2)
        >>> x = torch.randint(256, (2, 3, 4, 4))
        >>> model.loss(x).backward()
        >>> model.eval().log_prob(x).shape, model.sample(2).shape
        (torch.Size([2]), torch.Size([2, 3, 4, 4]))
    """

    program_type = MultiScaleProgram

    def __init__(
        self,
        in_channels: int = 3,
        *,
        hidden_channels: int = 160,
        num_resnets: int = 5,
        num_scales: int = 3,
        num_mixtures: int = 10,
        num_levels: int = 256,
        dropout: float = 0.5,
        weight_norm: bool = True,
        num_classes: int | None = None,
        cond_channels: int | None = None,
    ) -> None:
        name = "PixelCNNPP"
        in_channels = check_int(name, "in_channels", in_channels)
        if in_channels not in (1, 3):
            raise fail(name, "in_channels", "1 or 3", in_channels)
        super().__init__(in_channels, num_levels, 1, num_classes, cond_channels)
        width = check_int(name, "hidden_channels", hidden_channels)
        num_resnets = check_int(name, "num_resnets", num_resnets)
        num_scales = check_int(name, "num_scales", num_scales)
        self.num_mixtures = check_int(name, "num_mixtures", num_mixtures)
        if isinstance(dropout, bool) or not isinstance(dropout, (int, float)):
            raise fail(name, "dropout", "a number", type(dropout).__name__, kind=TypeError)
        if not 0 <= dropout < 1:
            raise fail(name, "dropout", "0 <= dropout < 1", dropout)
        if not isinstance(weight_norm, bool):
            raise fail(name, "weight_norm", "a bool", repr(weight_norm), kind=TypeError)
        make = partial(normalised, weight_norm=weight_norm)
        cond = self.num_classes or self.cond_channels
        pair = partial(_Pair, make, width, float(dropout), cond)
        self.first_vertical = make(ShiftedConv2d, in_channels + 1, width, (2, 3), (-2, -1))
        self.first_above = make(ShiftedConv2d, in_channels + 1, width, (1, 3), (-1, -1))
        self.first_left = make(ShiftedConv2d, in_channels + 1, width, (2, 1), (-1, -1))
        self.down = nn.ModuleList(nn.ModuleList(pair(0, 1) for _ in range(num_resnets)) for _ in range(num_scales))
        self.shrink = nn.ModuleList(
            nn.ModuleList((make(down, width, width, 2), make(down_right, width, width, 2)))
            for _ in range(num_scales - 1)
        )
        self.up = nn.ModuleList(
            nn.ModuleList(pair(1, 2) for _ in range(num_resnets + (scale > 0))) for scale in range(num_scales)
        )
        self.grow = nn.ModuleList(
            nn.ModuleList((make(grow, width, 3), make(grow, width, 2))) for _ in range(num_scales - 1)
        )
        self.out = make(PointwiseConv2d, width, self.num_mixtures * (3 if in_channels == 1 else 10))

    def _logits(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """The mixtures' parameters, [N, P, H, W]."""
        ones = torch.ones_like(x[:, :1])  # they tell the image from the zeros around it
        padded = in_layout_of(self.down, torch.cat([x, ones], 1))
        vertical = self.first_vertical(padded)
        horizontal = self.first_above(padded) + self.first_left(padded)
        passed = [(vertical, horizontal)]
        for scale, layers in enumerate(_pairs(self.down)):
            if scale:
                vertical, horizontal = (
                    layer(t) for layer, t in zip(_two(self.shrink[scale - 1]), (vertical, horizontal), strict=True)
                )
                passed.append((vertical, horizontal))
            seen = _at_scale(cond, scale)
            for layer in layers:
                vertical, horizontal = layer(vertical, horizontal, None, seen)
                passed.append((vertical, horizontal))
        vertical, horizontal = passed.pop()
        for step, layers in enumerate(_pairs(self.up)):
            if step:
                size = passed[-1][0].shape[2:]
                vertical, horizontal = (
                    layer(t)[:, :, : size[0], : size[1]]
                    for layer, t in zip(_two(self.grow[step - 1]), (vertical, horizontal), strict=True)
                )
            seen = _at_scale(cond, len(self.up) - 1 - step)
            for layer in layers:
                vertical, horizontal = layer(vertical, horizontal, passed.pop(), seen)
        return self.out(F.elu(horizontal))

    def _program(self, cond: Tensor | None) -> MultiScaleProgram:
        b = Builder(self.in_channels, self.num_levels, 1, ones=True)
        vertical = b.shifted(self.first_vertical, 0)
        horizontal = b.shifted(self.first_left, 0, add=b.shifted(self.first_above, 0))
        passed = [(vertical, horizontal)]
        for scale, layers in enumerate(_pairs(self.down)):
            if scale:
                to_vertical, to_horizontal = _two(self.shrink[scale - 1])
                vertical, horizontal = b.shifted(to_vertical, vertical), b.shifted(to_horizontal, horizontal)
                passed.append((vertical, horizontal))
            seen = _at_scale(cond, scale)
            for layer in layers:
                vertical, horizontal = layer.program(b, vertical, horizontal, None, seen)
                passed.append((vertical, horizontal))
        vertical, horizontal = passed.pop()
        for step, layers in enumerate(_pairs(self.up)):
            if step:
                to_vertical, to_horizontal = _two(self.grow[step - 1])
                vertical, horizontal = b.up(to_vertical, vertical), b.up(to_horizontal, horizontal)
            seen = _at_scale(cond, len(self.up) - 1 - step)
            for layer in layers:
                vertical, horizontal = layer.program(b, vertical, horizontal, passed.pop(), seen)
        b.pointwise(self.out, b.elu(horizontal, concat=False))
        return b.multi_scale_program(self.num_mixtures, MIN_LOG_SCALE)

    def logits(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """The levels' log-probabilities in each channel and pixel given all before it, [N, C, num_levels, H, W].

        For small images: the likelihood needs no such tensor.
        """
        params = self.mixture_params(x, cond)
        mixture = Mixture.of(params, x, self.num_levels, MIN_LOG_SCALE)
        return mixture.logits().movedim(-1, 2).to(torch.promote_types(params.dtype, torch.float32))

    def mixture_params(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """[N, P, H, W], as `pygen.functional.logistic_mixture_nll` takes them."""
        return self._outputs(x, cond)

    def initialize(self, x: Tensor, cond: Tensor | None = None) -> None:
        """Sets weights and biases from a batch, as the paper does before training: every convolution's outputs get mean 0 and
        deviation 1 in each channel, those before a gate deviation 0.1.

        Args:
            x: levels [N, C, H, W], some dozens of images.
            cond: of a conditional model.
        """
        initialise_from(self, lambda: self._outputs(x, cond), lambda name: 0.1 if name.endswith("conv_out") else 1.0)

    def _nll(self, x: Tensor, cond: Tensor | None, reduction: str) -> Tensor:
        params = self.mixture_params(x, cond)
        return logistic_mixture_nll(
            params, x, num_levels=self.num_levels, min_log_scale=MIN_LOG_SCALE, reduction=reduction
        )

    def _conditionals(self, outputs: Tensor, levels: Tensor, temperature: float) -> Mixture:
        return Mixture.of(outputs, levels, self.num_levels, MIN_LOG_SCALE, temperature)

    @property
    def _share_of_pixels(self) -> float:
        """Each resolution has about as many weights, and a quarter of the pixels of the one before."""
        scales = len(self.down)
        return sum(0.25**scale for scale in range(scales)) / scales

    @property
    def _turns(self) -> int:
        return self.in_channels


def _at_scale(cond: Tensor | None, scale: int) -> Tensor | None:
    """A map of conditions as that resolution sees it."""
    return cond if cond is None or cond.dim() == 2 else cond[:, :, :: 1 << scale, :: 1 << scale]


def _pairs(scales: nn.Module) -> list[list[_Pair]]:
    return cast("list[list[_Pair]]", scales)


def _two(layers: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The vertical stack's and the horizontal one's."""
    return cast("tuple[nn.Module, nn.Module]", layers)


def concat_elu(x: Tensor) -> Tensor:
    return F.elu(torch.cat([x, -x], 1), inplace=True)


class _Pair(nn.Module):
    """A layer of both stacks, the horizontal one beside the vertical."""

    def __init__(
        self, make: Layer, width: int, dropout: float, cond: int | None, vertical_sides: int, horizontal_sides: int
    ) -> None:
        super().__init__()
        self.vertical = _GatedResnet(make, down, width, vertical_sides, dropout, cond)
        self.horizontal = _GatedResnet(make, down_right, width, horizontal_sides, dropout, cond)

    def forward(
        self, vertical: Tensor, horizontal: Tensor, passed: tuple[Tensor, Tensor] | None, cond: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """passed: of both stacks, what a layer on the way down made."""
        vertical = self.vertical(vertical, [] if passed is None else [passed[0]], cond)
        sides = [vertical] if passed is None else [vertical, passed[1]]
        return vertical, self.horizontal(horizontal, sides, cond)

    def program(
        self, b: Builder, vertical: int, horizontal: int, passed: tuple[int, int] | None, cond: Tensor | None
    ) -> tuple[int, int]:
        vertical = self.vertical.program(b, vertical, [] if passed is None else [passed[0]], cond)
        sides = [vertical] if passed is None else [vertical, passed[1]]
        return vertical, self.horizontal.program(b, horizontal, sides, cond)


class _GatedResnet(nn.Module):
    """x + a sigmoid(b), where (a, b) = conv(dropout(concat_elu(conv(concat_elu(x)) + 1x1(concat_elu(sides))))) + cond."""

    def __init__(
        self, make: Layer, conv: Layer, width: int, sides: int, dropout: float, cond_channels: int | None
    ) -> None:
        super().__init__()
        self.conv_in = make(conv, 2 * width, width)
        self.side = make(PointwiseConv2d, 2 * sides * width, width) if sides else None
        self.dropout = nn.Dropout(dropout)
        self.conv_out = make(conv, 2 * width, 2 * width)
        self.cond = nn.Linear(cond_channels, 2 * width, bias=False) if cond_channels else None

    def _condition(self, cond: Tensor | None) -> Tensor | None:
        """[N, 2 C, 1 or H, 1 or W]"""
        if self.cond is None or cond is None:
            return None
        return at_each_pixel(self.cond, cond if cond.dim() == 4 else cond[:, :, None, None])

    def forward(self, x: Tensor, sides: list[Tensor], cond: Tensor | None) -> Tensor:  # [N, C, H, W] each
        y = self.conv_in(concat_elu(x))
        if self.side is not None:
            y = y + self.side(concat_elu(torch.cat(sides, 1)))
        y = self.conv_out(self.dropout(concat_elu(y)))
        to_gate = self._condition(cond)
        return x + F.glu(y if to_gate is None else y + to_gate, 1)

    def program(self, b: Builder, x: int, sides: list[int], cond: Tensor | None) -> int:
        def side(i: int, add: int | None) -> int:
            source = b.elu(sides[i], concat=True)
            return b.pointwise(self.side, source, (i, len(sides)), bias=i == 0, add=add)

        early = side(0, None) if sides else None
        late = partial(side, 1) if len(sides) > 1 else None
        y = b.shifted(self.conv_in, b.elu(x, concat=True), add=early, then=late)
        y = b.shifted(self.conv_out, b.elu(y, concat=True))
        return b.gate(y, self._condition(cond), linear=True, add=x)
