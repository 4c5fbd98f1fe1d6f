"""Launcher of the C++ and the CUDA C++ kernels of rational_quadratic_spline. CUDA: not yet run on a GPU."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen._coupling import SplineCall, wide
from pygen._layout import empty_output
from pygen.native._arguments import DTYPE_NAMES, on_gpu, strided, target
from pygen.native.affine_coupling import places


def forward(
    input: Tensor,  # [N, C, ...]
    params: Tensor,  # [N, C' * P, ...]
    mask: str,
    flip: bool,
    tails: str,
    low: float,
    high: float,
    min_bin_width: float,
    min_bin_height: float,
    min_derivative: float,
    beta: float,
    inverse: bool,
) -> tuple[Tensor, Tensor]:
    """(output like input, log_det [N])"""
    output = empty_output(input)
    make = torch.empty if input.numel() else torch.zeros
    log_det = make(input.shape[0], dtype=wide(input), device=input.device)
    if input.numel() == 0:
        return output, log_det
    call = SplineCall(mask, flip, tails, [input], [output], [params], [])
    x, out, p = places(call.plan.live, (*call.whole, *call.params))
    rest_x, rest_out = (None, None) if call.plan.rest is None else places(call.plan.rest, call.whole)
    compiled, where = target(input)
    if on_gpu((compiled, where)):
        tiles = compiled.rational_quadratic_spline_tiles(call.geometry)
        workspace = log_det.new_empty(len(input) * tiles) if tiles > 1 else None
        where = (None if workspace is None else workspace.data_ptr(), *where)
    compiled.rational_quadratic_spline_forward(
        DTYPE_NAMES[input.dtype],
        ((low, high, min_bin_width, min_bin_height, min_derivative, beta), call.bins, tails == "linear"),
        inverse,
        call.geometry,
        x,
        p,
        call.steps[0],
        out,
        rest_x,
        rest_out,
        log_det.data_ptr(),
        *where,
    )
    return output, log_det


def backward(
    grad_output: Tensor | None,  # [N, C, ...]
    grad_log_det: Tensor | None,  # [N]
    input: Tensor,  # [N, C, ...]
    params: Tensor,  # [N, C' * P, ...]
    mask: str,
    flip: bool,
    tails: str,
    low: float,
    high: float,
    min_bin_width: float,
    min_bin_height: float,
    min_derivative: float,
    beta: float,
    inverse: bool,
    needs: Sequence[bool],
) -> list[Tensor | None]:
    """Gradients of input and params; None where needs is False."""
    grads = [empty_output(t) if n else None for t, n in zip((input, params), needs, strict=True)]
    if input.numel() == 0 or not any(needs):
        return grads
    call = SplineCall(mask, flip, tails, [input, grad_output], [grads[0]], [params], [grads[1]])
    x, upstream, to_input, p, to_params = places(call.plan.live, (*call.whole, *call.params))
    rest_from = rest_to = None
    if call.plan.rest is not None:
        _, rest_from, rest_to = places(call.plan.rest, call.whole)
    compiled, where = target(input)
    compiled.rational_quadratic_spline_backward(
        DTYPE_NAMES[input.dtype],
        ((low, high, min_bin_width, min_bin_height, min_derivative, beta), call.bins, tails == "linear"),
        inverse,
        call.geometry,
        upstream,
        None if grad_log_det is None else strided(grad_log_det)[0],
        0 if grad_log_det is None else grad_log_det.stride(0),
        x,
        p,
        call.steps[0],
        to_input,
        to_params,
        call.steps[1],
        rest_from,
        rest_to,
        *where,
    )
    return grads
