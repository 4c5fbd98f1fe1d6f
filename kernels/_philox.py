"""Noise on the device, equal to csrc/common/philox.h and pygen/reference/noise.py: a pure function of (seed, index, sample).

Philox4x32-10 with key = the two halves of the int64 seed and counter = (q low, q high, sample, domain), q = index // 4. Float32
stays within 6 ulp of the float64 formula.
"""

import triton
import triton.language as tl

from ._elementary import log_positive, sincos_turn, sincos_turn_float64


@triton.jit
def box_muller(word0, word1, WIDE: tl.constexpr):
    """Two normals (Box and Muller 1958) from two uint32 words."""
    u0 = word0.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10  # 2^-32, 2^-33: in (0, 1]
    u1 = word1.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10
    if WIDE == tl.float64:  # noqa: SIM300
        sine, cosine = sincos_turn_float64(u1.to(tl.float64))
        radius = tl.sqrt(-2.0 * tl.log(u0.to(tl.float64)))
    else:
        sine, cosine = sincos_turn(u1)
        radius = tl.sqrt(-2.0 * log_positive(u0))
    return radius * cosine, radius * sine


@triton.jit
def philox4x32_10(key, c0, c1, c2, c3):
    """Four uint32 words of uint32 counters [..]; key is a uint64. The same words as tl.philox, with half as many products."""
    k0 = key.to(tl.uint32)
    k1 = (key >> 32).to(tl.uint32)
    for _ in tl.static_range(10):
        p0 = c0.to(tl.uint64) * 0xD2511F53
        p1 = c2.to(tl.uint64) * 0xCD9E8D57
        c0 = (p1 >> 32).to(tl.uint32) ^ c1 ^ k0
        c1 = p1.to(tl.uint32)
        c2 = (p0 >> 32).to(tl.uint32) ^ c3 ^ k1
        c3 = p0.to(tl.uint32)
        k0 += 0x9E3779B9
        k1 += 0xBB67AE85
    return c0, c1, c2, c3


@triton.jit
def words(seed, quad, sample, DOMAIN: tl.constexpr):
    """The four uint32 words of each int64 quad; seed is an int64 loaded from memory."""
    low = quad.to(tl.uint32)
    sample_word = (tl.zeros(low.shape, tl.int64) + sample).to(tl.uint32)  # the interpreter counts loops in Python ints
    domain = tl.full(low.shape, DOMAIN, tl.uint32)
    return philox4x32_10(seed.to(tl.uint64, bitcast=True), low, (quad >> 32).to(tl.uint32), sample_word, domain)


@triton.jit
def normals(seed, quad, sample, DOMAIN: tl.constexpr, WIDE: tl.constexpr):
    """Standard normals [R, 4 * Q] of quads [R, Q], in element order."""
    word0, word1, word2, word3 = words(seed, quad, sample, DOMAIN)
    z0, z1 = box_muller(word0, word1, WIDE)
    z2, z3 = box_muller(word2, word3, WIDE)
    return tl.interleave(tl.interleave(z0, z2), tl.interleave(z1, z3))
