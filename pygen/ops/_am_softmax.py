"""How am_softmax is computed where there are kernels: matrix products of some samples at a time, and everything between them in
one pass over the products, in place.

Neither logits, nor probabilities, nor their gradients of all samples are ever there at once. Where gradients are wanted they
are made with the loss, as the products are there then: three matrix products in all, as many as of a saved softmax.
"""

from collections.abc import Sequence
from types import ModuleType

import torch
from torch import Tensor

from pygen.ops._products import operands, products_of
from pygen.reference._likelihood import compute_dtype
from pygen.reference.am_softmax import EPS, norms, turned

_PRODUCTS_AT_ONCE = {"cpu": 1 << 22, "cuda": 1 << 29}
_LEAST_SAMPLES = 64  # fewer would wait for the weights, and each part of the samples adds to all of their gradient


def samples_at_once(classes: int, device_type: str) -> int:
    return max(_LEAST_SAMPLES, _PRODUCTS_AT_ONCE.get(device_type, 1 << 29) // max(classes, 1))


def one_pass(
    launcher: ModuleType,
    input: Tensor,  # [N, D]
    weight: Tensor,  # [C, D]
    target: Tensor,  # [N]
    scale: float,
    margin: float,
    angular_margin: float,
    upstream: Tensor | None,  # [N], in the dtype computed in; None: the loss alone
    wanted: Sequence[bool],  # of the gradients of input and weight
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """The losses [N] and, but for what the norms take from them, the gradients of input and weight."""
    wide = compute_dtype(input.dtype)
    input, weight = input.detach(), weight.detach()
    x, w = operands(input, weight)
    x_norms, columns, target = norms(x), 1 / norms(w), target.contiguous()
    rows = scale / x_norms
    # In float16 the gradients of the products have no room for 1 / |x|, and 0 x infinity would be NaN: it goes elsewhere.
    units = (x.to(wide) / x_norms.unsqueeze(1)).to(x.dtype) if x.dtype == torch.float16 else None
    if units is not None and upstream is not None:
        upstream = upstream / rows
    nll = torch.empty(len(x), dtype=wide, device=x.device)
    grad_x = grad_w = None
    if upstream is not None and wanted[0]:
        grad_x = torch.empty(x.shape, dtype=wide, device=x.device)
    if upstream is not None and wanted[1] and not len(x):
        grad_w = torch.zeros(w.shape, dtype=wide, device=x.device)
    by = products_of(x)
    at_once = samples_at_once(len(w), x.device.type)
    for start in range(0, len(x), at_once):
        some = slice(start, start + at_once)
        above = None if upstream is None else upstream[some]
        products, slopes = by.products(x[some], w), None
        if angular_margin:
            at, slopes = _widen(products, rows[some] / scale, columns, target[some], angular_margin)
        nll[some], grads = launcher.rows(products, rows[some], columns, target[some], scale * margin, above, x.dtype)
        if grads is not None and slopes is not None:
            grads[at] *= slopes.to(grads.dtype)
        if grads is not None and grad_x is not None:
            by.grad_x(grad_x[some], grads, w)
        if grads is not None and wanted[1]:
            grad_w = by.grad_w(grad_w, grads, (x if units is None else units)[some])
    if units is not None:
        grad_x = None if grad_x is None else grad_x.mul_(rows.unsqueeze(1))
        grad_w = None if grad_w is None else grad_w.mul_(scale)
    return nll, grad_x, grad_w


def _widen(
    products: Tensor,  # [n, C], of which each sample's with its target is changed
    rows: Tensor,  # [n], one over the samples' lengths
    columns: Tensor,  # [C], one over the classes'
    target: Tensor,  # [n]
    angular_margin: float,
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Where the targets' products are, which become those of wider angles, and the slopes of that: [n] numbers each, so that the
    kernels need not know of angles. A target that is no class changes another's product: its loss is NaN whatever that is."""
    drawn = target.clamp(0, products.shape[1] - 1)
    at = torch.arange(len(products), device=products.device), drawn
    lengths = rows * columns[drawn]
    cosines, slopes = turned(products[at] * lengths, angular_margin)
    products[at] = cosines / lengths
    return at, slopes


def finished(
    launcher: ModuleType,
    grad: Tensor,  # [rows, D], of one_pass, overwritten
    t: Tensor,  # [rows, D]
    factor: Tensor | None,  # 0-dim
) -> Tensor:
    """The gradient of t [rows, D], in its dtype: what its norms take is taken, and `factor` is multiplied."""
    of = (t.detach() if t.is_cuda else t.detach().to(grad.dtype)).contiguous()
    return launcher.across(grad, of, norms(of), EPS, factor).to(t.dtype)
