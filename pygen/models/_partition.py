"""The partition function of a restricted Boltzmann machine: exactly, by enumeration, and by annealed importance sampling."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from pygen import _noise
from pygen.functional import rbm_free_energy, rbm_gibbs
from pygen.reference.noise import words

MOST_UNITS = 20  # of the smaller layer, for enumeration: a million states
_STATES_AT_ONCE = 1 << 14


class LogPartition(NamedTuple):
    """log Z in nats, float64."""

    value: Tensor  # 0-dim
    standard_error: Tensor  # 0-dim, of value; 0 where it is exact
    method: str  # "exact" or "ais"


def exact(weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor) -> Tensor:
    """log of the sum over all states of the smaller layer, the other one summed out; 0-dim float64, differentiable.

    Autograd keeps as many numbers as there are states times units of the larger layer.
    """
    w, b, c = (t.double() for t in (weight, visible_bias, hidden_bias))
    if len(w) < w.shape[1]:  # the machine turned round: its visible units are the hidden ones
        w, b, c = w.t(), c, b
    units = w.shape[1]
    bits = torch.arange(units, device=w.device)
    parts = []
    for states in torch.arange(1 << units, device=w.device).split(_STATES_AT_ONCE):
        v = (states.unsqueeze(1) >> bits & 1).to(torch.uint8)
        parts.append((-rbm_free_energy(v, w, b, c, reduction="none")).logsumexp(0))
    return torch.stack(parts).logsumexp(0)


def annealed(
    weight: Tensor,  # [H, D]
    visible_bias: Tensor,  # [D]
    hidden_bias: Tensor,  # [H]
    chains: int,
    temperatures: int,
    seed: Tensor,  # 0-dim int64
) -> tuple[Tensor, Tensor]:
    """log Z and its standard error (Salakhutdinov and Murray 2008), by p_beta(v) = e^(b.v) prod_j (1 + e^(beta a_j)).

    At beta = 0 the visible units are independent of given chances: Z_0 = 2^H prod_d (1 + e^(b_d)). Each of the steps to beta = 1
    weighs what there is, then moves it by one step of Gibbs sampling. Weights are in logarithms.
    """
    w, b, c = (t.detach() for t in (weight, visible_bias, hidden_bias))
    seeds = _seeds(seed, temperatures + 1)
    nothing = torch.zeros((), dtype=w.dtype, device=w.device)
    v = _step(w.new_zeros((chains, w.shape[1])), w * nothing, b, c * nothing, seeds[0])
    log_weight = torch.zeros(chains, dtype=torch.float64, device=w.device)
    before = 0.0
    for i in range(1, temperatures + 1):
        beta = i / temperatures
        a = F.linear(v, w, c).double()
        log_weight += _softplus(beta * a) - _softplus(before * a)
        before = beta
        if i < temperatures:
            v = _step(v, beta * w, b, beta * c, seeds[i])
    log_mean = log_weight.logsumexp(0) - math.log(chains)
    share = (log_weight - log_weight.max()).exp()
    error = share.std() / share.mean() / math.sqrt(chains)
    first = _softplus(b.double().unsqueeze(0))[0] + len(w) * math.log(2)
    return first + log_mean, error


def _step(v: Tensor, weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor, seed: Tensor) -> Tensor:
    drawn = rbm_gibbs(v, weight, visible_bias, hidden_bias, seed=seed)
    assert isinstance(drawn, Tensor)
    return drawn


def _softplus(a: Tensor) -> Tensor:
    """Summed over each row; F.softplus gives up the exponential at 20."""
    return torch.logaddexp(a, torch.zeros_like(a)).sum(1)


def _seeds(seed: Tensor, count: int) -> Tensor:
    """[count] seeds, a function of the one."""
    pairs = words(2 * count, seed, 1, _noise.DOMAINS["rbm"]).flatten()[: 2 * count].view(count, 2)
    return (pairs[:, 0] << 32) + pairs[:, 1]
