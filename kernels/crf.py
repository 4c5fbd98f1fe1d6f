"""Triton kernels of crf, and their launcher. Not yet run on a GPU.

A program takes a sequence: the matrix [K, K] stays in its registers, of a step it reads K emissions and, for backward, writes
a state, 4 (K + 1) bytes. Formulas and when sums are scaled: pygen/reference/crf.py, csrc/common/crf.h. The transitions' gradient
is a product of the states by what backward leaves, K x K with a sum over all steps, in groups of sequences.
N=64, T=512, K=64, float32: 8 MB of emissions and as much of states each way; the 512 steps one after the other decide the time.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._noise import DOMAINS

from . import _blocks
from ._compat import OPTIONS, device_of, float_bits, tl_wide
from ._crf_backward import crf_bwd_kernel, crf_bwd_transitions_kernel, crf_sums_kernel
from ._crf_best import crf_best_kernel, crf_decode_kernel
from ._crf_chain import RUNTIME, finite, log_sum, matrix, read, score, span, vector, weights
from ._crf_sample import crf_sample_kernel
from ._loss_sums import add_up

MOST_TAGS = 64  # with more, a program would spill its matrix


@triton.jit(do_not_specialize=RUNTIME)
def crf_fwd_kernel(
    emissions_ptr,  # [N, T, K]
    transitions_ptr,  # [K, K]
    start_ptr,  # [K] or None
    end_ptr,  # [K] or None
    tags_ptr,  # [N, T] or None
    lengths_ptr,  # [N] or None
    nll_ptr,  # [N], or None: for kept alone
    kept_ptr,  # [N, T, K + 1]: states and what they were scaled by, then whether sums are scaled; or None
    strides,
    steps,
    k,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    MOST: tl.constexpr = 600.0 if tl.float64 == WIDE else 60.0  # more only where all q are 0
    n = tl.program_id(0).to(tl.int64)
    j = tl.arange(0, BLOCK)
    length, wrong = span(lengths_ptr, n, steps)
    a, end = matrix(transitions_ptr, k, 1, k, WIDE, BLOCK), vector(end_ptr, k, WIDE, BLOCK)
    scaled, top, end_top, a, end = weights(a, end, k, WIDE, BLOCK)
    state = vector(start_ptr, k, WIDE, BLOCK)
    total = tl.zeros((), tl.float64)
    for t in range(0, length):
        e = read(emissions_ptr, n, t, strides, k, WIDE, BLOCK)
        if t == 0:
            x = state + e
            m = finite(tl.max(x, axis=0))
            state = x - m
            if scaled:
                state = tl.exp(state)
        else:
            if scaled:
                q = tl.sum(state[:, None] * a, axis=0)
                m = finite(tl.max(e + tl.log(q), axis=0))
                state = q * tl.exp(tl.minimum(e - m, MOST))
            else:
                x = log_sum(state[:, None] + a) + e
                m = finite(tl.max(x, axis=0))
                state = x - m
            total += top.to(tl.float64)
        total += m.to(tl.float64)
        if kept_ptr is not None:
            row = kept_ptr + (n * steps + t) * (k + 1)
            tl.store(row + j, state, mask=j < k)
            tl.store(row + k, m)
    if kept_ptr is not None:
        flag = kept_ptr + tl.num_programs(0).to(tl.int64) * steps * (k + 1)
        tl.store(flag, scaled.to(WIDE), mask=n == 0)
    if nll_ptr is not None:
        if scaled:
            z = total + end_top.to(tl.float64) + tl.log(tl.sum(state * end, axis=0).to(tl.float64))
        else:
            z = total + log_sum(state + end).to(tl.float64)
        z = tl.where(length > 0, z, 0.0)
        if tags_ptr is not None:
            own, bad = score(
                emissions_ptr, transitions_ptr, start_ptr, end_ptr, tags_ptr, n, length, strides, steps, k, BLOCK
            )
            never = (z == float("-inf")) & (own == float("-inf"))
            z = tl.where(never, float("inf"), z - own)
            wrong = wrong | (bad > 0)
        tl.store(nll_ptr + n, tl.where(wrong, float("nan"), z).to(WIDE))


class _Call:
    """The emissions with their strides, all else contiguous and in the dtype computed in."""

    def __init__(self, emissions, transitions, start, end, tags, lengths) -> None:
        self.emissions, (self.sequences, self.steps, self.k) = emissions, emissions.shape
        self.wide = torch.promote_types(emissions.dtype, torch.float32)
        floating = (None if t is None else t.to(self.wide).contiguous() for t in (transitions, start, end))
        self.transitions, self.start, self.end = floating
        self.tags, self.lengths = (None if t is None else t.contiguous() for t in (tags, lengths))
        self.block, warps = _blocks.crf_tile(emissions.dtype, self.k)
        self.sizes = self.steps, self.k
        self.constants = {"WIDE": tl_wide(self.wide), "BLOCK": self.block, "num_warps": warps, **OPTIONS}

    def empty(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.wide, device=self.emissions.device)

    def kept(self) -> Tensor:
        return self.empty(self.sequences * self.steps * (self.k + 1) + 1)

    def forward(self, nll: Tensor | None, kept: Tensor | None) -> None:
        crf_fwd_kernel[(self.sequences,)](
            self.emissions, self.transitions, self.start, self.end, self.tags, self.lengths, nll, kept,
            self.emissions.stride(), *self.sizes, **self.constants,
        )  # fmt: skip

    def sums(self, partial: Tensor, out: Tensor) -> Tensor:
        columns = out.numel()
        block = _blocks.CRF_SUMS_COLUMNS
        crf_sums_kernel[(triton.cdiv(columns, block),)](
            partial, out, partial.numel() // columns, columns, ROWS=_blocks.CRF_SUMS_ROWS, COLUMNS=block, **OPTIONS
        )
        return out


def _forward(call: _Call, reduction: str, kept: Tensor | None) -> Tensor:
    nll = call.empty(*(call.emissions.shape[:1] if reduction == "none" else ()))
    scale = _scale(reduction, call.sequences)
    if call.sequences == 0:
        return nll.fill_(scale * 0.0)
    each = nll if reduction == "none" else call.empty(call.sequences)
    with device_of(call.emissions):
        call.forward(each, kept)
        if each is not nll:
            add_up(each, nll, scale)
    return nll


def _scale(reduction: str, sequences: int) -> float:
    if reduction != "batchmean":
        return 1.0
    return 1.0 / sequences if sequences else float("nan")


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
    kept = call.kept()
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
    n, steps, k = emissions.shape
    grad_emissions = torch.empty_like(emissions) if needs[0] else None
    inputs = (transitions, start, end)
    grads = [torch.empty(t.shape, dtype=t.dtype, device=t.device) if need else None
             for t, need in zip(inputs, needs[1:], strict=True)]  # fmt: skip
    if n == 0 or steps == 0:
        return [grad_emissions, *(None if t is None else t.zero_() for t in grads)]
    more = any(needs[1:])
    u, ends = (call.empty(n, steps, k), call.empty(2, n, k)) if more else (None, None)
    upstream = grad.stride(0) if grad.dim() else 0, float_bits(_scale(reduction, n))
    with device_of(emissions):
        if kept is None:
            kept = call.kept()
            call.forward(None, kept)
        strides = (0, 0, 0) if grad_emissions is None else grad_emissions.stride()
        crf_bwd_kernel[(n,)](
            emissions, call.transitions, call.end, call.tags, call.lengths, kept, grad, grad_emissions, u, ends,
            emissions.stride(), strides, *call.sizes, *upstream, **call.constants,
        )  # fmt: skip
        if grads[0] is not None:
            _transitions(call, kept, grad, u, upstream, grads[0])
        for i, out in enumerate(grads[1:]):
            if out is not None:
                call.sums(ends[i], out)
    return [grad_emissions, *grads]


def _transitions(call: _Call, kept: Tensor, grad: Tensor, u: Tensor, upstream: tuple, out: Tensor) -> None:
    n, k = call.sequences, call.k
    tile = min(max(call.block, 16), _blocks.CRF_TILE)
    groups = min(n, _blocks.CRF_GROUPS)
    each = -(-n // groups)
    groups = -(-n // each)
    partial, steps = call.empty(groups, k, k), _blocks.CRF_STEPS // (2 if call.wide == torch.float64 else 1)
    crf_bwd_transitions_kernel[(groups, triton.cdiv(k, tile) ** 2)](
        call.transitions, call.tags, call.lengths, kept, grad, u, partial, call.transitions.amax(), n, each, *call.sizes,
        *upstream, WIDE=tl_wide(call.wide), TILE=tile, STEPS=steps, num_warps=_blocks.CRF_TILE_WARPS, **OPTIONS,
    )  # fmt: skip
    call.sums(partial, out)


def decode(
    emissions: Tensor,  # [N, T, K]
    transitions: Tensor,  # [K, K]
    start: Tensor | None,  # [K]
    end: Tensor | None,  # [K]
    lengths: Tensor | None,  # [N]
) -> tuple[Tensor, Tensor]:
    """The likeliest tags [N, T], -1 past the length, and their scores [N]."""
    call = _Call(emissions, transitions, start, end, None, lengths)
    tags = torch.empty(emissions.shape[:2], dtype=torch.int64, device=emissions.device)
    scores = call.empty(call.sequences)
    if call.sequences == 0:
        return tags, scores
    states = call.empty(*emissions.shape)
    totals = torch.empty(call.sequences, dtype=torch.float64, device=emissions.device)
    with device_of(emissions):
        crf_best_kernel[(call.sequences,)](
            emissions,
            call.transitions,
            call.start,
            call.lengths,
            states,
            totals,
            emissions.stride(),
            *call.sizes,
            **call.constants,
        )
        crf_decode_kernel[(call.sequences,)](
            call.transitions, call.end, call.lengths, states, totals, tags, scores, *call.sizes, **call.constants
        )
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
    kept, draws = call.kept(), _blocks.crf_draws(num_samples, call.block)
    with device_of(emissions):
        call.forward(None, kept)
        crf_sample_kernel[(call.sequences * triton.cdiv(num_samples, draws),)](
            call.transitions, call.end, call.lengths, kept, seed, tags, call.sequences, *call.sizes, num_samples,
            WIDE=call.constants["WIDE"], BLOCK=call.block, DRAWS=draws, DOMAIN=DOMAINS["crf_sample"],
            num_warps=_blocks.CRF_DRAW_WARPS, **OPTIONS,
        )  # fmt: skip
    return tags
