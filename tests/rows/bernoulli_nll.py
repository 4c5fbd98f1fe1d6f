"""The rows of bernoulli_nll: levels, and targets between them, which are differentiated too."""

import math
import random
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from layouts import fuzz_shape
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen import nn as pnn
from pygen.functional import bernoulli_nll


def logits_of(shape: tuple[int, ...], seed: int = 5) -> Tensor:
    g = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=g, dtype=torch.float64) * 3


def levels(shape: tuple[int, ...], dtype: torch.dtype = torch.uint8) -> Tensor:
    g = torch.Generator().manual_seed(7)
    return torch.randint(0, 2, shape, generator=g).to(dtype)


def soft(shape: tuple[int, ...]) -> Tensor:
    """Targets in [0, 1], the ends among them."""
    g = torch.Generator().manual_seed(9)
    return (torch.rand(shape, generator=g, dtype=torch.float64) * 1.5 - 0.25).clamp(0, 1)


def tensors(shape: tuple[int, ...], x: Tensor | None = None) -> dict[str, Tensor]:
    return {"logits": logits_of(shape), "x": levels(shape) if x is None else x}


def composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor]:
    """As people write it."""
    logits, reduction = t["logits"], options.get("reduction", "batchmean")
    nll = F.binary_cross_entropy_with_logits(logits, t["x"].to(logits.dtype).expand(logits.shape), reduction="none")
    if reduction == "none":
        return (nll.reshape(len(nll), -1).sum(1) if nll.numel() else nll.new_zeros(len(nll)) + nll.sum(),)
    return (nll.sum() / len(nll) if reduction == "batchmean" else nll.sum(),)


def samples() -> list[Sample]:
    return [
        Sample("one element", tensors((1,))),
        Sample("odd everything", tensors((7, 3, 5, 3), levels((7, 3, 5, 3), torch.int64)), {"reduction": "none"}),
        Sample("narrow rows", tensors((331, 3)), {"reduction": "none"}),
        Sample("digits", tensors((3, 1, 28, 28), levels((28, 28))), {"reduction": "none"}, small=False),
        Sample("a block plus one", tensors((1, 2049)), {"reduction": "sum"}),
        Sample("wide", tensors((3, 5003), levels((3, 5003), torch.int64)), {"reduction": "none"}, small=False),
        Sample("empty batch", tensors((0, 5)), {"reduction": "sum"}),
        Sample("empty inner dim", tensors((3, 0, 2)), {"reduction": "none"}),
    ]


def soft_samples() -> list[Sample]:
    return [
        Sample("one element", tensors((1,), soft((1,)))),
        Sample("odd everything", tensors((7, 3, 5, 3), soft((3, 1, 3))), {"reduction": "none"}),
        Sample("narrow rows", tensors((331, 3), soft((331, 3))), {"reduction": "sum"}),
        Sample("one target", tensors((5, 300), soft((1,)))),
        Sample("a block plus one", tensors((1, 2049), soft((1, 2049)))),
        Sample("empty batch", tensors((0, 5), soft((1, 5))), {"reduction": "sum"}),
        Sample("empty inner dim", tensors((3, 0, 2), soft((3, 0, 2))), {"reduction": "none"}),
    ]


def more_samples(make: Callable[[tuple[int, ...]], Tensor] = levels) -> list[Sample]:
    """A large batch, and strides that say little."""
    big = {k: t.expand(65536, 1).contiguous() for k, t in tensors((1, 1), make((1, 1))).items()}
    odd = tensors((3, 2, 5, 3), make((3, 2, 5, 3)))
    n1hw = {k: t[:, :1].contiguous(memory_format=torch.channels_last) for k, t in odd.items()}
    last = {k: t.contiguous(memory_format=torch.channels_last) for k, t in odd.items()}
    turned = {k: t.transpose(0, -1).contiguous().transpose(0, -1) for k, t in odd.items()}
    mixed = {"logits": last["logits"], "x": odd["x"]}
    named = {"batch 65536": big, "N1HW": n1hw, "channels_last": last, "transposed": turned, "of two layouts": mixed}
    return [Sample(name, t, {}) for name, t in named.items()]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    t = sample.cast(dtype)
    logits, x = t["logits"].clone().requires_grad_(), t["x"]
    if x.is_floating_point():
        x = x.clone().requires_grad_()
    reduction = sample.options.get("reduction", "batchmean")
    shape = logits.shape[:1] if reduction == "none" else ()
    wide = torch.promote_types(dtype, torch.float32)
    grad = torch.linspace(0.5, 1.5, max(1, math.prod(shape)), dtype=wide)[: math.prod(shape)].view(shape)
    ops = torch.ops.pygen
    calls = [
        (ops.bernoulli_nll.default, (logits, x, reduction, "auto")),
        (ops.bernoulli_nll_backward.default, (grad.requires_grad_(), logits, x, reduction, "auto")),
    ]
    if x.is_floating_point():
        calls.append((ops.bernoulli_nll_backward_x.default, (grad, logits, x, reduction, "auto")))
    return calls


def errors() -> list[ErrorInput]:
    t, x = torch.zeros(2, 4, 3), torch.zeros(2, 4, 3, dtype=torch.int64)

    def error(name: str, kind: type[Exception], match: str, given: dict | None = None, **options: object) -> ErrorInput:
        return ErrorInput(name, {"logits": t, "x": x} | (given or {}), options, kind, match)

    allowed = r"x: expected torch.float32, the dtype of logits, or torch.bool, torch.uint8 or torch.int64, got "
    return [
        error("logits array", TypeError, r"logits: expected a torch.Tensor, got ndarray", {"logits": np.zeros((2, 4))}),
        error("logits int", TypeError, r"logits: expected float64, .* got torch.int64", {"logits": x}),
        error("logits sparse", TypeError, r"logits: expected a strided", {"logits": t.to_sparse()}),
        error("logits 0-dim", ValueError, r"logits: expected at least one dim, \[N, ...\], got a 0-dim", {"logits": t[0, 0, 0]}),
        error("x None", TypeError, r"x: expected a torch.Tensor, got NoneType", {"x": None}),
        error("x sparse", TypeError, r"x: expected a strided", {"x": x.to_sparse()}),
        error("x int32", TypeError, allowed + "torch.int32", {"x": x.int()}),
        error("x float64", TypeError, allowed + "torch.float64", {"x": t.double()}),
        error("x bfloat16", TypeError, allowed + "torch.bfloat16", {"x": t.bfloat16()}),
        error("x device", ValueError, r"x: expected a tensor on cpu, where logits is, got meta", {"x": x.to("meta")}),
        error("x larger", ValueError, r"x: expected a shape that broadcasts to \[1, 4, 3\], the shape of logits, got \[2, 4, 3\]",
              {"logits": t[:1]}),
        error("x dims", ValueError, r"x: expected a shape that broadcasts to .* got \[1, 2, 4, 3\]", {"x": x[None]}),
        error("x other", ValueError, r"x: expected a shape that broadcasts to .* got \[2, 3, 4\]", {"x": x.transpose(1, 2)}),
        error("reduction mean", ValueError, r"reduction: expected 'batchmean', 'none' or 'sum', got 'mean' \(", reduction="mean"),
        error("reduction None", ValueError, r"reduction: expected .* got None", reduction=None),
        error("backend name", ValueError, r"backend: expected one of .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run", backend="cuda"),
    ]  # fmt: skip


def _broadcasts(shape: tuple[int, ...], rng: random.Random) -> tuple[int, ...]:
    """A shape that broadcasts to it, mostly the same."""
    if rng.random() < 0.6:
        return shape
    return tuple(1 if rng.random() < 0.5 else n for n in shape[rng.randint(0, len(shape)) :])


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    shape = fuzz_shape(rng)
    reductions = ("none", "sum") if shape[0] == 0 else ("none", "sum", "batchmean")  # a mean over no samples is NaN
    return {"logits": shape, "x": _broadcasts(shape, rng)}, {"reduction": rng.choice(reductions)}


def _module():
    t = tensors((4, 3, 2))
    return pnn.BernoulliNLL(reduction="none"), (t["logits"].float(), t["x"])


def call(t: dict[str, Tensor], options: dict, backend: str | None) -> tuple[Tensor]:
    return (bernoulli_nll(**t, **{"backend": backend} | options),)


ROWS = [
    Op(
        name="bernoulli_nll",
        outputs=("nll",),
        differentiable=("logits",),
        call=call,
        composite=composite,
        samples=samples,
        errors=errors,
        options={"reduction": ("batchmean", "sum")},
        registered=registered,
        more_samples=more_samples,
        fuzz=fuzz,
        modules={"BernoulliNLL": _module},
        integers={"x": 2},
    ),
    Op(
        name="bernoulli_nll",
        outputs=("cross_entropy",),
        differentiable=("logits", "x"),
        call=call,
        composite=composite,
        samples=soft_samples,
        errors=lambda: [],
        options={"reduction": ("batchmean", "sum")},
        batched=frozenset({"logits"}),
        registered=registered,
        more_samples=lambda: more_samples(soft),
        fuzz=fuzz,
        finite=frozenset({"x"}),  # it lies in [0, 1]; beyond, formulas that agree on numbers differ in what is infinite
    ),
]
