"""What the plain autoregressive models share: the likelihood of integer levels, and the sampler that starts anew each step."""

from __future__ import annotations

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygen.reference import noise

SAMPLING_DOMAIN = 1  # last word of the Philox counter of sampling noise; `pygen._noise.DOMAINS` lists them


def uniforms(n: int, draws: int, seed: int | Tensor | None, generator: torch.Generator | None) -> Tensor:
    """float32 in (0, 1], [n, draws]: row i depends on the seed and on i alone."""
    if seed is None:
        seed = torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=generator)
    words = noise.words(draws, torch.as_tensor(seed), n, SAMPLING_DOMAIN)  # [n, quads, 4]
    return noise.uniform(words).flatten(1)[:, :draws]


def draw(logits: Tensor, u: Tensor, temperature: float) -> Tensor:
    """A level [...] from logits [..., L]: the first whose cumulated probability reaches u [...]."""
    probabilities = torch.softmax(logits.double() / temperature, dim=-1)
    cumulated = probabilities.cumsum(-1)
    return (cumulated < u.double().unsqueeze(-1) * cumulated[..., -1:]).sum(-1)


class ShapeMemory(nn.Module):
    """Remembers the image size of the last training batch, and keeps it in the state_dict."""

    trained_shape: tuple[int, ...] = ()

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.trained_shape, dtype=torch.int64)

    def set_extra_state(self, state: Tensor) -> None:
        self.trained_shape = tuple(state.tolist())


class PixelModel(ShapeMemory):
    """Likelihood and sampler; a subclass gives `_logits`: scaled images [N, C, H, W] to [N, C * L, H, W]."""

    def __init__(
        self, in_channels: int, num_levels: int, color_groups: int, input_range: tuple[float, float] = (-1.0, 1.0)
    ) -> None:
        super().__init__()
        self.in_channels, self.num_levels, self.color_groups = in_channels, num_levels, color_groups
        self.input_range = input_range

    def logits(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """[N, C, L, H, W]"""
        low, high = self.input_range
        share = x.to(next(self.parameters()).dtype) / (self.num_levels - 1)
        logits = self._logits(low + (high - low) * share, cond)
        return logits.unflatten(1, (self.in_channels, self.num_levels))

    def log_prob(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """log p(x | cond) in nats, [N]."""
        nll = F.cross_entropy(self.logits(x, cond).transpose(1, 2), x.long(), reduction="none")
        return -nll.flatten(1).sum(1)

    def loss(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Mean negative log-likelihood in nats."""
        if self.training:
            self.trained_shape = tuple(x.shape[2:])
        return F.cross_entropy(self.logits(x, cond).transpose(1, 2), x.long(), reduction="sum") / len(x)

    forward = loss

    @torch.no_grad()
    def sample(
        self,
        n: int,
        shape: tuple[int, int] | None = None,
        *,
        cond: Tensor | None = None,
        known: Tensor | None = None,
        known_mask: Tensor | None = None,
        temperature: float = 1.0,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        engine: str | None = None,
        progress: bool = False,
    ) -> Tensor:
        """n images of levels [n, C, H, W], a forward of the whole images for every pixel and colour group."""
        height, width = shape or self.trained_shape
        x = torch.zeros(
            n, self.in_channels, height, width, dtype=torch.uint8 if self.num_levels <= 256 else torch.int64
        )
        x = x.to(next(self.parameters()).device)
        u = uniforms(n, height * width * self.in_channels, seed, generator).view(n, height, width, -1).to(x.device)
        group = self.in_channels // self.color_groups
        for i in range(height):
            for j in range(width):
                for channels in torch.arange(self.in_channels).split(group):
                    for some, levels in self._draw(x, cond, (i, j, channels), u[:, i, j], temperature):
                        levels = levels.to(x.dtype)
                        if known is not None and known_mask is not None:
                            given = known_mask.expand_as(x)[:, some, i, j]
                            levels = torch.where(given, known.to(x.dtype).expand_as(x)[:, some, i, j], levels)
                        x[:, some, i, j] = levels
        return x

    def _draw(
        self, x: Tensor, cond: Tensor | None, where: tuple, u: Tensor, temperature: float
    ) -> Iterator[tuple[Tensor, Tensor]]:
        """Of the pixel and channels `where` those that are drawn together, and their levels; u [n, C]."""
        i, j, channels = where
        logits = self.logits(x, cond)[:, channels, :, i, j]
        yield channels, draw(logits, u[:, channels], temperature)
