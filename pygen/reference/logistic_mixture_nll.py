"""The discretised logistic mixture likelihood in plain PyTorch (Salimans et al. 2017, "PixelCNN++", equations 1 to 3; nats).

A level x of 0 .. L-1 stands at v = 2 x / (L - 1) - 1 and owns the bin [v - h, v + h], h = 1 / (L - 1); the outer two bins are
open. With a = (v + h - m) / s and b = (v - h - m) / s, a component of mean m and scale s gives the level

    log p = log sigma(a) + log sigma(-b) + log(1 - e^(b - a));    log sigma(a) at 0;    log sigma(-b) at L - 1

which is exact in the tails and for any scale, where a difference of sigmoids is 0 and the density at the centre merely close.
b - a = -2 h / s does not depend on the mean. Of one pixel's channels the mixture is -logsumexp_k(log_softmax(logits)_k +
sum_c log p_ck).

params holds, along dim 1 (OpenAI's order): the logits of the K components, then for each image channel K means, K log scales and,
where there are three channels, K coefficients. With red and green as observed and t_c = tanh(coefficients of channel c)

    mean_green = m_1 + t_0 red,    mean_blue = m_2 + t_1 red + t_2 green.

`forward` differentiates by autograd; `backward` is the closed form, itself differentiable, so it serves second order. Both
compute in float32 (float64 for float64) and round once.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from pygen.reference._likelihood import compute_dtype, laid_out, reduced


def params_per_component(channels: int) -> int:
    """How many numbers of a pixel describe one component: a logit; means, log scales and coefficients for each channel."""
    return 3 if channels == 1 else 10


def _parts(params: Tensor, channels: int) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """logits [N, 1, *spatial, K]; means, log scales, coefficients (None for one channel) [N, C, *spatial, K], as they are."""
    count = params.shape[1] // params_per_component(channels)
    last = params.movedim(1, -1)
    logits = last[..., :count].unsqueeze(1)
    blocks = last[..., count:].unflatten(-1, (channels, 2 if channels == 1 else 3, count)).movedim(-3, 1)
    return logits, blocks[..., 0, :], blocks[..., 1, :], None if channels == 1 else blocks[..., 2, :]


def _coupled(means: Tensor, tanhs: Tensor | None, x_scaled: Tensor) -> Tensor:
    """The means of green and blue after what they take from the channels before. All [N, C, *spatial, K or 1]."""
    if tanhs is None:
        return means
    red, green = x_scaled[:, 0], x_scaled[:, 1]
    return torch.stack(
        (
            means[:, 0],
            means[:, 1] + tanhs[:, 0] * red,
            means[:, 2] + tanhs[:, 1] * red + tanhs[:, 2] * green,
        ),
        dim=1,
    )


def components(
    params: Tensor,  # [N, P, *spatial]
    x_scaled: Tensor,  # [N, C, *spatial], levels scaled to [-1, 1], of params' dtype
    *,
    min_log_scale: float = -7.0,
) -> tuple[Tensor, Tensor, Tensor]:
    """(log weights [N, 1, *spatial, K], coupled means and clamped log scales [N, C, *spatial, K]).

    Means of a channel depend on x_scaled of the channels before it alone.
    """
    logits, means, log_scales, coefficients = _parts(params, x_scaled.shape[1])
    tanhs = None if coefficients is None else coefficients.tanh()
    means = _coupled(means, tanhs, x_scaled.unsqueeze(-1))
    return logits.log_softmax(-1), means, log_scales.clamp(min=min_log_scale)


def scale_levels(levels: Tensor, num_levels: int, dtype: torch.dtype) -> Tensor:
    """2 x / (L - 1) - 1 with one rounding; NaN of what is no level."""
    levels = levels.long()  # in uint8 256 would be 0
    scaled = (2 * levels - (num_levels - 1)).to(dtype) / (num_levels - 1)
    return scaled.masked_fill((levels < 0) | (levels >= num_levels), math.nan)


def _edges(levels: Tensor, num_levels: int, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Upper and lower end of each level's bin: (2 x - (L - 1) +- 1) / (L - 1), the same number for neighbours."""
    levels = levels.long()
    twice = 2 * levels - (num_levels - 1)
    wrong = (levels < 0) | (levels >= num_levels)
    upper, lower = (((twice + side).to(dtype) / (num_levels - 1)).masked_fill(wrong, math.nan) for side in (1, -1))
    return upper, lower


def _log1mexp(width: Tensor, log_width: Tensor) -> Tensor:
    """log(1 - e^-width). Each branch sees numbers that it can be differentiated at."""
    narrow = width.clamp(torch.finfo(width.dtype).eps, 1)
    small = log_width + (-torch.expm1(-narrow) / narrow).log()
    return torch.where(width < 1, small, torch.log1p(-torch.exp(-width.clamp(min=1))))


def log_probs(
    means: Tensor,  # [..., K]
    log_scales: Tensor,  # as means
    levels: Tensor,  # int64, broadcasts to means
    num_levels: int,
) -> Tensor:
    """The log-probability of each level in each component, exact everywhere; like means. NaN of what is no level."""
    inverse = torch.exp(-log_scales)
    upper, lower = _edges(levels, num_levels, means.dtype)
    above = F.logsigmoid((upper - means) * inverse)
    below = F.logsigmoid((means - lower) * inverse)
    width = 2 / (num_levels - 1)
    inside = _log1mexp(width * inverse, math.log(width) - log_scales)
    first, last = levels == 0, levels == num_levels - 1
    return (
        above.masked_fill(last, 0)
        + below.masked_fill(first, 0)
        + inside.masked_fill(first | last, 0)
    )  # fmt: skip


def _joint(log_weights: Tensor, log_p: Tensor) -> Tensor:
    """log of weight times probability of a pixel's channels, [N, *spatial, K]."""
    return log_weights.squeeze(1) + log_p.sum(1)


def forward(
    params: Tensor,  # [N, P, *spatial]
    x: Tensor,  # [N, C, *spatial], uint8 or int64
    num_levels: int,
    min_log_scale: float,
    reduction: str,
) -> Tensor:
    """The negative log-likelihood, [N] or a scalar."""
    wide = compute_dtype(params.dtype)
    levels = x.long()
    scaled = scale_levels(levels, num_levels, wide)
    log_weights, means, log_scales = components(params.to(wide), scaled, min_log_scale=min_log_scale)
    log_p = log_probs(means, log_scales, levels.unsqueeze(-1), num_levels)
    nll = -_joint(log_weights, log_p).logsumexp(-1)
    return reduced(nll, reduction)


def backward(
    grad_nll: Tensor,  # [N] or []
    params: Tensor,  # [N, P, *spatial]
    x: Tensor,  # [N, C, *spatial]
    num_levels: int,
    min_log_scale: float,
    reduction: str,
) -> Tensor:
    """The gradient of params."""
    wide = compute_dtype(params.dtype)
    levels, channels = x.long().unsqueeze(-1), x.shape[1]
    scaled = scale_levels(levels, num_levels, wide)
    logits, raw_means, raw_scales, coefficients = _parts(params.to(wide), channels)
    tanhs = None if coefficients is None else coefficients.tanh()
    means, log_scales = _coupled(raw_means, tanhs, scaled), raw_scales.clamp(min=min_log_scale)
    joint = _joint(logits.log_softmax(-1), log_probs(means, log_scales, levels, num_levels))
    posterior = joint.softmax(-1).unsqueeze(1)

    inverse = torch.exp(-log_scales)
    upper, lower = _edges(levels, num_levels, wide)
    a, b = (upper - means) * inverse, (lower - means) * inverse
    first, last = levels == 0, levels == num_levels - 1
    above, below = torch.sigmoid(-a).masked_fill(last, 0), torch.sigmoid(b).masked_fill(first, 0)
    width = (2 / (num_levels - 1) * inverse).clamp(min=torch.finfo(wide).eps)
    inside = (width * torch.exp(-width) / -torch.expm1(-width)).masked_fill(first | last, 0)

    g = grad_nll / x.shape[0] if reduction == "batchmean" else grad_nll
    if reduction == "none":
        g = g.reshape(-1, *[1] * (x.dim()))
    to_logits = g * (logits.softmax(-1) - posterior)
    to_means = g * posterior * inverse * (above - below)
    to_scales = (g * posterior * (a * above - b * below + inside)).masked_fill(raw_scales < min_log_scale, 0)
    blocks = [to_means, to_scales]
    if tanhs is not None:
        red, green = scaled[:, 0], scaled[:, 1]
        through = torch.stack((to_means[:, 1] * red, to_means[:, 2] * red, to_means[:, 2] * green), dim=1)
        blocks.append(through * (1 - tanhs.square()))
    stacked = torch.stack(blocks, dim=-2).movedim(1, -3)  # [N, *spatial, C, 2 or 3, K]
    stacked = stacked.reshape(*stacked.shape[:-3], params.shape[1] - logits.shape[-1])
    grad = torch.cat((to_logits.squeeze(1), stacked), dim=-1).movedim(-1, 1)
    return laid_out(grad.to(params.dtype), params)
