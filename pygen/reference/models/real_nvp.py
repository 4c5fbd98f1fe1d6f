"""RealNVP as people usually write it in plain PyTorch: oracle and baseline of `pygen.models.RealNVP`.

Dinh, Sohl-Dickstein, Bengio, "Density estimation using Real NVP" (2016), without batch normalisation. Same constructor, same
`state_dict`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .nice import Flow


class _Network(nn.Module):
    def __init__(self, ins: int, outs: int, hidden: int, blocks: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(ins, hidden, 3, padding=1)
        self.blocks = nn.ModuleList(
            nn.ModuleList((nn.Conv2d(hidden, hidden, 3, padding=1), nn.Conv2d(hidden, hidden, 3, padding=1)))
            for _ in range(blocks)
        )
        self.last = nn.Conv2d(hidden, outs, 3, padding=1)
        nn.init.zeros_(self.last.weight)
        assert self.last.bias is not None
        nn.init.zeros_(self.last.bias)

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x)
        for one, two in self.blocks:  # type: ignore[misc]
            x = x + two(F.relu(one(F.relu(x))))
        return self.last(F.relu(x))


class _Board(nn.Module):
    """y = b x + (1 - b) (x exp(s(b x)) + t(b x)), b the mask."""

    def __init__(self, network: nn.Module, flip: bool, bound: float) -> None:
        super().__init__()
        self.conditioner, self.flip, self.bound = network, flip, bound

    def forward(self, x: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        height, width = (torch.arange(n, device=x.device) for n in x.shape[2:])
        b = ((height[:, None] + width + self.flip) % 2).to(x.dtype)
        t, s = self.conditioner(b * x).chunk(2, 1)
        s, t = (1 - b) * self.bound * torch.tanh(s / self.bound), (1 - b) * t
        if inverse:
            return b * x + (1 - b) * (x - t) * torch.exp(-s), -s.flatten(1).sum(1)
        return b * x + (1 - b) * (x * torch.exp(s) + t), s.flatten(1).sum(1)


class _Halves(nn.Module):
    """The same over halves of the channels, cut and put together again."""

    def __init__(self, network: nn.Module, flip: bool, bound: float) -> None:
        super().__init__()
        self.conditioner, self.flip, self.bound = network, flip, bound

    def forward(self, x: Tensor, inverse: bool = False) -> tuple[Tensor, Tensor]:
        a, b = x.chunk(2, 1)
        if self.flip:
            a, b = b, a
        t, s = self.conditioner(a).chunk(2, 1)
        s = self.bound * torch.tanh(s / self.bound)
        b, log_det = ((b - t) * torch.exp(-s), -s) if inverse else (b * torch.exp(s) + t, s)
        return torch.cat((b, a) if self.flip else (a, b), 1), log_det.flatten(1).sum(1)


class RealNVP(Flow):
    """Three checkerboards, squeeze, three halves of channels, half of them done; four checkerboards at the last scale.

    Args:
        image_shape: (C, H, W).
        hidden_channels, num_blocks: of the networks.
        num_scales: how many.
        bound: of the log scales.
        prior: "normal" or "logistic".
        num_levels: of x, or None where it is continuous.
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
        super().__init__()
        self.prior, self.num_levels, self.num_scales = prior, num_levels, num_scales
        self.boards, self.channels = nn.ModuleList(), nn.ModuleList()
        c = image_shape[0]

        def network(ins: int, outs: int) -> _Network:
            return _Network(ins, outs, hidden_channels, num_blocks)

        for scale in range(num_scales):
            last = scale == num_scales - 1
            self.boards.append(
                nn.ModuleList(_Board(network(c, 2 * c), i % 2 == 1, bound) for i in range(4 if last else 3))
            )
            if not last:
                c *= 2
                self.channels.append(nn.ModuleList(_Halves(network(c, 2 * c), i % 2 == 1, bound) for i in range(3)))

    def _transform(self, x: Tensor) -> tuple[Tensor, Tensor]:
        total, done = x.new_zeros(len(x)), []
        for scale in range(self.num_scales):
            for board in self.boards[scale]:  # type: ignore[union-attr]
                x, log_det = board(x)
                total = total + log_det
            if scale < self.num_scales - 1:
                x = F.pixel_unshuffle(x, 2)
                for halves in self.channels[scale]:  # type: ignore[union-attr]
                    x, log_det = halves(x)
                    total = total + log_det
                finished, x = x.chunk(2, 1)
                done.append(finished.flatten(1))
        return torch.cat((*done, x.flatten(1)), 1), total
