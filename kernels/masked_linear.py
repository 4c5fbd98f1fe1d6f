"""Triton kernels of masked_linear, and their launcher. Not yet run on a GPU.

    out[m, o] = bias[o] + sum over i with in_degree[i] < (strict) or <= out_degree[o] of x[m, i] w[o, i]

Both sides are taken in the order of their degrees, so that the live inputs of each output come first: no mask is stored, a tile
of outputs multiplies as many inputs as all of them see by tl.dot, and the few that only some see one by one, selected, so that
a NaN among them does not reach the others. Tiles of the weight's gradient that are dead are not computed.

Traffic: forward reads the input once for each tile of outputs, from L2 but for the first, and the live part of the weight once
for each tile of rows.
"""

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._degrees import Plan, backward_plan, flat_rows, forward_plan, on_device

from . import _blocks
from ._compat import OPTIONS, cast, device_of, dot, index_type, product_precision, tl_wide

_RUNTIME = ("rows", "n_size", "k_size", "k_tiles")


@triton.jit(do_not_specialize=_RUNTIME)
def masked_linear_fwd_kernel(
    x_ptr,  # [rows, k_size]
    weight_ptr,  # [n_size, k_size] by its strides
    bias_ptr,  # [n_size], or None
    out_ptr,  # [rows, n_size]
    k_order_ptr,  # [k_size], the inputs by degree
    n_order_ptr,  # [n_size], the outputs by degree
    live_ptr,  # [n_size]: how many inputs each output so ordered sees
    x_strides,
    weight_strides,
    out_strides,
    rows,
    n_size,
    k_size,
    INDEX: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    n_tiles = tl.cdiv(n_size, BLOCK_N)
    m_tile = tl.program_id(0) // n_tiles
    first = (tl.program_id(0) - m_tile * n_tiles) * BLOCK_N
    m = m_tile.to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = first + tl.arange(0, BLOCK_N)
    m_mask, n_mask = m < rows, n < n_size
    live = tl.load(live_ptr + n, mask=n_mask, other=0)
    shared = tl.load(live_ptr + first).to(tl.int32)  # they rise, so all of the tile see these
    some = tl.load(live_ptr + tl.minimum(first + BLOCK_N, n_size) - 1).to(tl.int32)
    out_n = tl.load(n_order_ptr + n, mask=n_mask, other=0).to(INDEX)
    x_rows, w_rows = x_ptr + m * x_strides[0], weight_ptr + out_n * weight_strides[0]

    acc = tl.zeros((BLOCK_M, BLOCK_N), WIDE)
    for start in range(0, shared, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        k_mask = k < shared
        i = tl.load(k_order_ptr + k, mask=k_mask, other=0).to(INDEX)
        a = tl.load(x_rows[:, None] + (i * x_strides[1])[None, :], mask=m_mask[:, None] & k_mask[None, :], other=0.0)
        b = tl.load(
            w_rows[None, :] + (i * weight_strides[1])[:, None], mask=k_mask[:, None] & n_mask[None, :], other=0.0
        )
        acc = dot(a, b, acc, PRECISION)
    for k in range(shared, some):
        i = tl.load(k_order_ptr + k).to(INDEX)
        sees = n_mask & (live > k)
        a = tl.load(x_rows + i * x_strides[1], mask=m_mask, other=0.0).to(WIDE)
        b = tl.load(w_rows + i * weight_strides[1], mask=sees, other=0.0).to(WIDE)
        acc += tl.where(sees[None, :], a[:, None] * b[None, :], 0.0)
    if bias_ptr is not None:
        acc += tl.load(bias_ptr + out_n, mask=n_mask, other=0.0).to(WIDE)[None, :]
    out = out_ptr + (m * out_strides[0])[:, None] + (out_n * out_strides[1])[None, :]
    tl.store(out, cast(acc, out_ptr.dtype.element_ty), mask=m_mask[:, None] & n_mask[None, :])


@triton.jit(do_not_specialize=_RUNTIME)
def masked_linear_bwd_weight_kernel(
    grad_ptr,  # [rows, n_size]
    x_ptr,  # [rows, k_size]
    weight_ptr,  # [n_size, k_size], the gradient; its dead entries are left alone
    k_order_ptr,  # as above, the next two too
    n_order_ptr,
    live_ptr,
    grad_strides,
    x_strides,
    rows,
    n_size,
    k_size,
    k_tiles,
    INDEX: tl.constexpr,
    WIDE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,  # outputs
    BLOCK_N: tl.constexpr,  # inputs
    BLOCK_K: tl.constexpr,  # rows
):
    n_tile = tl.program_id(0) // k_tiles
    first = (tl.program_id(0) - n_tile * k_tiles) * BLOCK_N
    n = n_tile * BLOCK_M + tl.arange(0, BLOCK_M)
    k = first + tl.arange(0, BLOCK_N)
    n_mask, k_mask = n < n_size, k < k_size
    some = tl.load(live_ptr + tl.minimum(n_tile * BLOCK_M + BLOCK_M, n_size) - 1)
    if first < some:
        live = tl.load(live_ptr + n, mask=n_mask, other=0)
        o = tl.load(n_order_ptr + n, mask=n_mask, other=0).to(INDEX)
        i = tl.load(k_order_ptr + k, mask=k_mask, other=0).to(INDEX)
        acc = tl.zeros((BLOCK_M, BLOCK_N), WIDE)
        for start in range(0, rows, BLOCK_K):
            m = start + tl.arange(0, BLOCK_K)
            m_mask = m < rows
            m = m.to(INDEX)
            a_offs = (o * grad_strides[1])[:, None] + (m * grad_strides[0])[None, :]
            a = tl.load(grad_ptr + a_offs, mask=n_mask[:, None] & m_mask[None, :], other=0.0)
            b_offs = (m * x_strides[0])[:, None] + (i * x_strides[1])[None, :]
            b = tl.load(x_ptr + b_offs, mask=m_mask[:, None] & k_mask[None, :], other=0.0)
            acc = dot(a, b, acc, PRECISION)
        out = weight_ptr + (o.to(tl.int64) * k_size)[:, None] + i[None, :]
        tl.store(out, cast(acc, weight_ptr.dtype.element_ty), mask=(live[:, None] > k[None, :]) & n_mask[:, None])


def _product(x: Tensor, weight: Tensor, bias: Tensor | None, plan: Plan, out: Tensor) -> None:
    """out [N, n] of x [N, k] and a weight [n, k], seen so."""
    (rows, k), n = x.shape, weight.shape[0]
    if out.numel() == 0:
        return
    tile = _blocks.linear_tile(x.dtype, n, max(k, 1))
    grid = -(-rows // tile.m) * -(-n // tile.n)
    with device_of(x):
        masked_linear_fwd_kernel[(grid,)](
            x, weight, bias, out, *on_device(plan, x.device), x.stride(), weight.stride(), out.stride(), rows, n, k,
            INDEX=index_type(rows + tile.m, x, out, weight), WIDE=tl_wide(x.dtype), PRECISION=product_precision(x),
            **tile.constants(), **OPTIONS,
        )  # fmt: skip


def forward(
    input: Tensor,  # [..., in]
    weight: Tensor,  # [out, in]
    bias: Tensor | None,  # [out]
    in_degrees: Sequence[int],
    out_degrees: Sequence[int],
    strict: bool,
) -> Tensor:
    """[..., out]"""
    output = torch.empty((*input.shape[:-1], weight.shape[0]), dtype=input.dtype, device=input.device)
    bias = bias if bias is None else bias.contiguous()
    _product(flat_rows(input), weight, bias, forward_plan(in_degrees, out_degrees, strict), flat_rows(output))
    return output


def grad_input(
    grad: Tensor,  # [..., out]
    weight: Tensor,  # [out, in]
    in_degrees: Sequence[int],
    out_degrees: Sequence[int],
    strict: bool,
) -> Tensor:
    """[..., in]"""
    result = torch.empty((*grad.shape[:-1], weight.shape[1]), dtype=grad.dtype, device=grad.device)
    _product(flat_rows(grad), weight.t(), None, backward_plan(in_degrees, out_degrees, strict), flat_rows(result))
    return result


def grad_weight(
    grad: Tensor,  # [..., out]
    input: Tensor,  # [..., in]
    in_degrees: Sequence[int],
    out_degrees: Sequence[int],
    strict: bool,
    need_bias: bool,
) -> tuple[Tensor, Tensor | None]:
    """weight's gradient [out, in], 0 where it is dead, and bias's [out]."""
    g, x = flat_rows(grad), flat_rows(input)
    (rows, n), k = g.shape, x.shape[1]
    weight = torch.zeros((n, k), dtype=grad.dtype, device=grad.device)
    bias = g.contiguous().sum(0) if need_bias else None  # in float32 within, and the same each time and in each layout
    if weight.numel() and rows:
        tile = _blocks.conv_weight_tile(grad.dtype, n, k, False)
        k_tiles = -(-k // tile.n)
        with device_of(grad):
            masked_linear_bwd_weight_kernel[(-(-n // tile.m) * k_tiles,)](
                g, x, weight, *on_device(forward_plan(in_degrees, out_degrees, strict), x.device), g.stride(), x.stride(),
                rows, n, k, k_tiles, INDEX=index_type(rows + tile.k, g, x), WIDE=tl_wide(grad.dtype),
                PRECISION=product_precision(grad), **tile.constants(), **OPTIONS,
            )  # fmt: skip
    return weight, bias
