"""The row of nade_nll, of levels; and that of data between them, which is differentiated too: test_nade_nll.py runs it."""

import math
import random

import numpy as np
import torch
from layouts import fuzz_size
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen import nn as pnn
from pygen.functional import nade_nll

PARAMETERS = ("weight", "hidden_bias", "output_weight", "output_bias")


def levels(n: int, inputs: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    g = torch.Generator().manual_seed(7)
    return torch.randint(0, 2, (n, inputs), generator=g).to(dtype)


def soft(n: int, inputs: int, dtype: torch.dtype = torch.float64) -> Tensor:
    """Data in [0, 1], the ends among them."""
    g = torch.Generator().manual_seed(9)
    return (torch.rand((n, inputs), generator=g, dtype=torch.float64) * 1.5 - 0.25).clamp(0, 1)


def tensors(n: int, inputs: int, hidden: int, x: Tensor | None = None) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(5)
    shapes = ((inputs, hidden), (hidden,), (inputs, hidden), (inputs,))
    made = {k: 0.5 * torch.randn(s, generator=g, dtype=torch.float64) for k, s in zip(PARAMETERS, shapes, strict=True)}
    return {**made, "input": levels(n, inputs) if x is None else x}


def composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor]:
    """Input after input, as the paper's algorithm has it."""
    weight, c, v, b = (t[k] for k in PARAMETERS)
    x, reduction = t["input"].to(weight.dtype), options.get("reduction", "batchmean")
    zero = torch.zeros((), dtype=weight.dtype)
    a, nll = c.expand(len(x), -1), torch.zeros(len(x), dtype=weight.dtype)
    for d in range(x.shape[1]):
        logit = torch.sigmoid(a) @ v[d] + b[d]
        nll = nll + x[:, d] * torch.logaddexp(zero, -logit) + (1 - x[:, d]) * torch.logaddexp(zero, logit)
        a = a + x[:, d : d + 1] * weight[d]
    nll = nll + 0 * (a.sum() + v.sum() + b.sum()) if not x.numel() else nll
    return (nll if reduction == "none" else nll.sum() / len(x) if reduction == "batchmean" else nll.sum(),)


def samples() -> list[Sample]:
    return [
        Sample("one element", tensors(1, 1, 1)),
        Sample("odd everything", tensors(5, 7, 3, levels(5, 7, torch.int64)), {"reduction": "none"}),
        Sample("more than a chunk", tensors(67, 7, 37), {"reduction": "none"}, small=False),
        Sample("vectors and one more", tensors(5, 3, 65)),
        Sample("empty batch", tensors(0, 5, 3), {"reduction": "sum"}),
        Sample("no inputs", tensors(3, 0, 2), {"reduction": "none"}),
        Sample("no hidden units", tensors(3, 4, 0), {"reduction": "none"}),
    ]


def soft_samples() -> list[Sample]:
    return [
        Sample("odd everything", tensors(5, 7, 3, soft(5, 7)), {"reduction": "none"}),
        Sample("narrow rows", tensors(67, 3, 2, soft(67, 3)), {"reduction": "sum"}),
        Sample("vectors and one more", tensors(17, 10, 33, soft(17, 10))),
        Sample("empty batch", tensors(0, 5, 3, soft(0, 5)), {"reduction": "sum"}),
    ]


def more_samples() -> list[Sample]:
    """A large batch, and strides that say little."""
    turned = {k: t.transpose(0, -1).contiguous().transpose(0, -1) for k, t in tensors(7, 5, 3).items()}
    named = {"batch 65536": tensors(65536, 1, 1), "transposed": turned}
    return [Sample(name, t, {}) for name, t in named.items()]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    t = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in sample.cast(dtype).items()}
    x, parameters = t["input"], [t[k] for k in PARAMETERS]
    count = math.prod(x.shape)
    wide = torch.promote_types(dtype, torch.float32)
    grad = torch.linspace(0.5, 1.5, max(1, count), dtype=wide)[:count].view(x.shape).requires_grad_()
    needs = [x.is_floating_point(), True, True, True, True]
    ops = torch.ops.pygen
    return [
        (ops.nade_nll_logits.default, (x, *parameters, "auto")),
        (ops.nade_nll_logits_backward.default, (grad, x, *parameters[:3], needs, "auto")),
    ]


def errors() -> list[ErrorInput]:
    valid = {k: t.float() if k in PARAMETERS else t.long() for k, t in tensors(4, 5, 3).items()}
    weight, c, v, x = (valid[k] for k in ("weight", "hidden_bias", "output_weight", "input"))

    def error(name: str, kind: type[Exception], match: str, given: dict | None = None, **options: object) -> ErrorInput:
        return ErrorInput(name, valid | (given or {}), options, kind, match)

    allowed = r"input: expected torch.float32, the dtype of weight, or torch.bool, torch.uint8 or torch.int64, got "
    return [
        error("weight array", TypeError, r"weight: expected a torch.Tensor, got ndarray", {"weight": np.zeros((5, 3))}),
        error("weight int", TypeError, r"weight: expected float64, .* got torch.int64", {"weight": weight.long()}),
        error("weight sparse", TypeError, r"weight: expected a strided", {"weight": weight.to_sparse()}),
        error("weight dims", ValueError, r"weight: expected two dims \[D, H\], got \[3\]", {"weight": weight[0]}),
        error("input None", TypeError, r"input: expected a torch.Tensor, got NoneType", {"input": None}),
        error("input int32", TypeError, allowed + "torch.int32", {"input": x.int()}),
        error("input float64", TypeError, allowed + "torch.float64", {"input": x.double()}),
        error("input device", ValueError, r"input: expected a tensor on cpu, where weight is, got meta", {"input": x.to("meta")}),
        error("input dims", ValueError, r"input: expected the shape \[N, 5\], of weight \[5, 3\], got \[5\]", {"input": x[0]}),
        error("input size", ValueError, r"input: expected the shape \[N, 5\], .* got \[4, 4\]", {"input": x[:, 1:]}),
        error("hidden_bias None", TypeError, r"hidden_bias: expected a torch.Tensor, got NoneType", {"hidden_bias": None}),
        error("hidden_bias float64", TypeError, r"hidden_bias: expected torch.float32, the dtype of weight, got torch.float64",
              {"hidden_bias": c.double()}),
        error("hidden_bias device", ValueError, r"hidden_bias: expected a tensor on cpu, .* got meta",
              {"hidden_bias": c.to("meta")}),
        error("hidden_bias size", ValueError, r"hidden_bias: expected the shape \[3\], of weight \[5, 3\], got \[2\]",
              {"hidden_bias": c[1:]}),
        error("output_weight turned", ValueError, r"output_weight: expected the shape \[5, 3\], of weight \[5, 3\], got \[3, 5\]",
              {"output_weight": v.T}),
        error("output_weight one row", ValueError, r"output_weight: expected the shape \[5, 3\], .* got \[1, 3\]",
              {"output_weight": v[:1]}),
        error("output_bias size", ValueError, r"output_bias: expected the shape \[5\], .* got \[3\]", {"output_bias": c}),
        error("reduction mean", ValueError, r"reduction: expected 'batchmean', 'none' or 'sum', got 'mean' \(", reduction="mean"),
        error("reduction None", ValueError, r"reduction: expected .* got None", reduction=None),
        error("backend name", ValueError, r"backend: expected one of .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run", backend="cuda"),
    ]  # fmt: skip


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    n, inputs = fuzz_size(rng, 257), fuzz_size(rng, 33)
    hidden = fuzz_size(rng, max(1, min(257, 20000 // max(1, n * inputs))))
    reductions = ("none", "sum") if n == 0 else ("none", "sum", "batchmean")  # a mean over no samples is NaN
    shapes = zip(PARAMETERS, ((inputs, hidden), (hidden,), (inputs, hidden), (inputs,)), strict=True)
    return {**dict(shapes), "input": (n, inputs)}, {"reduction": rng.choice(reductions)}


def _module():
    return pnn.NADENLL(5, 3, reduction="none"), (levels(4, 5),)


def call(t: dict[str, Tensor], options: dict, backend: str | None) -> tuple[Tensor]:
    return (nade_nll(**t, **{"backend": backend} | options),)


ROWS = [
    Op(
        name="nade_nll",
        outputs=("nll",),
        differentiable=PARAMETERS,
        call=call,
        composite=composite,
        samples=samples,
        errors=errors,
        options={"reduction": ("batchmean", "sum")},
        unsaved=frozenset({"output_bias"}),
        batched=frozenset({"input"}),
        registered=registered,
        more_samples=more_samples,
        fuzz=fuzz,
        modules={"NADENLL": _module},
        integers={"input": 2},
        saved_extra=4 * 67 * 7,  # the logits
    ),
]

SOFT = Op(
    name="nade_nll",
    outputs=("cross_entropy",),
    differentiable=(*PARAMETERS, "input"),
    call=call,
    composite=composite,
    samples=soft_samples,
    errors=lambda: [],
    options={"reduction": ("batchmean", "sum")},
    unsaved=frozenset({"output_bias"}),
    batched=frozenset({"input"}),
    registered=registered,
    fuzz=fuzz,
    finite=frozenset({"input"}),  # it lies in [0, 1]; beyond, formulas that agree on numbers differ in what is infinite
    saved_extra=4 * 67 * 3,
)
