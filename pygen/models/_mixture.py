"""Mixtures of discretised logistics as what a pixel's levels are drawn from (Salimans et al., "PixelCNN++", 2017).

The channels of a pixel are drawn in turn: a channel's weights are the components' probabilities given the levels before it, its
means move with them. That is the mixture itself, channel by channel, whichever channels were known beforehand.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from pygen.reference.logistic_mixture_nll import components, log_probs

from ._levels import scale_levels


@dataclass(frozen=True)
class Mixture:
    """Of each value the mixture that it is drawn from, float64 [..., K]; weights are not normalised."""

    log_weights: Tensor
    means: Tensor
    log_scales: Tensor
    num_levels: int

    @classmethod
    def of(
        cls, params: Tensor, levels: Tensor, num_levels: int, min_log_scale: float, temperature: float = 1.0
    ) -> Mixture:
        """Of images [N, C, *spatial] given the levels before each value, from params [N, P, *spatial].

        temperature: weights to the power of 1 / T, scales times T.
        """
        scaled = scale_levels(levels, num_levels, params.dtype).double()
        log_weights, means, log_scales = components(params.double(), scaled, min_log_scale=min_log_scale)
        log_weights, log_scales = log_weights / temperature, log_scales + math.log(temperature)
        terms = [log_weights[:, 0]]
        for c in range(levels.shape[1] - 1):
            terms.append(
                terms[-1] + log_probs(means[:, c], log_scales[:, c], levels[:, c, ..., None].long(), num_levels)
            )
        return cls(torch.stack(terms, 1), means, log_scales, num_levels)

    def __getitem__(self, where: Any) -> Mixture:
        """Of some values: an index into [N, C, *spatial]."""
        return Mixture(self.log_weights[where], self.means[where], self.log_scales[where], self.num_levels)

    def decide(self, u: Tensor) -> Tensor:
        """Levels [...], int64: the first whose cumulated probability reaches u [...], by bisection."""
        weights, inverse = torch.softmax(self.log_weights, -1), torch.exp(-self.log_scales)
        half, u = 1 / (self.num_levels - 1), u.double()
        below = torch.zeros_like(u)  # so many levels do not reach u
        for bit in reversed(range((self.num_levels - 1).bit_length())):
            more = below + (1 << bit)
            edge = (2 * more - 1) * half - 1  # between level more - 1 and the next one
            cumulated = (weights * torch.sigmoid((edge.unsqueeze(-1) - self.means) * inverse)).sum(-1)
            below = torch.where((more < self.num_levels) & (cumulated < u), more, below)
        return below.long()

    def logits(self) -> Tensor:
        """log-probabilities of all levels, [..., L]."""
        every = torch.arange(self.num_levels, device=self.means.device).unsqueeze(1)  # [L, 1]
        of_each = log_probs(self.means.unsqueeze(-2), self.log_scales.unsqueeze(-2), every, self.num_levels)
        return torch.logsumexp(torch.log_softmax(self.log_weights, -1).unsqueeze(-2) + of_each, -1)
