"""The rows of discriminator_loss and generator_loss: once reduced to a number, once as terms."""

import random

import numpy as np
import torch
from layouts import SHAPES, fuzz_shape
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen import nn as pnn
from pygen._gan_terms import RELATIVISTIC
from pygen.functional import discriminator_loss, generator_loss

LOGITS = ("real", "fake")


def logits(shape: tuple[int, ...], fake_shape: tuple[int, ...] | None = None, seed: int = 0) -> dict[str, Tensor]:
    """Of both signs, some beyond the hinge; none on it, where the composite in a narrow dtype would be."""
    g = torch.Generator().manual_seed(seed)
    shapes = (shape, shape if fake_shape is None else fake_shape)
    return {n: torch.randn(s, generator=g, dtype=torch.float64) * 2 + 0.3 for n, s in zip(LOGITS, shapes, strict=True)}


def sp(x: Tensor) -> Tensor:
    return torch.logaddexp(x, torch.zeros_like(x))


def discriminator_terms(
    r: Tensor, f: Tensor, kind: str = "nonsaturating", label_smoothing: float = 0.0
) -> list[Tensor]:
    """The formulas of the design, as they stand there."""
    s = label_smoothing
    return {
        "minimax": lambda: [(1 - s) * sp(-r) + s * sp(r), sp(f)],
        "nonsaturating": lambda: [(1 - s) * sp(-r) + s * sp(r), sp(f)],
        "hinge": lambda: [torch.relu(1 - r), torch.relu(1 + f)],
        "least_squares": lambda: [(r - (1 - s)) ** 2, f**2],
        "wasserstein": lambda: [-r, f * 1],
        "relativistic": lambda: [sp(-(r - f))],
        "relativistic_average": lambda: [sp(-(r - f.mean())), sp(f - r.mean())],
    }[kind]()


def generator_terms(r: Tensor | None, f: Tensor, kind: str = "nonsaturating") -> list[Tensor]:
    return {
        "minimax": lambda: [-sp(f)],
        "nonsaturating": lambda: [sp(-f)],
        "hinge": lambda: [-f],
        "least_squares": lambda: [(f - 1) ** 2],
        "wasserstein": lambda: [-f],
        "relativistic": lambda: [sp(-(f - r))],
        "relativistic_average": lambda: [sp(r - f.mean()), sp(-(f - r.mean()))],
    }[kind]()


def reduced(terms: list[Tensor], reduction: str, scale: float) -> tuple[Tensor, ...]:
    if reduction == "none":
        return tuple(scale * t for t in terms)
    return (scale * sum(t.mean() if reduction == "mean" else t.sum() for t in terms),)


def composite_of(player: str, default_reduction: str):
    def composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor, ...]:
        options = dict(options)
        reduction, scale = options.pop("reduction", default_reduction), options.pop("scale", 1.0)
        terms = discriminator_terms if player == "discriminator" else generator_terms
        return reduced(terms(t.get("real"), t["fake"], **options), reduction, scale)

    return composite


def call_of(function, default_reduction: str):
    def call(tensors: dict, options: dict, backend: str | None) -> tuple[Tensor, ...]:
        out = function(**tensors, **{"backend": backend, "reduction": default_reduction} | options)
        return out if isinstance(out, tuple) else (out,)

    return call


def samples(reduction: str) -> list[Sample]:
    empty = (SHAPES["empty batch"], SHAPES["empty inner dim"])
    unequal = {} if reduction == "none" else {"scale": -0.5}
    block = (2048,)
    return [
        Sample("one element", logits(SHAPES["one element"]), {"kind": "minimax"}),
        Sample("odd everything", logits(SHAPES["odd everything"]), {"scale": 1.5}),
        Sample("smoothed, one block", logits(block, (5, 7)), {"label_smoothing": 0.1, "kind": "minimax"}, small=False),
        Sample("hinge, a block plus one", logits((2049,), (3, 11)), {"kind": "hinge"} | unequal),
        Sample("narrow rows", logits((331, 3), (47,)), {"kind": "least_squares", "label_smoothing": 0.25}),
        Sample("wide", logits((3, 10_001)), {"kind": "relativistic_average"}, small=False),
        # Means far apart: of nearly equal ones the difference would have no digits left in any precision.
        Sample(
            "wasserstein", {"real": logits((9,))["real"] - 4, "fake": logits((2, 4))["fake"]}, {"kind": "wasserstein"}
        ),
        Sample("empty", logits(*empty), {"reduction": "none" if reduction == "none" else "sum"}),
    ]


def generator_samples() -> list[Sample]:
    odd = logits(SHAPES["odd everything"])
    only_fake = lambda *shape: {"fake": logits(shape)["fake"]}  # noqa: E731
    return [
        Sample("odd everything", odd, {"kind": "relativistic_average", "scale": 2.0}),
        Sample("relativistic", logits((2049,)), {"kind": "relativistic"}),
        Sample("unequal counts", logits((5, 3), (47,)), {"kind": "relativistic_average"}),
        Sample("narrow rows", only_fake(331, 3), {"kind": "nonsaturating"}),
        Sample("one element", only_fake(1, 1), {"kind": "minimax", "scale": 3.0}),
        Sample("hinge", only_fake(7, 5), {"kind": "hinge", "reduction": "sum"}),
        Sample("least squares, wide", only_fake(30_003), {"kind": "least_squares"}, small=False),
        Sample("empty", only_fake(0, 3), {"kind": "nonsaturating", "reduction": "sum"}),
    ]


def registered_of(player: str, default_reduction: str):
    def registered(sample: Sample, dtype: torch.dtype) -> list:
        o = sample.options
        tensors = sample.cast(dtype)
        kind, reduction = o.get("kind", "nonsaturating"), o.get("reduction", default_reduction)
        used = LOGITS if player == "discriminator" or kind in RELATIVISTIC else ("fake",)
        lists = [[tensors[n]] if n in tensors and n in used else [] for n in LOGITS]
        smoothing, scale = o.get("label_smoothing", 0.0), o.get("scale", 1.0)
        options = (kind, player, smoothing, scale, reduction)
        leaves = [[t.clone().requires_grad_() for t in side] for side in lists]
        ops = torch.ops.pygen
        with_stats = (
            player == "discriminator" and sample.name != "empty"
        )  # of nothing they are NaN, which opcheck compares
        outputs = ops.gan_loss(*lists, *options, False, "auto")
        reused = outputs.pop() if kind == "relativistic_average" else None
        needs = [True] * (len(lists[0]) + len(lists[1]))
        grads = [torch.ones_like(t) for t in outputs]
        return [
            (ops.gan_loss.default, (*leaves, *options, with_stats, "auto")),
            (ops.gan_loss_backward.default, (grads, *lists, reused, *options, needs, "auto")),
        ]

    return registered


def errors_of(function, base: dict):
    x = torch.zeros(3, 4)
    discriminator = function is discriminator_loss
    other = "real" if discriminator else "fake"

    def error(name: str, cls: type[Exception], match: str, tensors: dict | None = None, **options) -> ErrorInput:
        return ErrorInput(name, base | (tensors or {}), options, cls, match)

    both = [
        error("fake array", TypeError, r"fake: expected a torch.Tensor or a list of them, got ndarray",
              {"fake": np.zeros(3)}),
        error("fake list of numbers", TypeError, r"fake\[0\]: expected a torch.Tensor, got float", {"fake": [1.0]}),
        error("fake empty list", ValueError, r"fake: expected at least one tensor, got an empty list", {"fake": []}),
        error("int", TypeError, rf"{other}: expected float64, .* got torch.int64",
              {n: t.long() for n, t in base.items()}),
        error("sparse", TypeError, rf"{other}: expected a strided .* got torch.sparse_coo",
              {n: t.to_sparse() for n, t in base.items()}),
        error("kind", ValueError, r"kind: expected one of minimax, .*relativistic_average, got 'ls'$", kind="ls"),
        error("kind elsewhere", ValueError, r"got 'lsgan', which is 'least_squares' here", kind="lsgan"),
        error("kind spelt", ValueError, r"got 'Non-Saturating', which is 'nonsaturating' here", kind="Non-Saturating"),
        error("kind in capitals", ValueError, r"got 'LSGAN', which is 'least_squares' here", kind="LSGAN"),
        error("kind tensor", ValueError, r"got float32 \[3\] on cpu", kind=torch.zeros(3)),
        error("kind array", ValueError, r"kind: expected one of .* got array", kind=np.zeros(3)),
        error("scale beyond float", ValueError, r"scale: expected a finite number, got 1000", scale=10**400),
        error("kind None", ValueError, r"kind: expected one of .* got None", kind=None),
        error("reduction", ValueError, r"reduction: expected 'mean', 'sum' or 'none', got 'batchmean'",
              reduction="batchmean"),
        error("scale text", TypeError, r"scale: expected a number, got str", scale="1"),
        error("scale bool", TypeError, r"scale: expected a number, got bool", scale=True),
        error("scale nan", ValueError, r"scale: expected a finite number, got nan", scale=float("nan")),
        error("empty mean", ValueError, r"expected at least one logit to take the mean of .* got \[0, 4\]",
              {n: t[:0] for n, t in base.items()}),
        error("backend name", ValueError, r"backend: expected one of reference, .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run", backend="cuda"),
        error("relativistic shapes", ValueError, r"fake: expected \[3, 4\], the shape of real, .* got \[4, 3\]",
              {"real": x, "fake": x.view(4, 3)}, kind="relativistic"),
        error("relativistic average of nothing", ValueError, r"fake: expected at least one logit, as real is compared",
              {"real": x, "fake": x[:0]}, kind="relativistic_average", reduction="sum"),
    ]  # fmt: skip
    if not discriminator:
        return [
            *both,
            error("real missing", ValueError, r"real: expected the real logits, as kind 'relativistic' compares",
                  kind="relativistic"),
            error("real unused", ValueError, r"real: expected None, as kind 'hinge' does not use real logits",
                  {"real": x}, kind="hinge"),
        ]  # fmt: skip
    return [
        *both,
        error("fake dtype", TypeError, r"fake: expected torch.float32, the dtype of real, got torch.float64",
              {"fake": x.double()}),
        error("fake device", ValueError, r"fake: expected a tensor on cpu, where real is, got meta",
              {"fake": x.to("meta")}),
        error("list and tensor", ValueError, r"fake: expected a list of 2 tensors, as real is, got one tensor",
              {"real": [x, x]}),
        error("tensor and list", ValueError, r"fake: expected one tensor, as real is, got a list of 2",
              {"fake": [x, x]}),
        error("lists of different lengths", ValueError, r"fake: expected a list of 2 tensors, as real is, got a list of 1",
              {"real": [x, x], "fake": [x]}),
        error("empty in a list", ValueError, r"real\[1\]: expected at least one logit to take the mean of",
              {"real": [x, x[:0]], "fake": [x, x]}),
        error("smoothing text", TypeError, r"label_smoothing: expected a number, got str", label_smoothing="0.1"),
        error("smoothing half", ValueError, r"label_smoothing: expected 0 <= label_smoothing < 0.5, got 0.5",
              label_smoothing=0.5),
        error("smoothing negative", ValueError, r"label_smoothing: expected 0 <= .* got -0.1", label_smoothing=-0.1),
        error("smoothing of hinge", ValueError, r"label_smoothing: expected 0 for kind 'hinge' \(only minimax, .* got 0.1",
              label_smoothing=0.1, kind="hinge"),
    ]  # fmt: skip


def fuzz_of(player: str, default_reduction: str):
    smooth = ("minimax", "nonsaturating", "least_squares")
    kinds = (*smooth, "hinge", "wasserstein", "relativistic", "relativistic_average")

    def fuzz(rng: random.Random) -> tuple[dict, dict]:
        kind, real = rng.choice(kinds), fuzz_shape(rng, (0, 4))
        fake = real if kind == "relativistic" or rng.random() < 0.4 else fuzz_shape(rng, (0, 4))
        options = {"kind": kind, "scale": rng.choice((1.0, -0.5, 3, 0.0))}
        empty = 0 in real + fake
        if empty and kind == "relativistic_average":
            real = fake = (3,)
        elif default_reduction != "none":
            options["reduction"] = "sum" if empty else rng.choice(("mean", "sum"))
        if player == "discriminator":
            options["label_smoothing"] = rng.choice((0.0, 0.1, 0.49)) if kind in smooth else 0.0
            return {"real": real, "fake": fake}, options
        return ({"real": real} if kind in RELATIVISTIC else {}) | {"fake": fake}, options

    return fuzz


def _row(function, player: str, reduction: str, outputs: tuple[str, ...], samples, base: dict, **extra) -> Op:
    return Op(
        name=function.__name__,
        outputs=outputs,
        differentiable=LOGITS,
        call=call_of(function, reduction),
        composite=composite_of(player, reduction),
        samples=samples,
        errors=lambda: errors_of(function, base) if reduction == "mean" else [],
        registered=registered_of(player, reduction),
        batched=frozenset(LOGITS),
        fuzz=fuzz_of(player, reduction),
        saved_extra=64,  # relativistic_average keeps its means and the sums of its slopes
        **extra,
    )


_zeros = {"real": torch.zeros(3, 4), "fake": torch.zeros(3, 4)}

ROWS = [
    _row(
        discriminator_loss, "discriminator", "mean", ("loss",), lambda: samples("mean"), _zeros,
        options={"kind": ("nonsaturating", "hinge"), "label_smoothing": (0.0, 0.1), "scale": (1.0, 2.0),
                 "reduction": ("mean", "sum")},
    ),
    _row(
        discriminator_loss, "discriminator", "none", ("real_terms", "fake_terms"), lambda: samples("none"), _zeros,
        elementwise=frozenset(("real_terms", "fake_terms")),
    ),
    _row(
        generator_loss, "generator", "mean", ("loss",), generator_samples, {"fake": _zeros["fake"]},
        modules={"GANLoss": lambda: (pnn.GANLoss("hinge"), (logits((3, 4))["real"].float(), True))},
        options={"kind": ("relativistic", "relativistic_average"), "scale": (1.0, 2.0), "reduction": ("mean", "sum")},
    ),
]  # fmt: skip
