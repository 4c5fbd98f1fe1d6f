"""RealNVP (Dinh, Sohl-Dickstein, Bengio, "Density estimation using Real NVP", 2016), without its batch normalisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygen._checks import fail
from pygen.nn import AffineCoupling
from pygen.reference._layout import in_layout_of

from ._arguments import check_int, check_ints
from ._flow import Flow

_COUPLINGS = 3  # of each mask in a scale, and of checkerboards one more at the end, as in the paper


class RealNVP(Flow):
    """A normalizing flow of images by affine couplings in several scales: log p, exact of continuous x, and an exact inverse.

    At each scale three couplings over checkerboards, a squeeze of 2 x 2 pixels into channels, three over channels; half
    of the channels are then done, and the rest goes to the next scale, the last of which has four checkerboards. Log
    scales are bound tanh(s / bound). A coupling's network is a 3x3 convolution, residual blocks and a 3x3 convolution
    that starts as zeros, so that the model starts as the identity; it has no batch normalisation, which would make a
    sample's density depend on its batch. Dinh et al. 2016. The twin is `pygen.reference.models.RealNVP`: same keys,
    same methods.

    Args:
        image_shape: (C, H, W); H and W must be multiples of 2^(num_scales - 1).
        hidden_channels: of the networks.
        num_blocks: residual blocks of each.
        num_scales: how many; 1 has four checkerboards alone.
        bound: of the log scales.
        prior: "normal" (the paper's) or "logistic".
        num_levels: None: x is continuous. Else x is levels, made continuous by noise; see `log_prob`.

    Example:
        >>> model = pygen.models.RealNVP((1, 4, 4), hidden_channels=4, num_blocks=1, num_levels=256)
        >>> x = torch.randint(256, (2, 1, 4, 4))  # levels; without num_levels x is continuous
        >>> model.loss(x).backward()
        >>> model.log_prob(x).shape, model.sample(4).shape
        (torch.Size([2]), torch.Size([4, 1, 4, 4]))
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        hidden_channels: int = 64,
        num_blocks: int = 2,
        num_scales: int = 2,
        bound: float = 2.0,
        prior: str = "normal",
        num_levels: int | None = None,
    ) -> None:
        super().__init__(prior, num_levels)
        self.image_shape = check_ints("RealNVP", "image_shape", image_shape)
        if len(self.image_shape) != 3:
            raise fail("RealNVP", "image_shape", "(C, H, W)", self.image_shape)
        hidden = check_int("RealNVP", "hidden_channels", hidden_channels)
        blocks = check_int("RealNVP", "num_blocks", num_blocks, at_least=0)
        self.num_scales = check_int("RealNVP", "num_scales", num_scales)
        if any(size % 2 ** (self.num_scales - 1) for size in self.image_shape[1:]):
            expected = f"H and W that are multiples of {2 ** (self.num_scales - 1)}, for {self.num_scales} scales"
            raise fail("RealNVP", "image_shape", expected, self.image_shape)
        if isinstance(bound, bool) or not isinstance(bound, (int, float)) or not 1e-6 <= bound <= 1e6:
            raise fail("RealNVP", "bound", "1e-6 <= bound <= 1e6", repr(bound))
        channels = self.image_shape[0]
        self.boards, self.channels = nn.ModuleList(), nn.ModuleList()

        def coupling(ins: int, outs: int, mask: str, i: int) -> AffineCoupling:
            flip = i % 2 == 1
            return AffineCoupling(_Network(ins, outs, hidden, blocks), mask=mask, flip=flip, scale="tanh", bound=bound)

        for scale in range(self.num_scales):
            last = scale == self.num_scales - 1
            number = _COUPLINGS + 1 if last else _COUPLINGS
            self.boards.append(
                nn.ModuleList(coupling(channels, 2 * channels, "checkerboard", i) for i in range(number))
            )
            if not last:
                half = 2 * channels
                self.channels.append(nn.ModuleList(coupling(half, 2 * half, "channel", i) for i in range(_COUPLINGS)))
                channels = half

    def _transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total = x.new_zeros(x.shape[0], dtype=torch.promote_types(x.dtype, torch.float32))
        done: list[Tensor] = []
        h = x
        for scale, boards in enumerate(self.boards):
            h, total = _through(boards, h, total)
            if scale < self.num_scales - 1:
                h, total = _through(self.channels[scale], _squeeze(h), total)
                finished, h = h.chunk(2, dim=1)
                done.append(finished.flatten(1))
        return torch.cat([*done, h.flatten(1)], dim=1), total

    def _inverse(self, z: Tensor, shape: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        shapes, (channels, height, width) = [], shape
        for _ in range(self.num_scales - 1):
            channels, height, width = 2 * channels, height // 2, width // 2
            shapes.append((channels, height, width))
        parts = list(z.split([c * h * w for c, h, w in (*shapes, (channels, height, width))], dim=1))
        h = parts[-1].reshape(z.shape[0], channels, height, width)
        total = z.new_zeros(z.shape[0], dtype=torch.promote_types(z.dtype, torch.float32))
        for scale in reversed(range(self.num_scales)):
            if scale < self.num_scales - 1:
                h = torch.cat((parts[scale].reshape(z.shape[0], *shapes[scale]), h), dim=1)
                h, total = _through(self.channels[scale], h, total, inverse=True)
                h = _unsqueeze(h)
            h, total = _through(self.boards[scale], h, total, inverse=True)
        return h, total

    def _check_shape(self, x: Tensor) -> None:
        if x.dim() != 4 or tuple(x.shape[1:]) != self.image_shape:
            raise fail("RealNVP", "x", f"shape [N, {', '.join(map(str, self.image_shape))}]", list(x.shape))

    def _sample_shape(self) -> tuple[int, ...]:
        return self.image_shape


def _squeeze(h: Tensor) -> Tensor:  # [N, C, H, W] -> [N, 4 C, H / 2, W / 2]
    """F.pixel_unshuffle, which gives an empty batch back as it is and makes N a constant of an exported program."""
    n, channels, height, width = h.shape
    blocks = h.reshape(n, channels, height // 2, 2, width // 2, 2).permute(0, 1, 3, 5, 2, 4)
    return in_layout_of(blocks.reshape(n, 4 * channels, height // 2, width // 2), h)


def _unsqueeze(h: Tensor) -> Tensor:  # [N, 4 C, H, W] -> [N, C, 2 H, 2 W]
    n, channels, height, width = h.shape
    blocks = h.reshape(n, channels // 4, 2, 2, height, width).permute(0, 1, 4, 2, 5, 3)
    return in_layout_of(blocks.reshape(n, channels // 4, 2 * height, 2 * width), h)


def _through(couplings: nn.Module, h: Tensor, total: Tensor, *, inverse: bool = False) -> tuple[Tensor, Tensor]:
    """The couplings in turn, or their inverses in the opposite order; and the sum of their log-determinants."""
    layers = list(cast(nn.ModuleList, couplings))
    for layer in reversed(layers) if inverse else layers:
        h, log_det = layer(h, inverse=inverse)
        total = total + log_det
    return h, total


class _Network(nn.Module):
    """A 3x3 convolution, x + conv3x3(relu(conv3x3(relu(x)))) as often as wanted, relu and a 3x3 convolution."""

    def __init__(self, ins: int, outs: int, hidden: int, blocks: int) -> None:
        super().__init__()

        def conv(a: int, b: int) -> nn.Conv2d:
            return nn.Conv2d(a, b, 3, padding=1)

        self.first = conv(ins, hidden)
        self.blocks = nn.ModuleList(nn.ModuleList((conv(hidden, hidden), conv(hidden, hidden))) for _ in range(blocks))
        self.last = conv(hidden, outs)
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(cast(Tensor, self.last.bias))

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for block in self.blocks:
            one, two = cast(nn.ModuleList, block)
            x = x + two(F.relu(one(F.relu(x))))
        return self.last(F.relu(x))
