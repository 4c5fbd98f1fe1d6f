"""Triton kernels of gan_loss, and their launcher. Not yet run on a GPU. Formulas: csrc/common/gan_loss.h.

Traffic, T = bytes of the logits: forward reads T; where it makes the gradient for an upstream gradient of 1 too, it writes T,
and a backward that finds a 1 there moves nothing. Else backward reads T and writes T. relativistic_average reads T once more
in forward, for the means. All members of a list go through one launch. Sums run over blocks of fixed size and then over the
blocks in order, so results repeat. Logits that are not contiguous are copied first.
"""

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._gan_terms import empty_terms, made_by_forward, term_likes

from ._compat import bits_float, cast, device_of
from ._gan import Segments, gan_slope, gan_value, load_block
from ._gan_finish import finish
from ._softplus import quick_exp_minus_abs


@triton.jit
def gan_loss_fwd_kernel(
    x_ptrs,  # each segment's logits, [numel]
    other_ptrs,  # with pairs the other side's logits, [numel], else ()
    upstream_ptrs,  # weights of the slopes' sums, [numel] each, or ()
    out_ptrs,  # the terms, [numel] each, or ()
    grad_ptrs,  # the logits' gradients for an upstream gradient of 1, [numel] each or None; read where GRADS
    other_grad_ptrs,  # with pairs the other side's
    mean_ptr,  # [segments]: what the segment's logits are compared with, or None
    partial_ptr,  # [5, programs]: sums of the terms, logits, right answers, slopes and other logits; or None
    numels,
    firsts,  # each segment's first program
    programs,
    weights,  # of the stored terms and in the gradients, as bits
    FORMS: tl.constexpr,
    SIGNS: tl.constexpr,
    OFFSETS: tl.constexpr,
    LIMITS: tl.constexpr,
    LIVE: tl.constexpr,  # with upstream_ptrs whether anything uses a segment's terms, else ()
    ONLY_LOGITS: tl.constexpr,
    GRADS: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    for i in tl.static_range(len(x_ptrs)):
        if (program >= firsts[i]) & (program < firsts[i + 1]):
            FORM: tl.constexpr = FORMS[i]
            SIGN: tl.constexpr = SIGNS[i]
            OFFSET: tl.constexpr = OFFSETS[i]
            LIMIT: tl.constexpr = LIMITS[i]
            offs = (program - firsts[i]) * BLOCK + tl.arange(0, BLOCK)
            mask = offs < numels[i]
            x = load_block(x_ptrs[i], offs, mask, WIDE)
            if partial_ptr is not None:
                tl.store(partial_ptr + programs + program, tl.sum(x, axis=0))
            if not ONLY_LOGITS:
                d = x
                if len(other_ptrs) > 0:
                    other = load_block(other_ptrs[i], offs, mask, WIDE)
                    tl.store(partial_ptr + 4 * programs + program, tl.sum(other, axis=0))
                    d = x - other
                if mean_ptr is not None:
                    d = x - tl.load(mean_ptr + i)
                y = d * SIGN
                e = quick_exp_minus_abs(y)
                value = gan_value(y, e, OFFSET, FORM)
                if len(out_ptrs) > 0:
                    tl.store(out_ptrs[i] + offs, value * bits_float(weights[i], WIDE), mask=mask)
                slope = gan_slope(y, e, OFFSET, FORM)
                if GRADS:
                    grad = slope * (bits_float(weights[i], WIDE) * SIGN)
                    if grad_ptrs[i] is not None:
                        tl.store(grad_ptrs[i] + offs, cast(grad, grad_ptrs[i].dtype.element_ty), mask=mask)
                    if len(other_ptrs) > 0:  # noqa: SIM102 (as in backward)
                        if other_grad_ptrs[i] is not None:
                            tl.store(
                                other_grad_ptrs[i] + offs, cast(-grad, other_grad_ptrs[i].dtype.element_ty), mask=mask
                            )
                if len(upstream_ptrs) > 0:
                    if LIVE[i]:  # noqa: SIM108
                        slope = slope * load_block(upstream_ptrs[i], offs, mask, WIDE)
                    else:  # what unused terms hold, NaN too, does not matter
                        slope = tl.zeros((BLOCK,), WIDE)
                right = tl.where(y < LIMIT, 1.0, 0.0).to(WIDE)
                tl.store(partial_ptr + program, tl.sum(tl.where(mask, value, 0.0), axis=0))
                tl.store(partial_ptr + 2 * programs + program, tl.sum(tl.where(mask, right, 0.0), axis=0))
                tl.store(partial_ptr + 3 * programs + program, tl.sum(tl.where(mask, slope, 0.0), axis=0))


@triton.jit
def gan_loss_bwd_kernel(
    x_ptrs,  # each segment's logits, [numel]
    other_ptrs,  # with pairs the other side's logits, [numel], else ()
    upstream_ptrs,  # gradients of the terms, [numel] each, or ()
    grad_ptrs,  # the logits' gradients, [numel] each or None
    other_grad_ptrs,  # with pairs the other side's, or ()
    grad_loss_ptr,  # [], or None
    reused_ptr,  # [members, 4], or None
    slopes_ptr,  # [segments], or None where reused has them
    numels,
    firsts,
    weights,  # as bits, as the next
    inverses,
    FORMS: tl.constexpr,
    SIGNS: tl.constexpr,
    OFFSETS: tl.constexpr,
    LIVE: tl.constexpr,  # whether a segment's terms have a gradient
    MADE: tl.constexpr,  # forward has left the gradients for a grad_loss of 1
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    program = tl.program_id(0).to(tl.int64)
    g = tl.full((), 1.0, WIDE)
    if grad_loss_ptr is not None:
        g = tl.load(grad_loss_ptr)
    if MADE:  # noqa: SIM102 (not with `and`: Triton evaluates both sides)
        if g == 1.0:
            return
    for i in tl.static_range(len(x_ptrs)):
        if (program >= firsts[i]) & (program < firsts[i + 1]):
            FORM: tl.constexpr = FORMS[i]
            SIGN: tl.constexpr = SIGNS[i]
            OFFSET: tl.constexpr = OFFSETS[i]
            offs = (program - firsts[i]) * BLOCK + tl.arange(0, BLOCK)
            mask = offs < numels[i]
            grad = tl.zeros((BLOCK,), WIDE)
            if LIVE[i]:
                d = load_block(x_ptrs[i], offs, mask, WIDE)
                if len(other_ptrs) > 0:
                    d = d - load_block(other_ptrs[i], offs, mask, WIDE)
                if reused_ptr is not None:
                    d = d - tl.load(reused_ptr + (i // 2 * 4 + 1 - i % 2))
                y = d * SIGN
                slope = gan_slope(y, quick_exp_minus_abs(y), OFFSET, FORM)
                grad = slope * (g * (bits_float(weights[i], WIDE) * SIGN))
                if len(upstream_ptrs) > 0:
                    grad = grad * load_block(upstream_ptrs[i], offs, mask, WIDE)
            if reused_ptr is not None:  # x also moves its mean, which the other side's terms subtract
                O_SIGN: tl.constexpr = SIGNS[i ^ 1]
                if slopes_ptr is not None:
                    slopes = tl.load(slopes_ptr + (i ^ 1))
                else:
                    slopes = tl.load(reused_ptr + (i // 2 * 4 + 3 - i % 2))
                grad -= g * slopes * (O_SIGN * (bits_float(weights[i ^ 1], WIDE) * bits_float(inverses[i], WIDE)))
            if grad_ptrs[i] is not None:
                tl.store(grad_ptrs[i] + offs, cast(grad, grad_ptrs[i].dtype.element_ty), mask=mask)
            if len(other_ptrs) > 0:  # noqa: SIM102 (of a tuple that holds None, Triton 3.6 cannot take the length)
                if other_grad_ptrs[i] is not None:
                    tl.store(other_grad_ptrs[i] + offs, cast(-grad, other_grad_ptrs[i].dtype.element_ty), mask=mask)


def _sums(
    s: Segments, upstream: tuple = (), outs: tuple = (), mean: Tensor | None = None, live: tuple = (), *,
    only_logits: bool = False, grads: tuple[tuple, tuple] | None = None,
) -> Tensor:  # fmt: skip
    """The blocks' sums, [5, programs]."""
    partial = torch.empty((5, s.programs), dtype=s.dtype, device=s.device)
    gan_loss_fwd_kernel[(s.programs,)](
        s.tensors, () if only_logits else s.others, upstream, outs, *(grads or ((), ())), mean, partial, s.numels, s.firsts,
        s.programs, s.weights, **s.forms(), LIMITS=tuple(side.limit for side in s.sides), LIVE=live, ONLY_LOGITS=only_logits,
        GRADS=grads is not None, **s.constants(),
    )  # fmt: skip
    return partial


def forward(real: Sequence[Tensor], fake: Sequence[Tensor], *options: Any) -> list[Tensor]:
    """The outputs of forward_with_gradients, whose arguments but the last these are."""
    return forward_with_gradients(real, fake, *options, None)[0]


def forward_with_gradients(
    real: Sequence[Tensor],  # the members' logits; empty where the loss has no use for them
    fake: Sequence[Tensor],
    kind: str,
    player: str,
    label_smoothing: float,
    scale: float,
    reduction: str,
    stats: bool,
    needs: Sequence[bool] | None,  # of real, then of fake; None: no gradients
) -> tuple[list[Tensor], list[Tensor | None] | None]:
    """[loss], or the terms under "none"; then the stats [4] if asked for; then for relativistic_average [members, 4].

    And, from the same pass, the gradients for an upstream gradient of 1; None: ask backward.
    """
    segments = Segments(real, fake, kind, player, label_smoothing, scale, reduction)
    dtype, device = segments.dtype, segments.device
    loss = statistics = reused = None
    outputs: list[Tensor] = []
    if reduction == "none":
        outputs = [empty_terms(t) for t in term_likes(tuple(real), tuple(fake), kind)]
        work = tuple(t if t.is_contiguous() else torch.empty(t.shape, dtype=dtype, device=device) for t in outputs)
    else:
        loss, work = torch.empty((), dtype=dtype, device=device), ()
        outputs = [loss]
    if stats:
        statistics = torch.empty(4, dtype=dtype, device=device)
        outputs.append(statistics)
    if segments.other == "mean":
        reused = torch.empty((len(real), 4), dtype=dtype, device=device)
        outputs.append(reused)
    if segments.programs == 0:
        for t, value in ((loss, 0.0), (statistics, float("nan")), (reused, 0.0)):
            if t is not None:
                t.fill_(value)
        return outputs, None
    with device_of(segments.tensors[0]):
        mean = None
        if segments.other == "mean":
            mean = torch.empty(len(segments.numels), dtype=dtype, device=device)
            finish(segments, _sums(segments, only_logits=True), mean=mean)
        made = None
        logits = (*real, *fake)
        flat = all(t.is_contiguous() for t in logits)
        if needs is not None and loss is not None and flat and made_by_forward(segments.other, logits[0].dtype):
            made = [torch.empty_like(t) if n else None for t, n in zip(logits, needs, strict=True)]
        grads = None if made is None else segments.gradients(made[: len(real)], made[len(real) :])
        partial = _sums(segments, (), work, mean, grads=grads)
        if loss is not None or stats or reused is not None:
            finish(segments, partial, loss, statistics, None, None, reused)
    for out, done in zip(outputs, work, strict=False):
        if out is not done:
            out.copy_(done)
    return outputs, made


def backward(
    grad_losses: Sequence[Tensor | None],  # of the loss, or of the terms
    real: Sequence[Tensor],
    fake: Sequence[Tensor],
    reused: Tensor | None,  # [members, 4]
    kind: str,
    player: str,
    label_smoothing: float,
    scale: float,
    reduction: str,
    needs: Sequence[bool],  # of real, then of fake
    made: Sequence[Tensor | None] | None = None,  # what forward_with_gradients made: becomes the result
) -> Sequence[Tensor | None]:
    """Gradients of real, then of fake; None where needs is False."""
    segments = Segments(real, fake, kind, player, label_smoothing, scale, reduction)
    logits = (*real, *fake)
    grads = made or [torch.empty_like(t) if n else None for t, n in zip(logits, needs, strict=True)]
    if segments.programs == 0:
        return grads
    work = [
        g if g is None or g.is_contiguous() else torch.empty(g.shape, dtype=g.dtype, device=g.device) for g in grads
    ]
    count = len(segments.numels)
    grad_loss, upstream, live = grad_losses[0], (), (True,) * count
    if reduction == "none":
        grad_loss = None
        live = tuple(g is not None for g in grad_losses)
        upstream = tuple(t if g is None else g.contiguous() for g, t in zip(grad_losses, segments.tensors, strict=True))
    with device_of(segments.tensors[0]):
        slopes = None
        if segments.other == "mean" and reduction == "none":
            assert reused is not None
            slopes = torch.empty(count, dtype=segments.dtype, device=segments.device)
            mean = reused[:, :2].flip(1).reshape(-1)
            finish(segments, _sums(segments, upstream, (), mean, live), slopes=slopes)
        gan_loss_bwd_kernel[(segments.programs,)](
            segments.tensors, segments.others, upstream, *segments.gradients(work[: len(real)], work[len(real) :]), grad_loss,
            reused, slopes, segments.numels, segments.firsts, segments.weights, segments.inverses, **segments.forms(), LIVE=live,
            MADE=made is not None, **segments.constants(),
        )  # fmt: skip
    for grad, done in zip(grads, work, strict=True):
        if grad is not None and grad is not done:
            grad.copy_(done)
    return grads
