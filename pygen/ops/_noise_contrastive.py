"""How noise-contrastive losses are computed where there are kernels.

Negatives of each sample's own are gathered, row by row. Those that all samples share are a matrix: their scores are one matrix
product, and so are their gradients. Both ways, what a class's weights get is summed over the places that hold the class in
sorted order: without atomics, and so equal from run to run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from types import ModuleType

import torch
from torch import Tensor

from pygen import _checks
from pygen._sums import column_sums
from pygen.ops._products import operands, products_of
from pygen.reference._likelihood import compute_dtype
from pygen.reference.noise_contrastive import log_probabilities


def _rows(t: Tensor) -> Tensor:
    """The numbers of a row side by side."""
    return t if t.stride(1) == 1 or t.shape[1] <= 1 else t.contiguous()


@lru_cache(maxsize=256)
def logarithm(count: int) -> float:
    """As torch rounds it, whose eager calls take longer than a small batch."""
    return float(torch.tensor(float(count), dtype=torch.float64, device="cpu").log())


def _within(classes: Tensor, weight: Tensor) -> Tensor:
    """Of a class that there is none some other: the kernels make NaN of its scores, where torch's would end the process."""
    return classes if classes.is_cpu else classes.clamp(0, len(weight) - 1)


@dataclass
class Made:
    """What one pass leaves for the gradients, for an upstream gradient of 1, in the dtype computed in."""

    flat: Tensor  # [N + N K], or [N] where negatives are shared: the slopes of the scores, the targets' first
    others: Tensor  # [N, K], the negatives' slopes
    grad_x: Tensor | None  # [N, D]; where negatives are shared the targets' part


def one_pass(
    launcher: ModuleType,
    input: Tensor,  # [N, D]
    weight: Tensor,  # [C, D]
    bias: Tensor | None,  # [C]
    target: Tensor,  # [N]
    negatives: Tensor,  # [N, K] or [K]
    noise: Tensor | None,
    kind: str,
    hits: bool,
    reduction: str,
    grad: bool,
) -> tuple[Tensor, Made]:
    """The loss, and what gradients() wants."""
    input, weight, wide = _rows(input.detach()), _rows(weight.detach()), compute_dtype(input.dtype)
    bias = None if bias is None else bias.detach().contiguous()
    n, k = len(input), negatives.shape[-1]
    target, negatives = target.contiguous(), negatives.contiguous()
    log_noise = None if kind == "negative_sampling" or noise is None else log_probabilities(noise)
    log_count = logarithm(k)
    shift = None
    if negatives.dim() == 1:
        there = _within(negatives, weight)
        x, w = operands(input, weight[there])
        flat, others = torch.empty(n, dtype=wide, device=input.device), products_of(x).products(x, w)
        shift = torch.zeros(k, dtype=wide, device=input.device) if bias is None else bias[there].to(wide)
        if log_noise is not None:
            shift -= (log_noise[there] + log_count).to(wide)
    else:
        flat = torch.empty(n + n * k, dtype=wide, device=input.device)
        others = flat[n:].view(n, k)
    loss, grad_x = launcher.rows(
        input, weight, bias, (target, negatives), log_noise, log_count, kind == "sampled_softmax", hits, shift,
        others, flat[:n], reduction, grad,
    )  # fmt: skip
    return loss, Made(flat, others, grad_x)


def gradients(
    launcher: ModuleType,
    made: Made,  # used up
    grad_nll: Tensor,  # [N], or 0-dim for all samples
    input: Tensor,  # [N, D]
    weight: Tensor,  # [C, D]
    bias: Tensor | None,  # [C]
    classes: tuple[Tensor, Tensor],  # target [N] and negatives [N, K] or [K]
    needs: Sequence[bool],  # of input, weight and bias
    sparse: bool,  # the gradient of weight
) -> list[Tensor | None]:
    """The gradients of input, weight and bias."""
    target, negatives = classes
    shared, each = negatives.dim() == 1, grad_nll.dim() == 1
    up = grad_nll.unsqueeze(1) if each else grad_nll
    x, w = input.detach(), weight.detach()
    if shared:
        x, w = operands(x, w[_within(negatives, w)])
    x = _rows(x)
    grads: list[Tensor | None] = [None, None, None]
    if needs[0] and made.grad_x is not None:
        if shared:
            part = torch.empty_like(made.grad_x)
            products_of(x).grad_x(part, made.others.to(x.dtype), w)
            made.grad_x += part
        grads[0] = made.grad_x.mul_(up).to(input.dtype)
    if not (needs[1] or needs[2]):
        return grads
    if not needs[1]:  # sums of no features
        x = x[:, :0]
    bias_scale = None
    made.flat[: len(target)] *= grad_nll
    if shared:
        others = made.others.mul_(up) if each else made.others
        tail = products_of(x).grad_w(None, others.to(x.dtype), x) if len(x) else made.flat.new_zeros(len(w), x.shape[1])
        sums = column_sums(others)
        if not each:
            tail, sums = tail * grad_nll, sums * grad_nll
        scale = torch.cat((made.flat, made.flat.new_ones(len(w))))
        bias_scale = torch.cat((made.flat, sums))
        vectors = x.to(tail.dtype), tail
    else:
        made.others.mul_(up)
        scale, vectors = made.flat, (x, x)
    entries = torch.cat((target, negatives.reshape(-1)))
    grads[1:] = _of_classes(launcher, entries, scale, bias_scale, vectors, weight, bias, needs[1:], sparse)
    return grads


def _sparse_rows(which: Tensor, rows: Tensor, shape: torch.Size) -> Tensor:
    """Coalesced, as of nn.Embedding(sparse=True): torch.sparse_coo_tensor of torch 2.11 warns whatever it is told of checks."""
    form = {"dtype": rows.dtype, "device": rows.device, "layout": torch.sparse_coo, "is_coalesced": True}
    make = torch.ops.aten._sparse_coo_tensor_with_dims_and_tensors
    return make(1, 1, list(shape), which.unsqueeze(0), rows, **form)


def _of_classes(
    launcher: ModuleType,
    entries: Tensor,  # [M], classes
    scale: Tensor,  # [M]
    bias_scale: Tensor | None,  # [M]
    vectors: tuple[Tensor, Tensor],  # [N, D] of the first N entries, [R, D] of the others
    weight: Tensor,
    bias: Tensor | None,
    needs: Sequence[bool],  # of weight and bias
    sparse: bool,
) -> list[Tensor | None]:
    sorted_classes, order = launcher.order(entries, len(weight))
    rows, place, found = len(weight), None, None
    if sparse:
        first = torch.ones_like(sorted_classes, dtype=torch.bool)
        torch.ne(sorted_classes[1:], sorted_classes[:-1], out=first[1:])
        place, found = first.cumsum(0) - 1, sorted_classes[first]
        rows = len(found)
        if rows and not 0 <= int(found[0]) <= int(found[-1]) < len(weight):
            raise _checks.fail("noise_contrastive", "target, negatives", f"classes 0 .. {len(weight) - 1}", "others")
    make = torch.empty if sparse else torch.zeros
    out = make((rows, vectors[0].shape[1]), dtype=weight.dtype, device=weight.device)
    out_bias = make(rows, dtype=weight.dtype, device=weight.device) if needs[1] else None
    if len(entries):
        launcher.sums(sorted_classes, order, place, scale, bias_scale, *vectors, out, out_bias)
    if found is not None:
        if needs[0]:
            out = _sparse_rows(found, out, weight.shape)
        if out_bias is not None and bias is not None:
            out_bias = torch.zeros_like(bias, memory_format=torch.contiguous_format).index_put_((found,), out_bias)
    return [out if needs[0] else None, out_bias]
