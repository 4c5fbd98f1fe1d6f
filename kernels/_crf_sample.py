"""The Triton kernel of crf_sample: tags from the states that forward keeps, from the last step on."""

import triton
import triton.language as tl

from ._crf_chain import RUNTIME, finite, span, vector
from ._draws import draw_uniforms, first_to_reach


@triton.jit(do_not_specialize=(*RUNTIME, "sequences", "samples"))
def crf_sample_kernel(
    transitions_ptr,  # [K, K]
    end_ptr,  # [K] or None
    lengths_ptr,  # [N] or None
    kept_ptr,  # [N, T, K + 1], then whether sums are scaled
    seed_ptr,
    tags_ptr,  # [S, N, T], written
    sequences,
    steps,
    k,
    samples,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    DRAWS: tl.constexpr,  # samples of a program
    DOMAIN: tl.constexpr,
):
    """A program takes a sequence and some of its samples, which share the states it reads."""
    program = tl.program_id(0).to(tl.int64)
    n = program % sequences
    j = tl.arange(0, BLOCK)[None, :]
    sample = program // sequences * DRAWS + tl.arange(0, DRAWS)
    live = sample < samples
    length, wrong = span(lengths_ptr, n, steps)
    length = tl.where(wrong, 0, length)
    scaled = tl.load(kept_ptr + (tl.zeros((), tl.int64) + sequences) * steps * (k + 1)) > 0
    seed = tl.load(seed_ptr)
    out = tags_ptr + (sample * sequences + n) * steps
    plus = vector(end_ptr, k, WIDE, BLOCK)[None, :] + tl.zeros((DRAWS, BLOCK), WIDE)
    for back in range(0, length):
        t = length - 1 - back
        state = tl.load(kept_ptr + (n * steps + t) * (k + 1) + j, mask=j < k, other=0.0)
        if scaled:  # what lies below the largest by 40 (400) at most
            terms = state * tl.exp(plus - tl.max(plus, axis=1)[:, None])
        else:
            x = tl.where(j < k, state, float("-inf")) + plus
            terms = tl.exp(x - finite(tl.max(x, axis=1))[:, None])
        total = tl.sum(terms, axis=1)
        u = draw_uniforms(seed, n, sample * 17179869184 + t, DOMAIN).to(WIDE)  # 2^34 numbers for each sample
        found, last, _ = first_to_reach(terms, tl.zeros((DRAWS,), WIDE), u * total, j, BLOCK)
        tag = tl.where(total > 0, tl.minimum(found, last), 0)  # rounding may leave the last one short of its sum
        tl.store(out + t, tag.to(tl.int64), mask=live)
        at = transitions_ptr + j * k + tag[:, None]
        plus = tl.load(at, mask=j < k, other=float("-inf")).to(WIDE)
    for t in range(length, steps):
        tl.store(out + t, tl.full((DRAWS,), -1, tl.int64), mask=live)
