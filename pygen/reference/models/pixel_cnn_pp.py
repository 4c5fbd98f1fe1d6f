"""PixelCNN++ as people usually write it in plain PyTorch: oracle and baseline of `pygen.models.PixelCNNPP`.

Salimans, Karpathy, Chen, Kingma, "PixelCNN++" (2017). Same constructor, `state_dict`, methods.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from pygen.reference import logistic_mixture_nll as mixture

from ._autoregressive import PixelModel, draw


class PixelCNNPP(PixelModel):
    """Down through the resolutions and up again, in a vertical and a horizontal stack; a mixture of logistics at the end."""

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
        super().__init__(in_channels, num_levels, 1)
        self.num_classes, self.cond_channels = num_classes, cond_channels
        self.num_mixtures = num_mixtures
        width, cond = hidden_channels, num_classes or cond_channels

        def normed(layer: nn.Module) -> nn.Module:
            outs = 1 if isinstance(layer, nn.ConvTranspose2d) else 0
            return parametrizations.weight_norm(layer, dim=outs) if weight_norm else layer

        def conv(ins: int, outs: int, kernel: tuple[int, int], padding: tuple[int, int, int, int], stride: int = 1):
            return normed(PaddedConv2d(ins, outs, kernel, padding, stride))

        def layers(vertical_sides: int, horizontal_sides: int) -> nn.Module:
            pair = nn.Module()
            pair.vertical = GatedResnet(conv, normed, (2, 3), width, vertical_sides, dropout, cond)
            pair.horizontal = GatedResnet(conv, normed, (2, 2), width, horizontal_sides, dropout, cond)
            return pair

        def grow(columns: int) -> nn.Module:
            margin = (0, columns - 2)
            return normed(nn.ConvTranspose2d(width, width, (2, columns), 2, padding=margin, output_padding=margin))

        # Shifted down by a row, and to the right by a column: what is cut off at the end is the pixel itself.
        self.first_vertical = conv(in_channels + 1, width, (2, 3), (1, 1, 2, -1))
        self.first_above = conv(in_channels + 1, width, (1, 3), (1, 1, 1, -1))
        self.first_left = conv(in_channels + 1, width, (2, 1), (1, -1, 1, 0))
        scales = range(num_scales)
        self.down = nn.ModuleList(nn.ModuleList(layers(0, 1) for _ in range(num_resnets)) for _ in scales)
        self.shrink = nn.ModuleList(
            nn.ModuleList((conv(width, width, (2, 3), (1, 1, 1, 0), 2), conv(width, width, (2, 2), (1, 0, 1, 0), 2)))
            for _ in scales[1:]
        )
        self.up = nn.ModuleList(nn.ModuleList(layers(1, 2) for _ in range(num_resnets + (i > 0))) for i in scales)
        self.grow = nn.ModuleList(nn.ModuleList((grow(3), grow(2))) for _ in scales[1:])
        self.out = normed(nn.Conv2d(width, num_mixtures * (3 if in_channels == 1 else 10), 1))

    def _logits(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """The mixtures' parameters."""
        if cond is not None:
            cond = F.one_hot(cond, self.num_classes).to(x.dtype) if self.num_classes else cond.to(x.dtype)
        x = F.pad(x, (0, 0, 0, 0, 0, 1), value=1)
        v, h = self.first_vertical(x), self.first_above(x) + self.first_left(x)
        passed = [(v, h)]
        for i, pairs in enumerate(self.down):
            if i > 0:
                v, h = self.shrink[i - 1][0](v), self.shrink[i - 1][1](h)
                passed.append((v, h))
            for pair in pairs:
                v = pair.vertical(v, None, at_scale(cond, i))
                h = pair.horizontal(h, v, at_scale(cond, i))
                passed.append((v, h))
        passed.pop()
        for i, pairs in enumerate(self.up):
            if i > 0:
                height, width = passed[-1][0].shape[2:]
                v, h = (grow(t)[:, :, :height, :width] for grow, t in zip(self.grow[i - 1], (v, h), strict=True))
            for pair in pairs:
                old_v, old_h = passed.pop()
                v = pair.vertical(v, old_v, at_scale(cond, len(self.up) - 1 - i))
                h = pair.horizontal(h, torch.cat([v, old_h], 1), at_scale(cond, len(self.up) - 1 - i))
        return self.out(F.elu(h))

    def mixture_params(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        dtype = next(self.parameters()).dtype
        return self._logits(2 * x.to(dtype) / (self.num_levels - 1) - 1, cond)

    def logits(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """log-probabilities [N, C, L, H, W]"""
        params = self.mixture_params(x, cond)
        return torch.stack([self._of_channel(params, x, c, 1.0) for c in range(self.in_channels)], 1).movedim(-1, 2)

    def _of_channel(self, params: Tensor, x: Tensor, c: int, temperature: float) -> Tensor:
        """Channel c's log-probabilities [N, *spatial, L] given the levels x [N, C, *spatial] of those before it."""
        scaled = mixture.scale_levels(x, self.num_levels, params.dtype)
        log_weights, means, log_scales = mixture.components(params, scaled)
        log_scales = log_scales + math.log(temperature)
        given = mixture.log_probs(means, log_scales, x.long().unsqueeze(-1), self.num_levels)
        log_joint = log_weights[:, 0] / temperature + given[:, :c].sum(1)
        every = torch.arange(self.num_levels, device=x.device)[:, None]
        of_each = mixture.log_probs(means[:, c, ..., None, :], log_scales[:, c, ..., None, :], every, self.num_levels)
        return (log_joint.log_softmax(-1).unsqueeze(-2) + of_each).logsumexp(-1)

    def log_prob(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """log p(x | cond) in nats, [N]."""
        return -mixture.forward(self.mixture_params(x, cond), x, self.num_levels, -7.0, "none")

    def loss(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Mean negative log-likelihood in nats."""
        if self.training:
            self.trained_shape = tuple(x.shape[2:])
        return -self.log_prob(x, cond).mean()

    forward = loss

    def _draw(
        self, x: Tensor, cond: Tensor | None, where: tuple, u: Tensor, temperature: float
    ) -> Iterator[tuple[Tensor, Tensor]]:
        i, j, channels = where
        params = self.mixture_params(x, cond)[:, :, i, j]
        for c in channels:
            yield c, draw(self._of_channel(params, x[:, :, i, j], c, temperature), u[:, c], 1.0)


class PaddedConv2d(nn.Conv2d):
    """A convolution of what has been padded by (left, right, top, bottom)."""

    def __init__(
        self, ins: int, outs: int, kernel: tuple[int, int], padding: tuple[int, int, int, int], stride: int
    ) -> None:
        super().__init__(ins, outs, kernel, stride)
        self.around = padding

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, self.around), self.weight, self.bias, self.stride)


def concat_elu(x: Tensor) -> Tensor:
    return F.elu(torch.cat([x, -x], dim=1))


def at_scale(cond: Tensor | None, i: int) -> Tensor | None:
    """A map of conditions in that resolution."""
    return cond[:, :, :: 2**i, :: 2**i] if cond is not None and cond.dim() == 4 else cond


class GatedResnet(nn.Module):
    """x + a * sigmoid(b)."""

    def __init__(
        self,
        conv: Callable[..., nn.Module],
        normed: Callable[[nn.Module], nn.Module],
        kernel: tuple[int, int],
        width: int,
        sides: int,
        dropout: float,
        cond_channels: int | None,
    ) -> None:
        super().__init__()
        padding = (1, kernel[1] - 2, 1, 0)
        self.conv_in = conv(2 * width, width, kernel, padding)
        self.side = normed(nn.Conv2d(2 * sides * width, width, 1)) if sides else None
        self.dropout = nn.Dropout(dropout)
        self.conv_out = conv(2 * width, 2 * width, kernel, padding)
        self.cond = nn.Linear(cond_channels, 2 * width, bias=False) if cond_channels else None

    def forward(self, x: Tensor, side: Tensor | None, cond: Tensor | None) -> Tensor:
        y = self.conv_in(concat_elu(x))
        if self.side is not None:
            y = y + self.side(concat_elu(side))
        y = self.conv_out(self.dropout(concat_elu(y)))
        if self.cond is not None and cond is not None:
            of_map = cond if cond.dim() == 4 else cond[:, :, None, None]
            y = y + F.conv2d(of_map, self.cond.weight[:, :, None, None])
        a, b = y.chunk(2, dim=1)
        return x + a * torch.sigmoid(b)
