"""The categorical likelihood of integer levels by logits in plain PyTorch (nats).

logits holds, along dim 1, a block of L logits for each channel of x, one channel after the other. With l one such block at one
position and x the level there, in 0 .. L-1,

    -log p(x) = log sum_j e^(l_j) - l_x,        d / d l_j = softmax(l)_j - [j = x],

summed over the channels and positions of a sample. Logits of -inf are levels that cannot come: their probability and their
gradient are 0, and the loss is +inf where one was drawn.

`forward` differentiates by autograd; `backward` is the closed form, itself differentiable, so it serves second order. Both
compute in float32 (float64 for float64) and round once.
"""

import math

import torch
from torch import Tensor

from pygen.reference._likelihood import compute_dtype, laid_out, reduced


def _blocks(logits: Tensor, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """logits [N, C, L, *spatial] in the dtype computed in; the levels [N, C, 1, *spatial], int64, and which are none."""
    channels = x.shape[1]
    blocks = logits.to(compute_dtype(logits.dtype)).unflatten(1, (channels, logits.shape[1] // channels))
    levels = x.long().unsqueeze(2)
    return blocks, levels, (levels < 0) | (levels >= blocks.shape[2])


def forward(
    logits: Tensor,  # [N, C * L, *spatial]
    x: Tensor,  # [N, C, *spatial], uint8 or int64
    reduction: str,
) -> Tensor:
    """The negative log-likelihood, [N] or a scalar."""
    blocks, levels, wrong = _blocks(logits, x)
    log_p = blocks.log_softmax(2).gather(2, levels.clamp(0, blocks.shape[2] - 1))
    return reduced(-log_p.masked_fill(wrong, math.nan), reduction)


def backward(
    grad_nll: Tensor,  # [N] or []
    logits: Tensor,  # [N, C * L, *spatial]
    x: Tensor,  # [N, C, *spatial]
    reduction: str,
) -> Tensor:
    """The gradient of logits."""
    blocks, levels, wrong = _blocks(logits, x)
    each = torch.arange(blocks.shape[2], device=x.device).view(-1, *[1] * (blocks.dim() - 3))
    g = grad_nll / x.shape[0] if reduction == "batchmean" else grad_nll
    if reduction == "none":
        g = g.reshape(-1, *[1] * (blocks.dim() - 1))
    grad = g * (blocks.softmax(2) - (levels == each).to(blocks.dtype)).masked_fill(wrong, math.nan)
    return laid_out(grad.to(logits.dtype).reshape(logits.shape), logits)
