"""Restricted Boltzmann machines in plain PyTorch (Smolensky 1986; Hinton 2002 and 2012, "A Practical Guide").

    E(v, h) = -v.b - h.c - h.W v,    v in {0, 1}^D, h in {0, 1}^H,    p(v, h) = exp(-E(v, h)) / Z
    F(v) = -log sum_h exp(-E(v, h)) = -v.b - sum_j softplus(a_j),    a = W v + c

With s = sigmoid(a), the hidden units' chances given v, and g the gradient of F,

    grad W = -(g s)^T v,    grad b = -g v,    grad c = -g s,    grad v = -g (b + s W),

summed over the samples: what contrastive divergence calls its statistics. `forward` differentiates by autograd; `backward` is
the closed form, itself differentiable, so it serves second order. Both compute in float32 (float64 for float64) and round
gradients once.

A step of block Gibbs sampling draws all h given v, then all v given h: a unit is 1 where u <= sigmoid(a / temperature). The
uniform u of unit j of image n is word j % 4 of the Philox counter (j // 4, half, n, domain), half = 2 * step for the hidden units
of a step and 2 * step + 1 for its visible ones.

Products are taken target by target: those of torch.mm would be faster, but their sums depend on threads and addresses.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen.reference import noise
from pygen.reference._likelihood import compute_dtype, softplus
from pygen.reference.bernoulli_nll import targets

NOISE_DOMAIN = 6


def _product(
    x: Tensor,  # [N, k]
    rows: Tensor,  # [n, k]
) -> Tensor:
    """x rows^T, [N, n]"""
    made = [(x * row).sum(1) for row in rows]
    return torch.stack(made, 1) if made else x.new_zeros(len(x), 0)


def _across(
    x: Tensor,  # [N, n]
    y: Tensor,  # [N, k]
) -> Tensor:
    """x^T y, [n, k]"""
    made = [(column.unsqueeze(1) * y).sum(0) for column in x.t()]
    return torch.stack(made) if made else y.new_zeros(0, y.shape[1])


def forward(
    v: Tensor,  # [N, D]: bool, uint8, int64 or weight's dtype
    weight: Tensor,  # [H, D]
    visible_bias: Tensor,  # [D]
    hidden_bias: Tensor,  # [H]
    keep: bool = False,
) -> tuple[Tensor, Tensor]:
    """The free energies [N] and, where `keep`, the hidden units' chances [N, H], else [0]: float32 (float64 for float64)."""
    wide = compute_dtype(weight.dtype)
    t = targets(v, wide)
    a = _product(t, weight.to(wide)) + hidden_bias.to(wide)
    energy = -(t * visible_bias.to(wide)).sum(1) - softplus(a).sum(1)
    return energy, a.sigmoid() if keep else a.new_empty(0)


def backward(
    grad_energy: Tensor,  # [N]
    v: Tensor,  # [N, D]
    weight: Tensor,  # [H, D]
    visible_bias: Tensor,  # [D]
    hidden_bias: Tensor,  # [H]
    needs: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of v, weight, visible_bias and hidden_bias, None where they are not needed."""
    wide = compute_dtype(weight.dtype)
    t, w = targets(v, wide), weight.to(wide)
    g = -grad_energy.unsqueeze(1)
    units = g * (_product(t, w) + hidden_bias.to(wide)).sigmoid()
    made = (
        lambda: (_product(units, w.t()) + g * visible_bias.to(wide)).to(v.dtype),
        lambda: _across(units, t).to(weight.dtype),
        lambda: (g * t).sum(0).to(weight.dtype),
        lambda: units.sum(0).to(weight.dtype),
    )
    return tuple(make() if n else None for make, n in zip(made, needs, strict=True))


def uniforms(images: int, units: int, half: int, seed: Tensor) -> Tensor:
    """float32 in (0, 1], [images, units], of one half step."""
    return noise.uniforms(images, units, seed, NOISE_DOMAIN, half)


def _draw(a: Tensor, temperature: float, half: int, seed: Tensor) -> Tensor:
    """0 and 1 like a [N, units]; 0 where a is NaN."""
    u = uniforms(*a.shape, half, seed)
    return (u <= (a * (1 / temperature)).sigmoid()).to(a.dtype)


def gibbs(
    v: Tensor,  # [N, D]: bool, uint8, int64 or weight's dtype
    weight: Tensor,  # [H, D]
    visible_bias: Tensor,  # [D]
    hidden_bias: Tensor,  # [H]
    steps: int,
    temperature: float,
    known_mask: Tensor | None,  # [N, D], bool: where v stays
    seed: Tensor,  # 0-dim, int64
) -> tuple[Tensor, Tensor]:
    """v after `steps` full steps and the h it was drawn from (steps = 0: zeros), both in v's dtype."""
    wide = compute_dtype(weight.dtype)
    given = state = targets(v, wide)
    w, b, c = weight.to(wide), visible_bias.to(wide), hidden_bias.to(wide)
    h = state.new_zeros(len(v), len(c))
    for step in range(steps):
        h = _draw(_product(state, w) + c, temperature, 2 * step, seed)
        state = _draw(_product(h, w.t()) + b, temperature, 2 * step + 1, seed)
        if known_mask is not None:
            state = torch.where(known_mask, given, state)
    return (state.to(v.dtype) if steps else v.clone(memory_format=torch.contiguous_format)), h.to(v.dtype)
