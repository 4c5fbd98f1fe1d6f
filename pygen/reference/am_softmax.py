"""AM-Softmax in plain PyTorch (nats): the softmax over classes of scaled cosines, the target's less a margin.

With x a sample, w_j the weights of class j and t the target, cos_j = <x, w_j> / (max(|x|, e) max(|w_j|, e)), e = EPS as of
F.normalize, and

    l_j = s (cos_j - m [j = t]),        loss = log sum_j e^(l_j) - l_t

(Wang et al. 2018, "Additive Margin Softmax for Face Verification"; the same loss is CosFace's, Wang et al. 2018).

`forward` differentiates by autograd; `backward` is the closed form, itself differentiable, so it serves second order: with
u = x / |x| and g the gradient of u, that of x is (g - u <u, g>) / |x|; where the norm is not beyond e, g / e. Both compute
in float32 (float64 for float64) and round once.
"""

import torch
from torch import Tensor

from pygen.reference import categorical_nll
from pygen.reference._likelihood import compute_dtype

EPS = 1e-12
_AT_ONCE = 1 << 22


def norms(
    t: Tensor,  # [rows, D]
) -> Tensor:
    """Of the rows, [rows], in the dtype computed in; EPS at least."""
    return torch.linalg.vector_norm(t, dim=1, dtype=compute_dtype(t.dtype)).clamp_min(EPS)


def across(
    grad: Tensor,  # [rows, D]
    unit: Tensor,  # [rows, D]
    norm: Tensor,  # [rows], of what `unit` was made of
) -> Tensor:
    """`grad` less what points along `unit`, row by row, where that has a direction: [rows, D]."""
    along = (unit * grad).sum(1) * (norm > EPS)
    return torch.addcmul(grad, unit, along.unsqueeze(1), value=-1)


def _times(
    a: Tensor,  # [m, k]
    b: Tensor,  # [k, n]
) -> Tensor:
    """a b, some rows at a time; a matrix product would be faster, but its sums depend on threads and addresses."""
    rows = max(1, _AT_ONCE // max(1, b.numel()))
    parts = [(part.unsqueeze(2) * b).sum(1) for part in a.split(rows)]
    return torch.cat(parts)


def _units(input: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The norms of samples and weights, and both as unit vectors, in the dtype computed in."""
    wide = compute_dtype(input.dtype)
    x, w = input.to(wide), weight.to(wide)
    x_norm, w_norm = norms(x), norms(w)
    return x_norm, w_norm, x / x_norm.unsqueeze(1), w / w_norm.unsqueeze(1)


def _logits(x_unit: Tensor, w_unit: Tensor, target: Tensor, scale: float, margin: float) -> Tensor:
    each = torch.arange(w_unit.shape[0], device=target.device)
    return scale * (_times(x_unit, w_unit.t()) - margin * (target.unsqueeze(1) == each).to(x_unit.dtype))


def forward(
    input: Tensor,  # [N, D]
    weight: Tensor,  # [C, D]
    target: Tensor,  # [N], int64
    scale: float,
    margin: float,
    reduction: str,
) -> Tensor:
    """The loss, [N] or a scalar."""
    *_, x_unit, w_unit = _units(input, weight)
    return categorical_nll.forward(_logits(x_unit, w_unit, target, scale, margin), target.unsqueeze(1), reduction)


def backward(
    grad_nll: Tensor,  # [N] or []
    input: Tensor,  # [N, D]
    weight: Tensor,  # [C, D]
    target: Tensor,  # [N]
    scale: float,
    margin: float,
    reduction: str,
) -> tuple[Tensor, Tensor]:
    """The gradients of input and weight."""
    x_norm, w_norm, x_unit, w_unit = _units(input, weight)
    logits = _logits(x_unit, w_unit, target, scale, margin)
    d = scale * categorical_nll.backward(grad_nll, logits, target.unsqueeze(1), reduction)
    grad_input = across(_times(d, w_unit), x_unit, x_norm) / x_norm.unsqueeze(1)
    grad_weight = across(_times(d.t(), x_unit), w_unit, w_norm) / w_norm.unsqueeze(1)
    return grad_input.to(input.dtype), grad_weight.to(weight.dtype)
