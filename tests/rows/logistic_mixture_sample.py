"""The row of logistic_mixture_sample, and its rule of decision: of each pixel a component and the quantiles of its numbers."""

import math
import random
from collections.abc import Mapping

import torch
from layouts import fuzz_shape
from registry import Op, Sample
from sampler_checks import ROUNDING, chances_of, fuzz_options, uniforms
from support import compute_dtype
from torch import Tensor

from pygen._noise import DOMAINS
from pygen.functional import logistic_mixture_sample
from pygen.reference import logistic_mixture_sample as reference

OWN_EPS = 8.0  # of each number that a quantile is the sum of
DEFAULTS = {"channels": 3, "num_levels": 256, "min_log_scale": -7.0, "temperature": 1.0}


def judge(t: Mapping[str, Tensor], options: Mapping, levels: Tensor) -> None:
    """Some component whose share holds its number, but for rounding, gives all of a pixel's levels from the levels before."""
    params, given = t["params"], DEFAULTS | dict(options)
    channels, last = given["channels"], given["num_levels"] - 1
    n, numbers, *spatial = params.shape
    positions, each = math.prod(spatial), 3 if channels == 1 else 10
    assert levels.shape == (n, channels, *spatial)
    assert levels.dtype == (torch.uint8 if last < 256 else torch.int64)
    eps = OWN_EPS * torch.finfo(compute_dtype(params.dtype)).eps
    # [N, positions, K] of each number; the levels and uniform numbers [N, positions, 1]
    rows = params.cpu().double().reshape(n, each, numbers // each, positions).transpose(2, 3).unbind(1)
    got = levels.cpu().double().reshape(n, channels, positions, 1)
    u = uniforms(n, positions, 1 + channels, given["seed"], DOMAINS["logistic_mixture_sample"]).unsqueeze(3)
    chances, rounding = chances_of(rows[0], given["temperature"]), ROUNDING[params.dtype]
    up_to = chances.cumsum(-1)
    fits = (u[:, 0] <= up_to + rounding) & (u[:, 0] > up_to - chances - rounding) & (chances > 0)
    parts, before = (each - 1) // channels, (2 * got - last) / last
    for c in range(channels):
        mean = rows[1 + parts * c]
        moves = [rows[parts * (c - 1 + b) + 3].tanh() * before[:, b] for b in range(c)]
        log_scale = rows[2 + parts * c].clamp(min=given["min_log_scale"]) + math.log(given["temperature"])
        odds = (u[:, 1 + c] / (1 - u[:, 1 + c]).clamp(min=2.0**-25)).log()
        value = sum(moves, mean) + log_scale.exp() * odds
        size = mean.abs() + c + log_scale.exp() * (1 + odds.abs() * (1 + log_scale.abs()))
        off = torch.where(value.isfinite(), eps * (1 + size), 0.0)
        low, high = ((((value + s * off + 1) * (last / 2)).clamp(0, last)).round().nan_to_num(0) for s in (-1, 1))
        fits &= (low <= got[:, c]) & (got[:, c] <= high)
    logits = rows[0]
    nothing = (logits.isnan().any(2) | logits.amax(2).isinf()) if logits.numel() else fits.any(2)
    right = torch.where(nothing, (got == 0).all(1).squeeze(2), fits.any(2))
    assert right.all(), f"{(~right).sum()} of {right.numel()} pixels, first {(~right).nonzero()[0].tolist()}"


def composite(t: Mapping[str, Tensor], options: Mapping) -> tuple[Tensor]:
    rest = [{**DEFAULTS, **options}[k] for k in DEFAULTS]
    return (reference.forward(t["params"], torch.tensor(options["seed"]), *rest),)


def samples() -> list[Sample]:
    g = torch.Generator().manual_seed(5)
    return [
        Sample(name, {"params": torch.randn(shape, generator=g, dtype=torch.float64)}, {"channels": c, "num_levels": most})
        for name, c, most, shape in (
            ("odd everything", 3, 256, (3, 30, 5, 7)),
            ("grey", 1, 256, (3, 15, 9, 7)),
            ("blocks of pixels", 3, 256, (2, 100, 700)),
            ("images of one pixel", 3, 17, (70, 40)),
            ("many levels", 1, 65536, (2, 6, 33)),
            ("empty", 1, 256, (2, 6, 0)),
        )
    ]  # fmt: skip


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    channels, components = rng.choice((1, 3)), rng.choice((1, 2, 3, 4, 5, 7, 8, 10, 17))
    numbers = components * (3 if channels == 1 else 10)
    n, *spatial = fuzz_shape(rng, (1, 4), max(2, 12_000 // numbers))
    levels, least = rng.choice((2, 3, 17, 255, 256, 257, 65536)), rng.choice((-7.0, -80.0, -2.0, 0.5))
    options = {"channels": channels, "num_levels": levels, "min_log_scale": least}
    return {"params": (n, numbers, *spatial)}, options | fuzz_options(rng)


ROWS = [
    Op(
        name="logistic_mixture_sample",
        outputs=("levels",),
        differentiable=(),
        call=lambda t, options, backend: (logistic_mixture_sample(**t, **{"backend": backend} | options),),
        composite=composite,
        samples=samples,
        errors=list,
        options={"temperature": (0.5, 2.0), "channels": (1, 3), "num_levels": (17, 256)},
        seeded=True,
        fuzz=fuzz,
        judge=judge,
    )
]
