"""What masked_conv2d and masked_linear share: three ops, each bilinear, whose gradients are each other.

They are forward (with bias), the gradient of the input, and that of the weight (with the bias's). So every order of
derivative runs on the kernels.
"""

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType

import torch
from torch import Tensor

from pygen import _dispatch
from pygen.ops import _library
from pygen.ops._saved import save, saved


@dataclass(frozen=True)
class Composites:
    """The same three as torch's own differentiable ops, for torch.func's transforms."""

    forward: Callable
    grad_input: Callable
    grad_weight: Callable


@dataclass(frozen=True)
class Fakes:
    """Empty results of the right shape, dtype and strides: (input, weight), (grad, weight), (grad, input, *shape)."""

    forward: Callable[[Tensor, Tensor], Tensor]
    grad_input: Callable[[Tensor, Tensor], Tensor]
    grad_weight: Callable[..., Tensor]


class Bilinear:
    """An op by its name, its mask's schema arguments and what differs otherwise.

    Options are the mask's arguments and then the backend's name. With a launcher a call goes through the fast door;
    without, it is the op, as under torch.compile.

    Args:
        shape: what a gradient of the weight must be told of the weight's shape: one argument, shape_schema, or none.
        trailing: dims behind the output channels.
        bias_alone: the bias's gradient where the weight has none; None: as if it had.
    """

    def __init__(
        self,
        name: str,
        mask: str,
        composites: Composites,
        fakes: Fakes,
        *,
        shape: Callable[[Tensor], object] | None = None,
        shape_schema: str = "",
        trailing: int = 0,
        bias_alone: Callable[[Tensor], Tensor] | None = None,
    ) -> None:
        self.name, self.composites, self._shape = name, composites, shape
        self.trailing, self.bias_alone = trailing, bias_alone

        extra = f"{shape_schema}, " if shape_schema else ""

        def with_bias(grad, input, *rest):
            *given, need_bias, _ = rest
            weight = fakes.grad_weight(grad, input, *given)
            return [weight, weight.new_empty(weight.shape[0])] if need_bias else [weight]

        self.below = _library.register(
            f"{name}(Tensor input, Tensor weight, Tensor? bias, {mask}, str backend) -> Tensor",
            lambda input, weight, bias, *options: self._launcher(options, input).forward(
                input, weight, bias, *options[:-1]
            ),
            lambda input, weight, bias, *options: fakes.forward(input, weight),
            lambda input, weight, bias, *options: _Forward.apply(self, None, input, weight, bias, options),
        )
        self.below_grad_input = _library.register(
            f"{name}_grad_input(Tensor grad, Tensor weight, {mask}, str backend) -> Tensor",
            lambda grad, weight, *options: self._launcher(options, grad).grad_input(grad, weight, *options[:-1]),
            lambda grad, weight, *options: fakes.grad_input(grad, weight),
            lambda grad, weight, *options: _GradInput.apply(self, None, grad, weight, options),
        )
        self.below_grad_weight = _library.register(
            f"{name}_grad_weight(Tensor grad, Tensor input, {extra}{mask}, bool need_bias, str backend) -> Tensor[]",
            lambda grad, input, *rest: [
                g for g in self._launcher(rest, grad).grad_weight(grad, input, *rest[:-1]) if g is not None
            ],
            with_bias,
            lambda grad, input, *rest: list(_GradWeight.apply(self, None, grad, input, rest)),
        )

    def shape(self, weight: Tensor) -> tuple:
        return () if self._shape is None else (self._shape(weight),)

    def options(self, rest: tuple) -> tuple:
        """A gradient of the weight's arguments behind its tensors, less what only it has."""
        *mask, _, name = rest
        return (*mask[0 if self._shape is None else 1 :], name)

    def _launcher(self, options: tuple, t: Tensor) -> ModuleType:
        return _dispatch.launcher(self.name, self.name, options[-1], t)

    def forward(self, launcher, input, weight, bias, options):
        if _dispatch.transformed(input, weight):
            return self.composites.forward(input, weight, bias, *options[:-1])
        if launcher is None:
            return getattr(torch.ops.pygen, self.name)(input, weight, bias, *options)
        if torch.is_grad_enabled() and (
            input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad)
        ):
            return _Forward.apply(self, launcher, input, weight, bias, options)
        return launcher.forward(input, weight, bias, *options[:-1])

    def grad_input(self, launcher, grad, weight, options):
        if _dispatch.transformed(grad, weight):
            return self.composites.grad_input(grad, weight, *options[:-1])
        if launcher is None:
            return getattr(torch.ops.pygen, f"{self.name}_grad_input")(grad, weight, *options)
        if torch.is_grad_enabled() and (grad.requires_grad or weight.requires_grad):
            return _GradInput.apply(self, launcher, grad, weight, options)
        return launcher.grad_input(grad, weight, *options[:-1])

    def grad_weight(self, launcher, grad, input, shape, need_bias, options):
        *mask, name = options
        given = (*shape, *mask, need_bias)
        if _dispatch.transformed(grad, input):
            return self.composites.grad_weight(grad, input, *given)
        if launcher is None:
            grads = getattr(torch.ops.pygen, f"{self.name}_grad_weight")(grad, input, *given, name)
        elif torch.is_grad_enabled() and (grad.requires_grad or input.requires_grad):
            grads = _GradWeight.apply(self, launcher, grad, input, (*given, name))
        else:
            grads = launcher.grad_weight(grad, input, *given)
        return grads[0], grads[1] if need_bias else None

    def gradients(self, launcher, grad, input, weight, options, needs):
        """Of input, weight and bias, as far as they are needed."""
        grad = _dispatch.readable(grad)
        need_input, need_weight, need_bias = needs
        grad_input = self.grad_input(launcher, grad, weight, options) if need_input else None
        grad_weight = grad_bias = None
        if need_weight or (need_bias and self.bias_alone is None):
            grad_weight, grad_bias = self.grad_weight(launcher, grad, input, self.shape(weight), need_bias, options)
        elif need_bias:
            grad_bias = self.bias_alone(grad)
        return grad_input, grad_weight if need_weight else None, grad_bias


class _Forward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, op, launcher, input, weight, bias, options):
        ctx.set_materialize_grads(False)
        save(ctx, input, weight)
        ctx.op, ctx.launcher, ctx.options = op, launcher, options
        if launcher is None:
            return op.below(input, weight, bias, *options)
        return launcher.forward(input, weight, bias, *options[:-1])

    @staticmethod
    def backward(ctx, grad):
        if grad is None:
            return (None,) * 6
        needs = ctx.needs_input_grad[2:5]
        grads = ctx.op.gradients(ctx.launcher, grad, *saved(ctx), ctx.options, needs)
        return None, None, *grads, None


class _GradInput(torch.autograd.Function):
    @staticmethod
    def forward(ctx, op, launcher, grad, weight, options):
        ctx.set_materialize_grads(False)
        save(ctx, grad, weight)
        ctx.op, ctx.launcher, ctx.options = op, launcher, options
        if launcher is None:
            return op.below_grad_input(grad, weight, *options)
        return launcher.grad_input(grad, weight, *options[:-1])

    @staticmethod
    def backward(ctx, upstream):  # in the input's shape
        if upstream is None:
            return (None,) * 5
        op, launcher, options = ctx.op, ctx.launcher, ctx.options
        grad, weight = saved(ctx)
        upstream = _dispatch.readable(upstream)
        _, _, need_grad, need_weight, _ = ctx.needs_input_grad
        to_grad = op.forward(launcher, upstream, weight, None, options) if need_grad else None
        to_weight = None
        if need_weight:
            to_weight, _ = op.grad_weight(launcher, grad, upstream, op.shape(weight), False, options)
        return None, None, to_grad, to_weight, None


class _GradWeight(torch.autograd.Function):
    """`rest` is the weight's shape as far as needed, the mask, whether the bias's gradient is wanted, the backend."""

    @staticmethod
    def forward(ctx, op, launcher, grad, input, rest):
        ctx.set_materialize_grads(False)
        save(ctx, grad, input)
        ctx.op, ctx.launcher, ctx.rest = op, launcher, rest
        if launcher is None:
            return tuple(op.below_grad_weight(grad, input, *rest))
        grads = launcher.grad_weight(grad, input, *rest[:-1])
        return grads if rest[-2] else grads[:1]

    @staticmethod
    def backward(ctx, to_weight, to_bias=None):  # in the weight's and the bias's shape
        op, launcher = ctx.op, ctx.launcher
        grad, input = saved(ctx)
        options = op.options(ctx.rest)
        to_weight, to_bias = _dispatch.readable(to_weight), _dispatch.readable(to_bias)
        _, _, need_grad, need_input, _ = ctx.needs_input_grad
        to_grad = to_input = None
        if need_grad and to_weight is not None:
            to_grad = op.forward(launcher, input, to_weight, to_bias, options)
        elif need_grad and to_bias is not None:
            to_grad = to_bias.view(-1, *(1,) * op.trailing).expand(grad.shape)
        if need_input and to_weight is not None:
            to_input = op.grad_input(launcher, grad, to_weight, options)
        return None, None, to_grad, to_input, None
