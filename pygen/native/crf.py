"""Launcher of the C++ and the CUDA C++ kernels of crf. CUDA: not yet run on a GPU."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen.native._arguments import DTYPE_NAMES, strided, target
from pygen.native._likelihood import empty_nll, scale

MOST_TAGS = 256  # of the kernels' scratch memory


class _Call:
    """The arguments as the kernels take them: the emissions with their strides, all else contiguous."""

    def __init__(self, emissions, transitions, start, end, tags, lengths) -> None:
        self.emissions, self.sizes = emissions, tuple(emissions.shape)
        self.wide = torch.promote_types(emissions.dtype, torch.float32)
        self.rest = [_contiguous(t, self.wide) for t in (transitions, start, end)]
        self.rest += [_contiguous(t, torch.int64) for t in (tags, lengths)]
        self.compiled, self.where = target(emissions)
        self.kept_size, self.sums_size = self.compiled.crf_sizes(*self.sizes)

    def arguments(self, kept: Tensor | None) -> tuple:
        return (
            DTYPE_NAMES[self.emissions.dtype],
            self.sizes,
            strided(self.emissions),
            *(None if t is None else t.data_ptr() for t in self.rest),
            None if kept is None else kept.data_ptr(),
        )

    def empty(self, size: int) -> Tensor:
        return torch.empty(size, dtype=self.wide, device=self.emissions.device)


def _contiguous(t: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if t is None:
        return None
    strided(t)  # raises where there is nothing to copy
    return t.to(dtype).contiguous()


def _forward(call: _Call, reduction: str, kept: Tensor | None) -> Tensor:
    nll = empty_nll(call.emissions, reduction)
    arguments = call.arguments(kept), nll.data_ptr(), reduction != "none", scale(reduction, call.sizes[0])
    call.compiled.crf_forward(*arguments, *call.where)
    return nll


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
    return _forward(_Call(emissions, transitions, start, end, tags, lengths), reduction, None)


def forward_and_keep(
    emissions: Tensor,  # [N, T, K]
    transitions: Tensor,  # [K, K]
    start: Tensor | None,  # [K]
    end: Tensor | None,  # [K]
    tags: Tensor | None,  # [N, T]
    lengths: Tensor | None,  # [N]
    reduction: str,
) -> tuple[Tensor, Tensor]:
    """forward's result and what spares backward the way there."""
    call = _Call(emissions, transitions, start, end, tags, lengths)
    kept = call.empty(call.kept_size)
    return _forward(call, reduction, kept), kept


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
    kept: Tensor | None,
) -> list[Tensor | None]:
    """The gradients of emissions, transitions, start and end, None where not needed."""
    call = _Call(emissions, transitions, start, end, tags, lengths)
    if kept is None:
        kept = call.empty(call.kept_size)
        call.compiled.crf_forward(call.arguments(kept), None, False, 1.0, *call.where)
    k = emissions.shape[2]
    grad_emissions = torch.empty_like(emissions) if needs[0] else None
    sums = [call.empty(n) for n in (call.sums_size, k * k, k, k)] if any(needs[1:]) else [None] * 4
    call.compiled.crf_backward(
        call.arguments(kept),
        grad.data_ptr(),
        0 if grad.dim() == 0 else grad.stride(0),
        scale(reduction, call.sizes[0]),
        None if grad_emissions is None else strided(grad_emissions),
        tuple(None if t is None else t.data_ptr() for t in sums),
        *call.where,
    )
    shaped = (None if sums[1] is None else sums[1].view(k, k), *sums[2:])
    rest = [t.to(emissions.dtype) if need else None for t, need in zip(shaped, needs[1:], strict=True)]
    return [grad_emissions, *rest]


def decode(
    emissions: Tensor,  # [N, T, K]
    transitions: Tensor,  # [K, K]
    start: Tensor | None,  # [K]
    end: Tensor | None,  # [K]
    lengths: Tensor | None,  # [N]
) -> tuple[Tensor, Tensor]:
    """The likeliest tags [N, T], -1 past the length, and their scores [N]."""
    call = _Call(emissions, transitions, start, end, None, lengths)
    tags = torch.empty(call.sizes[:2], dtype=torch.int64, device=emissions.device)
    scores = call.empty(call.sizes[0])
    kept = call.empty(call.kept_size)
    call.compiled.crf_decode(call.arguments(kept), tags.data_ptr(), scores.data_ptr(), *call.where)
    return tags, scores
