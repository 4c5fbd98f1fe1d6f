"""sample_dot: the squared norm of each sample, or the products of two batches summed per sample; what gradient_penalty adds up.

Two ops, each bilinear, whose gradients are each other: the sums, and each sample times a factor. So every order of derivative
runs on the kernels. Squared norms read x once and their gradient 2 g x takes one pass.
"""

from typing import Any

import torch
from torch import Tensor

from pygen import _backends, _checks, _dispatch
from pygen._gan_terms import wide_dtype
from pygen.native import sample_dot as native
from pygen.ops import _library
from pygen.ops._saved import save, saved
from pygen.reference import sample_dot as reference

_OP = "sample_dot"


def sample_dot(x: Tensor, y: Tensor | None = None, *, backend: str | None = None) -> Tensor:
    """The sum of x y over all dims but the first, of x^2 without y: squared norms or inner products of each sample.

    Differentiable to any order (first order under torch.compile), the derivative at 0 being 0.

    Args:
        x: [N, ...], float64, float32, bfloat16 or float16.
        y: the same shape and dtype; None means x.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        [N], float32 (float64 for float64): squares of float16 would overflow at 256.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> pygen.functional.sample_dot(torch.ones(2, 3, 4))
        tensor([12., 12.])
    """
    sums = _short(x, y, backend)
    if sums is not None:
        return sums
    if _checks.autocast_enabled():
        x, y = _checks.promote_under_autocast(x, y)
    _check(x, y)
    name = _dispatch.requested(_OP, backend)
    if _dispatch.is_plain(x, y):
        return _dot(_dispatch.launcher(_OP, _OP, name, x), x, y, name)
    if _dispatch.under_transform(_OP, name, x.device.type):
        return reference.forward(x, y)
    return _dot(None, x, y, name)


def _short(x: Any, y: Any, backend: Any) -> Tensor | None:
    """The sums of plain tensors on a CPU, where small batches are all overhead; None of what needs the long way."""
    if (
        torch.compiler.is_compiling()
        or (backend is not None and (backend.__class__ is not str or backend != "cpu"))
        or _checks.autocast_enabled()
    ):
        return None
    compiled = _backends.compiled_or_none("_cpu")
    if compiled is None or not _dispatch.nothing_intercepts():
        return None
    rows = compiled.sample_dot_rows(x, y)
    if (
        rows is None
        or _dispatch.is_batched(x)
        or (y is not None and _dispatch.is_batched(y))
        or (backend is None and _dispatch.resolve(_OP, _dispatch.AUTO, "cpu") != "cpu")
    ):
        return None
    if torch.is_grad_enabled() and (x.requires_grad or (y is not None and y.requires_grad)):
        return _fast_dot(native, "cpu", x, y)
    return native.forward_plain(compiled, rows, x, y)


def _check(x: Any, y: Any) -> None:
    _checks.check_tensor(_OP, "x", x)
    _checks.check_floating(_OP, "x", x)
    if x.dim() < 1:
        raise _checks.fail(_OP, "x", "at least one dim [N, ...]", list(x.shape))
    if y is None:
        return
    _checks.check_tensor(_OP, "y", y)
    _checks.check_like(_OP, "y", y, "x", x)
    if y.shape != x.shape:
        raise _checks.fail(_OP, "y", f"{list(x.shape)}, the shape of x", list(y.shape))


# With a launcher: the fast door. Without: the op, as under torch.compile.
def _dot(launcher, x, y, backend):
    if _dispatch.transformed(x, y):
        return reference.forward(x, y)
    if launcher is None:
        return torch.ops.pygen.sample_dot(x, y, backend)
    if torch.is_grad_enabled() and (x.requires_grad or (y is not None and y.requires_grad)):
        return _fast_dot(launcher, backend, x, y)
    return launcher.forward(x, y)


def _scale(launcher, factor, x, backend):
    if _dispatch.transformed(factor, x):
        return reference.backward(factor, x)
    if launcher is None:
        return torch.ops.pygen.sample_dot_backward(factor, x, backend)
    if torch.is_grad_enabled() and (factor.requires_grad or x.requires_grad):
        return _fast_scale(launcher, backend, factor, x)
    return launcher.backward(factor, x)


class _SampleDot(torch.autograd.Function):
    @staticmethod
    def forward(ctx, launcher, backend, x, y):
        ctx.set_materialize_grads(False)
        save(ctx, x, y)
        ctx.call = launcher, backend
        return _below(x, y, backend) if launcher is None else launcher.forward(x, y)

    @staticmethod
    def backward(ctx, grad):  # [N]
        launcher, backend = ctx.call
        x, y = saved(ctx)
        _, _, need_x, need_y = ctx.needs_input_grad
        if grad is None:
            return None, None, None, None
        grad = _dispatch.readable(grad)
        if y is None:
            if launcher is native and not torch.is_grad_enabled() and not _dispatch.transformed(grad, x):
                return None, None, native.backward(grad, x, twice=True), None
            return None, None, _scale(launcher, 2 * grad, x, backend), None
        return (
            None,
            None,
            _scale(launcher, grad, y, backend) if need_x else None,
            _scale(launcher, grad, x, backend) if need_y else None,
        )


class _SampleScale(torch.autograd.Function):
    @staticmethod
    def forward(ctx, launcher, backend, factor, x):
        ctx.set_materialize_grads(False)
        save(ctx, factor, x)
        ctx.call = launcher, backend
        return _below_backward(factor, x, backend) if launcher is None else launcher.backward(factor, x)

    @staticmethod
    def backward(ctx, upstream):  # [N, ...]
        launcher, backend = ctx.call
        factor, x = saved(ctx)
        _, _, need_factor, need_x = ctx.needs_input_grad
        if upstream is None:
            return None, None, None, None
        upstream = _dispatch.readable(upstream)
        return (
            None,
            None,
            _dot(launcher, upstream, x, backend) if need_factor else None,
            _scale(launcher, factor, upstream, backend) if need_x else None,
        )


_fast_dot = _library.fast_apply(_SampleDot)
_fast_scale = _library.fast_apply(_SampleScale)


def _launch(x, y, backend):
    return _dispatch.launcher(_OP, _OP, backend, x).forward(x, y)


def _launch_backward(factor, x, backend):
    return _dispatch.launcher(_OP, _OP, backend, x).backward(factor, x)


def _fake(x, y, backend):
    return x.new_empty(x.shape[:1], dtype=wide_dtype(x.dtype))


def _fake_backward(factor, x, backend):
    return torch.empty_like(x)


_below = _library.register(
    "sample_dot(Tensor x, Tensor? y, str backend) -> Tensor",
    _launch,
    _fake,
    lambda x, y, backend: _SampleDot.apply(None, backend, x, y),
)
_below_backward = _library.register(
    "sample_dot_backward(Tensor factor, Tensor x, str backend) -> Tensor",
    _launch_backward,
    _fake_backward,
    lambda factor, x, backend: _SampleScale.apply(None, backend, factor, x),
)
