"""Launcher of the C++ and the CUDA C++ kernels of affine_coupling. CUDA: not yet run on a GPU."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen._coupling import Call, Part, empty_gradients, wide, zero_gradients
from pygen._layout import empty_output
from pygen.native._arguments import DTYPE_NAMES, on_gpu, strided, target


def places(part: Part, tensors: Sequence[Tensor | None]) -> list[tuple[int, tuple[int, ...]] | None]:
    """(address, strides) of that part of each tensor."""
    found: list[tuple[int, tuple[int, ...]] | None] = []
    for t, place in zip(tensors, part.places, strict=False):
        if t is None or place is None:
            found.append(None)
        else:
            found.append((strided(t)[0] + place[0] * t.element_size(), place[1]))
    return found


def _geometry(call: Call, images: int) -> tuple:
    rest = call.plan.rest
    return images, call.plan.live.sizes, call.plan.weights, call.plan.even, None if rest is None else rest.sizes


def forward(
    input: Tensor,  # [N, C, ...]
    shift: Tensor,  # like input, or its transformed half
    log_scale: Tensor | None,  # like shift
    mask: str,
    flip: bool,
    scale: str,
    bound: float,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    """(output like input, log_det [N])"""
    output = empty_output(input)
    sums = log_scale is not None and input.numel() > 0
    make = torch.empty if sums else torch.zeros
    log_det = make(input.shape[0], dtype=wide(input), device=input.device)
    if input.numel() == 0:
        return output, log_det
    half = shift.shape != input.shape
    call = Call(input, half, mask, flip, ([input], [shift, log_scale]), ([output], []))
    x, out, t, s = places(call.plan.live, (*call.whole, *call.params))
    rest_x, rest_out = (None, None) if call.plan.rest is None else places(call.plan.rest, call.whole)
    compiled, where = target(input)
    geometry = _geometry(call, input.shape[0])
    workspace = None
    if on_gpu((compiled, where)):
        tiles = compiled.affine_coupling_tiles(DTYPE_NAMES[input.dtype], geometry)
        workspace = log_det.new_empty(input.shape[0] * tiles) if sums and tiles > 1 else None
        where = (None if workspace is None else workspace.data_ptr(), *where)
    compiled.affine_coupling_forward(
        DTYPE_NAMES[input.dtype],
        "none" if log_scale is None else scale,
        bound,
        inverse,
        geometry,
        x,
        t,
        s,
        out,
        rest_x,
        rest_out,
        log_det.data_ptr() if sums else None,
        *where,
    )
    return output, log_det


def backward(
    grad_output: Tensor | None,  # [N, C, ...]
    grad_log_det: Tensor | None,  # [N]
    input: Tensor | None,  # [N, C, ...]
    shift: Tensor | None,  # of the inverse
    log_scale: Tensor | None,
    half: bool,
    mask: str,
    flip: bool,
    scale: str,
    bound: float,
    inverse: bool,
    needs: Sequence[bool],
    together: bool = False,  # whether the parameters' gradients may be halves of one tensor
) -> list[Tensor | None]:
    """Gradients of input, shift and log_scale; None where needs is False."""
    like = grad_output if input is None else input
    assert like is not None
    grads = empty_gradients(like, half, mask, flip, tuple(needs), together)
    if like.numel() == 0 or not any(needs):
        return grads
    grad_input, grad_shift, grad_log_scale = grads if grad_output is not None else zero_gradients(grads)
    # The plan is made by the first: one that is there.
    read = [like, grad_output if like is not grad_output else None]
    call = Call(like, half, mask, flip, (read, [shift, log_scale]), ([grad_input], [grad_shift, grad_log_scale]))
    first, second, *others = places(call.plan.live, (*call.whole, *call.params))
    x, upstream = (None, first) if like is grad_output else (first, second)
    to_input, t, s, to_shift, to_scale = others
    rest_from = rest_to = None
    if call.plan.rest is not None:
        first, second, rest_to = places(call.plan.rest, call.whole)
        rest_from = first if like is grad_output else second
    compiled, where = target(like)
    compiled.affine_coupling_backward(
        DTYPE_NAMES[like.dtype],
        "none" if log_scale is None else scale,
        bound,
        inverse,
        _geometry(call, like.shape[0]),
        upstream,
        None if grad_log_det is None else strided(grad_log_det)[0],
        0 if grad_log_det is None else grad_log_det.stride(0),
        x,
        t,
        s,
        to_input,
        to_shift,
        to_scale,
        rest_from,
        rest_to,
        *where,
    )
    return grads
