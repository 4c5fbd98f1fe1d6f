"""The conditionals of NADE in plain PyTorch (Larochelle and Murray 2011, equations 1 and 2, algorithm 1).

    a_0 = hidden_bias,    h_d = sigmoid(a_d),    logit_d = output_bias_d + output_weight_d . h_d,    a_{d+1} = a_d + x_d weight_d

and x_d is one with probability sigmoid(logit_d). An x_d of 0 adds nothing, whatever stands in weight_d; the last row of weight
feeds nothing. With g_d the gradient of logit_d, from the last input to the first,

    G_D = 0,    grad output_weight_d = g_d h_d,    grad weight_d = x_d G_{d+1},    grad x_d = G_{d+1} . weight_d,
    G_d = G_{d+1} + g_d output_weight_d h_d (1 - h_d),    grad hidden_bias = G_0,    grad output_bias_d = g_d,

summed over the samples. `forward` differentiates by autograd; `backward` is the closed form, itself differentiable, so it serves
second order. Both compute in float32 (float64 for float64) and round gradients once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen.reference._likelihood import compute_dtype
from pygen.reference.bernoulli_nll import targets


def _taken(t: Tensor, rows: Tensor) -> Tensor:
    """rows [..., H], of which t [N, 1] takes a share: what is not finite counts as 0 where that is nothing."""
    return torch.where((t == 0) & ~rows.isfinite(), 0.0, rows)


def _hidden(t: Tensor, weight: Tensor, hidden_bias: Tensor) -> list[Tensor]:
    """The hidden units [N, H] before each input."""
    a = hidden_bias.expand(t.shape[0], -1)
    units = []
    for d in range(t.shape[1]):
        units.append(a.sigmoid())
        if d + 1 < t.shape[1]:
            a = a + t[:, d : d + 1] * _taken(t[:, d : d + 1], weight[d])
    return units


def _stacked(rows: Sequence[Tensor], dim: int, like: Tensor) -> Tensor:
    return torch.stack(list(rows), dim) if rows else torch.zeros_like(like)


def forward(
    input: Tensor,  # [N, D]: bool, uint8, int64 or weight's dtype
    weight: Tensor,  # [D, H]
    hidden_bias: Tensor,  # [H]
    output_weight: Tensor,  # [D, H]
    output_bias: Tensor,  # [D]
) -> Tensor:
    """The logits [N, D], float32 (float64 for float64)."""
    wide = compute_dtype(weight.dtype)
    t = targets(input, wide)
    units = _hidden(t, weight.to(wide), hidden_bias.to(wide))
    v = output_weight.to(wide)
    products = [(h * v[d]).sum(1) for d, h in enumerate(units)]
    return _stacked(products, 1, t) + output_bias.to(wide)


def backward(
    grad_logits: Tensor,  # [N, D]
    input: Tensor,  # [N, D]
    weight: Tensor,  # [D, H]
    hidden_bias: Tensor,  # [H]
    output_weight: Tensor,  # [D, H]
    needs: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of input, weight, hidden_bias, output_weight and output_bias, None where they are not needed."""
    wide = compute_dtype(weight.dtype)
    t, w, v = targets(input, wide), weight.to(wide), output_weight.to(wide)
    units = _hidden(t, w, hidden_bias.to(wide))
    down = grad_logits.new_zeros(t.shape[0], hidden_bias.shape[0])  # G
    grad_w, grad_v, grad_x = [], [], []
    for d in reversed(range(t.shape[1])):
        h, g, taken = units[d], grad_logits[:, d : d + 1], t[:, d : d + 1]
        if needs[0]:
            grad_x.append((down * _taken(taken, w[d])).sum(1))
        if needs[1]:
            grad_w.append((taken * _taken(taken, down)).sum(0))
        if needs[3]:
            grad_v.append((g * h).sum(0))
        down = down + g * v[d] * (h * (1 - h))
    grads = (
        _stacked(grad_x[::-1], 1, t).to(input.dtype) if needs[0] else None,
        _stacked(grad_w[::-1], 0, w).to(weight.dtype),
        down.sum(0).to(weight.dtype),
        _stacked(grad_v[::-1], 0, v).to(weight.dtype),
        grad_logits.sum(0).to(weight.dtype),
    )
    return tuple(grad if n else None for grad, n in zip(grads, needs, strict=True))


def grad_input(
    grad_logits: Tensor,  # [N, D]
    input: Tensor,  # [N, D]
    weight: Tensor,  # [D, H]
    hidden_bias: Tensor,  # [H]
    output_weight: Tensor,  # [D, H]
) -> Tensor:
    """backward's first: kernels leave the gradient of data, which is seldom asked for, to this."""
    needs = (True, False, False, False, False)
    grad = backward(grad_logits, input, weight, hidden_bias, output_weight, needs)[0]
    assert grad is not None
    return grad
