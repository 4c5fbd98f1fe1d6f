"""What differs between Triton versions (3.6 to 3.9), the interpreter and the compiler, in one place."""

import contextlib
import os
import struct

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen import _tf32

# Fixed when a kernel is decorated, so read once, at the same moment.
INTERPRETED = tl.constexpr(os.environ.get("TRITON_INTERPRET", "0") == "1")

# Fused multiply-add was the default up to 3.9 and is not from 3.10 on.
OPTIONS = {"enable_fp_fusion": True}


def device_of(t: Tensor) -> contextlib.AbstractContextManager:
    """Triton launches on the current device, which need not be the tensors'."""
    if not t.is_cuda or torch.cuda.current_device() == t.get_device():
        return contextlib.nullcontext()
    return torch.cuda.device(t.get_device())


def float_bits(value: float) -> int:
    """A Python float for a kernel: Triton would round a float argument to float32. `bits_float` reads it."""
    return struct.unpack("<q", struct.pack("<d", value))[0]


@triton.jit
def bits_float(bits, dtype: tl.constexpr):
    return tl.full((), bits, tl.int64).to(tl.float64, bitcast=True).to(dtype)


@triton.jit
def cast(x, dtype: tl.constexpr):
    """x.to(dtype), rounded to nearest even. The interpreter cuts the digits that bfloat16 has no room for."""
    if INTERPRETED and dtype == tl.bfloat16 and x.dtype == tl.float32:
        bits = x.to(tl.int32, bitcast=True)
        nearest = (bits + 0x7FFF + ((bits >> 16) & 1)) >> 16
        return tl.where(x == x, nearest, 0x7FC0).to(tl.int16).to(tl.bfloat16, bitcast=True)
    return x.to(dtype)


@triton.jit
def dot(a, b, acc, PRECISION: tl.constexpr):
    """acc + a b. The interpreter would multiply the bits of bfloat16, and add in float16 what float16 multiplies."""
    if INTERPRETED and a.dtype != acc.dtype:
        a, b = a.to(acc.dtype), b.to(acc.dtype)
    return tl.dot(a, b, acc, input_precision=PRECISION, out_dtype=acc.dtype)


def input_precision(t: Tensor) -> str:
    """How `dot` multiplies what convolutions of tensors like `t` hand it."""
    return "tf32" if _tf32.allowed(t) else "ieee"


def product_precision(t: Tensor) -> str:
    """The same for matrix products."""
    return "tf32" if _tf32.allowed_in_products(t) else "ieee"


def index_type(count: int, *tensors: Tensor) -> tl.dtype:
    """What a kernel indexes in: 32 bits, which cost half the registers, where they reach `count` and every element."""
    last = [sum((n - 1) * s for n, s in zip(t.shape, t.stride(), strict=True)) for t in tensors]
    return tl.int32 if max(count, 0, *last) < 1 << 31 else tl.int64


def tl_wide(dtype: torch.dtype) -> tl.dtype:
    """What a kernel computes in for tensors of `dtype`."""
    return tl.float64 if dtype == torch.float64 else tl.float32
