"""Losses of one class among many by a few sampled others, in plain PyTorch (nats).

With x a sample, w_c and b_c the weight and bias of class c, t the target, k_1 .. k_K the negatives, q their law,

    s_c = <x, w_c> + b_c        d_c = s_c - log(K q_c)

    negative sampling    softplus(-s_t) + sum_k softplus(s_k)          (Mikolov et al. 2013, "Distributed Representations", eq. 4)
    NCE                  softplus(-d_t) + sum_k softplus(d_k)          (Gutmann and Hyvarinen 2012; Mnih and Teh 2012)
    sampled softmax      log(e^(d_t) + sum_k e^(d_k)) - d_t            (Jean et al. 2015; Bengio and Senecal 2008)

A negative that is the target itself, an accidental hit, is left out where `hits` says so: its score is -inf.

`forward` differentiates by autograd; `backward` is the closed form, itself differentiable, so it serves second order: with g_c
the gradient of s_c, that of x is sum_c g_c w_c, and that of w_c the sum of g_c x over all places that hold c. Both compute in
float32 (float64 for float64) and round gradients once.
"""

import torch
from torch import Tensor

from pygen.reference import categorical_nll
from pygen.reference._likelihood import compute_dtype, softplus

KINDS = ("negative_sampling", "nce", "sampled_softmax")
_AT_ONCE = 1 << 22


def log_probabilities(
    noise: Tensor,  # [C, 3] of reference.noise_table, int64, or [C], floating
) -> Tensor:
    """[C], float64"""
    return noise.double() if noise.is_floating_point() else noise[:, 2].view(torch.float64)


def _dots(
    x: Tensor,  # [N, D]
    rows: Tensor,  # [N, K, D] or [K, D]
) -> Tensor:
    """[N, K], some samples at a time; a matrix product would be faster, but its sums depend on threads and addresses."""
    if rows.dim() == 3:
        return (x.unsqueeze(1) * rows).sum(2)
    at_once = max(1, _AT_ONCE // max(1, rows.numel()))
    return torch.cat([(part.unsqueeze(1) * rows).sum(2) for part in x.split(at_once)])


def _scores(input, weight, bias, target, negatives, noise, kind, hits) -> tuple[Tensor, Tensor, Tensor]:
    """d of the target [N, 1] and of the negatives [N, K], in the dtype computed in, and which of these are left out."""
    wide = compute_dtype(input.dtype)
    x, w = input.to(wide), weight.to(wide)
    own, others = _dots(x, w[target].unsqueeze(1)), _dots(x, w[negatives])
    target, negatives = target.unsqueeze(1), negatives.expand(len(x), negatives.shape[-1])
    if bias is not None:
        b = bias.to(wide)
        own, others = own + b[target], others + b[negatives]
    if kind != "negative_sampling":
        log_q = log_probabilities(noise)
        count = torch.full((), float(negatives.shape[1]), dtype=torch.float64, device=x.device).log()
        own, others = own - (log_q[target] + count).to(wide), others - (log_q[negatives] + count).to(wide)
    out = negatives == target if hits else torch.zeros_like(negatives, dtype=torch.bool)
    return own, others.masked_fill(out, -torch.inf), out


def forward(
    input: Tensor,  # [N, D]
    weight: Tensor,  # [C, D]
    bias: Tensor | None,  # [C]
    target: Tensor,  # [N], int64
    negatives: Tensor,  # [N, K] or [K], int64
    noise: Tensor | None,  # [C, 3] int64 or [C] floating; None for negative sampling
    kind: str,
    hits: bool,
) -> Tensor:
    """The losses, [N]."""
    own, others, _ = _scores(input, weight, bias, target, negatives, noise, kind, hits)
    if kind == "sampled_softmax":
        logits = torch.cat((own, others), 1)
        return categorical_nll.forward(logits, torch.zeros_like(target).unsqueeze(1), "none")
    return softplus(-own).squeeze(1) + softplus(others).sum(1)


def backward(
    grad_nll: Tensor,  # [N]
    input: Tensor,  # [N, D]
    weight: Tensor,  # [C, D]
    bias: Tensor | None,  # [C]
    target: Tensor,  # [N]
    negatives: Tensor,  # [N, K] or [K]
    noise: Tensor | None,
    kind: str,
    hits: bool,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """The gradients of input, weight and bias."""
    own, others, out = _scores(input, weight, bias, target, negatives, noise, kind, hits)
    if kind == "sampled_softmax":
        nothing = torch.zeros_like(target).unsqueeze(1)
        slopes = categorical_nll.backward(grad_nll, torch.cat((own, others), 1), nothing, "none")
    else:
        slopes = torch.cat((-(-own).sigmoid(), others.sigmoid().masked_fill(out, 0)), 1) * grad_nll.unsqueeze(1)
    x, w = input.to(slopes.dtype), weight.to(slopes.dtype)
    classes = torch.cat((target.unsqueeze(1), negatives.expand(len(x), negatives.shape[-1])), 1)
    grad_x = _combined(slopes, w, target, negatives)
    grad_w = _accumulated(classes, slopes.unsqueeze(2) * x.unsqueeze(1), w)
    grad_b = None if bias is None else _accumulated(classes, slopes, bias.to(slopes.dtype)).to(bias.dtype)
    return grad_x.to(input.dtype), grad_w.to(weight.dtype), grad_b


def _combined(
    slopes: Tensor,  # [N, 1 + K]
    w: Tensor,  # [C, D]
    target: Tensor,  # [N]
    negatives: Tensor,  # [N, K] or [K]
) -> Tensor:
    """sum_c slopes_c w_c, [N, D]"""
    rows = w[negatives]
    given = slopes[:, 1:]
    others = _dots(given, rows.t()) if rows.dim() == 2 else (given.unsqueeze(2) * rows).sum(1)
    return slopes[:, :1] * w[target] + others


def _accumulated(
    classes: Tensor,  # [N, 1 + K]
    values: Tensor,  # [N, 1 + K, ...]
    like: Tensor,  # [C, ...]
) -> Tensor:
    """The sums of what came for each class, [C, ...], in the order of the places."""
    where, values = classes.reshape(-1), values.reshape(classes.numel(), *like.shape[1:])
    zeros = torch.zeros_like(like, memory_format=torch.contiguous_format)
    if like.is_cuda:  # index_add would add in any order
        return zeros.index_put((where,), values, accumulate=True)
    return zeros.index_add(0, where, values)
