"""Sums on the host's side of kernels, in an order that does not depend on the number of threads."""

import torch
from torch import Tensor

_CHUNK = 1024
_SERIAL = 1 << 15  # elements; torch sums fewer in one thread


def total(t: Tensor) -> Tensor:
    """Sum of all elements through chunks of fixed size: torch splits one long sum by threads, but not many short ones."""
    flat = t.reshape(-1)
    while flat.numel() > _CHUNK:
        whole = flat.numel() // _CHUNK * _CHUNK
        parts = flat[:whole].view(-1, _CHUNK).sum(1)
        flat = parts if whole == flat.numel() else torch.cat((parts, flat[whole:].sum().unsqueeze(0)))
    return flat.sum()


def column_sums(
    rows: Tensor,  # [R, B]
    factors: Tensor | None = None,  # [R, 1], in rows' dtype
) -> Tensor:
    """[B], of the rows times their factors: torch adds a column up in an order that depends on where threads cut the rows."""
    if rows.numel() >= _SERIAL and _has_kernel(rows):
        from pygen.native.masked_linear import dense_grad_weight  # here: launchers import this module

        each = rows.new_ones(1, 1).expand(len(rows), 1) if factors is None else factors
        return dense_grad_weight(rows, each, rows.new_empty(rows.shape[1], 1)).view(-1)
    return (rows if factors is None else rows * factors).sum(0)


def _has_kernel(t: Tensor) -> bool:
    from pygen._dispatch import is_plain
    from pygen.native.masked_linear import has_dense

    return t.is_cpu and is_plain(t) and not (torch.is_grad_enabled() and t.requires_grad) and has_dense(t)


def channel_sums(images: Tensor) -> Tensor:
    """[C] of [N, C, H, W]"""
    last = images.permute(0, 2, 3, 1)
    return column_sums(last.flatten(0, 2)) if last.is_contiguous() else images.sum((0, 2, 3))


def sum_to(full: Tensor, like: Tensor) -> Tensor:
    """`full` [*shape] summed to like's shape (which broadcasts to `shape`) and cast to its dtype; contiguous."""
    if full.shape == like.shape:
        return full if full.dtype == like.dtype else full.to(like.dtype)
    if like.numel() == 1:
        return total(full).to(like.dtype).reshape(like.shape)
    lead = full.dim() - like.dim()
    dims = [i for i, n in enumerate(full.shape) if i < lead or (like.shape[i - lead] == 1 and n != 1)]
    while dims:  # neighbours together: of scattered dims torch adds up number after number, and loses digits
        run = [dims.pop()]
        while dims and dims[-1] == run[-1] - 1:
            run.append(dims.pop())
        full = _summed(full, run[-1], run[0] + 1)
    return full.reshape(like.shape).to(like.dtype)


def _summed(full: Tensor, start: int, end: int) -> Tensor:
    """Over the dims from start to end, which stay with size 1."""
    kept = (*full.shape[:start], *[1] * (end - start), *full.shape[end:])
    before, after = full.shape[:start].numel(), full.shape[end:].numel()
    if full.numel() < _SERIAL or after == 1 or not full.is_cpu:
        return full.sum(tuple(range(start, end)), keepdim=True)
    if before == 1:
        return column_sums(full.reshape(-1, after)).view(kept)
    return full.reshape(before, -1, after).transpose(1, 2).contiguous().sum(2).view(kept)
