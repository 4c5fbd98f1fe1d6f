"""The Triton kernel of bernoulli_sample, and its launcher. Not yet run on a GPU.

Formula: csrc/common/bernoulli_sample.h. Traffic of a draw: T bytes of its logit, 1 byte written. A quad of draws shares a Philox
call: 4 T + 4 bytes, 4 exponentials.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from pygen._layout import empty_bytes
from pygen._noise import DOMAINS
from pygen.native._likelihood import flat
from pygen.reference._sampler import inverse_temperature

from . import _blocks
from ._compat import OPTIONS, bits_float, device_of, float_bits, tl_wide
from ._draws import quad_uniforms
from ._softplus import exp_minus_abs


@triton.jit(do_not_specialize=("count",))
def bernoulli_sample_kernel(
    logits_ptr,  # [N, C, positions]
    x_ptr,  # [N, C, positions], bytes, written
    seed_ptr,
    strides,
    x_strides,
    count,  # of quads, in all images
    quads,  # of an image
    channels,
    per_image,
    inverse_bits,  # of 1 / temperature
    WIDE: tl.constexpr,
    QUADS: tl.constexpr,
    DOMAIN: tl.constexpr,
):
    number = tl.program_id(0).to(tl.int64) * QUADS + tl.arange(0, QUADS)
    image, quad = number // quads, number % quads
    u = quad_uniforms(tl.load(seed_ptr), image, quad, DOMAIN).to(WIDE)  # [4 QUADS]
    draw = tl.reshape(quad[:, None] * 4 + tl.arange(0, 4)[None, :], (4 * QUADS,))
    image = tl.reshape(image[:, None] + tl.zeros((1, 4), tl.int64), (4 * QUADS,))
    live = tl.reshape((number < count)[:, None] & (tl.arange(0, 4)[None, :] >= 0), (4 * QUADS,)) & (draw < per_image)
    position, channel = draw // channels, draw % channels
    at = logits_ptr + image * strides[0] + channel * strides[1] + position * strides[2]
    y = tl.load(at, mask=live, other=0.0).to(WIDE) * bits_float(inverse_bits, WIDE)
    e = exp_minus_abs(y)
    drawn = tl.where(y >= 0, e * (1.0 - u) < u, 1.0 - u < u * e)
    to = x_ptr + image * x_strides[0] + channel * x_strides[1] + position * x_strides[2]
    tl.store(to, drawn.to(tl.uint8), mask=live)


def forward(
    logits: Tensor,  # [N, ...]
    seed: Tensor,  # 0-dim int64
    temperature: float,
) -> Tensor:
    """The bits, of logits' shape."""
    x = empty_bytes(logits)
    if x.numel() == 0:
        return x
    given, written = (flat(t if t.dim() > 1 else t.unsqueeze(1)) for t in (logits, x))
    wide = torch.promote_types(logits.dtype, torch.float32)
    n, channels, positions = given.shape
    quads = -(-channels * positions // 4)
    with device_of(logits):
        bernoulli_sample_kernel[(-(-n * quads // _blocks.BERNOULLI_QUADS),)](
            given, written, seed, given.stride(), written.stride(), n * quads, quads, channels, channels * positions,
            float_bits(inverse_temperature(temperature, wide)), WIDE=tl_wide(wide), QUADS=_blocks.BERNOULLI_QUADS,
            DOMAIN=DOMAINS["bernoulli_sample"], num_warps=4, **OPTIONS,
        )  # fmt: skip
    return x
