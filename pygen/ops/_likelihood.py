"""What the likelihoods of levels share: checks of the levels, and an op whose gradient its forward may have made already."""

from collections.abc import Callable
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen._layout import empty_like_input
from pygen.native._arguments import without_memory
from pygen.ops import _library
from pygen.ops._saved import save, saved
from pygen.ops._second_order import composite_gradients

LEVEL_DTYPES = (torch.uint8, torch.int64)
MOST_LEVELS = 65536


def check_levels(op: str, x: Any, num_levels: int | None, name: str, params: Tensor) -> None:
    """Refuse x but as levels [N, C, ...] beside params [N, P, ...], which was passed as `name`.

    num_levels: for the message; None where x decides it.
    """
    _checks.check_tensor(op, "x", x)
    if x.dtype not in LEVEL_DTYPES:
        levels = "levels" if num_levels is None else f"levels 0 .. {num_levels - 1}"
        expected = f"{levels} as torch.uint8 or torch.int64"
        raise _checks.fail(op, "x", expected, _checks.instead_of_levels(x, num_levels), kind=TypeError)
    if x.device != params.device:
        raise _checks.fail(op, "x", f"a tensor on {params.device}, where {name} is", x.device)
    if x.dim() != params.dim() or x.shape[0] != params.shape[0] or x.shape[2:] != params.shape[2:]:
        shape = ", ".join(map(str, (params.shape[0], "C", *params.shape[2:])))
        raise _checks.fail(op, "x", f"shape [{shape}], of {name} {list(params.shape)}", list(x.shape))


def check_level_values(op: str, x: Tensor, num_levels: int, name: str = "x", what: str = "levels") -> None:
    """Refuse values beyond 0 .. num_levels - 1, where they can be read for free."""
    if not x.is_cpu or not x.numel() or (x.dtype == torch.uint8 and num_levels >= 256):
        return
    if not x.data_ptr():
        raise without_memory(x)
    least, most = x.aminmax()
    if int(most) >= num_levels or int(least) < 0:
        raise _checks.fail(op, name, f"{what} 0 .. {num_levels - 1}", f"{int(least)} .. {int(most)}")


class Likelihood:
    """nll = op(params, x, *options), differentiable to any order in params (and a floating x); the last option is the reduction.

    Args:
        op: its name; that of the module pygen.reference.<op> too, and of the launchers.
        reference: `forward(params, x, *options)` and `backward(grad_nll, params, x, *options)`.
        arguments: of its schema, up to the reduction.
        check_values: of (params, x, *options): raises where x holds what it must not and that can be read for free.
        x_gradient: the gradient of x, of backward's arguments, by torch's own ops; None where x holds levels alone.

    A launcher may have `forward_with_gradient(params, x, *options)`: the loss and, or None, what backward gives for an
    upstream gradient of 1. That is held until backward hands it out.
    """

    def __init__(
        self,
        op: str,
        reference: ModuleType,
        arguments: str,
        check_values: Callable[..., None],
        x_gradient: Callable[..., Tensor] | None = None,
    ) -> None:
        self.op, self.reference, self.check_values, self.x_gradient = op, reference, check_values, x_gradient
        arguments += ", str reduction, str backend"
        self.below = _library.register(
            f"{op}({arguments}) -> Tensor", self._launch, self._fake, lambda *args: _Nll.apply(self, None, *args)
        )
        self.below_backward = _library.register(
            f"{op}_backward(Tensor grad_nll, {arguments}) -> Tensor",
            self.launch_backward,
            lambda grad_nll, params, *rest: torch.empty_like(params),
            lambda *args: _NllBackward.apply(reference.backward, self.below_backward, *args),
        )
        self.registered, self.registered_backward = (getattr(torch.ops.pygen, name) for name in (op, f"{op}_backward"))
        if x_gradient is not None:
            self.below_backward_x = _library.register(
                f"{op}_backward_x(Tensor grad_nll, {arguments}) -> Tensor",
                lambda *args: x_gradient(*args[:-1]),
                lambda grad_nll, params, x, *rest: empty_like_input(x, params.shape),
                lambda *args: _NllBackward.apply(x_gradient, self.below_backward_x, *args),
            )
            self.registered_backward_x = getattr(torch.ops.pygen, f"{op}_backward_x")

    def __call__(self, params: Tensor, x: Tensor, options: tuple, backend: str | None) -> Tensor:
        """Of arguments whose shapes and options have been checked."""
        name = _dispatch.requested(self.op, backend)
        if not _dispatch.is_plain(params, x):
            if _dispatch.under_transform(self.op, name, params.device.type):
                return self.reference.forward(params, x, *options)
            return self.registered(params, x, *options, name)
        name = _dispatch.resolve(self.op, name, params.device.type)
        launcher = self._launcher(name, params)
        self.check_values(params, x, *options)
        if torch.is_grad_enabled() and (params.requires_grad or x.requires_grad):
            return _fast_apply(self, launcher, params, x, *options, name)
        return launcher.forward(params, x, *options)

    def _launcher(self, backend: str, params: Tensor) -> ModuleType:
        return _dispatch.launcher(self.op, self.op, backend, params)

    def _launch(self, params, x, *options_and_backend):
        *options, backend = options_and_backend
        launcher = self._launcher(backend, params)
        self.check_values(params, x, *options)
        return launcher.forward(params, x, *options)

    def launch_backward(self, grad_nll, params, x, *options_and_backend):
        *options, backend = options_and_backend
        return self._launcher(backend, params).backward(grad_nll, params, x, *options)

    def _fake(self, params, x, *options_and_backend):
        shape = params.shape[:1] if options_and_backend[-2] == "none" else ()
        return torch.empty(shape, dtype=torch.promote_types(params.dtype, torch.float32), device=params.device)


class _Nll(torch.autograd.Function):
    """With a launcher: the fast door. Without: the op below autograd."""

    @staticmethod
    def forward(ctx, likelihood, launcher, params, x, *options_and_backend):
        ctx.set_materialize_grads(False)
        save(ctx, params, x)
        *options, ctx.backend = options_and_backend
        ctx.likelihood, ctx.launcher, ctx.options = likelihood, launcher, options
        ctx.ready = []
        if launcher is None:
            return likelihood.below(params, x, *options_and_backend)
        wanted = ctx.needs_input_grad[2] and not _dispatch.saved_tensor_hooks_active()
        if wanted and hasattr(launcher, "forward_with_gradient"):
            nll, grad = launcher.forward_with_gradient(params, x, *options)
            ctx.ready = [] if grad is None else [grad]
            return nll
        return launcher.forward(params, x, *options)

    @staticmethod
    def backward(ctx, grad_nll):
        grad = grad_x = None
        if grad_nll is not None:
            params, x = saved(ctx)  # also where they go unused: what was changed must raise
            if ctx.needs_input_grad[2]:
                grad = _scaled(ctx.ready, grad_nll)
                if grad is None:
                    grad = _gradient(ctx.likelihood, ctx.launcher, grad_nll, params, x, ctx.options, ctx.backend)
            if ctx.needs_input_grad[3]:
                grad_x = _gradient_of_x(ctx.likelihood, ctx.launcher, grad_nll, params, x, ctx.options, ctx.backend)
        return None, None, grad, grad_x, *(None,) * (1 + len(ctx.options))


def _scaled(ready: list[Tensor], grad_nll: Tensor) -> Tensor | None:
    """The gradient that forward made, times the upstream one; once, as whoever gets it may change it. None: make it anew."""
    if not ready or torch.is_grad_enabled() or _dispatch.transformed(grad_nll):
        return None
    grad, grad_nll = ready.pop(), _dispatch.readable(grad_nll)
    if grad_nll.item() == 1 if grad_nll.dim() == 0 else (grad_nll == 1).all():
        return grad
    if grad.dtype != grad_nll.dtype:  # 16 bits, which have lost what the factor would bring back
        return None
    return grad.mul_(grad_nll.view(-1, *[1] * (grad.dim() - 1)) if grad_nll.dim() else grad_nll)


def _gradient(likelihood, launcher, grad_nll, params, x, options, backend) -> Tensor:
    """Of params; recorded where a graph of the backward is asked for."""
    args = (_dispatch.readable(grad_nll), params, x, *options)
    if _dispatch.transformed(grad_nll):
        return likelihood.reference.backward(*args)
    if launcher is not None and not torch.is_grad_enabled():
        return launcher.backward(*args)
    if launcher is None:
        return likelihood.registered_backward(*args, backend)
    return _NllBackward.apply(likelihood.reference.backward, likelihood.launch_backward, *args, backend)


def _gradient_of_x(likelihood, launcher, grad_nll, params, x, options, backend) -> Tensor:
    """Opaque where something compiles: it would sum in another order."""
    args = (_dispatch.readable(grad_nll), params, x, *options)
    if launcher is None and not _dispatch.transformed(grad_nll):
        return likelihood.registered_backward_x(*args, backend)
    return likelihood.x_gradient(*args)


class _NllBackward(torch.autograd.Function):
    """What `call` computes forward, the composite of its formula backward."""

    @staticmethod
    def forward(ctx, of, call, grad_nll, params, x, *options_and_backend):
        ctx.set_materialize_grads(False)
        save(ctx, grad_nll, params, x)
        ctx.of, ctx.options = of, options_and_backend[:-1]
        return call(grad_nll, params, x, *options_and_backend)

    @staticmethod
    def backward(ctx, grad_grad):
        def formula(grad_nll, params, x):
            return (ctx.of(grad_nll, params, x, *ctx.options),)

        grads = composite_gradients(formula, saved(ctx), ctx.needs_input_grad[2:5], (grad_grad,))
        return None, None, *grads, *(None,) * (1 + len(ctx.options))


_fast_apply = _library.fast_apply(_Nll)
