"""Launcher of the C++ and the CUDA C++ kernels of gan_loss. CUDA: not yet run on a GPU."""

import operator
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pygen import _backends
from pygen._gan_terms import empty_terms, made_by_forward, term_likes, terms, wide_dtype
from pygen.native import _gan_flat
from pygen.native._arguments import DTYPE_NAMES, target, without_memory

_WIDE = {dtype: wide_dtype(dtype) for dtype in DTYPE_NAMES}


def _view(t: Tensor | None) -> tuple | None:
    """(address, numel) where contiguous, else (address, sizes, strides)."""
    if t is None:
        return None
    address = t.data_ptr()
    if not address and t.numel():
        raise without_memory(t)
    return (address, t.numel()) if t.is_contiguous() else (address, t.shape, t.stride())


# Of what losses are returned in; torch.empty_like of one takes two thirds of the time of torch.empty(()).
_SCALARS = {dtype: torch.empty((), dtype=wide, device="cpu") for dtype, wide in _WIDE.items()}


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
    first = real[0] if real else fake[0]
    dtype = first.dtype
    wide = _WIDE[dtype]
    of_kind = terms(kind, player, label_smoothing)
    other = of_kind.other
    compiled, where = target(first)
    on_gpu = len(where) == 2  # a device and a stream
    loss = statistics = reused = None
    written: tuple[Tensor, ...] = ()
    if reduction != "none":
        value = first.new_empty((), dtype=wide) if on_gpu else torch.empty_like(_SCALARS[dtype])
        loss, outputs = value.data_ptr(), [value]
    else:
        outputs = [empty_terms(t) for t in term_likes(tuple(real), tuple(fake), kind)]
        written = tuple(outputs)
    if stats:
        outputs.append(first.new_empty(4, dtype=wide))
        statistics = outputs[-1].data_ptr()
    if other == "mean":
        outputs.append(first.new_empty((len(real), 4), dtype=wide))
        reused = outputs[-1].data_ptr()
    view, grads = _view, None
    make = needs is not None and loss is not None
    if on_gpu:
        view = _gan_flat.view
        logits = (*real, *fake)
        real, fake = _gan_flat.flat_logits(real, fake, other)
        make = make and made_by_forward(other, dtype) and all(map(operator.is_, logits, (*real, *fake)))
        workspace = first.new_empty(compiled.gan_loss_workspace(), dtype=torch.float64)
        where = (*where, workspace.data_ptr())
    else:  # relativistic_average leaves slopes in the gradients first, for which 16 bits are too few
        make = make and (other != "mean" or dtype is wide)
    targets: tuple[tuple, tuple] = ((), ())
    if make:
        grads = [torch.empty_like(t) if n else None for t, n in zip((*real, *fake), needs, strict=True)]
        views = tuple(map(view, grads))
        targets = (views[: len(real)], views[len(real) :])
    compiled.gan_loss_forward(
        DTYPE_NAMES[dtype],
        tuple(map(view, real)),
        tuple(map(view, fake)),
        of_kind,
        other,
        scale,
        reduction,
        loss,
        tuple(map(view, written)),
        statistics,
        reused,
        *targets,
        *where,
    )
    return outputs, grads


class Plan(NamedTuple):
    """What the options of forward_plain come to, found out once, and the functions of the compiled module."""

    are_plain: Callable[..., bool]  # (*tensors): contiguous CPU tensors with memory, of one floating dtype
    number: Callable[[object], float | None]  # in a plain tensor of one
    run: Callable[..., None]
    compiled: object
    averages: bool  # relativistic_average
    num_real: int
    options: tuple  # from kind to reduction


def plan(kind: str, player: str, label_smoothing: float, scale: float, reduction: str) -> Plan:
    """Of calls with a "mean" or a "sum", except for kind "relativistic"."""
    compiled = _backends.compiled("_cpu")
    real, fake, other = terms(kind, player, label_smoothing)
    return Plan(
        compiled.plain,
        compiled.plain_number,
        compiled.gan_loss_plain,
        compiled.gan_loss_plan((real, fake), other, scale, reduction),
        other == "mean",
        0 if real is None else 1,
        (kind, player, label_smoothing, scale, reduction),
    )


def forward_plain(
    plan: Plan,
    logits: tuple[Tensor, ...],  # are_plain: of the sides that have terms
    needs: Sequence[bool] | None,  # None: no gradients
) -> tuple[Tensor, Sequence[Tensor | None], Tensor | None]:
    """The loss, the gradients for an upstream gradient of 1 where needed, and what backward of the means reuses.

    Small batches are all overhead: this spares a call what only other calls need.
    """
    fake = logits[-1]
    scalar = _SCALARS[fake.dtype]
    value = torch.empty_like(scalar)
    reused = scalar.new_empty((1, 4)) if plan.averages else None
    if plan.num_real:
        grad_real = torch.empty_like(logits[0]) if needs is not None and needs[0] else None
        grad_fake = torch.empty_like(fake) if needs is not None and needs[1] else None
        plan.run(plan.compiled, torch.get_num_threads(), value, reused, *logits, grad_real, grad_fake)
        return value, (grad_real, grad_fake), reused
    grad_fake = torch.empty_like(fake) if needs is not None else None
    plan.run(plan.compiled, torch.get_num_threads(), value, None, None, fake, None, grad_fake)
    return value, (grad_fake,), None


def scaled(made: Sequence[Tensor | None], factor: float, dtype: torch.dtype) -> Sequence[Tensor | None] | None:
    """What forward made, times `factor`, an upstream gradient of `dtype`; in place. None: make the gradients anew."""
    if factor != 1.0:
        for grad in made:
            if grad is not None:
                if grad.dtype is not dtype:  # 16 bits, which have lost what the factor would bring back
                    return None
                grad.mul_(factor)
    return made


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
    logits = (*real, *fake)
    first = logits[0]
    compiled, where = target(first)
    on_gpu = len(where) == 2  # a device and a stream
    if made is not None and not on_gpu:  # elsewhere the kernel looks whether it is 1: who asked here would wait for it
        assert grad_losses[0] is not None
        made = scaled(made, grad_losses[0].item(), grad_losses[0].dtype)
        if made is not None:
            return made
    grads = made or [torch.empty_like(t) if n else None for t, n in zip(logits, needs, strict=True)]
    of_kind = terms(kind, player, label_smoothing)
    grad_loss, grad_terms = None, grad_losses
    if reduction != "none":
        grad_loss, grad_terms = None if grad_losses[0] is None else grad_losses[0].data_ptr(), ()
    view, written = _view, grads
    if on_gpu:
        view = _gan_flat.view
        real, fake = _gan_flat.flat_logits(real, fake, of_kind.other)
        grad_terms = [
            _gan_flat.flat_upstream(g, t)
            for g, t in zip(grad_terms, term_likes(tuple(real), tuple(fake), kind), strict=False)
        ]
        if made is None:
            written = [_gan_flat.flat_gradient(g, t) for g, t in zip(grads, (*real, *fake), strict=True)]
        room, sums_of_slopes = 0, None
        if of_kind.other == "mean" and reduction == "none":
            assert reused is not None
            workspace = first.new_empty(compiled.gan_loss_workspace(), dtype=torch.float64)
            slopes = torch.empty_like(reused)
            room, sums_of_slopes = workspace.data_ptr(), slopes.data_ptr()
        where = (*where, room, sums_of_slopes, made is not None)
    views = tuple(map(view, written))
    compiled.gan_loss_backward(
        DTYPE_NAMES[first.dtype],
        tuple(map(view, real)),
        tuple(map(view, fake)),
        of_kind,
        of_kind.other,
        scale,
        reduction,
        grad_loss,
        tuple(map(view, grad_terms)),
        None if reused is None else reused.data_ptr(),
        views[: len(real)],
        views[len(real) :],
        *where,
    )
    if written is not grads:
        for grad, done in zip(grads, written, strict=True):
            if grad is not None and done is not None and grad is not done:
                grad.copy_(done)
    return grads
