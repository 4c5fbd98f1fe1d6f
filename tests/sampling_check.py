"""Whether samples are the ones that the noise selects, by a float64 forward over the finished images.

At every position the forward gives the conditional distribution of the level there, of the very pixels that were drawn before.
An engine's logits may differ from the truth by the rule of `support`: delta = 2 max|base - truth| + 4 eps max|truth|, where base
is plain PyTorch in the engine's dtype. That moves the odds of a cumulated probability by a factor of exp(2 delta / T) at most,
so that next to a boundary two levels are right; `undecided` counts such positions, and everywhere else one level is.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

import torch
from support import OTHERS_ERROR, OWN_EPS
from torch import Tensor, nn

from pygen.reference.models import PixelCNNPP
from pygen.reference.models._autoregressive import uniforms

_SLACK = 1e-14  # of a cumulated probability, for the additions in float64


@dataclass(frozen=True)
class Verdict:
    """Counts of positions. known: those that were given and should have been kept; wrong ones are in `wrong` too."""

    positions: int
    known: int
    undecided: int
    wrong: int

    @property
    def fine(self) -> bool:
        """No position wrong, and so few undecided that this says something."""
        return self.wrong == 0 and 100 * self.undecided <= self.positions


@torch.no_grad()
def check_samples(
    images: Tensor,
    truth: nn.Module,
    base: nn.Module,
    *,
    seed: int,
    cond: Tensor | None = None,
    known: Tensor | None = None,
    known_mask: Tensor | None = None,
    temperature: float = 1.0,
) -> Verdict:
    """Of a pixel model's images [n, C, H, W], drawn with these arguments.

    Args:
        images: what an engine drew.
        truth: the model in float64, best its plain-PyTorch twin.
        base: the same in the engine's dtype.
        seed, cond, known, known_mask, temperature: as given to `sample`.
    """
    n, channels, height, width = images.shape
    logits = [_logits(model, images, cond, temperature) for model in (truth, base)]
    eps = torch.finfo(next(base.parameters()).dtype).eps
    u = uniforms(n, height * width * channels, seed, None).view(n, height, width, channels).permute(0, 3, 1, 2)
    return judge(images, *logits, eps, u, known, known_mask, 1.0)


@torch.no_grad()
def check_made_samples(
    samples: Tensor,
    truth: nn.Module,
    base: nn.Module,
    *,
    seed: int,
    known: Tensor | None = None,
    known_mask: Tensor | None = None,
    temperature: float = 1.0,
) -> Verdict:
    """Of MADE's samples [n, D]: each in the ordering that the number after its own selects."""
    n, inputs = samples.shape
    u = uniforms(n, inputs + 1, seed, None)
    ordering = (u[:, inputs].double() * truth.num_orders).ceil().long() - 1
    logits = [
        torch.stack([model.logits(samples, k) for k in range(model.num_orders)])[ordering, torch.arange(n)].double()
        for model in (truth, base)
    ]
    eps = torch.finfo(next(base.parameters()).dtype).eps
    return judge(samples, *logits, eps, u[:, :inputs], known, known_mask, temperature)


def judge(
    levels: Tensor,
    true_logits: Tensor,
    base_logits: Tensor,
    eps: float,
    u: Tensor,
    known: Tensor | None,
    known_mask: Tensor | None,
    temperature: float,
) -> Verdict:
    """Of levels [...] by logits [..., L] and noise u [...]; eps is that of the engine's dtype."""
    error = (base_logits - true_logits).abs().max().item()
    delta = OTHERS_ERROR * error + OWN_EPS * eps * true_logits.abs().max().item()
    right = acceptable(true_logits / temperature, u, delta / temperature)  # [..., L]
    mask = torch.zeros_like(levels, dtype=torch.bool)
    if known is not None and known_mask is not None:
        mask = known_mask.expand_as(levels)
        only = nn.functional.one_hot(known.expand_as(levels).long() * mask, right.shape[-1]).bool()
        right = torch.where(mask.unsqueeze(-1), only, right)
    drawn = right.gather(-1, levels.long().unsqueeze(-1)).squeeze(-1)
    return Verdict(
        positions=levels.numel(),
        known=int(mask.sum()),
        undecided=int((right.sum(-1) > 1).sum()),
        wrong=int((~drawn).sum()),
    )


def acceptable(logits: Tensor, u: Tensor, delta: float) -> Tensor:
    """bool [..., L]: the levels that u [...] selects from logits [..., L], each of them off by up to delta."""
    upto = logits.logcumsumexp(-1)[..., :-1]
    beyond = logits.flip(-1).logcumsumexp(-1).flip(-1)[..., 1:]
    log_odds = upto - beyond  # of reaching level k at most, [..., L - 1]
    u = u.double().unsqueeze(-1)
    low, high = torch.sigmoid(log_odds - 2 * delta) - _SLACK, torch.sigmoid(log_odds + 2 * delta) + _SLACK
    always = torch.ones_like(u, dtype=torch.bool)
    return torch.cat([always, low < u], -1) & torch.cat([u <= high, always], -1) & (logits > -torch.inf)


def _logits(model: nn.Module, images: Tensor, cond: Tensor | None, temperature: float) -> Tensor:
    """float64 [n, C, H, W, L], tempered."""
    if cond is not None and cond.is_floating_point():
        cond = cond.to(next(model.parameters()).dtype)
    if not hasattr(model, "mixture_params"):
        return model.logits(images, cond).double().movedim(2, -1) / temperature
    params = model.mixture_params(images, cond).double()
    of_channel = partial(PixelCNNPP._of_channel, model, params, images)
    return torch.stack([of_channel(c, temperature) for c in range(images.shape[1])], 1)
