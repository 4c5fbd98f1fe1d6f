"""The row of the noise-contrastive losses: nce_loss, and samples of the other two, which are the same op."""

import functools
import math
import random
from collections.abc import Mapping

import numpy as np
import torch
from layouts import fuzz_size
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen import nn as pnn
from pygen.functional import nce_loss, negative_sampling_loss, noise_table, sampled_softmax_loss

LOSSES = {"nce": nce_loss, "negative_sampling": negative_sampling_loss, "sampled_softmax": sampled_softmax_loss}


def tensors(
    n: int, features: int, classes: int, count: int, *, shared: bool = False, bias: bool = True
) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(19)
    input = torch.randn((n, features), generator=g, dtype=torch.float64)
    t = {"input": input, "weight": torch.randn((classes, features), generator=g, dtype=torch.float64)}
    if bias:
        t["bias"] = torch.randn(classes, generator=g, dtype=torch.float64)
    t["target"] = torch.randint(classes, (n,), generator=g)
    t["negatives"] = torch.randint(classes, (count,) if shared else (n, count), generator=g)
    t["negatives"].view(-1)[: min(n, 1)] = t["target"][:1]  # an accidental hit
    t["noise"] = torch.randint(9, (classes,), generator=g)  # quarters of -log q, which need not be normalised
    return t


def log_q(quarters: Tensor) -> Tensor:
    if quarters.numel() and not quarters.untyped_storage().size():  # of a tensor without memory another such
        gone = torch.empty(quarters.shape, dtype=torch.float64)
        gone.untyped_storage().resize_(0)
        return gone
    return quarters.double() * -0.25


def call(t: dict[str, Tensor], options: dict, backend: str | None) -> tuple[Tensor]:
    options = {"backend": backend} | options
    kind, noise = options.pop("kind", "nce"), t["noise"]
    if not isinstance(kind, str) or kind not in LOSSES:  # of this row alone
        raise ValueError(f"kind: expected one of {list(LOSSES)}")
    if kind == "negative_sampling":
        t = {k: v for k, v in t.items() if k != "noise"}
    elif (
        isinstance(noise, Tensor) and noise.dim() == 1 and noise.dtype == torch.int64 and noise.layout == torch.strided
    ):
        t = t | {"noise": log_q(noise)}  # not a table, nor what shall be refused
    return (LOSSES[kind](**t, **options),)


def composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor]:
    """All scores by index, hits left out by their places, binary or categorical cross entropy."""
    x, w, target, negatives = (t[k] for k in ("input", "weight", "target", "negatives"))
    kind = options.get("kind", "nce")
    classes = torch.cat((target.unsqueeze(1), negatives.expand(len(x), negatives.shape[-1])), 1)
    scores = (w[classes] * x.unsqueeze(1)).sum(2)
    if "bias" in t:
        scores = scores + t["bias"][classes]
    if kind != "negative_sampling":
        scores = scores - (log_q(t["noise"])[classes] + math.log(classes.shape[1] - 1)).to(scores.dtype)
    counts = torch.ones_like(scores, dtype=torch.bool)
    if options.get("remove_accidental_hits", kind != "nce"):
        counts[:, 1:] = classes[:, 1:] != classes[:, :1]
    if kind == "sampled_softmax":
        beyond = torch.where(counts, scores - scores[:, :1], -torch.inf)[:, 1:]
        most = beyond.detach().amax(1).clamp(0)  # the target's own term is e^0
        nll = most + ((beyond - most.unsqueeze(1)).exp().sum(1) + (-most).expm1()).log1p()
    else:
        signs = torch.ones_like(scores)
        signs[:, 0] = -1
        terms = torch.logaddexp(scores * signs, torch.zeros_like(scores))  # whose slope at 0 is a half
        nll = torch.where(counts, terms, 0).sum(1)
    reduction = options.get("reduction", "batchmean")
    return (nll if reduction == "none" else nll.sum() / len(x) if reduction == "batchmean" else nll.sum(),)


def samples() -> list[Sample]:
    softmax = {"kind": "sampled_softmax", "reduction": "none"}
    many = tensors(5, 16, 64, 130, shared=True)
    many["input"] = (
        many["input"] / 4
    )  # scores of the order of 1: the last bits of larger ones are more than the rule allows
    return [
        Sample("one element", tensors(1, 1, 1, 1)),
        Sample("odd everything", tensors(7, 13, 33, 5), {"reduction": "none"}),
        Sample("shared", tensors(9, 37, 21, 17, shared=True), {"reduction": "none"}),
        Sample("negative sampling", tensors(17, 3, 5, 4, bias=False), {"kind": "negative_sampling"}),
        Sample("softmax", tensors(5, 70, 12, 35), softmax),
        Sample("shared softmax", many, {"kind": "sampled_softmax"}),
        Sample("empty batch", tensors(0, 3, 4, 2), {"reduction": "sum"}),
        Sample("empty batch, shared", tensors(0, 3, 4, 2, shared=True), {"reduction": "sum"}),
        Sample("tiny", tensors(3, 2, 4, 2), {"reduction": "sum", "remove_accidental_hits": True}),
    ]


def more_samples() -> list[Sample]:
    """A large batch, and rows that do not lie side by side."""
    odd = tensors(7, 13, 33, 5)
    big = {k: t.expand(65536, *t.shape[1:]) if len(t) == 1 else t for k, t in tensors(1, 2, 3, 2).items()}
    turned = {k: t.t().contiguous().t() if t.dim() == 2 else t for k, t in odd.items()}
    return [Sample("batch 65536", big), Sample("transposed", turned)]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    t, options = sample.cast(dtype), {"kind": "nce", "reduction": "batchmean"} | dict(sample.options)
    hits = options.get("remove_accidental_hits", options["kind"] != "nce")
    leaves = [t[k].clone().requires_grad_() if k in t else None for k in ("input", "weight", "bias")]
    noise = None if options["kind"] == "negative_sampling" else log_q(t["noise"])
    given = (*leaves, t["target"], t["negatives"], noise, options["kind"], hits, options["reduction"])
    shape = t["target"].shape if options["reduction"] == "none" else ()
    count = math.prod(shape)
    grad = torch.linspace(0.5, 1.5, max(1, count), dtype=torch.promote_types(dtype, torch.float32))
    grad = grad[:count].view(shape).requires_grad_()
    needs = [True, True, "bias" in t]
    ops = torch.ops.pygen
    return [
        (ops.noise_contrastive.default, (*given, "auto")),
        (ops.noise_contrastive_backward.default, (grad, *given, needs, "auto")),
    ]


def errors() -> list[ErrorInput]:
    t = tensors(4, 3, 5, 2)
    t = {k: v.float() if v.is_floating_point() else v for k, v in t.items()}
    noise = t["noise"] = noise_table(torch.arange(1.0, 6))
    x, w, b, target, negatives = list(t.values())[:5]

    def error(name: str, kind: type[Exception], match: str, given: dict | None = None, **options: object) -> ErrorInput:
        return ErrorInput(name, t | (given or {}), options, kind, match)

    none = {"negatives": None}
    return [
        error("input array", TypeError, r"input: expected a torch.Tensor, got ndarray", {"input": np.zeros((4, 3))}),
        error("input int", TypeError, r"input: expected float64, .* got torch.int64", {"input": x.long()}),
        error("input sparse", TypeError, r"input: expected a strided", {"input": x.to_sparse()}),
        error("input dims", ValueError, r"input: expected \[N, D\], got \[4, 3, 1\]", {"input": x.unsqueeze(2)}),
        error("weight dims", ValueError, r"weight: expected \[C, D\], got \[3\]", {"weight": w[0]}),
        error("weight device", ValueError, r"weight: expected a tensor on cpu, where input is, got meta",
              {"weight": w.to("meta")}),
        error("weight turned", ValueError, r"weight: expected \[C, 3\], of input \[4, 3\], got \[3, 5\]", {"weight": w.t()}),
        error("no classes", ValueError, r"weight: expected 1 .. 1073741824 classes, got \[0, 3\]", {"weight": w[:0]}),
        error("bias size", ValueError, r"bias: expected \[5\], of weight \[5, 3\], got \[4\]", {"bias": b[:4]}),
        error("bias dtype", TypeError, r"bias: expected torch.float32, the dtype of input, got torch.float64",
              {"bias": b.double()}),
        error("target int32", TypeError, r"target: expected classes as torch.int64, got torch.int32", {"target": target.int()}),
        error("target count", ValueError, r"target: expected \[4\], of input \[4, 3\], got \[3\]", {"target": target[:3]}),
        error("negatives bytes", TypeError, r"negatives: expected classes as torch.int64, got torch.uint8",
              {"negatives": negatives.byte()}),
        error("negatives count", ValueError, r"negatives: expected \[4, K\], of input \[4, 3\], or \[K\], .* got \[3, 2\]",
              {"negatives": negatives[:3]}),
        error("no negatives", ValueError, r"negatives: expected .*, K at least 1, got \[4, 0\]", {"negatives": negatives[:, :0]}),
        error("negatives of nothing", ValueError, r"negatives: expected a tensor, or num_negatives .* got neither", none),
        error("num_negatives 0", ValueError, r"num_negatives: expected at least 1, got 0", none, num_negatives=0),
        error("num_negatives float", TypeError, r"num_negatives: expected an int, got float", none, num_negatives=2.0),
        error("both", ValueError, r"num_negatives: expected none where negatives are given, got 2", num_negatives=2),
        error("shared of given", ValueError, r"shared: expected none where negatives are given, got True", shared=True),
        error("seed of given", ValueError, r"seed: expected none where negatives are given, got 3", seed=3),
        error("noise None", TypeError, r"noise: expected a torch.Tensor, got NoneType", {"noise": None}),
        error("noise dims", ValueError, r"noise: expected a table \[C, 3\] of .*, got \[5, 2\]", {"noise": noise[:, :2]}),
        error("noise classes", ValueError, r"noise: expected 5 classes, .* got 4 in \[4, 3\]", {"noise": noise[:4]}),
        error("noise counts", TypeError, r"noise: expected an int64 table of .*, got torch.int32", {"noise": noise.int()}),
        error("log q size", ValueError, r"noise: expected log q, \[5\], of weight .*, got \[4\]", {"noise": torch.zeros(4)}),
        error("log q with a gradient", ValueError, r"noise: expected log q without a gradient",
              {"noise": torch.zeros(5, requires_grad=True)}),
        error("drawing by log q", TypeError, r"noise: expected a table of noise_table, to draw by, got torch.float32",
              none | {"noise": torch.zeros(5)}, num_negatives=2),
        error("hits None", TypeError, r"remove_accidental_hits: expected a bool, got NoneType", remove_accidental_hits=None),
        error("reduction mean", ValueError, r"reduction: expected 'batchmean', 'none' or 'sum', got 'mean' \(", reduction="mean"),
        error("backend name", ValueError, r"backend: expected one of .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run", backend="cuda"),
    ]  # fmt: skip


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    n, features, classes = fuzz_size(rng, 20), fuzz_size(rng, 70), rng.choice((1, 2, 3, 16, 33, 100, 257))
    count = rng.choice((1, 2, 5, 16, 33, 130))
    reductions = ("none", "sum") if n == 0 else ("none", "sum", "batchmean")  # a mean over no samples is NaN
    shapes = {"input": (n, features), "weight": (classes, features), "target": (n,), "noise": (classes,)}
    shapes["negatives"] = rng.choice(((count,), (n, count)))
    if rng.random() < 0.5:
        shapes["bias"] = (classes,)
    return shapes, {"reduction": rng.choice(reductions), "kind": rng.choice(list(LOSSES))}


def num_classes(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return shapes["weight"][0]


def _module(kind):
    t = tensors(4, 6, 9, 3)
    module = kind(9, 6, torch.arange(1.0, 10.0), num_negatives=3, reduction="none")
    return module, (t["input"].float(), t["target"])


ROWS = [
    Op(
        name="nce_loss",
        outputs=("nll",),
        differentiable=("input", "weight", "bias"),
        call=call,
        composite=composite,
        samples=samples,
        errors=errors,
        options={
            "reduction": ("batchmean", "sum"),
            "remove_accidental_hits": (True, False),
            "kind": ("nce", "negative_sampling"),
        },
        batched=frozenset({"input", "target", "negatives"}),
        registered=registered,
        more_samples=more_samples,
        fuzz=fuzz,
        integers={"target": num_classes, "negatives": num_classes, "noise": 9},
        bytes=False,
        saved_extra=8 * 64,  # log q, which `call` makes
        # Negatives all of one class, whose bias gets sums of both signs; classes of equal rows, whose scores cancel.
        distinct=frozenset({"negatives", "weight"}),
        modules={
            kind.__name__: functools.partial(_module, kind)
            for kind in (pnn.NCELoss, pnn.NegativeSamplingLoss, pnn.SampledSoftmaxLoss)
        },
        double_eps=40.0,  # of a sampled softmax whose scores are large
    )
]
