"""The uniform numbers of samplers: pygen/reference/noise.py: uniforms. And which level one of them draws."""

import triton
import triton.language as tl

from ._philox import words


@triton.jit
def uniform_of(word):
    return word.to(tl.float32) * 2.3283064365386963e-10 + 1.1641532182693481e-10  # 2^-32, 2^-33: in (0, 1]


@triton.jit
def draw_uniforms(seed, image, draw, DOMAIN: tl.constexpr):
    """float32 in (0, 1] of int64 images and their draws, both [..]: word draw % 4 of quad draw // 4."""
    word0, word1, word2, word3 = words(seed, draw // 4, image, DOMAIN)
    lane = draw % 4
    return uniform_of(tl.where(lane < 2, tl.where(lane == 0, word0, word1), tl.where(lane == 2, word2, word3)))


@triton.jit
def quad_uniforms(seed, image, quad, DOMAIN: tl.constexpr):
    """Those of whole quads [Q], int64 as their images: [4 Q], in the draws' order."""
    word0, word1, word2, word3 = words(seed, quad, image, DOMAIN)
    even = tl.interleave(uniform_of(word0), uniform_of(word2))
    return tl.interleave(even, tl.interleave(uniform_of(word1), uniform_of(word3)))


@triton.jit
def first_to_reach(terms, before, wanted, level, LEVELS: tl.constexpr):
    """Of terms [B, L] above 0 the first whose sum with all before it reaches `wanted`, and the last at all; the sum."""
    sums = before[:, None] + tl.cumsum(terms, axis=1)
    counts = terms > 0
    found = tl.min(tl.where(counts & (sums >= wanted[:, None]), level, LEVELS), axis=1)
    return found, tl.max(tl.where(counts, level, -1), axis=1), before + tl.sum(terms, axis=1)
