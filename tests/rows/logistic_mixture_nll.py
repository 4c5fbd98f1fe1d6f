"""The row of logistic_mixture_nll."""

import math
import random

import numpy as np
import torch
import torch.nn.functional as F
from layouts import fuzz_size
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen import nn as pnn
from pygen.functional import logistic_mixture_nll


def params_of(n: int, channels: int, count: int, spatial: tuple[int, ...], seed: int = 3) -> Tensor:
    """Components as wide as an image and down to a twentieth of it, means inside its range and beyond. Narrower ones have no
    digits for the rule to count: rounding a level's distance by one part in 2^53 moves them by as many parts as they are
    narrow. test_logistic_mixture_nll.py has those."""
    g = torch.Generator().manual_seed(seed)
    each = 3 if channels == 1 else 10
    p = torch.randn((n, each * count, *spatial), generator=g, dtype=torch.float64)
    for c in range(channels):
        first = count * (1 + (each // channels) * c + 1)
        scales = p[:, first : first + count]
        scales.mul_(0.6).sub_(0.6)
    return p


def tensors(
    n: int, channels: int, count: int, spatial: tuple[int, ...], num_levels: int = 256, dtype: torch.dtype = torch.uint8
) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(11)
    drawn = torch.randint(-num_levels // 8, num_levels + num_levels // 8, (n, channels, *spatial), generator=g)
    return {
        "params": params_of(n, channels, count, spatial),
        "x": drawn.clamp(0, num_levels - 1).to(dtype),
    }


def log_mass(means: Tensor, log_scales: Tensor, x: Tensor, num_levels: int) -> Tensor:
    """One component and channel, by softplus: -sp(-a) - sp(b) + log(1 - e^-(a - b))."""
    inverse, steps = torch.exp(-log_scales), num_levels - 1
    above, below = (2 * x - steps + 1).to(means.dtype) / steps, (2 * x - steps - 1).to(means.dtype) / steps
    zero = torch.zeros_like(means)
    upper, lower = -torch.logaddexp(zero, (means - above) * inverse), -torch.logaddexp(zero, (below - means) * inverse)
    width = 2 / steps * inverse
    safe = width.clamp(1e-30, 1)
    narrow = (-torch.expm1(-safe) / safe).log() + math.log(2 / steps) - log_scales
    broad = torch.log1p(-torch.exp(-width.clamp(min=1)))
    inner = upper + lower + torch.where(width < 1, narrow, broad)
    return torch.where(x == 0, upper, torch.where(x == num_levels - 1, lower, inner))


def composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor]:
    """Component by component and channel by channel, as the formula reads."""
    p, x = t["params"], t["x"].long()
    levels, floor = options.get("num_levels", 256), options.get("min_log_scale", -7.0)
    channels = x.shape[1]
    k = p.shape[1] // (3 if channels == 1 else 10)
    rows = [
        p[:, i : i + k] for i in range(0, p.shape[1], k)
    ]  # logits, then means, log scales (and coefficients) of each
    v = [(2 * x[:, c : c + 1] - levels + 1).to(p.dtype) / (levels - 1) for c in range(channels)]
    per = 2 if channels == 1 else 3
    total = F.log_softmax(rows[0], dim=1)
    for c in range(channels):
        mean, log_scale = rows[1 + per * c], rows[2 + per * c].clamp(min=floor)
        if c == 1:
            mean = mean + rows[3].tanh() * v[0]
        if c == 2:
            mean = mean + rows[6].tanh() * v[0] + rows[9].tanh() * v[1]
        total = total + log_mass(mean, log_scale, x[:, c : c + 1], levels)
    nll = -total.logsumexp(1)
    reduction = options.get("reduction", "batchmean")
    if reduction == "none":
        return (nll.reshape(len(x), -1).sum(1) if nll.numel() else nll.new_zeros(len(x)) + nll.sum(),)
    return (nll.sum() / len(x) if reduction == "batchmean" else nll.sum(),)


def samples() -> list[Sample]:
    return [
        Sample("one element", tensors(1, 1, 1, (1,))),
        Sample("odd everything", tensors(3, 3, 3, (5, 3), dtype=torch.int64), {"reduction": "none"}),
        Sample("narrow rows", tensors(331, 1, 2, ()), {"reduction": "sum"}),
        Sample("colours", tensors(2, 3, 10, (9, 7)), {"min_log_scale": -1.25}),
        Sample("16 bits of sound", tensors(2, 1, 10, (61,), 65536, torch.int64), {"num_levels": 65536, "reduction": "none"}),
        Sample("a block plus one", tensors(1, 3, 2, (33, 31), 2), {"num_levels": 2}, small=False),
        Sample("empty batch", tensors(0, 3, 1, (2, 2)), {"reduction": "sum"}),
        Sample("no positions", tensors(3, 1, 2, (0, 2)), {"reduction": "none"}),
        Sample("tiny", tensors(2, 3, 2, (1, 2), 5, torch.int64), {"num_levels": 5, "min_log_scale": -1.0}),
    ]  # fmt: skip


def more_samples() -> list[Sample]:
    """A large batch, and strides that say little."""
    one = tensors(1, 1, 1, ())
    big = {k: t.expand(65536, -1).contiguous() for k, t in one.items()}
    odd, n1hw, nc11 = (tensors(3, c, 2, s) for c, s in ((3, (5, 3)), (1, (5, 3)), (3, (1, 1))))
    for t in (n1hw, nc11):
        t["params"] = t["params"].contiguous(memory_format=torch.channels_last)
        t["x"] = t["x"].contiguous(memory_format=torch.channels_last)
    last = {k: t.contiguous(memory_format=torch.channels_last) for k, t in odd.items()}
    turned = {k: t.transpose(0, -1).contiguous().transpose(0, -1) for k, t in odd.items()}
    named = {"batch 65536": big, "N1HW": n1hw, "NC11": nc11, "channels_last": last, "transposed": turned}
    return [Sample(name, t, {}) for name, t in named.items()]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    t = sample.cast(dtype)
    params, x = t["params"].clone().requires_grad_(), t["x"]
    reduction = sample.options.get("reduction", "batchmean")
    options = (sample.options.get("num_levels", 256), sample.options.get("min_log_scale", -7.0), reduction, "auto")
    wide = torch.promote_types(dtype, torch.float32)
    shape = params.shape[:1] if reduction == "none" else ()
    grad = (
        torch.linspace(0.5, 1.5, max(1, math.prod(shape)), dtype=wide)[: math.prod(shape)].view(shape).requires_grad_()
    )
    ops = torch.ops.pygen
    return [
        (ops.logistic_mixture_nll.default, (params, x, *options)),
        (ops.logistic_mixture_nll_backward.default, (grad, params, x, *options)),
    ]


def errors() -> list[ErrorInput]:
    p, x = torch.zeros(2, 20, 4, 3), torch.zeros(2, 3, 4, 3, dtype=torch.int64)
    wrong = x.clone()
    wrong[1, 2, 3, 2] = 256

    def error(name: str, kind: type[Exception], match: str, given: dict | None = None, **options: object) -> ErrorInput:
        return ErrorInput(name, {"params": p, "x": x} | (given or {}), options, kind, match)

    return [
        error("params array", TypeError, r"params: expected a torch.Tensor, got ndarray", {"params": np.zeros((2, 20))}),
        error("params int", TypeError, r"params: expected float64, .* got torch.int64", {"params": p.long()}),
        error("params sparse", TypeError, r"params: expected a strided", {"params": p.to_sparse()}),
        error("params dims", ValueError, r"params: expected at least two dims \[N, P, ...\], got \[20\]",
              {"params": p[0, :, 0, 0]}),
        error("x None", TypeError, r"x: expected a torch.Tensor, got NoneType", {"x": None}),
        error("x float", TypeError, r"x: expected levels 0 .. 255 as torch.uint8 or torch.int64, got torch.float32 \(.*x \* 255",
              {"x": x.float()}),
        error("x int32", TypeError, r"x: expected levels 0 .. 255 as .* got torch.int32", {"x": x.int()}),
        error("x bool", TypeError, r"x: expected levels 0 .. 255 as .* got torch.bool", {"x": x.bool()}),
        error("x device", ValueError, r"x: expected a tensor on cpu, where params is, got meta", {"x": x.to("meta")}),
        error("x batch", ValueError, r"x: expected shape \[2, C, 4, 3\], of params \[2, 20, 4, 3\], got \[1, 3, 4, 3\]",
              {"x": x[:1]}),
        error("x positions", ValueError, r"x: expected shape \[2, C, 4, 3\], .* got \[2, 3, 3, 4\]", {"x": x.transpose(2, 3)}),
        error("x dims", ValueError, r"x: expected shape \[2, C, 4, 3\], .* got \[2, 3, 12\]", {"x": x.flatten(2)}),
        error("two channels", ValueError, r"x: expected 1 or 3 channels, got 2 in \[2, 2, 4, 3\]", {"x": x[:, :2]}),
        error("no channels", ValueError, r"x: expected 1 or 3 channels, got 0", {"x": x[:, :0]}),
        error("P of colours", ValueError, r"params: expected a multiple of 10 numbers a pixel, .* got 19 in \[2, 19, 4, 3\]",
              {"params": p[:, 1:]}),
        error("P of grey", ValueError, r"params: expected a multiple of 3 numbers a pixel, .* got 20", {"x": x[:, :1]}),
        error("P zero", ValueError, r"params: expected a multiple of 10 numbers a pixel, .* got 0", {"params": p[:, :0]}),
        error("levels one", ValueError, r"num_levels: expected 2 <= num_levels <= 65536, got 1", num_levels=1),
        error("levels many", ValueError, r"num_levels: expected 2 <= num_levels <= 65536, got 65537", num_levels=65537),
        error("levels float", TypeError, r"num_levels: expected an int, got float", num_levels=256.0),
        error("levels bool", TypeError, r"num_levels: expected an int, got bool", num_levels=True),
        error("floor text", TypeError, r"min_log_scale: expected a number, got str", min_log_scale="-7"),
        error("floor bool", TypeError, r"min_log_scale: expected a number, got bool", min_log_scale=False),
        error("floor nan", ValueError, r"min_log_scale: expected -80 <= min_log_scale <= 80, got nan", min_log_scale=math.nan),
        error("floor low", ValueError, r"min_log_scale: expected -80 <= min_log_scale <= 80, got -80.5", min_log_scale=-80.5),
        error("floor high", ValueError, r"min_log_scale: expected .* got 1000", min_log_scale=10**400),
        error("reduction mean", ValueError, r"reduction: expected 'batchmean', 'none' or 'sum', got 'mean' \(", reduction="mean"),
        error("reduction None", ValueError, r"reduction: expected .* got None", reduction=None),
        error("backend name", ValueError, r"backend: expected one of .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run", backend="cuda"),
    ]  # fmt: skip


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    channels, count = rng.choice((1, 3)), rng.choice((1, 2, 3, 5, 10, 17))
    each = 3 if channels == 1 else 10
    left = max(1, 4000 // (each * count))
    n = fuzz_size(rng, max(1, min(40, left)))
    spatial = []
    left //= max(n, 1)
    for _ in range(rng.randint(0, 3)):
        spatial.append(fuzz_size(rng, max(1, left)))
        left //= max(spatial[-1], 1)
    reductions = ("none", "sum") if n == 0 else ("none", "sum", "batchmean")  # a mean over no samples is NaN
    options = {
        "num_levels": rng.choice((2, 3, 5, 16, 256, 256, 65536)),
        "min_log_scale": rng.choice((-7.0, -7.0, -3, 0.5)),
        "reduction": rng.choice(reductions),
    }
    return {"params": (n, each * count, *spatial), "x": (n, channels, *spatial)}, options


def _module():
    t = tensors(4, 3, 2, (3,), 16)
    return pnn.LogisticMixtureNLL(num_levels=16, reduction="none"), (t["params"].float(), t["x"])


ROWS = [
    Op(
        name="logistic_mixture_nll",
        outputs=("nll",),
        differentiable=("params",),
        call=lambda t, options, backend: (logistic_mixture_nll(**t, **{"backend": backend} | options),),
        composite=composite,
        samples=samples,
        errors=errors,
        options={"num_levels": (256, 300), "min_log_scale": (-7.0, -0.5), "reduction": ("batchmean", "sum")},
        batched=frozenset({"params", "x"}),
        registered=registered,
        more_samples=more_samples,
        fuzz=fuzz,
        modules={"LogisticMixtureNLL": _module},
        double_eps=64.0,
        # What is multiplied by softmaxes of log-probabilities has as few digits as those have large numbers before the point.
        gentle={"params": lambda shape: 0.7},
        integers={"x": "num_levels"},
    )
]
