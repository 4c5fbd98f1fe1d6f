"""The row of bernoulli_sample, and its rule of decision: each bit against its own uniform number."""

import math
import random
from collections.abc import Mapping

import torch
from layouts import fuzz_shape
from registry import Op, Sample
from sampler_checks import ROUNDING, assert_inverts, fuzz_options, uniforms
from torch import Tensor

from pygen._noise import DOMAINS
from pygen.functional import bernoulli_sample
from pygen.reference import bernoulli_sample as reference


def judge(t: Mapping[str, Tensor], options: Mapping, x: Tensor) -> None:
    logits = t["logits"]
    assert x.shape == logits.shape and x.dtype == torch.uint8
    n, channels, *spatial = logits.shape if logits.dim() > 1 else (*logits.shape, 1)
    shape = (n, channels, math.prod(spatial))
    y = logits.cpu().double().reshape(shape) / options.get("temperature", 1.0)
    u = uniforms(n, shape[2], channels, options["seed"], DOMAINS["bernoulli_sample"])
    zero = torch.where(y.isnan(), 1.0, torch.sigmoid(-y))
    chances = torch.stack((zero, torch.where(y.isnan(), 0.0, torch.sigmoid(y))), -1)
    assert_inverts(x.cpu().reshape(shape), chances, u, ROUNDING[logits.dtype])


def composite(t: Mapping[str, Tensor], options: Mapping) -> tuple[Tensor]:
    return (reference.forward(t["logits"], torch.tensor(options["seed"]), options.get("temperature", 1.0)),)


def samples() -> list[Sample]:
    g = torch.Generator().manual_seed(5)
    shapes = {"odd everything": (7, 3, 5, 3), "one row": (331,), "blocks of positions": (2, 3, 700), "empty": (3, 0, 2)}
    return [Sample(k, {"logits": torch.randn(s, generator=g, dtype=torch.float64)}) for k, s in shapes.items()]


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    return {"logits": fuzz_shape(rng)}, fuzz_options(rng)


ROWS = [
    Op(
        name="bernoulli_sample",
        outputs=("x",),
        differentiable=(),
        call=lambda t, options, backend: (bernoulli_sample(**t, **{"backend": backend} | options),),
        composite=composite,
        samples=samples,
        errors=list,
        options={"temperature": (0.5, 2.0)},
        seeded=True,
        fuzz=fuzz,
        judge=judge,
    )
]
