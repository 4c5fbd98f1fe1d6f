"""The bottleneck of a VQ-VAE in plain PyTorch: the nearest code of each position, its two losses, sums over a code's positions.

With z a position's vector [D] of input [N, D, ...], e_k the codes [K, D], sg what no gradient passes,

    k = argmin_j ||z - e_j||^2, of equals the lowest      quantized = z + sg(e_k - z), e_k in value
    loss = w ||sg(z) - e_k||^2 + beta ||z - sg(e_k)||^2

summed over all positions, averaged over all elements, or summed over each sample's. van den Oord et al. 2017, "Neural Discrete
Representation Learning", equation 3; Razavi et al. 2019, "Generating Diverse High-Fidelity Images with VQ-VAE-2".

The code is found as the largest score <z, e_j> - ||e_j||^2 / 2. A score that is NaN, or -inf, never wins; where none is left,
or the largest is +inf, it is code 0: a position with a NaN or an infinity gets code 0, and makes the loss NaN or infinite.

All compute in float32 (float64 for float64). `forward`, `grad_input`, `sums` and `statistics` are what kernels have, too;
`compose` is for transforms, and `backward`, the closed form, itself differentiable, for second order.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen.reference._layout import in_layout_of
from pygen.reference._likelihood import compute_dtype, laid_out

_AT_ONCE = 1 << 24  # scores


def rows_of(t: Tensor) -> Tensor:
    """[N * positions, D] of [N, D, ...]"""
    return t.movedim(1, -1).reshape(t.shape[0] * t.shape[2:].numel(), t.shape[1])


def nearest(
    input: Tensor,  # [N, D, ...]
    codebook: Tensor,  # [K, D]
) -> Tensor:
    """[N, ...], int64"""
    wide = compute_dtype(input.dtype)
    codes = codebook.detach().to(wide)
    half, numbers = (codes * codes).sum(1) / 2, torch.arange(len(codebook), device=input.device)
    found = []
    for rows in rows_of(input.detach()).to(wide).split(max(1, _AT_ONCE // len(codebook))):
        scores = rows @ codes.t() - half
        scores = torch.where(scores.isnan(), -torch.inf, scores)
        most = scores.amax(1, keepdim=True)
        first = torch.where(scores == most, numbers, len(codebook)).amin(1)
        found.append(torch.where(most.squeeze(1).isfinite(), first, 0))
    return torch.cat(found).reshape(input.shape[:1] + input.shape[2:])


def codes_of(
    codebook: Tensor,  # [K, D]
    indices: Tensor,  # [N, ...]
) -> Tensor:
    """[N, D, ...]"""
    return codebook[indices].movedim(-1, 1)


def distances(
    input: Tensor,  # [N, D, ...]
    codes: Tensor,  # like input
) -> Tensor:
    """Squared ones, [N, positions], in the dtype computed in."""
    wide = compute_dtype(input.dtype)
    return (input.to(wide) - codes.to(wide)).square().unsqueeze(2).flatten(2).sum(1)


def forward(input: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """quantized like input, the indices [N, ...], the squared distances [N, positions]."""
    indices = nearest(input, codebook)
    codes = codes_of(codebook, indices)
    return in_layout_of(codes, input), indices, distances(input, codes)


def _reduced(each: Tensor, elements: int, reduction: str) -> Tensor:
    if reduction == "none":
        return each.sum(1)
    return each.sum() / elements if reduction == "mean" else each.sum()


def compose(
    input: Tensor, codebook: Tensor, beta: float, codebook_weight: float, reduction: str
) -> tuple[Tensor, Tensor, Tensor]:
    """quantized, indices and loss, by steps that transforms know."""
    indices = nearest(input, codebook)
    codes = codes_of(codebook, indices)
    quantized = codes.detach() + (input - input.detach())
    each = codebook_weight * distances(input.detach(), codes) + beta * distances(input, codes.detach())
    return quantized, indices, _reduced(each, input.numel(), reduction)


def factors(
    grad_loss: Tensor,  # [N] or []
    input: Tensor,  # [N, D, ...]
    reduction: str,
) -> Tensor:
    """[N]: the gradient of each sample's sum of squared distances."""
    grad = grad_loss / input.numel() if reduction == "mean" else grad_loss
    return grad.expand(input.shape[0])


def _per_sample(
    factor: Tensor,  # [N]
    input: Tensor,  # [N, D, ...]
) -> Tensor:
    return factor.reshape(-1, *[1] * (input.dim() - 1))


def grad_input(
    grad_quantized: Tensor | None,  # [N, D, ...]
    factor: Tensor,  # [N]
    input: Tensor,  # [N, D, ...]
    codebook: Tensor,  # [K, D]
    indices: Tensor,  # [N, ...]
) -> Tensor:
    """grad_quantized + factor (z - e), like input."""
    wide = factor.dtype
    difference = input.to(wide) - codes_of(codebook, indices).to(wide)
    grad = _per_sample(factor, input) * difference
    if grad_quantized is not None:
        grad = grad + grad_quantized.to(wide)
    return laid_out(grad.to(input.dtype), input)


def sums(
    input: Tensor,  # [N, D, ...]
    indices: Tensor,  # [N, ...]
    num_codes: int,
    codebook: Tensor | None = None,  # [K, D]
    factor: Tensor | None = None,  # [N]
) -> Tensor:
    """The sums of each code's vectors [K, D]; with a codebook and a factor those of factor (e - z)."""
    terms = input.double()
    if codebook is not None and factor is not None:
        terms = _per_sample(factor, input).double() * (codes_of(codebook, indices).double() - terms)
    total = torch.zeros(num_codes, terms.shape[1], dtype=terms.dtype, device=terms.device)
    rows = rows_of(terms)
    return total.scatter_add(0, indices.reshape(-1, 1).expand(rows.shape), rows).to(compute_dtype(input.dtype))


def statistics(
    input: Tensor,  # [N, D, ...]
    indices: Tensor,  # [N, ...]
    num_codes: int,
) -> tuple[Tensor, Tensor]:
    """How many positions each code has [K], int64, and the sums of their vectors [K, D]."""
    flat = indices.reshape(-1)
    counts = torch.zeros(num_codes, dtype=torch.int64, device=flat.device).scatter_add(0, flat, torch.ones_like(flat))
    return counts, sums(input, indices, num_codes)


def backward(
    grad_quantized: Tensor | None,  # [N, D, ...]
    grad_loss: Tensor,  # [N] or []
    input: Tensor,  # [N, D, ...]
    codebook: Tensor,  # [K, D]
    indices: Tensor,  # [N, ...]
    beta: float,
    codebook_weight: float,
    reduction: str,
    needs: Sequence[bool],
) -> tuple[Tensor | None, Tensor | None]:
    """The gradients of input and codebook, where needed. Each term's other side is a constant of the second order, too."""
    factor = factors(grad_loss, input, reduction)
    grads: list[Tensor | None] = [None, None]
    if needs[0]:
        grads[0] = grad_input(grad_quantized, 2 * beta * factor, input, codebook.detach(), indices)
    if needs[1]:
        total = sums(input.detach(), indices, len(codebook), codebook, 2 * codebook_weight * factor)
        grads[1] = total.to(codebook.dtype)
    return grads[0], grads[1]
