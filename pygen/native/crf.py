"""Launcher of the C++ and the CUDA C++ kernels of crf. CUDA: not yet run on a GPU."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen.native._arguments import DTYPE_NAMES, on_gpu, strided, target
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
        self.fixed_size, self.states_size, self.sums_size = self.compiled.crf_sizes(*self.sizes)

    def kept(self, states: bool) -> Tensor | None:
        """What a forward pass works on and, with `states`, leaves for backward."""
        size = self.fixed_size + (self.states_size if states else 0)
        return self.empty(size) if states or size else None

    def arguments(self, kept: Tensor | None, states: bool = True) -> tuple:
        return (
            DTYPE_NAMES[self.emissions.dtype],
            self.sizes,
            strided(self.emissions),
            *(None if t is None else t.data_ptr() for t in self.rest),
            None if kept is None else kept.data_ptr(),
            states,
        )

    def empty(self, size: int) -> Tensor:
        return torch.empty(size, dtype=self.wide, device=self.emissions.device)


def _contiguous(t: Tensor | None, dtype: torch.dtype) -> Tensor | None:
    if t is None:
        return None
    strided(t)  # raises where there is nothing to copy
    return t.to(dtype).contiguous()


def _forward(call: _Call, reduction: str, states: bool) -> tuple[Tensor, Tensor | None]:
    nll, kept = empty_nll(call.emissions, reduction), call.kept(states)
    reduce = reduction != "none"
    partial = call.empty(call.sizes[0]) if reduce and on_gpu((call.compiled, call.where)) else None
    call.compiled.crf_forward(
        call.arguments(kept, states),
        nll.data_ptr(),
        None if partial is None else partial.data_ptr(),
        reduce,
        scale(reduction, call.sizes[0]),
        *call.where,
    )
    return nll, kept


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
    return _forward(_Call(emissions, transitions, start, end, tags, lengths), reduction, False)[0]


def forward_and_keep(
    emissions: Tensor,  # [N, T, K]
    transitions: Tensor,  # [K, K]
    start: Tensor | None,  # [K]
    end: Tensor | None,  # [K]
    tags: Tensor | None,  # [N, T]
    lengths: Tensor | None,  # [N]
    reduction: str,
) -> tuple[Tensor, Tensor | None]:
    """forward's result and what spares backward the way there."""
    return _forward(_Call(emissions, transitions, start, end, tags, lengths), reduction, True)


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
        kept = call.kept(True)
        call.compiled.crf_forward(call.arguments(kept), None, None, False, 1.0, *call.where)
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
    kept = call.kept(True)  # lives as long as the call
    call.compiled.crf_decode(call.arguments(kept), tags.data_ptr(), scores.data_ptr(), *call.where)
    return tags, scores


def sample(
    emissions: Tensor,  # [N, T, K]
    transitions: Tensor,  # [K, K]
    start: Tensor | None,  # [K]
    end: Tensor | None,  # [K]
    lengths: Tensor | None,  # [N]
    seed: Tensor,  # 0-dim int64
    num_samples: int,  # S
) -> Tensor:
    """Tags drawn from the chain, [S, N, T], -1 past the length."""
    tags = torch.empty((num_samples, *emissions.shape[:2]), dtype=torch.int64, device=emissions.device)
    if tags.numel() == 0:
        return tags
    call = _Call(emissions, transitions, start, end, None, lengths)
    kept = call.kept(True)
    call.compiled.crf_forward(call.arguments(kept), None, None, False, 1.0, *call.where)
    given = seed.data_ptr() if on_gpu((call.compiled, call.where)) else seed.item()
    call.compiled.crf_sample(call.arguments(kept), tags.data_ptr(), num_samples, given, *call.where)
    return tags
