"""The row of crf_sample, and its rule of decision: each tag inverts its own distribution function, given the tag after it."""

import random
from collections.abc import Mapping

import torch
from registry import Op, Sample
from sampler_checks import ROUNDING, assert_inverts, fuzz_options
from support import SEED, compute_dtype
from torch import Tensor

from pygen._noise import DOMAINS
from pygen.functional import crf_sample
from pygen.reference import crf as reference
from pygen.reference import noise
from rows.crf import draw_shapes, tensors

FLOATING = ("emissions", "transitions", "start", "end")


def judge(t: Mapping[str, Tensor], options: Mapping, tags: Tensor) -> None:
    """Tags [S, N, T] or [N, T]: -1 past the length, else each where the chances reach its number."""
    wide, temperature = compute_dtype(t["emissions"].dtype), options.get("temperature", 1.0)
    t = {name: v.cpu().double() / temperature if name in FLOATING else v.cpu() for name, v in t.items()}
    e, a = t["emissions"], t["transitions"]
    n, steps, k = e.shape
    samples = options.get("num_samples")
    assert tags.shape == ((n, steps) if samples is None else (samples, n, steps)) and tags.dtype == torch.int64
    tags = tags.cpu() if tags.dim() == 3 else tags.cpu().unsqueeze(0)
    lengths = t.get("lengths", torch.full((n,), steps))
    live = torch.arange(steps) < lengths.unsqueeze(1)
    assert ((tags >= 0) & (tags < k) == live).all() and (tags[:, ~live] == -1).all(), "no tag, or one too many"
    seed, count = torch.tensor(options.get("seed", SEED)), len(tags)
    u = noise.uniforms(n, steps, seed, DOMAINS["crf_sample"], samples=count).view(count, n, steps)
    # Sums of scores of a few tens are rounded within what ROUNDING says, of larger ones by the last bits of their size.
    size = max((float(t[name].abs().amax()) for name in FLOATING if name in t and t[name].numel()), default=0.0)
    off = ROUNDING[wide] + (8 * torch.finfo(wide).eps * size if 100 < size < float("inf") else 0.0)
    states = [t.get("start", e.new_zeros(k)) + e[:, 0]] if steps else []
    for step in range(1, steps):
        states.append((states[-1].unsqueeze(2) + a).logsumexp(1) + e[:, step])
    for step, state in enumerate(states):
        following = tags[:, :, min(step + 1, steps - 1)].clamp(min=0)
        last = (step + 1 == lengths).view(1, n, 1)
        chances = (state + torch.where(last, t.get("end", e.new_zeros(k)), a.t()[following])).softmax(2)
        here = live[:, step]
        assert_inverts(tags[:, here, step], chances[:, here], u[:, here, step].double(), off)


def call(t: dict[str, Tensor], options: dict, backend: str | None) -> tuple[Tensor]:
    return (crf_sample(**t, **{"backend": backend} | options),)


def composite(t: Mapping[str, Tensor], options: Mapping) -> tuple[Tensor]:
    samples, temperature = options.get("num_samples"), options.get("temperature", 1.0)
    given = [t[name] / temperature if name in t else None for name in FLOATING] + [t.get("lengths")]
    tags = reference.sample(*given, torch.tensor(options["seed"]), 1 if samples is None else samples)
    return (tags[0] if samples is None else tags,)


def samples() -> list[Sample]:
    names = {"odd everything": (5, 4, 3), "a block plus one": (17, 3, 7), "no steps": (3, 0, 2)}
    given = {name: {k: v for k, v in tensors(*shape).items() if k != "tags"} for name, shape in names.items()}
    given["odd everything"]["lengths"][:] = torch.tensor([4, 1, 3, 0, 4])  # the last tag of all is one
    return [Sample(name, t, {"num_samples": 3, "temperature": 0.5}) for name, t in given.items()]


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    options = fuzz_options(rng) | {"num_samples": rng.choice((None, 0, 1, 2, 3, 9))}
    return draw_shapes(rng), options


ROWS = [
    Op(
        name="crf_sample",
        outputs=("tags",),
        differentiable=(),
        call=call,
        composite=composite,
        samples=samples,
        errors=list,
        options={"temperature": (0.5, 2.0)},
        seeded=True,
        fuzz=fuzz,
        judge=judge,
        integers={"lengths": lambda shapes: shapes["emissions"][1] + 1},
        bytes=False,
        finite=frozenset(FLOATING),  # of NaN they are some tags; tests/test_crf_sample.py has what cannot come
    )
]
