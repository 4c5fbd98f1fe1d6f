"""Triton kernels of restricted Boltzmann machines, and their launcher. Not yet run on a GPU.

    a[m, n] = bias[n] + sum over k of x[m, k] w[n, k]
    energies: the sums of softplus(a) over each tile of n, and sigmoid(a);    samples: whether u <= sigmoid(a / temperature)

One layer given the other: a product whose epilogue is all there is beside it, so that no a is ever in memory. A half step of
sampling is one launch and writes 0 and 1 as numbers that the next one multiplies. Formula: pygen/reference/rbm.py.

Traffic: x is read once for each tile of n and the weight once for each tile of m, from L2 but for the first; what is written
is [M, N] of x's dtype (samples), of float32 (chances) or 1 / BLOCK_N of that (energies alone).
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen.reference._likelihood import compute_dtype
from pygen.reference.bernoulli_nll import targets

from . import _blocks
from ._compat import OPTIONS, bits_float, cast, device_of, dot, float_bits, index_type, product_precision, tl_wide
from ._philox import words
from ._softplus import exp_minus_abs, log1p_unit, relu, sigmoid_of

NOISE_DOMAIN = tl.constexpr(6)  # pygen/_noise.py
_RUNTIME = ("rows", "n_size", "k_size", "half", "inverse_bits")


@triton.jit
def _sums(
    x_ptr, weight_ptr, bias_ptr, x_strides, weight_strides, m, n, rows, n_size, k_size,
    INDEX: tl.constexpr, WIDE: tl.constexpr, PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr,
):  # fmt: skip
    """a [BLOCK_M, BLOCK_N] of rows m and units n."""
    m_mask, n_mask = m < rows, n < n_size
    x_rows, w_rows = x_ptr + m.to(INDEX) * x_strides[0], weight_ptr + n.to(INDEX) * weight_strides[0]
    acc = tl.zeros((BLOCK_M, BLOCK_N), WIDE)
    for start in range(0, k_size, BLOCK_K):
        k = start + tl.arange(0, BLOCK_K)
        k_mask = k < k_size
        k = k.to(INDEX)
        a = tl.load(x_rows[:, None] + (k * x_strides[1])[None, :], mask=m_mask[:, None] & k_mask[None, :], other=0.0)
        b = tl.load(
            w_rows[None, :] + (k * weight_strides[1])[:, None], mask=k_mask[:, None] & n_mask[None, :], other=0.0
        )
        acc = dot(a, b, acc, PRECISION)
    return acc + tl.load(bias_ptr + n, mask=n_mask, other=0.0).to(WIDE)[None, :]


@triton.jit(do_not_specialize=_RUNTIME)
def rbm_free_energy_fwd_kernel(
    x_ptr,  # [rows, k_size]
    weight_ptr,  # [n_size, k_size] by its strides
    bias_ptr,  # [n_size]
    partial_ptr,  # [n_tiles, rows], the sums of softplus
    units_ptr,  # [rows, n_size], or None
    x_strides,
    weight_strides,
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
    n_tile = tl.program_id(0) - m_tile * n_tiles
    m = m_tile.to(INDEX) * BLOCK_M + tl.arange(0, BLOCK_M)
    n = n_tile * BLOCK_N + tl.arange(0, BLOCK_N)
    a = _sums(
        x_ptr, weight_ptr, bias_ptr, x_strides, weight_strides, m, n, rows, n_size, k_size,
        INDEX, WIDE, PRECISION, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    e = exp_minus_abs(a)
    softplus = tl.where((n < n_size)[None, :], relu(a) + log1p_unit(e), 0.0)
    tl.store(partial_ptr + n_tile.to(tl.int64) * rows + m, tl.sum(softplus, 1), mask=m < rows)
    if units_ptr is not None:
        units = units_ptr + m.to(tl.int64)[:, None] * n_size + n[None, :]
        tl.store(units, sigmoid_of(a, e), mask=(m < rows)[:, None] & (n < n_size)[None, :])


@triton.jit(do_not_specialize=_RUNTIME)
def rbm_gibbs_kernel(
    x_ptr,  # [rows, k_size]
    weight_ptr,  # [n_size, k_size] by its strides
    bias_ptr,  # [n_size]
    out_ptr,  # [rows, n_size]
    given_ptr,  # [rows, n_size], what is known
    known_ptr,  # [rows, n_size], bool, or None
    seed_ptr,  # int64
    x_strides,
    weight_strides,
    rows,
    n_size,
    k_size,
    half,  # 2 step, or 2 step + 1
    inverse_bits,  # of 1 / temperature
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
    a = _sums(
        x_ptr, weight_ptr, bias_ptr, x_strides, weight_strides, m, n, rows, n_size, k_size,
        INDEX, WIDE, PRECISION, BLOCK_M, BLOCK_N, BLOCK_K,
    )  # fmt: skip
    y = a * bits_float(inverse_bits, WIDE)
    quad = (first // 4 + tl.arange(0, BLOCK_N // 4)).to(tl.int64) + (tl.zeros((), tl.int64) + half << 32)
    image = m.to(tl.int64)[:, None]
    w0, w1, w2, w3 = words(tl.load(seed_ptr), quad[None, :] + 0 * image, image, NOISE_DOMAIN)
    word = tl.interleave(tl.interleave(w0, w2), tl.interleave(w1, w3))
    u = word.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10  # 2^-32, 2^-33: in (0, 1]
    e = exp_minus_abs(y)
    on = u.to(WIDE) * (1.0 + e) <= tl.where(y < 0.0, e, 1.0)
    drawn = cast(tl.where(on & (y == y), 1.0, 0.0).to(WIDE), out_ptr.dtype.element_ty)
    offs = m.to(tl.int64)[:, None] * n_size + n[None, :]
    mask = (m < rows)[:, None] & (n < n_size)[None, :]
    if known_ptr is not None:
        known = tl.load(known_ptr + offs, mask=mask, other=0) != 0
        drawn = tl.where(known, tl.load(given_ptr + offs, mask=mask & known, other=0.0), drawn)
    tl.store(out_ptr + offs, drawn, mask=mask)


def _launch(kernel, x: Tensor, weight: Tensor, before: tuple, after: tuple = ()) -> None:
    """One layer, of a weight seen as [n, k]; before, after: the kernel's arguments from bias_ptr on, and after the sizes."""
    (rows, k), n = x.shape, weight.shape[0]
    if rows == 0 or n == 0:
        return
    tile = _blocks.linear_tile(x.dtype, n, max(k, 1))
    with device_of(x):
        kernel[(-(-rows // tile.m) * -(-n // tile.n),)](
            x, weight, *before, x.stride(), weight.stride(), rows, n, k, *after,
            INDEX=index_type(rows + tile.m, x, weight), WIDE=tl_wide(x.dtype), PRECISION=product_precision(x),
            **tile.constants(), **OPTIONS,
        )  # fmt: skip


def forward(
    v: Tensor,  # [N, D]: bool, uint8, int64 or weight's dtype
    weight: Tensor,  # [H, D]
    visible_bias: Tensor,  # [D]
    hidden_bias: Tensor,  # [H]
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """The free energies [N] and, where `keep`, the hidden units' chances [N, H], else [0]: float32 (float64 for float64)."""
    wide, n, hidden = compute_dtype(weight.dtype), len(v), len(weight)
    x = targets(v, weight.dtype)
    tile = _blocks.linear_tile(x.dtype, hidden, max(x.shape[1], 1))
    partial = torch.empty((-(-hidden // tile.n), n), dtype=wide, device=v.device)
    units = torch.empty((n, hidden) if keep else 0, dtype=wide, device=v.device)
    kept = units if units.numel() else None
    _launch(rbm_free_energy_fwd_kernel, x, weight, (hidden_bias.contiguous(), partial, kept))
    return -(x.to(wide) * visible_bias.to(wide)).sum(1) - partial.sum(0), units


def gibbs(
    v: Tensor,  # [N, D]: bool, uint8, int64 or weight's dtype
    weight: Tensor,  # [H, D]
    visible_bias: Tensor,  # [D]
    hidden_bias: Tensor,  # [H]
    steps: int,  # at least 1
    temperature: float,
    known_mask: Tensor | None,  # [N, D], bool
    seed: Tensor,  # 0-dim, int64
) -> tuple[Tensor, Tensor]:
    """v after `steps` full steps and the h it was drawn from, both in v's dtype."""
    state = given = targets(v, weight.dtype).contiguous()
    drawn, h = torch.empty_like(given), given.new_empty((len(v), len(weight)))
    c, b, inverse = hidden_bias.contiguous(), visible_bias.contiguous(), float_bits(1 / temperature)
    known = None if known_mask is None else known_mask.contiguous()
    for step in range(steps):
        _launch(rbm_gibbs_kernel, state, weight, (c, h, h, None, seed), (2 * step, inverse))
        _launch(rbm_gibbs_kernel, h, weight.t(), (b, drawn, given, known, seed), (2 * step + 1, inverse))
        state = drawn
    return state.to(v.dtype), h.to(v.dtype)
