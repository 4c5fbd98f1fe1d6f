"""The Triton kernel of logistic_mixture_sample, and its launcher. Not yet run on a GPU.

Formula: csrc/common/logistic_mixture_sample.h. Traffic of a pixel: K logits of T bytes and the drawn component's 2 or 9 other
numbers, wherever they lie; 1 byte (8 beyond 256 levels) a channel written.
"""

import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._layout import empty_levels
from pygen._noise import DOMAINS
from pygen.native._likelihood import flat
from pygen.reference._sampler import inverse_temperature

from . import _blocks
from ._compat import OPTIONS, bits_float, device_of, float_bits, tl_wide
from ._draws import first_to_reach, uniform_of
from ._logistic import tanh_of
from ._philox import words


@triton.jit
def _number(base, which, component, components, stride, live, WIDE: tl.constexpr):
    """The drawn component's number of that kind."""
    return tl.load(base + (which * components + component) * stride, mask=live, other=0.0).to(WIDE)


@triton.jit
def _level(mean, log_scale, u, last, WIDE: tl.constexpr):
    """As a whole number; NaN gives 0."""
    odds = u / tl.maximum(1.0 - u, 2.9802322387695312e-08)  # 2^-25
    place = (mean + tl.exp(log_scale) * tl.log(odds) + 1.0) * (0.5 * last)
    place = tl.where(place > last, last, tl.where(place < 0.0, 0.0, place))
    return tl.where(place == place, tl.floor(place + 0.5), 0.0)


@triton.jit(do_not_specialize=("count",))
def logistic_mixture_sample_kernel(
    params_ptr,  # [N, P, positions]
    x_ptr,  # [N, C, positions], written
    seed_ptr,
    strides,
    x_strides,
    count,  # of pixels
    positions,
    components,
    last_bits,  # of L - 1
    least_bits,  # of the least log scale
    inverse_bits,  # of 1 / temperature
    log_temperature_bits,
    CHANNELS: tl.constexpr,
    WIDE: tl.constexpr,
    BLOCK: tl.constexpr,
    KINDS: tl.constexpr,  # at least the components
    DOMAIN: tl.constexpr,
):
    LOWEST: tl.constexpr = -1.7976931348623157e308 if tl.float64 == WIDE else -3.402823466e38
    pixel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    live = pixel < count
    image, position = pixel // positions, pixel % positions
    base = params_ptr + image * strides[0] + position * strides[2]
    seed = tl.load(seed_ptr)
    k = tl.arange(0, KINDS)[None, :]
    at = base[:, None] + k.to(tl.int64) * strides[1]
    logit = tl.load(at, mask=live[:, None] & (k < components), other=float("-inf")).to(WIDE)
    top = tl.max(tl.where(logit > LOWEST, logit, LOWEST), axis=1)
    terms = tl.exp((logit - top[:, None]) * bits_float(inverse_bits, WIDE))
    total = tl.sum(terms, axis=1)
    if CHANNELS == 3:
        word0, word1, word2, word3 = words(seed, position, image, DOMAIN)
    else:
        word0, word1, word2, word3 = words(seed, position // 2, image, DOMAIN)
        odd = position % 2 == 1
        word0 = tl.where(odd, word2, word0)
        word1 = tl.where(odd, word3, word1)
    wanted = uniform_of(word0).to(WIDE) * total
    found, final, _ = first_to_reach(terms, tl.zeros((BLOCK,), WIDE), wanted, k, KINDS)
    exists = total > 0
    component = tl.where(exists, tl.minimum(found, final), 0).to(tl.int64)
    last = bits_float(last_bits, WIDE)
    least = bits_float(least_bits, WIDE)
    log_temperature = bits_float(log_temperature_bits, WIDE)
    to = x_ptr + image * x_strides[0] + position * x_strides[2]
    parts: tl.constexpr = 3 if CHANNELS == 3 else 2
    red = tl.zeros((BLOCK,), WIDE)
    green = tl.zeros((BLOCK,), WIDE)
    for c in tl.static_range(CHANNELS):
        mean = _number(base, 1 + parts * c, component, components, strides[1], live, WIDE)
        log_scale = _number(base, 2 + parts * c, component, components, strides[1], live, WIDE)
        log_scale = tl.where(log_scale < least, least, log_scale) + log_temperature
        if c == 1:
            mean += tanh_of(_number(base, 3, component, components, strides[1], live, WIDE))[0] * red
        if c == 2:
            mean += tanh_of(_number(base, 6, component, components, strides[1], live, WIDE))[0] * red
            mean += tanh_of(_number(base, 9, component, components, strides[1], live, WIDE))[0] * green
        word = word1 if c == 0 else (word2 if c == 1 else word3)
        level = tl.where(exists, _level(mean, log_scale, uniform_of(word).to(WIDE), last, WIDE), 0.0)
        tl.store(to + (tl.zeros((), tl.int64) + c) * x_strides[1], level.to(x_ptr.dtype.element_ty), mask=live)
        if c == 0:
            red = (level * 2.0 - last) / last
        else:
            green = (level * 2.0 - last) / last


def forward(
    params: Tensor,  # [N, P, *spatial]
    seed: Tensor,  # 0-dim int64
    channels: int,
    num_levels: int,
    min_log_scale: float,
    temperature: float,
) -> Tensor:
    """The levels, [N, C, *spatial]."""
    x = empty_levels(params, channels, num_levels)
    if x.numel() == 0:
        return x
    given, written = flat(params), flat(x)
    wide = torch.promote_types(params.dtype, torch.float32)
    components = given.shape[1] // (3 if channels == 1 else 10)
    kinds = triton.next_power_of_2(components)
    block = max(1, _blocks.MIXTURE_SAMPLE_ELEMENTS // kinds)
    count = given.shape[0] * given.shape[2]
    numbers = (num_levels - 1, min_log_scale, inverse_temperature(temperature, wide), math.log(temperature))
    with device_of(params):
        logistic_mixture_sample_kernel[(-(-count // block),)](
            given, written, seed, given.stride(), written.stride(), count, given.shape[2], components,
            *(float_bits(number) for number in numbers), CHANNELS=channels, WIDE=tl_wide(wide), BLOCK=block, KINDS=kinds,
            DOMAIN=DOMAINS["logistic_mixture_sample"], num_warps=_blocks.MIXTURE_SAMPLE_WARPS, **OPTIONS,
        )  # fmt: skip
    return x
