"""logistic_mixture_nll: the discretised logistic mixture likelihood of integer levels, its gradient by the same arithmetic."""

from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen.native._arguments import without_memory
from pygen.ops import _library
from pygen.ops._saved import save, saved
from pygen.ops._second_order import composite_gradients
from pygen.reference import logistic_mixture_nll as reference

_OP = "logistic_mixture_nll"
_LEVEL_DTYPES = (torch.uint8, torch.int64)
_MOST_LEVELS = 65536
_WIDEST = 80.0  # e^80 and what is multiplied by it fit float32


def logistic_mixture_nll(
    params: Tensor,
    x: Tensor,
    *,
    num_levels: int = 256,
    min_log_scale: float = -7.0,
    reduction: str = "batchmean",
    backend: str | None = None,
) -> Tensor:
    """The negative log-likelihood, in nats, of integer levels under a mixture of discretised logistics for each pixel.

    Level x stands at v = 2 x / (num_levels - 1) - 1 and has the mass of its bin, of half a width h = 1 / (num_levels - 1),
    the outer two bins open: log sigma(a) + log sigma(-b) + log(1 - e^(b - a)), a and b = (v +- h - mean) e^-log_scale, which
    is exact in the tails too, as are the gradients. Of a pixel the log-sum-exp over the components of their log weight plus
    the log-probabilities of all channels. Differentiable to any order in params (first order under torch.compile);
    torch.func transforms run the reference composition. On a CPU the pass that sums the loss also makes the gradient for an
    upstream gradient of 1, which is held until backward hands it out (not under saved-tensor hooks, as of checkpointing).
    Salimans et al. 2017, "PixelCNN++", equations 1 to 3.

    Args:
        params: [N, P, ...], float64, float32, bfloat16 or float16; computed in float32 (float64). P is 3 K for one channel
            and 10 K for three. Along P: the logits of K components; then for each channel K means, K log scales and, for
            three channels, K coefficients c: green's mean is its own + tanh(c_red) red, blue's its own + tanh(c_green) red +
            tanh(c_blue) green, with red and green as observed, in [-1, 1].
        x: levels 0 .. num_levels - 1, [N, C, ...] with C = 1 or 3 and the other dims of params; torch.uint8 or torch.int64.
            A wrong level raises on a CPU; on a GPU, where to look would be to wait, it makes the loss NaN.
        num_levels: 2 .. 65536.
        min_log_scale: log scales count as at least this much, without a gradient below it; -80 .. 80.
        reduction: "none" gives [N], summed over the positions; "sum" the total; "batchmean" the total over N.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        float32 (float64 for float64), [N] or 0-dim. Bits a dimension: over C times the positions, and over log 2.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.
    """
    _check(params, x, num_levels, min_log_scale)
    _checks.check_reduction(_OP, reduction)
    name = _dispatch.requested(_OP, backend)
    options = (num_levels, float(min_log_scale), reduction)
    if not _dispatch.is_plain(params, x):
        if _dispatch.under_transform(_OP, name, params.device.type):
            return reference.forward(params, x, *options)
        return torch.ops.pygen.logistic_mixture_nll(params, x, *options, name)
    launcher = _dispatch.launcher(_OP, _OP, name, params)
    _check_values(x, num_levels)
    if torch.is_grad_enabled() and params.requires_grad:
        return _fast_apply(launcher, params, x, *options, name)
    return launcher.forward(params, x, *options)


def _check(params: Any, x: Any, num_levels: Any, min_log_scale: Any) -> None:
    _checks.check_tensor(_OP, "params", params)
    _checks.check_floating(_OP, "params", params)
    if params.dim() < 2:
        raise _checks.fail(_OP, "params", "at least two dims [N, P, ...]", list(params.shape))
    _check_number_of_levels(num_levels)
    _checks.check_tensor(_OP, "x", x)
    if x.dtype not in _LEVEL_DTYPES:
        expected = f"levels 0 .. {num_levels - 1} as torch.uint8 or torch.int64"
        raise _checks.fail(_OP, "x", expected, x.dtype, kind=TypeError)
    if x.device != params.device:
        raise _checks.fail(_OP, "x", f"a tensor on {params.device}, where params is", x.device)
    if x.dim() != params.dim() or x.shape[0] != params.shape[0] or x.shape[2:] != params.shape[2:]:
        shape = ", ".join(map(str, (params.shape[0], "C", *params.shape[2:])))
        raise _checks.fail(_OP, "x", f"shape [{shape}], of params {list(params.shape)}", list(x.shape))
    channels = x.shape[1]
    if channels != 1 and channels != 3:
        raise _checks.fail(_OP, "x", "1 or 3 channels", f"{channels} in {list(x.shape)}")
    each = reference.params_per_component(channels)
    if params.shape[1] == 0 or params.shape[1] % each:
        expected = f"a multiple of {each} numbers a pixel, {each} for each component of {channels} channel(s)"
        raise _checks.fail(_OP, "params", expected, f"{params.shape[1]} in {list(params.shape)}")
    if isinstance(min_log_scale, bool) or not isinstance(min_log_scale, (int, float)):
        raise _checks.fail(_OP, "min_log_scale", "a number", type(min_log_scale).__name__, kind=TypeError)
    if not -_WIDEST <= min_log_scale <= _WIDEST:
        raise _checks.fail(_OP, "min_log_scale", f"-{_WIDEST:g} <= min_log_scale <= {_WIDEST:g}", min_log_scale)


def _check_number_of_levels(num_levels: Any) -> None:
    if isinstance(num_levels, bool) or not isinstance(num_levels, int):
        raise _checks.fail(_OP, "num_levels", "an int", type(num_levels).__name__, kind=TypeError)
    if not 2 <= num_levels <= _MOST_LEVELS:
        raise _checks.fail(_OP, "num_levels", f"2 <= num_levels <= {_MOST_LEVELS}", num_levels)


def _check_values(x: Tensor, num_levels: int) -> None:
    """Refuse values beyond 0 .. num_levels - 1, where they can be read for free."""
    if not x.is_cpu or not x.numel() or (x.dtype == torch.uint8 and num_levels >= 256):
        return
    if not x.data_ptr():
        raise without_memory(x)
    least, most = x.aminmax()
    if int(most) >= num_levels or int(least) < 0:
        raise _checks.fail(_OP, "x", f"levels 0 .. {num_levels - 1}", f"{int(least)} .. {int(most)}")


def _launch(params, x, num_levels, min_log_scale, reduction, backend):
    launcher = _dispatch.launcher(_OP, _OP, backend, params)
    _check_values(x, num_levels)
    return launcher.forward(params, x, num_levels, min_log_scale, reduction)


def _launch_backward(grad_nll, params, x, num_levels, min_log_scale, reduction, backend):
    launcher = _dispatch.launcher(_OP, _OP, backend, params)
    return launcher.backward(grad_nll, params, x, num_levels, min_log_scale, reduction)


def _fake(params, x, num_levels, min_log_scale, reduction, backend):
    shape = params.shape[:1] if reduction == "none" else ()
    return torch.empty(shape, dtype=torch.promote_types(params.dtype, torch.float32), device=params.device)


def _fake_backward(grad_nll, params, x, num_levels, min_log_scale, reduction, backend):
    return torch.empty_like(params)


class _LogisticMixtureNll(torch.autograd.Function):
    """With a launcher: the fast door. Without: the op below autograd."""

    @staticmethod
    def forward(ctx, launcher, params, x, num_levels, min_log_scale, reduction, backend):
        ctx.set_materialize_grads(False)
        save(ctx, params, x)
        ctx.launcher, ctx.options, ctx.backend = launcher, (num_levels, min_log_scale, reduction), backend
        ctx.ready = []
        if launcher is None:
            return _below(params, x, *ctx.options, backend)
        if hasattr(launcher, "forward_with_gradient") and not _dispatch.saved_tensor_hooks_active():
            nll, grad = launcher.forward_with_gradient(params, x, *ctx.options)
            ctx.ready = [] if grad is None else [grad]
            return nll
        return launcher.forward(params, x, *ctx.options)

    @staticmethod
    def backward(ctx, grad_nll):
        grad = None
        if grad_nll is not None:
            params, x = saved(ctx)  # also where they go unused: what was changed must raise
            grad = _scaled(ctx.ready, grad_nll)
            if grad is None:
                grad = _gradient(ctx.launcher, grad_nll, params, x, ctx.options, ctx.backend)
        return None, grad, None, None, None, None, None


def _scaled(ready: list[Tensor], grad_nll: Tensor) -> Tensor | None:
    """The gradient that forward made, times the upstream one; once, as whoever gets it may change it. None: make it anew."""
    if not ready or torch.is_grad_enabled() or _dispatch.transformed(grad_nll):
        return None
    grad, grad_nll = ready.pop(), _dispatch.readable(grad_nll)
    if (grad_nll == 1).all():
        return grad
    if grad.dtype != grad_nll.dtype:  # 16 bits, which have lost what the factor would bring back
        return None
    return grad.mul_(grad_nll.view(-1, *[1] * (grad.dim() - 1)) if grad_nll.dim() else grad_nll)


def _gradient(launcher, grad_nll, params, x, options, backend) -> Tensor:
    """Of params; recorded where a graph of the backward is asked for."""
    args = (_dispatch.readable(grad_nll), params, x, *options)
    if _dispatch.transformed(grad_nll):
        return reference.backward(*args)
    if launcher is not None and not torch.is_grad_enabled():
        return launcher.backward(*args)
    if launcher is None:
        return torch.ops.pygen.logistic_mixture_nll_backward(*args, backend)
    return _LogisticMixtureNllBackward.apply(_launch_backward, *args, backend)


class _LogisticMixtureNllBackward(torch.autograd.Function):
    """The kernel forward, the composite of its formula backward."""

    @staticmethod
    def forward(ctx, call, grad_nll, params, x, num_levels, min_log_scale, reduction, backend):
        ctx.set_materialize_grads(False)
        save(ctx, grad_nll, params, x)
        ctx.options = (num_levels, min_log_scale, reduction)
        return call(grad_nll, params, x, *ctx.options, backend)

    @staticmethod
    def backward(ctx, grad_grad):
        grad_nll, params, x = saved(ctx)

        def formula(grad_nll, params):
            return (reference.backward(grad_nll, params, x, *ctx.options),)

        grads = composite_gradients(formula, (grad_nll, params), ctx.needs_input_grad[1:3], (grad_grad,))
        return None, *grads, None, None, None, None, None


_fast_apply = _library.fast_apply(_LogisticMixtureNll)

_OPTIONS = "Tensor params, Tensor x, int num_levels, float min_log_scale, str reduction, str backend"

_below = _library.register(
    f"logistic_mixture_nll({_OPTIONS}) -> Tensor",
    _launch,
    _fake,
    lambda *args: _LogisticMixtureNll.apply(None, *args),
)
_below_backward = _library.register(
    f"logistic_mixture_nll_backward(Tensor grad_nll, {_OPTIONS}) -> Tensor",
    _launch_backward,
    _fake_backward,
    lambda *args: _LogisticMixtureNllBackward.apply(_below_backward, *args),
)
