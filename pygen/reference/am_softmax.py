"""AM-Softmax in plain PyTorch (nats): the softmax over classes of scaled cosines, the target's less a margin.

With x a sample, w_j the weights of class j and t the target, cos_j = <x, w_j> / (max(|x|, e) max(|w_j|, e)), e = EPS as of
F.normalize, and

    l_j = s (cos_j - m [j = t]),        loss = log sum_j e^(l_j) - l_t

(Wang et al. 2018, "Additive Margin Softmax for Face Verification"; the same loss is CosFace's, Wang et al. 2018). An angular
margin a takes cos_t for cos(angle + a) first: ArcFace (Deng et al. 2019).

`forward` differentiates by autograd; `backward` is the closed form, itself differentiable, so it serves second order: with
u = x / |x| and g the gradient of u, that of x is (g - u <u, g>) / |x|; where the norm is not beyond e, g / e. Both compute
in float32 (float64 for float64) and round once.
"""

import math

import torch
from torch import Tensor

from pygen.reference import categorical_nll
from pygen.reference._likelihood import compute_dtype

EPS = 1e-12
_LEAST_SINE = 2.0**-23  # squared: at an angle of 0 the slope is infinite
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


def turned(cosine: Tensor, angular_margin: float) -> tuple[Tensor, Tensor]:
    """The cosines of angles wider by the margin, and their slopes. Where the sum would pass pi, and cosines would rise again, a
    straight line of slope 1 as in ArcFace's code: cosine - margin sin(margin). Sines below 3.5e-4 count as that."""
    along, up = math.cos(angular_margin), math.sin(angular_margin)
    square = (1 - cosine) * (1 + cosine)
    sine = square.clamp_min(_LEAST_SINE).sqrt()
    past = cosine <= -along
    slope = along + torch.where(square > _LEAST_SINE, up * cosine / sine, 0.0)
    return (
        torch.where(past, cosine - angular_margin * up, along * cosine - up * sine),
        torch.where(past, 1.0, slope),
    )


def _logits(
    x_unit: Tensor, w_unit: Tensor, target: Tensor, scale: float, margin: float, angular_margin: float
) -> tuple[Tensor, Tensor | float]:
    """And the slopes of the cosines that they are made of."""
    hot = target.unsqueeze(1) == torch.arange(w_unit.shape[0], device=target.device)
    cosines, slopes = _times(x_unit, w_unit.t()), 1.0
    if angular_margin:
        wide, slope = turned(cosines, angular_margin)
        cosines, slopes = torch.where(hot, wide, cosines), torch.where(hot, slope, 1.0)
    return scale * (cosines - margin * hot.to(x_unit.dtype)), slopes


def forward(
    input: Tensor,  # [N, D]
    weight: Tensor,  # [C, D]
    target: Tensor,  # [N], int64
    scale: float,
    margin: float,
    angular_margin: float,
    reduction: str,
) -> Tensor:
    """The loss, [N] or a scalar."""
    *_, x_unit, w_unit = _units(input, weight)
    logits, _ = _logits(x_unit, w_unit, target, scale, margin, angular_margin)
    return categorical_nll.forward(logits, target.unsqueeze(1), reduction)


def backward(
    grad_nll: Tensor,  # [N] or []
    input: Tensor,  # [N, D]
    weight: Tensor,  # [C, D]
    target: Tensor,  # [N]
    scale: float,
    margin: float,
    angular_margin: float,
    reduction: str,
) -> tuple[Tensor, Tensor]:
    """The gradients of input and weight."""
    x_norm, w_norm, x_unit, w_unit = _units(input, weight)
    logits, slopes = _logits(x_unit, w_unit, target, scale, margin, angular_margin)
    d = scale * categorical_nll.backward(grad_nll, logits, target.unsqueeze(1), reduction) * slopes
    grad_input = across(_times(d, w_unit), x_unit, x_norm) / x_norm.unsqueeze(1)
    grad_weight = across(_times(d.t(), x_unit), w_unit, w_norm) / w_norm.unsqueeze(1)
    return grad_input.to(input.dtype), grad_weight.to(weight.dtype)
