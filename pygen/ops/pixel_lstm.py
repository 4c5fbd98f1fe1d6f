"""pixel_lstm: the LSTM of PixelRNN, over the rows or the diagonals of an image.

Forward keeps the activated gates and c, in place of the input; with them and h, backward multiplies nothing a second time. What
is kept is an output of the op below: so second order goes through the composite of the backward, by gates and c to the input.
"""

from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch, _taps
from pygen._layout import empty_images
from pygen.ops import _library
from pygen.ops._saved import save, saved
from pygen.ops._second_order import composite_gradients
from pygen.reference import pixel_lstm as reference

_OP = "pixel_lstm"


def pixel_lstm(
    input: Tensor, weight: Tensor, *, direction: str, color_groups: int = 1, backend: str | None = None
) -> Tensor:
    """A convolutional LSTM that scans an image line by line: the recurrence of PixelRNN's layers.

    Lines are rows ("down") or diagonals ("right", "left"). A pixel reads h of the line before at its taps, and c of one
    pixel of it, both 0 outside of the image: with s = input + sum over taps of weight[:, :, t] h, the gates are o, f, i
    = sigmoid(s) and g = tanh(s), and c = f c + i g, h = o tanh(c). Van den Oord et al. 2016, "Pixel Recurrent Neural
    Networks", sections 3.1 to 3.3. pygen.nn.RowLSTM and pygen.nn.DiagonalBiLSTM are the whole layers.

    Differentiable to any order (first order under torch.compile); torch.func transforms run the reference composition.
    Under autocast it casts like F.conv2d. Forward keeps the gates and c, 5 H numbers a pixel, and not its input. No
    skewed map is made.

    Args:
        input: [N, 4 H, R, W], the input-to-state product, its bias included: gates o, f, i, g, each of H channels. float64,
            float32, bfloat16 or float16; computed in float32 (float64).
        weight: [4 H, H, k], state to state. "down": k is odd, taps are the columns around a pixel in the row above. Else k = 2:
            the pixel above, then the one beside. Where it is not finite, h may be NaN next to the image's edges too.
        direction: "down", rows from the top, c from the pixel above (Row LSTM). "right", diagonals from the upper left corner, c
            from the pixel to the left; "left", its mirror image, from the upper right: its h of a pixel has seen all to the right
            in its row, so a density model moves it down a row (Diagonal BiLSTM: pygen.nn.DiagonalBiLSTM).
        color_groups: channels of input, and rows of weight, are that many contiguous blocks, such as R|G|B, of four gates each.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        h [N, H, R, W], input's dtype, channels_last iff input is.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> gates, weight = torch.randn(2, 4 * 3, 6, 6), torch.randn(4 * 3, 3, 3)  # H = 3, k = 3
        >>> pygen.functional.pixel_lstm(gates, weight, direction="down").shape
        torch.Size([2, 3, 6, 6])
    """
    if _checks.autocast_enabled():
        input, weight = _checks.cast_under_autocast(input, weight)
    _check(input, weight, direction, color_groups)
    name = _dispatch.requested(_OP, backend)
    if not _dispatch.is_plain(input, weight):
        if _dispatch.under_transform(_OP, name, input.device.type):
            return reference.compose(input, weight, direction, color_groups)[0]
        return torch.ops.pygen.pixel_lstm(input, weight, direction, color_groups, name)
    name = _dispatch.resolve(_OP, name, input.device.type)
    launcher = _dispatch.launcher(_OP, _OP, name, input)
    if torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad):
        return _fast_apply(launcher, input, weight, direction, color_groups, name)[0]
    return launcher.forward(input, weight, direction, color_groups, False)[0]


def _check(input: Any, weight: Any, direction: Any, color_groups: Any) -> None:
    for name, t, dims in (("input", input, "four dims [N, 4 H, R, W]"), ("weight", weight, "three dims [4 H, H, k]")):
        _checks.check_tensor(_OP, name, t)
        if t.dim() != int(dims.startswith("four")) + 3:
            raise _checks.fail(_OP, name, dims, list(t.shape))
    _checks.check_floating(_OP, "input", input)
    _checks.check_like(_OP, "weight", weight, "input", input)
    if not isinstance(direction, str) or direction not in reference.DIRECTIONS:
        raise _checks.fail(_OP, "direction", "'down', 'right' or 'left'", repr(direction))
    _taps.check_color_groups(_OP, color_groups)
    gates, hidden, kernel = weight.shape
    if gates != 4 * hidden:
        raise _checks.fail(_OP, "weight", f"the shape [{4 * hidden}, {hidden}, k], four gates", list(weight.shape))
    if direction == "down" and kernel % 2 == 0:
        raise _checks.fail(_OP, "weight", "an odd number of taps (dim 2) for direction 'down'", kernel)
    if direction != "down" and kernel != 2:
        expected = f"two taps (dim 2), above and beside, for direction {direction!r}"
        raise _checks.fail(_OP, "weight", expected, kernel)
    if input.shape[1] != gates:
        expected = f"{gates} channels (dim 1), as weight {list(weight.shape)} has"
        raise _checks.fail(_OP, "input", expected, list(input.shape))
    if hidden % color_groups:
        raise _checks.fail(
            _OP, "color_groups", "a divisor of the hidden channels", f"{hidden} in {color_groups} groups"
        )


def _launch(input, weight, direction, color_groups, backend):
    return _dispatch.launcher(_OP, _OP, backend, input).forward(input, weight, direction, color_groups, False)[0]


def _launch_keep(input, weight, direction, color_groups, backend):
    return _dispatch.launcher(_OP, _OP, backend, input).forward(input, weight, direction, color_groups, True)


def _launch_backward(grad, weight, output, kept, direction, color_groups, needs, backend):
    launcher = _dispatch.launcher(_OP, _OP, backend, output)
    grads = launcher.backward(grad, weight, output, kept, direction, color_groups, needs)
    return [g for g in grads if g is not None]


def _fake(input, weight, direction, color_groups, backend):
    return empty_images(input, weight.shape[1])


def _fake_keep(input, weight, direction, color_groups, backend):
    return empty_images(input, weight.shape[1]), reference.empty_kept(input, weight.shape[1], direction)


def _fake_backward(grad, weight, output, kept, direction, color_groups, needs, backend):
    made = (empty_images(output, weight.shape[0]), weight.new_empty(weight.shape))
    return [t for t, n in zip(made, needs, strict=True) if n]


class _PixelLSTM(torch.autograd.Function):
    """h and what is kept. With a launcher: the fast door. Without: the op below autograd."""

    @staticmethod
    def forward(ctx, launcher, input, weight, direction, color_groups, backend):
        ctx.set_materialize_grads(False)
        ctx.launcher, ctx.direction, ctx.color_groups, ctx.backend = launcher, direction, color_groups, backend
        if launcher is None:
            output, kept = _below_keep(input, weight, direction, color_groups, backend)
        else:
            output, kept = launcher.forward(input, weight, direction, color_groups, True)
        save(ctx, weight, output, kept)
        return output, kept

    @staticmethod
    def backward(ctx, grad, grad_kept):
        if grad is None and grad_kept is None:
            return (None,) * 6
        options = (ctx.direction, ctx.color_groups, ctx.needs_input_grad[1:3])
        grads = _gradients(ctx.launcher, grad, grad_kept, saved(ctx), options, ctx.backend)
        return None, *grads, None, None, None


def _gradients(launcher, grad, grad_kept, given, options, backend) -> tuple[Tensor | None, ...]:
    """Of input and weight; recorded where a graph of the backward is asked for."""
    args = (_dispatch.readable(grad), *given, *options)
    if grad is None or grad_kept is not None or _dispatch.transformed(grad):
        return reference.backward(*args, _dispatch.readable(grad_kept))
    if launcher is not None and not torch.is_grad_enabled():
        return launcher.backward(*args)
    if launcher is None:
        grads = iter(torch.ops.pygen.pixel_lstm_backward(*args, backend))
    else:
        grads = iter(_PixelLSTMBackward.apply(_launch_backward, *args, backend))
    return tuple(next(grads) if n else None for n in options[2])


class _PixelLSTMBackward(torch.autograd.Function):
    """The kernel forward, the composite of its formula backward."""

    @staticmethod
    def forward(ctx, call, grad, weight, output, kept, direction, color_groups, needs, backend):
        ctx.set_materialize_grads(False)
        save(ctx, grad, weight, output, kept)
        ctx.options = (direction, color_groups, needs)
        return tuple(call(grad, weight, output, kept, direction, color_groups, needs, backend))

    @staticmethod
    def backward(ctx, *grad_grads):
        def formula(*tensors):
            return reference.backward(*tensors, *ctx.options)

        grads = composite_gradients(formula, saved(ctx), ctx.needs_input_grad[1:5], grad_grads)
        return None, *grads, None, None, None, None


def _recorded(input, weight, direction, color_groups, backend):
    """h alone: what backward needs is kept where it is needed."""
    if torch.is_grad_enabled() and (input.requires_grad or weight.requires_grad):
        return torch.ops.pygen.pixel_lstm_keep(input, weight, direction, color_groups, backend)[0]
    return _below(input, weight, direction, color_groups, backend)


_fast_apply = _library.fast_apply(_PixelLSTM)

_ARGUMENTS = "Tensor input, Tensor weight, str direction, int color_groups, str backend"

_below = _library.register(f"pixel_lstm({_ARGUMENTS}) -> Tensor", _launch, _fake, _recorded)
_below_keep = _library.register(
    f"pixel_lstm_keep({_ARGUMENTS}) -> (Tensor, Tensor)",
    _launch_keep,
    _fake_keep,
    lambda *args: _PixelLSTM.apply(None, *args),
)
_below_backward = _library.register(
    "pixel_lstm_backward(Tensor grad, Tensor weight, Tensor output, Tensor kept, str direction, int color_groups,"
    " bool[] needs, str backend) -> Tensor[]",
    _launch_backward,
    _fake_backward,
    lambda *args: list(_PixelLSTMBackward.apply(_below_backward, *args)),
)
