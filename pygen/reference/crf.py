"""The linear-chain conditional random field in plain PyTorch (nats).

Tags y_0 .. y_{L-1} of a sequence of length L <= T have the score

    s(y) = start[y_0] + sum_t e_t[y_t] + sum_{t>0} A[y_{t-1}, y_t] + end[y_{L-1}],        p(y) = e^s(y) / Z,

A[i, j] being the transition from i to j. Forwards, with M_t the largest of what it is taken off, held fixed,

    a_0 = start + e_0 - M_0,    a_t[j] = log sum_i e^(a_{t-1}[i] + A[i, j]) + e_t[j] - M_t,
    log Z = sum_t M_t + log sum_j e^(a_{L-1}[j] + end[j]);

backwards v_{L-1} = end - log sum_j e^(a_{L-1}[j] + end[j]) and, of u_t = v_t + e_t - M_t,

    v_{t-1}[i] = log sum_j e^(A[i, j] + u_t[j]),
    p(y_t = j) = e^(a_t[j] + v_t[j]),    p(y_{t-1} = i, y_t = j) = e^(a_{t-1}[i] + A[i, j] + u_t[j]).

These are the gradients of log Z. Scores of -inf are what cannot come; where all is so, log Z = -inf and its gradient 0, and a
loss whose tags cannot come is +inf. Steps past a sequence's length count for nothing, whatever they hold. Of no steps log Z = 0.
`backward` is itself differentiable, so it serves second order. Computed in float32 (float64 for float64).

`sample` draws y from p(y), from the last tag on: y_{L-1} = j with weight e^(a_{L-1}[j] + end[j]), then y_{t-1} = i with weight
e^(a_{t-1}[i] + A[i, y_t]) (filtering forwards, sampling backwards: Fruehwirth-Schnatter 1994, Scott 2002), each by inversion of
its own number u: reference/categorical_sample.py. u is word t % 4 of the Philox counter (t // 4, k, n, domain) of sample k,
sequence n.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from pygen.reference import noise
from pygen.reference._likelihood import compute_dtype, laid_out, reduced
from pygen.reference.categorical_sample import first_to_reach

DOMAIN = 5  # of the samples' noise; pygen/_noise.py has the list


def _finite(t: Tensor) -> Tensor:
    """What is -inf becomes 0: to be taken off numbers that are -inf too."""
    return t.masked_fill(t == -math.inf, 0.0)


def _log_sum_exp(x: Tensor, dim: int) -> Tensor:
    """-inf of what is -inf throughout, with gradient 0."""
    top = _finite(x.detach().amax(dim, keepdim=True))
    total = (x - top).exp().sum(dim)
    log = total.masked_fill(total == 0, 1.0).log().masked_fill(total == 0, -math.inf)
    return log + top.squeeze(dim)


class _Chain:
    """The arguments in the dtype computed in, with nothing to be read past a sequence's end."""

    def __init__(self, emissions, transitions, start, end, tags, lengths) -> None:
        wide = compute_dtype(emissions.dtype)
        n, self.steps, k = emissions.shape
        zeros = transitions.new_zeros(k, dtype=wide)
        self.transitions = transitions.to(wide)
        self.start, self.end = (zeros if t is None else t.to(wide) for t in (start, end))
        whole = torch.full((n,), self.steps, dtype=torch.int64, device=emissions.device)
        given = whole if lengths is None else lengths
        self.wrong = (given < 0) | (given > self.steps)
        self.lengths = given.clamp(0, self.steps)
        step = torch.arange(self.steps, device=emissions.device)
        self.live = step < self.lengths.unsqueeze(1)  # [N, T]
        self.emissions = torch.where(self.live.unsqueeze(2), emissions.to(wide), 0.0)
        self.tags = None
        if tags is not None:
            inside = torch.where(self.live, tags, 0)
            self.wrong = self.wrong | ((inside < 0) | (inside >= k)).any(1)
            self.tags = inside.clamp(0, k - 1)

    def forwards(self) -> tuple[list[Tensor], list[Tensor], Tensor]:
        """a_t, M_t and log Z. Past the end a is what it was there, and M is 0."""
        a, all_a, all_m = self.emissions.new_zeros(0), [], []
        log_z = torch.zeros_like(self.lengths, dtype=torch.float64)
        for t in range(self.steps):
            live = self.live[:, t]
            before = _log_sum_exp(a.unsqueeze(2) + self.transitions, 1) if t else self.start
            now = before + self.emissions[:, t]
            m = torch.where(live, _finite(now.detach().amax(1)), 0.0)
            now = now - m.unsqueeze(1)
            a = torch.where(live.unsqueeze(1), now, a) if t else now
            log_z = log_z + m
            all_a.append(a)
            all_m.append(m)
        last = _log_sum_exp(a + self.end, 1) if self.steps else log_z.new_zeros(())
        return all_a, all_m, torch.where(self.lengths > 0, log_z + last, 0.0)

    def score(self) -> Tensor:
        """Of the tags, [N] in float64."""
        if self.steps == 0:
            return torch.zeros_like(self.lengths, dtype=torch.float64)
        own = self.emissions.gather(2, self.tags.unsqueeze(2)).squeeze(2)
        moves = self.transitions[self.tags[:, :-1], self.tags[:, 1:]]
        last = self.tags.gather(1, (self.lengths - 1).clamp(min=0).unsqueeze(1)).squeeze(1)
        ends = self.start[self.tags[:, 0]].double() + self.end[last].double()
        total = torch.where(self.live, own, 0.0).double().sum(1)
        total = total + torch.where(self.live[:, 1:], moves, 0.0).double().sum(1)
        return torch.where(self.lengths > 0, total + ends, 0.0)


def forward(
    emissions: Tensor,  # [N, T, K]
    transitions: Tensor,  # [K, K]
    start: Tensor | None,  # [K]
    end: Tensor | None,  # [K]
    tags: Tensor | None,  # [N, T], int64; None: log Z alone
    lengths: Tensor | None,  # [N], int64
    reduction: str,
) -> Tensor:
    """log Z - s(tags), or log Z, [N] or a scalar."""
    chain = _Chain(emissions, transitions, start, end, tags, lengths)
    result = chain.forwards()[2]
    if tags is not None:
        score = chain.score()
        result = result - score
        result = result.masked_fill(result.isnan() & (score == -math.inf), math.inf)
    result = result.masked_fill(chain.wrong, math.nan)
    return reduced(result, reduction).to(compute_dtype(emissions.dtype))


def backward(
    grad: Tensor,  # [N] or []
    emissions: Tensor,  # [N, T, K]
    transitions: Tensor,  # [K, K]
    start: Tensor | None,  # [K]
    end: Tensor | None,  # [K]
    tags: Tensor | None,  # [N, T]
    lengths: Tensor | None,  # [N]
    reduction: str,
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """The gradients of emissions, transitions, start and end, None where not needed."""
    chain = _Chain(emissions, transitions, start, end, tags, lengths)
    n, steps, k = emissions.shape
    g = (grad / n if reduction == "batchmean" else grad).expand(n).masked_fill(chain.wrong, math.nan)
    each, edges = [], chain.transitions.new_zeros(k, k)
    first = final = chain.transitions.new_zeros(n, k)
    if steps:
        a, m, _ = chain.forwards()
        last = _log_sum_exp(a[-1] + chain.end, 1).unsqueeze(1)
        v = (chain.end - _finite(last)).masked_fill(last == -math.inf, -math.inf)
        for t in reversed(range(steps)):
            v = v - _finite(_log_sum_exp((a[t] + v).detach(), 1)).unsqueeze(1)  # 0 but for rounding
            chance = (a[t] + v).exp()
            if tags is not None:
                chance = chance - torch.nn.functional.one_hot(chain.tags[:, t], k)
            each.append(_only(chain.live[:, t], g, chance))
            if t == 0:
                break
            u = v + chain.emissions[:, t] - m[t].unsqueeze(1)
            inner = chain.transitions + u.unsqueeze(1)  # [N, from, to]
            pairs = (a[t - 1].unsqueeze(2) + inner).exp()
            if tags is not None:
                hit = torch.nn.functional.one_hot(chain.tags[:, t - 1] * k + chain.tags[:, t], k * k)
                pairs = pairs - hit.view(n, k, k)
            edges = edges + _only(chain.live[:, t], g, pairs).sum(0)
            v = torch.where(chain.live[:, t].unsqueeze(1), _log_sum_exp(inner, 2), v)
        each.reverse()
        stacked = torch.stack(each, 1)
        first = stacked[:, 0]
        where = (chain.lengths - 1).clamp(min=0).view(n, 1, 1).expand(n, 1, k)
        final = torch.where((chain.lengths > 0).unsqueeze(1), stacked.gather(1, where).squeeze(1), 0.0)
    grads = [laid_out(stacked.to(emissions.dtype), emissions) if steps else torch.zeros_like(emissions)]
    inputs = (transitions, start, end)
    grads += [
        None if t is None else x.to(t.dtype) for t, x in zip(inputs, (edges, first.sum(0), final.sum(0)), strict=True)
    ]
    return [grad if need else None for grad, need in zip(grads, needs, strict=True)]


def _only(live: Tensor, g: Tensor, values: Tensor) -> Tensor:
    """g times values [N, ...] where live, else 0."""
    shape = (-1, *[1] * (values.dim() - 1))
    return torch.where(live.view(shape), g.view(shape) * values, 0.0)


def decode(
    emissions: Tensor,  # [N, T, K]
    transitions: Tensor,  # [K, K]
    start: Tensor | None,  # [K]
    end: Tensor | None,  # [K]
    lengths: Tensor | None,  # [N]
) -> tuple[Tensor, Tensor]:
    """The likeliest tags, [N, T] int64, -1 past the length, and their scores [N]. Of equal ones the lowest, from the end on."""
    chain = _Chain(emissions, transitions, start, end, None, lengths)
    n, steps, _ = emissions.shape
    total = torch.zeros_like(chain.lengths, dtype=torch.float64)
    tags = torch.full((n, steps), -1, dtype=torch.int64, device=emissions.device)
    scores: list[Tensor] = []
    s = chain.emissions.new_zeros(0)
    for t in range(steps):
        live = chain.live[:, t]
        before = (s.unsqueeze(2) + chain.transitions).amax(1) if t else chain.start
        now = before + chain.emissions[:, t]
        m = torch.where(live, _finite(now.amax(1)), 0.0)
        s = torch.where(live.unsqueeze(1), now - m.unsqueeze(1), s) if t else now - m.unsqueeze(1)
        total = total + m
        scores.append(s)
    if steps:
        best, tag = (s + chain.end).max(1)
        total = torch.where(chain.lengths > 0, total + best, 0.0)
        for t in reversed(range(steps)):
            tags[:, t] = torch.where(chain.live[:, t], tag, -1)
            if t:
                before = (scores[t - 1] + chain.transitions.t()[tag]).argmax(1)
                tag = torch.where(chain.live[:, t], before, tag)
    total = total.masked_fill(chain.wrong, math.nan)
    return tags, total.to(compute_dtype(emissions.dtype))


def sample(
    emissions: Tensor,  # [N, T, K]
    transitions: Tensor,  # [K, K]
    start: Tensor | None,  # [K]
    end: Tensor | None,  # [K]
    lengths: Tensor | None,  # [N]
    seed: Tensor,  # 0-dim int64
    num_samples: int,  # S
) -> Tensor:
    """Tags drawn from p(y), [S, N, T] int64; -1 past the length, and throughout where that is wrong."""
    n, steps, _ = emissions.shape
    tags = torch.full((num_samples, n, steps), -1, dtype=torch.int64, device=emissions.device)
    if tags.numel() == 0:
        return tags
    chain = _Chain(emissions, transitions, start, end, None, lengths)
    a, _, _ = chain.forwards()
    u = noise.uniforms(n, steps, seed, DOMAIN, samples=num_samples).view(num_samples, n, steps).to(a[0].dtype)
    x = (a[-1] + chain.end).expand(num_samples, -1, -1)
    for t in reversed(range(steps)):
        live = chain.live[:, t] & ~chain.wrong
        tag = first_to_reach(x, u[:, :, t], 2, 1.0)
        tags[:, :, t] = torch.where(live, tag, -1)
        if t:
            x = torch.where(live.unsqueeze(1), a[t - 1] + chain.transitions.t()[tag], x)
    return tags
