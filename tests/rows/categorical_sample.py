"""The row of categorical_sample, and its rule of decision: each level inverts the distribution function at its own number."""

import math
import random
from collections.abc import Mapping

import torch
from layouts import fuzz_shape
from registry import Op, Sample
from sampler_checks import ROUNDING, assert_inverts, chances_of, fuzz_options, uniforms
from torch import Tensor

from pygen._noise import DOMAINS
from pygen.functional import categorical_sample
from pygen.reference import categorical_sample as reference


def judge(t: Mapping[str, Tensor], options: Mapping, levels: Tensor) -> None:
    logits, channels = t["logits"], options.get("channels", 1)
    n, numbers, *spatial = logits.shape
    count, places = numbers // channels, math.prod(spatial)
    assert levels.shape == (n, channels, *spatial)
    assert levels.dtype == (torch.uint8 if count <= 256 else torch.int64)
    blocks = logits.cpu().double().reshape(n, channels, count, places).transpose(2, 3)
    u = uniforms(n, places, channels, options["seed"], DOMAINS["categorical_sample"])
    chances = chances_of(blocks, options.get("temperature", 1.0))
    assert_inverts(levels.cpu().reshape(n, channels, places), chances, u, ROUNDING[logits.dtype])


def composite(t: Mapping[str, Tensor], options: Mapping) -> tuple[Tensor]:
    given = (options.get("channels", 1), options.get("temperature", 1.0))
    return (reference.forward(t["logits"], torch.tensor(options["seed"]), *given),)


def samples() -> list[Sample]:
    g = torch.Generator().manual_seed(5)
    return [
        Sample(name, {"logits": torch.randn(shape, generator=g, dtype=torch.float64)}, {"channels": channels})
        for name, shape, channels in (
            ("odd everything", (3, 15, 5, 3), 3),
            ("rows of few levels", (331, 3), 1),
            ("rows of levels", (5, 47), 1),
            ("blocks of positions", (1, 3 * 5, 700), 3),
            ("levels of several tiles", (2, 2500, 5), 1),
            ("empty", (2, 6, 0), 2),
        )
    ]


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    channels = rng.choice((1, 1, 1, 2, 3, 5, 33))
    levels = rng.choice((2, 3, 5, 8, 16, 17, 32, 33, 65, 129, 255, 256, 257, 300, 1025))
    n, *spatial = fuzz_shape(rng, (1, 4), max(2, 30_000 // (channels * levels)))
    return {"logits": (n, channels * levels, *spatial)}, {"channels": channels} | fuzz_options(rng)


ROWS = [
    Op(
        name="categorical_sample",
        outputs=("levels",),
        differentiable=(),
        call=lambda t, options, backend: (categorical_sample(**t, **{"backend": backend} | options),),
        composite=composite,
        samples=samples,
        errors=list,
        options={"temperature": (0.5, 2.0), "channels": (1, 3)},
        seeded=True,
        fuzz=fuzz,
        judge=judge,
    )
]
