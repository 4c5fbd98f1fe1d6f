"""The row of categorical_nll."""

import math
import random
from collections.abc import Mapping

import numpy as np
import torch
from layouts import fuzz_size
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen import nn as pnn
from pygen.functional import categorical_nll


def tensors(
    n: int, channels: int, levels: int, spatial: tuple[int, ...], dtype: torch.dtype = torch.uint8
) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(7)
    logits = 1.5 * torch.randn((n, channels * levels, *spatial), generator=g, dtype=torch.float64)
    return {"logits": logits, "x": torch.randint(levels, (n, channels, *spatial), generator=g).to(dtype)}


def composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor]:
    """log-sum-exp less the drawn logit, channel by channel."""
    logits, x = t["logits"], t["x"].long()
    count = logits.shape[1] // x.shape[1]
    nll = 0
    for c in range(x.shape[1]):
        block = logits[:, c * count : (c + 1) * count]
        nll = nll + block.logsumexp(1) - block.gather(1, x[:, c : c + 1]).squeeze(1)
    reduction = options.get("reduction", "batchmean")
    if reduction == "none":
        return (nll.reshape(len(x), -1).sum(1) if nll.numel() else nll.new_zeros(len(x)) + nll.sum(),)
    return (nll.sum() / len(x) if reduction == "batchmean" else nll.sum(),)


def samples() -> list[Sample]:
    return [
        Sample("one element", tensors(1, 1, 2, (1,))),
        Sample("odd everything", tensors(3, 2, 5, (5, 3), torch.int64), {"reduction": "none"}),
        Sample("narrow rows", tensors(331, 1, 3, ()), {"reduction": "sum"}),
        Sample("channels of 40", tensors(2, 3, 40, (9, 7))),
        Sample("of two", tensors(5, 29, 2, ()), {"reduction": "none"}),
        Sample("256 levels", tensors(3, 1, 256, (7,)), {"reduction": "none"}, small=False),
        Sample("many levels", tensors(3, 1, 2100, (2,), torch.int64)),
        Sample("empty batch", tensors(0, 3, 4, (2, 2)), {"reduction": "sum"}),
        Sample("no positions", tensors(3, 1, 2, (0, 2)), {"reduction": "none"}),
        Sample("tiny", tensors(2, 2, 3, (1, 2), torch.int64)),
    ]


def more_samples() -> list[Sample]:
    """A large batch, and strides that say little."""
    one = tensors(1, 1, 2, ())
    big = {k: t.expand(65536, -1).contiguous() for k, t in one.items()}
    odd, n1hw, nc11 = (tensors(3, c, 2, s) for c, s in ((3, (5, 3)), (1, (5, 3)), (3, (1, 1))))
    last = {k: t.contiguous(memory_format=torch.channels_last) for k, t in odd.items()}
    n1hw, nc11 = (
        {k: t.contiguous(memory_format=torch.channels_last) for k, t in given.items()} for given in (n1hw, nc11)
    )
    turned = {k: t.transpose(0, -1).contiguous().transpose(0, -1) for k, t in odd.items()}
    named = {"batch 65536": big, "N1HW": n1hw, "NC11": nc11, "channels_last": last, "transposed": turned}
    return [Sample(name, t, {}) for name, t in named.items()]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    t = sample.cast(dtype)
    logits, x = t["logits"].clone().requires_grad_(), t["x"]
    reduction = sample.options.get("reduction", "batchmean")
    shape = logits.shape[:1] if reduction == "none" else ()
    wide = torch.promote_types(dtype, torch.float32)
    count = math.prod(shape)
    grad = torch.linspace(0.5, 1.5, max(1, count), dtype=wide)[:count].view(shape).requires_grad_()
    ops = torch.ops.pygen
    return [
        (ops.categorical_nll.default, (logits, x, reduction, "auto")),
        (ops.categorical_nll_backward.default, (grad, logits, x, reduction, "auto")),
    ]


def errors() -> list[ErrorInput]:
    logits, x = torch.zeros(2, 15, 4, 3), torch.zeros(2, 3, 4, 3, dtype=torch.int64)

    def error(name: str, kind: type[Exception], match: str, given: dict | None = None, **options: object) -> ErrorInput:
        return ErrorInput(name, {"logits": logits, "x": x} | (given or {}), options, kind, match)

    return [
        error("logits array", TypeError, r"logits: expected a torch.Tensor, got ndarray", {"logits": np.zeros((2, 15))}),
        error("logits int", TypeError, r"logits: expected float64, .* got torch.int64", {"logits": logits.long()}),
        error("logits sparse", TypeError, r"logits: expected a strided", {"logits": logits.to_sparse()}),
        error("logits dims", ValueError, r"logits: expected at least two dims \[N, C \* L, ...\], got \[15\]",
              {"logits": logits[0, :, 0, 0]}),
        error("x None", TypeError, r"x: expected a torch.Tensor, got NoneType", {"x": None}),
        error("x float", TypeError, r"x: expected levels as torch.uint8 or torch.int64, got torch.float32", {"x": x.float()}),
        error("x int32", TypeError, r"x: expected levels as .* got torch.int32", {"x": x.int()}),
        error("x bool", TypeError, r"x: expected levels as .* got torch.bool", {"x": x.bool()}),
        error("x device", ValueError, r"x: expected a tensor on cpu, where logits is, got meta", {"x": x.to("meta")}),
        error("x batch", ValueError, r"x: expected shape \[2, C, 4, 3\], of logits \[2, 15, 4, 3\], got \[1, 3, 4, 3\]",
              {"x": x[:1]}),
        error("x positions", ValueError, r"x: expected shape \[2, C, 4, 3\], .* got \[2, 3, 3, 4\]", {"x": x.transpose(2, 3)}),
        error("x dims", ValueError, r"x: expected shape \[2, C, 4, 3\], .* got \[2, 3, 12\]", {"x": x.flatten(2)}),
        error("x as of cross_entropy", ValueError, r"x: expected shape \[2, C, 4, 3\], .* got \[2, 4, 3\]", {"x": x[:, 0]}),
        error("no channels", ValueError, r"x: expected at least one channel, got none in \[2, 0, 4, 3\]", {"x": x[:, :0]}),
        error("P of channels", ValueError,
              r"logits: expected 2 .. 16777216 logits for each of 3 channel\(s\) along dim 1, got 14 in \[2, 14, 4, 3\]",
              {"logits": logits[:, 1:]}),
        error("one level", ValueError, r"logits: expected 2 .. 16777216 logits for each of 3 .* got 3 in \[2, 3, 4, 3\]",
              {"logits": logits[:, :3]}),
        error("no levels", ValueError, r"logits: expected 2 .. 16777216 logits .* got 0 in", {"logits": logits[:, :0]}),
        error("many levels", ValueError, r"logits: expected 2 .. 16777216 logits for each of 1 .* got 16777217 in",
              {"logits": torch.zeros(()).expand(1, 2**24 + 1), "x": x[:1, :1, 0, 0]}),
        error("reduction mean", ValueError, r"reduction: expected 'batchmean', 'none' or 'sum', got 'mean' \(", reduction="mean"),
        error("reduction None", ValueError, r"reduction: expected .* got None", reduction=None),
        error("backend name", ValueError, r"backend: expected one of .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run", backend="cuda"),
    ]  # fmt: skip


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    levels, channels = rng.choice((2, 2, 3, 5, 16, 31, 32, 33, 65, 256, 257, 1025, 2049)), rng.choice((1, 1, 2, 3, 5))
    left = max(1, 6000 // (levels * channels))
    n = fuzz_size(rng, max(1, min(40, left)))
    spatial = []
    left //= max(n, 1)
    for _ in range(rng.randint(0, 3)):
        spatial.append(fuzz_size(rng, max(1, left)))
        left //= max(spatial[-1], 1)
    reductions = ("none", "sum") if n == 0 else ("none", "sum", "batchmean")  # a mean over no samples is NaN
    shapes = {"logits": (n, levels * channels, *spatial), "x": (n, channels, *spatial)}
    return shapes, {"reduction": rng.choice(reductions)}


def num_levels(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return max(2, shapes["logits"][1] // max(1, shapes["x"][1]))


def _module():
    t = tensors(4, 3, 16, (3,))
    return pnn.CategoricalNLL(reduction="none"), (t["logits"].float(), t["x"])


ROWS = [
    Op(
        name="categorical_nll",
        outputs=("nll",),
        differentiable=("logits",),
        call=lambda t, options, backend: (categorical_nll(**t, **{"backend": backend} | options),),
        composite=composite,
        samples=samples,
        errors=errors,
        options={"reduction": ("batchmean", "sum")},
        batched=frozenset({"logits", "x"}),
        registered=registered,
        more_samples=more_samples,
        fuzz=fuzz,
        modules={"CategoricalNLL": _module},
        integers={"x": num_levels},
    )
]
