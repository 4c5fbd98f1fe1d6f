"""The row of am_softmax."""

import math
import random
from collections.abc import Mapping

import numpy as np
import torch
import torch.nn.functional as F
from layouts import fuzz_size
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen import nn as pnn
from pygen.functional import am_softmax


def tensors(n: int, features: int, classes: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(11)
    input = 2 * torch.randn((n, features), generator=g, dtype=torch.float64)
    weight = torch.randn((classes, features), generator=g, dtype=torch.float64)
    return {"input": input, "weight": weight, "target": torch.randint(classes, (n,), generator=g)}


def composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor]:
    """Cosines, the margin by index, the sum over what is not the target."""
    x, w, target = t["input"], t["weight"], t["target"]
    cosines = F.normalize(x) @ F.normalize(w).t()
    angular = options.get("angular_margin", 0.0)
    if angular:  # by the angle, its cosine kept off 1
        of_target = cosines.gather(1, target.unsqueeze(1))
        wider = torch.cos(torch.acos(of_target.clamp(-1 + 1e-6, 1 - 1e-6)) + angular)
        wider = torch.where(of_target > -math.cos(angular), wider, of_target - angular * math.sin(angular))
        cosines = cosines.scatter(1, target.unsqueeze(1), wider)
    margins = torch.zeros_like(cosines).scatter(1, target.unsqueeze(1), options.get("margin", 0.35))
    logits = options.get("scale", 30.0) * (cosines - margins)
    beyond = logits - logits.gather(1, target.unsqueeze(1))  # 70 at most, of a scale of 30
    hot = F.one_hot(target, len(w)).bool()
    nll = beyond.exp().masked_fill(hot, 0).sum(1).log1p()  # a sample that is all but certain keeps its digits
    reduction = options.get("reduction", "batchmean")
    return (nll if reduction == "none" else nll.sum() / len(x) if reduction == "batchmean" else nll.sum(),)


def samples() -> list[Sample]:
    return [
        Sample("one element", tensors(1, 1, 1)),
        Sample("odd everything", tensors(7, 13, 33), {"reduction": "none"}),
        Sample("narrow rows", tensors(67, 3, 5), {"reduction": "sum"}),
        Sample("wider angles", tensors(7, 13, 33), {"angular_margin": 0.5, "margin": 0.0, "reduction": "none"}),
        Sample("angles past pi", tensors(67, 3, 5), {"angular_margin": 1.2, "scale": 8.0, "reduction": "sum"}),
        Sample("no margin", tensors(5, 16, 64), {"margin": 0.0, "scale": 10.0}),
        Sample("more classes than a tile", tensors(3, 4, 16500), {"reduction": "none"}, small=False),
        Sample("empty batch", tensors(0, 3, 4), {"reduction": "sum"}),
        Sample("no features", tensors(3, 0, 4), {"reduction": "none"}),
        Sample("tiny", tensors(3, 2, 4), {"scale": 5.0}),
    ]


def more_samples() -> list[Sample]:
    """A large batch, and rows that do not lie side by side."""
    odd = tensors(7, 13, 33)
    big = tensors(1, 2, 2)
    big |= {"input": big["input"].expand(65536, -1).contiguous(), "target": big["target"].expand(65536).contiguous()}
    turned = {k: t.t().contiguous().t() for k, t in odd.items()}
    return [Sample("batch 65536", big), Sample("transposed", turned)]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    t = sample.cast(dtype)
    options = {"scale": 30.0, "margin": 0.35, "angular_margin": 0.0, "reduction": "batchmean"} | dict(sample.options)
    given = t["input"].clone().requires_grad_(), t["weight"].clone().requires_grad_(), t["target"]
    shape = given[0].shape[:1] if options["reduction"] == "none" else ()
    wide = torch.promote_types(dtype, torch.float32)
    count = math.prod(shape)
    grad = torch.linspace(0.5, 1.5, max(1, count), dtype=wide)[:count].view(shape).requires_grad_()
    rest = (*(options[k] for k in ("scale", "margin", "angular_margin", "reduction")), "auto")
    ops = torch.ops.pygen
    return [
        (ops.am_softmax.default, (*given, *rest)),
        (ops.am_softmax_backward.default, (grad, *given, *rest)),
    ]


def errors() -> list[ErrorInput]:
    t = {"input": torch.zeros(4, 3), "weight": torch.zeros(5, 3), "target": torch.zeros(4, dtype=torch.int64)}
    x, w, target = t.values()

    def error(name: str, kind: type[Exception], match: str, given: dict | None = None, **options: object) -> ErrorInput:
        return ErrorInput(name, t | (given or {}), options, kind, match)

    return [
        error("input array", TypeError, r"input: expected a torch.Tensor, got ndarray", {"input": np.zeros((4, 3))}),
        error("input int", TypeError, r"input: expected float64, .* got torch.int64", {"input": x.long()}),
        error("input sparse", TypeError, r"input: expected a strided", {"input": x.to_sparse()}),
        error("input dims", ValueError, r"input: expected \[N, D\], got \[4, 3, 1\]", {"input": x.unsqueeze(2)}),
        error("weight None", TypeError, r"weight: expected a torch.Tensor, got NoneType", {"weight": None}),
        error("weight dims", ValueError, r"weight: expected \[C, D\], got \[3\]", {"weight": w[0]}),
        error("weight dtype", TypeError, r"weight: expected torch.float32, the dtype of input, got torch.float16",
              {"weight": w.half()}),
        error("weight device", ValueError, r"weight: expected a tensor on cpu, where input is, got meta",
              {"weight": w.to("meta")}),
        error("weight turned", ValueError, r"weight: expected \[C, 3\], of input \[4, 3\], got \[3, 5\]", {"weight": w.t()}),
        error("weight of columns", ValueError, r"got \[3, 4\] \(one row for each class: weight.t\(\)\)",
              {"weight": torch.zeros(3, 4)}),
        error("no classes", ValueError, r"weight: expected 1 .. 1073741824 classes, got \[0, 3\]", {"weight": w[:0]}),
        error("many classes", ValueError, r"weight: expected 1 .. 1073741824 classes, got \[1073741825, 0\]",
              {"input": x[:, :0], "weight": w.new_empty(2**30 + 1, 0)}),
        error("target list", TypeError, r"target: expected a torch.Tensor, got list", {"target": [0] * 4}),
        error("target int32", TypeError, r"target: expected classes as torch.int64, got torch.int32", {"target": target.int()}),
        error("target one-hot", TypeError, r"target: expected classes as torch.int64, got torch.float32",
              {"target": torch.zeros(4, 5)}),
        error("target device", ValueError, r"target: expected a tensor on cpu, where input is, got meta",
              {"target": target.to("meta")}),
        error("target count", ValueError, r"target: expected \[4\], of input \[4, 3\], got \[3\]", {"target": target[:3]}),
        error("target dims", ValueError, r"target: expected \[4\], .* got \[4, 1\]", {"target": target.unsqueeze(1)}),
        error("scale None", TypeError, r"scale: expected a number, got NoneType", scale=None),
        error("scale 0", ValueError, r"scale: expected a number > 0 and <= 1e\+06, got 0.0", scale=0.0),
        error("scale infinite", ValueError, r"scale: expected a number > 0 and <= 1e\+06, got inf", scale=math.inf),
        error("margin bool", TypeError, r"margin: expected a number, got bool", margin=True),
        error("margin tensor", TypeError, r"margin: expected a number, got Tensor", margin=torch.zeros(())),
        error("margin NaN", ValueError, r"margin: expected a number > -1e\+06 and <= 1e\+06, got nan", margin=math.nan),
        error("angle None", TypeError, r"angular_margin: expected a number, got NoneType", angular_margin=None),
        error("angle negative", ValueError, r"angular_margin: expected .*a number >= 0 .* got -0.1", angular_margin=-0.1),
        error("angle wide", ValueError, r"angular_margin: expected radians, .* and <= pi / 2, got 1.6", angular_margin=1.6),
        error("angle NaN", ValueError, r"angular_margin: expected .*a number .* got nan", angular_margin=math.nan),
        error("reduction mean", ValueError, r"reduction: expected 'batchmean', 'none' or 'sum', got 'mean' \(", reduction="mean"),
        error("reduction None", ValueError, r"reduction: expected .* got None", reduction=None),
        error("backend name", ValueError, r"backend: expected one of .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run", backend="cuda"),
    ]  # fmt: skip


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    # Of one feature all cosines are 1 or -1 and gradients nothing but rounding errors.
    n, features, classes = (
        fuzz_size(rng, 20),
        max(2, fuzz_size(rng, 40)),
        rng.choice((1, 2, 3, 16, 31, 32, 33, 100, 257)),
    )
    reductions = ("none", "sum") if n == 0 else ("none", "sum", "batchmean")  # a mean over no samples is NaN
    options = {"reduction": rng.choice(reductions), "scale": rng.choice((1.0, 30.0)), "margin": rng.choice((0.0, 0.35))}
    if features >= 16 and rng.random() < 0.3:  # of few features an angle may be near 0, where its slope is steep
        options["angular_margin"] = 0.5
    return {"input": (n, features), "weight": (classes, features), "target": (n,)}, options


def num_classes(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return shapes["weight"][0]


def _module():
    t = tensors(4, 6, 9)
    return pnn.AMSoftmax(6, 9, reduction="none"), (t["input"].float(), t["target"])


ROWS = [
    Op(
        name="am_softmax",
        outputs=("nll",),
        differentiable=("input", "weight"),
        call=lambda t, options, backend: (am_softmax(**t, **{"backend": backend} | options),),
        composite=composite,
        samples=samples,
        errors=errors,
        options={
            "reduction": ("batchmean", "sum"),
            "scale": (5.0, 6.0),
            "margin": (0.1, 0.2),
            "angular_margin": (0.0, 0.5),
        },
        autocast="cast",
        batched=frozenset({"input", "target"}),
        registered=registered,
        more_samples=more_samples,
        fuzz=fuzz,
        modules={"AMSoftmax": _module},
        integers={"target": num_classes},
        bytes=False,
        double_eps=40.0,  # logits reach 40: what half an eps of them is of a probability
        distinct=frozenset({"weight"}),
    )
]
