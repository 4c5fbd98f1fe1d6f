"""The Triton kernel of categorical_sample, and its launcher. Not yet run on a GPU.

Traffic of a channel's position, L logits of T bytes: L T read, its level (1 byte, or 8) written. More levels than one block
holds are read twice, the second time from the caches: first for their sum, then for where it is reached.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._layout import empty_levels
from pygen._noise import DOMAINS
from pygen.reference._sampler import inverse_temperature

from . import _blocks
from ._compat import OPTIONS, bits_float, device_of, float_bits, index_type, tl_wide
from ._draws import draw_uniforms, first_to_reach

_NONE = tl.constexpr(2**31 - 1)


@triton.jit
def _read(
    logits_ptr, place, start, live, levels, stride, WIDE: tl.constexpr, INDEX: tl.constexpr, LEVELS: tl.constexpr
):
    """Logits [BLOCK, LEVELS] from level `start` on, -inf where there are none."""
    k = tl.arange(0, LEVELS)[None, :]
    place += (tl.zeros((), tl.int64) + start) * stride
    at = logits_ptr + place + k.to(INDEX) * stride
    return tl.load(at, mask=live[:, None] & (k + start < levels), other=float("-inf")).to(WIDE)


@triton.jit(do_not_specialize=("count",))
def categorical_sample_kernel(
    logits_ptr,  # [N, C * L, positions]
    x_ptr,  # [N, C, positions], written
    seed_ptr,
    strides,
    x_strides,
    count,  # of draws: N C positions
    channels,
    positions,
    levels,
    inverse_bits,  # of 1 / temperature
    ONCE: tl.constexpr,  # one block of levels
    WIDE: tl.constexpr,
    INDEX: tl.constexpr,  # of a level's offset from the first of its block
    BLOCK: tl.constexpr,
    LEVELS: tl.constexpr,
    DOMAIN: tl.constexpr,
):
    LOWEST: tl.constexpr = -1.7976931348623157e308 if tl.float64 == WIDE else -3.402823466e38
    draw = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)  # position after position of each channel
    live = draw < count
    per_image = (tl.zeros((), tl.int64) + channels) * positions
    image, rest = draw // per_image, draw % per_image
    channel, position = rest // positions, rest % positions
    inverse = bits_float(inverse_bits, WIDE)
    place = (image * strides[0] + channel * levels * strides[1] + position * strides[2])[:, None]
    u = draw_uniforms(tl.load(seed_ptr), image, position * channels + channel, DOMAIN).to(WIDE)
    each = tl.arange(0, LEVELS)[None, :]
    nothing = tl.zeros((BLOCK,), WIDE)
    if ONCE:
        logit = _read(logits_ptr, place, 0, live, levels, strides[1], WIDE, INDEX, LEVELS)
        top = tl.max(tl.where(logit > LOWEST, logit, LOWEST), axis=1)
        terms = tl.exp((logit - top[:, None]) * inverse)
        total = tl.sum(terms, axis=1)
        found, last, _ = first_to_reach(terms, nothing, u * total, each, LEVELS)
    else:
        top = tl.full((BLOCK,), LOWEST, WIDE)
        total = nothing
        for start in range(0, levels, LEVELS):
            logit = _read(logits_ptr, place, start, live, levels, strides[1], WIDE, INDEX, LEVELS)
            before = top
            top = tl.maximum(top, tl.max(tl.where(logit > LOWEST, logit, LOWEST), axis=1))
            terms = tl.exp((logit - top[:, None]) * inverse)
            total = total * tl.exp((before - top) * inverse) + tl.sum(terms, axis=1)
        run = nothing
        found = tl.full((BLOCK,), _NONE, tl.int32)
        last = tl.full((BLOCK,), -1, tl.int32)
        for start in range(0, levels, LEVELS):
            logit = _read(logits_ptr, place, start, live, levels, strides[1], WIDE, INDEX, LEVELS)
            terms = tl.exp((logit - top[:, None]) * inverse)
            here, last_here, run = first_to_reach(terms, run, u * total, each, LEVELS)
            found = tl.where((found == _NONE) & (here < LEVELS), start + here, found)
            last = tl.where(last_here >= 0, start + last_here, last)
    level = tl.where(total > 0, tl.minimum(found, last), 0)  # rounding may leave the last one short of its sum
    at = x_ptr + image * x_strides[0] + channel * x_strides[1] + position * x_strides[2]
    tl.store(at, level.to(x_ptr.dtype.element_ty), mask=live)


def forward(
    logits: Tensor,  # [N, C * L, *spatial]
    seed: Tensor,  # 0-dim int64
    channels: int,
    temperature: float,
) -> Tensor:
    """The levels, [N, C, *spatial]."""
    levels = logits.shape[1] // channels
    x = empty_levels(logits, channels, levels)
    if x.numel() == 0:
        return x
    given, written = (t.unsqueeze(2) if t.dim() == 2 else t.flatten(2) for t in (logits, x))
    wide = torch.promote_types(logits.dtype, torch.float32)
    block, at_once = _blocks.categorical_tile(logits.dtype, levels, given.stride(1) == 1 and given.stride(2) != 1)
    with device_of(logits):
        categorical_sample_kernel[(-(-x.numel() // block),)](
            given, written, seed, given.stride(), written.stride(), x.numel(), channels, given.shape[2], levels,
            float_bits(inverse_temperature(temperature, wide)), ONCE=levels <= at_once, WIDE=tl_wide(wide),
            INDEX=index_type(0, given[:1, :at_once, :1]), BLOCK=block, LEVELS=at_once, DOMAIN=DOMAINS["categorical_sample"],
            num_warps=_blocks.CATEGORICAL_WARPS, **OPTIONS,
        )  # fmt: skip
    return x
