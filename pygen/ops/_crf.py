"""The ops of the linear-chain CRF below their public functions: how they choose a launcher, differentiate and are registered."""

from functools import partial
from types import ModuleType

import torch
from torch import Tensor

from pygen import _backends, _dispatch
from pygen.ops import _library
from pygen.ops._crf_checks import check_values
from pygen.ops._saved import save, saved
from pygen.ops._second_order import composite_gradients
from pygen.reference import crf as reference


def too_many(backend: str, emissions: Tensor) -> str | None:
    """Why that backend leaves the call to the reference."""
    if backend == "reference":
        return None
    most, tags = _backends.load_launcher("crf", backend).MOST_TAGS, emissions.shape[2]
    return f"{tags} tags, its kernels take up to {most}: the reference runs" if tags > most else None


def launcher_of(op: str, backend: str, emissions: Tensor) -> ModuleType:
    launcher = _dispatch.launcher(op, "crf", backend, emissions)
    if launcher is reference or emissions.shape[2] <= launcher.MOST_TAGS:
        return launcher
    asked = backend if backend != _dispatch.AUTO else _dispatch.requested(op, None)
    if asked == _dispatch.AUTO:
        return reference
    reason = f"{emissions.shape[2]} tags, its kernels take up to {launcher.MOST_TAGS}"
    raise RuntimeError(f"{op}: backend {asked!r} cannot run: {reason}")


def loss(op, floating, tags, lengths, reduction, backend) -> Tensor:
    name = _dispatch.requested(op, backend)
    emissions = floating[0]
    args = (*floating, tags, lengths, reduction)
    if not _dispatch.is_plain(*floating, tags, lengths):
        if _dispatch.under_transform(op, name, emissions.device.type):
            return reference.forward(*args)
        return torch.ops.pygen.crf_nll(*args, name)
    launcher = launcher_of(op, name, emissions)
    check_values(op, *floating, tags, lengths)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in floating):
        return _fast_apply(launcher, *args, name)
    return launcher.forward(*args)


def _launch(*args_and_backend):
    *args, backend = args_and_backend
    op = "crf_log_partition" if args[4] is None else "crf_nll"
    launcher = launcher_of(op, backend, args[0])
    check_values(op, *args[:-1])
    return launcher.forward(*args)


def launch_backward(launcher, *args_and_kept):
    """kept: what the same launcher's forward_and_keep left, or None."""
    *args, kept = args_and_kept
    given = args if launcher is reference else (*args, kept)
    return [g for g in launcher.backward(*given) if g is not None]


def _launch_backward(*args_and_backend):
    *args, backend = args_and_backend
    return launch_backward(launcher_of("crf_nll", backend, args[1]), *args, None)


def launch_decode(emissions, transitions, start, end, lengths, backend, op="crf_decode"):
    launcher = launcher_of(op, backend, emissions)
    check_values(op, emissions, transitions, start, end, None, lengths)
    return launcher.decode(emissions, transitions, start, end, lengths)


def _fake(emissions, transitions, start, end, tags, lengths, reduction, backend):
    shape = emissions.shape[:1] if reduction == "none" else ()
    return torch.empty(shape, dtype=torch.promote_types(emissions.dtype, torch.float32), device=emissions.device)


def _fake_backward(grad, emissions, transitions, start, end, tags, lengths, reduction, needs, backend):
    like = (emissions, transitions, start, end)
    made = [
        torch.empty_like(emissions),
        *(None if t is None else torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in like[1:]),
    ]
    return [t for t, need in zip(made, needs, strict=True) if need]


def _fake_decode(emissions, transitions, start, end, lengths, backend):
    wide = torch.promote_types(emissions.dtype, torch.float32)
    tags = torch.empty(emissions.shape[:2], dtype=torch.int64, device=emissions.device)
    return tags, torch.empty(emissions.shape[:1], dtype=wide, device=emissions.device)


class _Crf(torch.autograd.Function):
    """With a launcher: the fast door. Without: the op below autograd."""

    @staticmethod
    def forward(ctx, launcher, emissions, transitions, start, end, tags, lengths, reduction, backend):
        ctx.set_materialize_grads(False)
        args = (emissions, transitions, start, end, tags, lengths)
        ctx.launcher, ctx.reduction, ctx.backend = launcher, reduction, backend
        kept = None
        if launcher is None:
            nll = _below(*args, reduction, backend)
        elif launcher is reference or _dispatch.saved_tensor_hooks_active():  # who spares memory wants it anew
            nll = launcher.forward(*args, reduction)
        else:
            nll, kept = launcher.forward_and_keep(*args, reduction)
        save(ctx, *args, kept)
        return nll

    @staticmethod
    def backward(ctx, grad):
        nothing = (None,) * 4
        if grad is None:
            return None, *nothing, *nothing
        *given, kept = saved(ctx)  # also where they go unused: what was changed must raise
        needs = ctx.needs_input_grad[1:5]
        args = (_dispatch.readable(grad), *given, ctx.reduction, needs)
        if _dispatch.transformed(grad):
            return None, *reference.backward(*args), *nothing
        if ctx.launcher is None:
            grads = torch.ops.pygen.crf_nll_backward(*args, ctx.backend)
        elif torch.is_grad_enabled():
            grads = CrfBackward.apply(partial(launch_backward, ctx.launcher), *args, kept)
        else:
            grads = launch_backward(ctx.launcher, *args, kept)
        made = iter(grads)
        return None, *(next(made) if need else None for need in needs), *nothing


class CrfBackward(torch.autograd.Function):
    """What `call` computes forward, the composite of its formula backward."""

    @staticmethod
    def forward(ctx, call, grad, emissions, transitions, start, end, tags, lengths, reduction, needs, *rest):
        ctx.set_materialize_grads(False)
        save(ctx, grad, emissions, transitions, start, end, tags, lengths)
        ctx.reduction, ctx.needs, ctx.others = reduction, needs, len(rest)
        return tuple(call(grad, emissions, transitions, start, end, tags, lengths, reduction, needs, *rest))

    @staticmethod
    def backward(ctx, *grad_grads):
        *given, tags, lengths = saved(ctx)

        def formula(*tensors):
            return reference.backward(*tensors, tags, lengths, ctx.reduction, ctx.needs)

        grads = composite_gradients(formula, given, ctx.needs_input_grad[1:6], grad_grads)
        return None, *grads, *(None,) * (4 + ctx.others)


_fast_apply = _library.fast_apply(_Crf)

_TENSORS = "Tensor emissions, Tensor transitions, Tensor? start, Tensor? end"

_below = _library.register(
    f"crf_nll({_TENSORS}, Tensor? tags, Tensor? lengths, str reduction, str backend) -> Tensor",
    _launch,
    _fake,
    lambda *args: _Crf.apply(None, *args),
)
_below_backward = _library.register(
    f"crf_nll_backward(Tensor grad, {_TENSORS}, Tensor? tags, Tensor? lengths, str reduction, bool[] needs, str backend)"
    " -> Tensor[]",
    _launch_backward,
    _fake_backward,
    lambda *args: list(CrfBackward.apply(_below_backward, *args)),
)
_below_decode = _library.register(
    f"crf_decode({_TENSORS}, Tensor? lengths, str backend) -> (Tensor, Tensor)",
    launch_decode,
    _fake_decode,
    lambda *args: _below_decode(*args),
)
