"""rational_quadratic_spline: the monotonic splines of neural spline flows, output and log-determinant in one pass."""

import math
from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _coupling, _dispatch
from pygen._layout import empty_output
from pygen.ops import _library
from pygen.ops._saved import save, saved
from pygen.ops._second_order import composite_gradients
from pygen.reference import rational_quadratic_spline as reference

_OP = "rational_quadratic_spline"
MASKS = ("channel", "even_odd")
MOST_BINS = 256
_LEAST, _MOST = 1e-6, 1e6


def rational_quadratic_spline(
    input: Tensor,
    params: Tensor,
    *,
    mask: str | None = None,
    flip: bool = False,
    tails: str | None = "linear",
    bound: float | tuple[float, float] = 3.0,
    min_bin_width: float = 1e-3,
    min_bin_height: float = 1e-3,
    min_derivative: float = 1e-3,
    identity_init: bool = True,
    inverse: bool = False,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Maps each element of input by its own monotonic spline and gives log |det|: the transform of neural spline flows.

    Of K bins. Widths and heights of the bins are softmaxes, none below its minimum, over [-bound, bound]; between two
    knots the map is the quotient of two quadratics with the knots' slopes, min_derivative + softplus(beta a) / beta.
    log_det is the sum of log |d output / d input| over a sample. Durkan, Bekasov, Murray and Papamakarios 2019, "Neural
    Spline Flows", section 3.1.

    Outside the bound linear tails are the identity: log-derivative 0, gradients of params exactly 0, and params there,
    even NaN, have no effect. With tails=None an element outside gives NaN, as output and in its sample's log_det, and
    no gradient: checking would have to wait for a GPU, and clamping would silently change the density. NaN in input
    gives NaN in both results; NaN or +inf among the widths or heights of an element inside make its results NaN, NaN of
    a slope those beside its knot. Outputs of what lies inside never leave the bound, so that the inverse takes them; in
    16 bits that holds of bounds which the dtype has.

    Differentiable to any order (first order under torch.compile); torch.func transforms run the reference composition.
    One pass normalises, finds the bin, takes its two slopes alone and sums; the inverse solves a quadratic whose terms
    are all positive. Backward keeps input and params, and makes everything else again.

    Args:
        input: [N, C, ...], float64, float32, bfloat16 or float16; computed in float32 (float64). Any strides.
        params: [N, C' * P, ...] with the other dims of input, C' the channels that are transformed, P = 3 K - 1 (tails=None:
            3 K + 1); K, 1 .. 256, follows. Along dim 1 P numbers for each of these channels, one channel after the other: K of
            widths, K of heights, K - 1 of slopes at the inner knots (tails=None: K + 1, of all). So a Linear with C' * P outputs
            and a Conv2d with as many channels need neither a reshape nor a copy. Any strides.
        mask: None: every element is transformed. "channel": the first C - C // 2 of dim 1 pass unchanged, "even_odd": the even
            indices of dim 1, from 0, do; no halves are split and concatenated. params are given for the other half alone.
        flip: of a mask: those are transformed, the others pass.
        tails: "linear": the identity outside the bound, slope 1 at its ends; None: input must lie in it, ends included.
        bound: the splines map [-bound, bound] to itself, 1e-6 .. 1e6; or a pair (low, high).
        min_bin_width, min_bin_height: shares of the whole that each bin has at least, >= 1e-6; K of them must be below 1.
        min_derivative: of slopes, 1e-6 <= min_derivative < 1.
        identity_init: beta = log 2 / (1 - min_derivative), so that params of zeros are the identity. False: beta = 1, the plain
            softplus of the paper's code and of nflows' defaults, whose conditioners so carry over.
        inverse: the inverse map, log_det being its own.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        output, input's shape and dtype, channels_last iff input is; log_det in nats, [N], float32 (float64 for float64).

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> x, params = torch.randn(4, 6), torch.randn(4, 6 * (3 * 8 - 1))  # 8 bins for each of 6 elements
        >>> y, log_det = pygen.functional.rational_quadratic_spline(x, params)
        >>> y.shape, log_det.shape
        (torch.Size([4, 6]), torch.Size([4]))
        >>> again, _ = pygen.functional.rational_quadratic_spline(y, params, inverse=True)
        >>> torch.allclose(again, x, atol=1e-3)
        True
    """
    if _checks.autocast_enabled():
        input, params = _checks.promote_under_autocast(input, params)
    bins = _check(input, params, mask, flip, tails)
    options = (
        "all" if mask is None else mask,
        flip,
        "none" if tails is None else tails,
        *check_numbers(_OP, bins, bound, min_bin_width, min_bin_height, min_derivative),
        math.log(2) / (1 - min_derivative) if _checks.check_bool(_OP, "identity_init", identity_init) else 1.0,
        _checks.check_bool(_OP, "inverse", inverse),
    )
    name = _dispatch.requested(_OP, backend)
    if not _dispatch.is_plain(input, params):
        if _dispatch.under_transform(_OP, name, input.device.type):
            return reference.compose(input, params, *options)
        return torch.ops.pygen.rational_quadratic_spline(input, params, *options, name)
    name = _dispatch.resolve(_OP, name, input.device.type)
    launcher = _dispatch.launcher(_OP, _OP, name, input)
    if torch.is_grad_enabled() and (input.requires_grad or params.requires_grad):
        return _fast_apply(launcher, input, params, options, name)
    return launcher.forward(input, params, *options)


def check_form(op: str, mask: Any, flip: Any, tails: Any) -> None:
    if mask is not None and (not isinstance(mask, str) or mask not in MASKS):
        raise _checks.fail(op, "mask", "None, 'channel' or 'even_odd'", _checks.shown(mask))
    if _checks.check_bool(op, "flip", flip) and mask is None:
        raise _checks.fail(op, "flip", "False, since mask is None", flip)
    if tails is not None and (not isinstance(tails, str) or tails != "linear"):
        raise _checks.fail(op, "tails", "'linear' or None", repr(tails))


def _check(input: Any, params: Any, mask: Any, flip: Any, tails: Any) -> int:
    """How many bins."""
    _checks.check_tensor(_OP, "input", input)
    _checks.check_floating(_OP, "input", input)
    check_form(_OP, mask, flip, tails)
    if input.dim() < 2:
        raise _checks.fail(_OP, "input", "at least two dims [N, C, ...]", list(input.shape))
    channels = _coupling.live_channels(input.shape[1], mask or "all", flip)[2]
    if channels == 0:
        raise _checks.fail(_OP, "input", "at least one channel that is transformed", list(input.shape))
    _checks.check_tensor(_OP, "params", params)
    _checks.check_like(_OP, "params", params, "input", input)
    if params.dim() != input.dim() or params.shape[0] != input.shape[0] or params.shape[2:] != input.shape[2:]:
        expected = f"[{', '.join(map(str, [input.shape[0], f'{channels} * P', *input.shape[2:]]))}]"
        apart = params.dim() == input.dim() + 1 and params.shape[:2] == (input.shape[0], channels)
        hint = " (where dim 2 holds the P numbers of each: params.flatten(1, 2))" if apart else ""
        raise _checks.fail(_OP, "params", f"shape {expected}", f"{list(params.shape)}{hint}")
    numbers, knots = params.shape[1], 1 if tails == "linear" else -1
    bins = (numbers // channels + knots) // 3
    if numbers != channels * (3 * bins - knots) or not 1 <= bins <= MOST_BINS:
        formula = "3 K - 1" if tails == "linear" else "3 K + 1"
        expected = f"{formula} numbers, K = 1 .. {MOST_BINS}, for each of {channels} channel(s) along dim 1"
        raise _checks.fail(_OP, "params", expected, f"{numbers} in {list(params.shape)}")
    return bins


def _number(value: Any) -> bool:
    return not isinstance(value, bool) and isinstance(value, (int, float))


def check_bound(op: str, bound: Any) -> tuple[float, float]:
    """(low, high)"""
    if isinstance(bound, (tuple, list)):
        if len(bound) != 2 or not all(_number(b) for b in bound):
            raise _checks.fail(op, "bound", "a number, or a pair of them (low, high)", repr(bound), kind=TypeError)
        low, high = bound
        if not (max(-low, high) <= _MOST and _LEAST * max(abs(low), abs(high), 1.0) <= high - low):
            raise _checks.fail(op, "bound", f"low < high, both within +-{_MOST:.0e}", (low, high))
        return float(low), float(high)
    if not _number(bound):
        raise _checks.fail(op, "bound", "a number, or a pair of them (low, high)", type(bound).__name__, kind=TypeError)
    if not _LEAST <= bound <= _MOST:
        raise _checks.fail(op, "bound", "1e-6 <= bound <= 1e6", bound)
    return -float(bound), float(bound)


def check_numbers(
    op: str, bins: int, bound: Any, min_bin_width: Any, min_bin_height: Any, min_derivative: Any
) -> tuple[float, float, float, float, float]:
    """low, high, and those after it"""
    return (
        *check_bound(op, bound),
        check_share(op, "min_bin_width", min_bin_width, bins),
        check_share(op, "min_bin_height", min_bin_height, bins),
        check_share(op, "min_derivative", min_derivative, 1),
    )


def check_share(op: str, name: str, value: Any, bins: int) -> float:
    if not _number(value):
        raise _checks.fail(op, name, "a number", type(value).__name__, kind=TypeError)
    if not (value >= _LEAST and value * bins < 1):
        most = "1" if bins == 1 else f"1 / {bins}, as there are {bins} bins"
        raise _checks.fail(op, name, f"1e-6 <= {name} < {most}", value)
    return float(value)


def _launch(input, params, *options):
    *rest, backend = options
    return _dispatch.launcher(_OP, _OP, backend, input).forward(input, params, *rest)


def _launch_backward(grad_output, grad_log_det, input, params, *options):
    *rest, backend = options
    launcher = _dispatch.launcher(_OP, _OP, backend, input)
    return [g for g in launcher.backward(grad_output, grad_log_det, input, params, *rest) if g is not None]


def _fake(input, params, *options):
    return empty_output(input), input.new_empty(input.shape[:1], dtype=_coupling.wide(input))


def _fake_backward(grad_output, grad_log_det, input, params, *options):
    return [empty_output(t) for t, n in zip((input, params), options[-2], strict=True) if n]


class _RationalQuadraticSpline(torch.autograd.Function):
    """With a launcher: the fast door. Without: the op below autograd."""

    @staticmethod
    def forward(ctx, launcher, input, params, options, backend):
        ctx.set_materialize_grads(False)
        save(ctx, input, params)
        ctx.launcher, ctx.options, ctx.backend = launcher, options, backend
        if launcher is None:
            return _below(input, params, *options, backend)
        return launcher.forward(input, params, *options)

    @staticmethod
    def backward(ctx, grad_output, grad_log_det):
        tensors = saved(ctx)
        if grad_output is None and grad_log_det is None:
            return (None,) * 5
        needs = ctx.needs_input_grad[1:3]
        grads = _gradients(ctx.launcher, grad_output, grad_log_det, tensors, ctx.options, needs, ctx.backend)
        return None, *grads, None, None


def _gradients(launcher, grad_output, grad_log_det, saved, options, needs, backend) -> tuple[Tensor | None, ...]:
    """Of input and params; recorded where a graph of the backward is asked for."""
    args = (_dispatch.readable(grad_output), _dispatch.readable(grad_log_det), *saved, *options, needs)
    if _dispatch.transformed(grad_output, grad_log_det):
        return reference.backward(*args)
    if launcher is not None and not torch.is_grad_enabled():
        return launcher.backward(*args)
    if launcher is None:
        grads = iter(torch.ops.pygen.rational_quadratic_spline_backward(*args, backend))
    else:
        grads = iter(_RationalQuadraticSplineBackward.apply(_launch_backward, *args, backend))
    return tuple(next(grads) if n else None for n in needs)


class _RationalQuadraticSplineBackward(torch.autograd.Function):
    """The kernel forward, the composite of its formula backward."""

    @staticmethod
    def forward(ctx, call, grad_output, grad_log_det, input, params, *options):
        ctx.set_materialize_grads(False)
        save(ctx, grad_output, grad_log_det, input, params)
        ctx.options = options
        return tuple(call(grad_output, grad_log_det, input, params, *options))

    @staticmethod
    def backward(ctx, *grad_grads):
        *options, _ = ctx.options

        def formula(*tensors):
            return reference.backward(*tensors, *options)

        grads = composite_gradients(formula, saved(ctx), ctx.needs_input_grad[1:5], grad_grads)
        return None, *grads, *(None for _ in ctx.options)


_fast_apply = _library.fast_apply(_RationalQuadraticSpline)

_OPTIONS = (
    "str mask, bool flip, str tails, float low, float high, float min_bin_width, float min_bin_height, "
    "float min_derivative, float beta, bool inverse"
)

_below = _library.register(
    f"rational_quadratic_spline(Tensor input, Tensor params, {_OPTIONS}, str backend) -> (Tensor, Tensor)",
    _launch,
    _fake,
    lambda input, params, *rest: _RationalQuadraticSpline.apply(None, input, params, rest[:-1], rest[-1]),
)
_below_backward = _library.register(
    "rational_quadratic_spline_backward(Tensor? grad_output, Tensor? grad_log_det, Tensor input, Tensor params, "
    f"{_OPTIONS}, bool[] needs, str backend) -> Tensor[]",
    _launch_backward,
    _fake_backward,
    lambda *args: list(_RationalQuadraticSplineBackward.apply(_below_backward, *args)),
)
