"""affine_coupling: one layer of NICE or RealNVP, its output and log-determinant in one pass, forward and inverse."""

from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _coupling, _dispatch
from pygen._layout import empty_output
from pygen.ops import _library
from pygen.ops._halves import are_halves
from pygen.ops._saved import save, saved
from pygen.ops._second_order import composite_gradients
from pygen.reference import affine_coupling as reference

_OP = "affine_coupling"
MASKS = ("channel", "checkerboard", "even_odd")
SCALES = ("exp", "sigmoid", "tanh")


def affine_coupling(
    input: Tensor,
    shift: Tensor,
    log_scale: Tensor | None = None,
    *,
    mask: str | None = "channel",
    flip: bool = False,
    scale: str = "exp",
    bound: float | None = None,
    inverse: bool = False,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """Shifts and scales half of `input` and gives log |det| of that map: the coupling layer of normalizing flows.

    The other half passes unchanged; shift and log_scale are usually what a network makes of it. With mask=None all of
    input is transformed, as in masked autoregressive flows, whose network is a MADE. At the transformed
    elements y = x e^f + shift, with f = log_scale by default (see `scale`), and log_det is the sum of f over a sample.
    `inverse` computes x = (y - shift) e^-f, and log_det is minus that sum. At unchanged elements shift and log_scale,
    even NaN, have no effect and gradient 0. Dinh et al. 2014, "NICE", section 3.2; Dinh et al. 2016, "Density
    estimation using Real NVP", equations 4 to 9.

    Large scales: finite arguments give the rounded result, infinite where that overflows; NaN comes of inf - inf alone,
    and x = 0 stays 0 at any scale, in both directions. e^-f magnifies the rounding of y: where |f| is large the inverse
    cannot give back x, which scale "tanh" or "sigmoid" prevents. In 16 bits y has 8 or 11 binary digits: a flow that is
    to be inverted wants float32.

    Differentiable to any order (first order under torch.compile); torch.func transforms run the reference composition.
    Backward keeps input, log_scale and, of the inverse, shift; of an additive coupling nothing. The kernel applies the
    mask: no halves are split and concatenated, nothing is multiplied by zeros. Instead of e^f it multiplies twice by
    e^(f / 2), with f / 2 limited to +-88 (float64: 708).

    Args:
        input: [N, C, ...], float64, float32, bfloat16 or float16; computed in float32 (float64). Any strides.
        shift: input's shape, of which the transformed places are read; or, with mask "channel" and "even_odd", the shape of the
            transformed half [N, C', ...], C' = C // 2, or with flip C - C // 2. Any strides: chunks of one tensor need no copy.
        log_scale: shift's shape. None: f = 0, NICE's additive coupling.
        mask: which places pass unchanged: "channel", the first C - C // 2 of dim 1; "even_odd", the even indices of dim 1, from
            0; "checkerboard", those whose indices of the last two dims have an odd sum (input needs four dims, or three);
            None: none, shift has input's shape.
        flip: of a mask: those are transformed, the others pass.
        scale: "exp", f = log_scale; "tanh", f = bound tanh(log_scale / bound); "sigmoid", f = log sigmoid(log_scale + 2)
            (Glow, whose code shifts before it scales: docs/from_pytorch.md). The last two need log_scale.
        bound: of "tanh", a positive number, and of it alone.
        inverse: the inverse map, log_det being its own.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        output, input's shape and dtype, channels_last iff input is; log_det in nats, [N], float32 (float64 for float64).

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> x, shift, log_scale = torch.randn(4, 6), torch.randn(4, 3), torch.randn(4, 3)
        >>> y, log_det = pygen.functional.affine_coupling(x, shift, log_scale)
        >>> y.shape, log_det.shape
        (torch.Size([4, 6]), torch.Size([4]))
        >>> again, _ = pygen.functional.affine_coupling(y, shift, log_scale, inverse=True)
        >>> torch.allclose(again, x, atol=1e-4)
        True
    """
    if _checks.autocast_enabled():
        input, shift, log_scale = _checks.promote_under_autocast(input, shift, log_scale)
    half = _check(input, shift, log_scale, mask, flip)
    limit = check_scale(_OP, scale, bound)
    if log_scale is None and scale != "exp":
        raise _checks.fail(_OP, "log_scale", f"a tensor, since scale is {scale!r}", None)
    options = ("all" if mask is None else mask, flip, scale, limit, _checks.check_bool(_OP, "inverse", inverse))
    name = _dispatch.requested(_OP, backend)
    if not _dispatch.is_plain(input, shift, log_scale):
        if _dispatch.under_transform(_OP, name, input.device.type):
            return reference.compose(input, shift, log_scale, *options)
        return torch.ops.pygen.affine_coupling(input, shift, log_scale, *options, name)
    name = _dispatch.resolve(_OP, name, input.device.type)
    launcher = _dispatch.launcher(_OP, _OP, name, input)
    if torch.is_grad_enabled() and (
        input.requires_grad or shift.requires_grad or (log_scale is not None and log_scale.requires_grad)
    ):
        return _fast_apply(launcher, input, shift, log_scale, half, options, name)
    return launcher.forward(input, shift, log_scale, *options)


def _check(input: Any, shift: Any, log_scale: Any, mask: Any, flip: Any) -> bool:
    """Whether the parameters have the transformed half's shape."""
    _checks.check_tensor(_OP, "input", input)
    _checks.check_floating(_OP, "input", input)
    check_mask(_OP, mask, flip, or_none=True)
    least = 3 if mask == "checkerboard" else 2
    if input.dim() < least:
        words = "three dims [N, ..., H, W]" if least == 3 else "two dims [N, C, ...]"
        raise _checks.fail(_OP, "input", f"at least {words}", list(input.shape))
    _checks.check_tensor(_OP, "shift", shift)
    _checks.check_like(_OP, "shift", shift, "input", input)
    half = False
    if shift.shape != input.shape:
        cut = mask in ("channel", "even_odd")
        shape = (input.shape[0], _coupling.live_channels(input.shape[1], mask or "all", flip)[2], *input.shape[2:])
        half = cut and shift.shape == shape
        if not half:
            other = f" or {list(shape)}, its transformed half" if cut else ""
            raise _checks.fail(_OP, "shift", f"input's shape {list(input.shape)}{other}", list(shift.shape))
    if log_scale is not None:
        _checks.check_tensor(_OP, "log_scale", log_scale)
        _checks.check_like(_OP, "log_scale", log_scale, "input", input)
        if log_scale.shape != shift.shape:
            raise _checks.fail(_OP, "log_scale", f"shift's shape {list(shift.shape)}", list(log_scale.shape))
    return half


def check_mask(op: str, mask: Any, flip: Any, or_none: bool = False) -> None:
    if not (mask is None and or_none) and (not isinstance(mask, str) or mask not in MASKS):
        names = "'channel', 'checkerboard' or 'even_odd'"
        raise _checks.fail(op, "mask", f"None, {names}" if or_none else names, _checks.shown(mask))
    if _checks.check_bool(op, "flip", flip) and mask is None:
        raise _checks.fail(op, "flip", "False, since mask is None", flip)


def check_scale(op: str, scale: Any, bound: Any) -> float:
    """bound as the kernels take it."""
    if not isinstance(scale, str) or scale not in SCALES:
        raise _checks.fail(op, "scale", "'exp', 'sigmoid' or 'tanh'", repr(scale))
    if scale != "tanh":
        if bound is not None:
            raise _checks.fail(op, "bound", f"None, since scale is {scale!r}", repr(bound))
        return 1.0
    if isinstance(bound, bool) or not isinstance(bound, (int, float)):
        raise _checks.fail(
            op, "bound", "a positive number, since scale is 'tanh'", type(bound).__name__, kind=TypeError
        )
    if not 1e-6 <= bound <= 1e6:
        raise _checks.fail(op, "bound", "1e-6 <= bound <= 1e6", bound)
    return float(bound)


def _launch(input, shift, log_scale, mask, flip, scale, bound, inverse, backend):
    launcher = _dispatch.launcher(_OP, _OP, backend, input)
    return launcher.forward(input, shift, log_scale, mask, flip, scale, bound, inverse)


def _launch_backward(grad_output, grad_log_det, input, shift, log_scale, *options):
    *rest, backend = options
    like = grad_output if input is None else input
    grads = _dispatch.launcher(_OP, _OP, backend, like).backward(
        grad_output, grad_log_det, input, shift, log_scale, *rest
    )
    return [g for g in grads if g is not None]


def _fake(input, shift, log_scale, mask, flip, scale, bound, inverse, backend):
    return empty_output(input), input.new_empty(input.shape[:1], dtype=_coupling.wide(input))


def _fake_backward(
    grad_output, grad_log_det, input, shift, log_scale, half, mask, flip, scale, bound, inverse, needs, backend
):
    like = grad_output if input is None else input
    return [g for g in _coupling.empty_gradients(like, half, mask, flip, needs) if g is not None]


class _AffineCoupling(torch.autograd.Function):
    """With a launcher: the fast door. Without: the op below autograd."""

    @staticmethod
    def forward(ctx, launcher, input, shift, log_scale, half, options, backend):
        ctx.set_materialize_grads(False)
        affine = log_scale is not None
        save(ctx, input if affine else None, shift if affine and options[-1] else None, log_scale)
        ctx.launcher, ctx.options, ctx.backend = launcher, (half, *options), backend
        ctx.together = are_halves(shift, log_scale)
        if launcher is None:
            return _below(input, shift, log_scale, *options, backend)
        return launcher.forward(input, shift, log_scale, *options)

    @staticmethod
    def backward(ctx, grad_output, grad_log_det):
        tensors = saved(ctx)
        if grad_output is None and (grad_log_det is None or tensors[2] is None):
            return (None,) * 7
        needs = ctx.needs_input_grad[1:4]
        how = (ctx.backend, ctx.together)
        grads = _gradients(ctx.launcher, grad_output, grad_log_det, tensors, ctx.options, needs, *how)
        return None, *grads, None, None, None


def _gradients(
    launcher, grad_output, grad_log_det, saved, options, needs, backend, together
) -> tuple[Tensor | None, ...]:
    """Of input, shift and log_scale; recorded where a graph of the backward is asked for."""
    args = (_dispatch.readable(grad_output), _dispatch.readable(grad_log_det), *saved, *options, needs)
    if _dispatch.transformed(grad_output, grad_log_det):
        return reference.backward(*args)
    if launcher is not None and not torch.is_grad_enabled():
        return launcher.backward(*args, together)
    if launcher is None:
        grads = iter(torch.ops.pygen.affine_coupling_backward(*args, backend))
    else:
        grads = iter(_AffineCouplingBackward.apply(_launch_backward, *args, backend))
    return tuple(next(grads) if n else None for n in needs)


class _AffineCouplingBackward(torch.autograd.Function):
    """The kernel forward, the composite of its formula backward."""

    @staticmethod
    def forward(ctx, call, grad_output, grad_log_det, input, shift, log_scale, *options):
        ctx.set_materialize_grads(False)
        save(ctx, grad_output, grad_log_det, input, shift, log_scale)
        ctx.options = options
        return tuple(call(grad_output, grad_log_det, input, shift, log_scale, *options))

    @staticmethod
    def backward(ctx, *grad_grads):
        *options, _ = ctx.options

        def formula(*tensors):
            return reference.backward(*tensors, *options)

        grads = composite_gradients(formula, saved(ctx), ctx.needs_input_grad[1:6], grad_grads)
        return None, *grads, *(None for _ in ctx.options)


_fast_apply = _library.fast_apply(_AffineCoupling)

_OPTIONS = "str mask, bool flip, str scale, float bound, bool inverse"

_below = _library.register(
    f"affine_coupling(Tensor input, Tensor shift, Tensor? log_scale, {_OPTIONS}, str backend) -> (Tensor, Tensor)",
    _launch,
    _fake,
    lambda input, shift, log_scale, *rest: _AffineCoupling.apply(
        None, input, shift, log_scale, shift.shape != input.shape, rest[:-1], rest[-1]
    ),
)
_below_backward = _library.register(
    "affine_coupling_backward(Tensor? grad_output, Tensor? grad_log_det, Tensor? input, Tensor? shift, Tensor? log_scale, "
    f"bool half, {_OPTIONS}, bool[] needs, str backend) -> Tensor[]",
    _launch_backward,
    _fake_backward,
    lambda *args: list(_AffineCouplingBackward.apply(_below_backward, *args)),
)
