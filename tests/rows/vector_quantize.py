"""The row of vector_quantize. Its indices, and code_statistics, which have no gradients, have tests in the file of their name."""

import math
import random

import numpy as np
import torch
from layouts import fuzz_shape, fuzz_size
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen import nn as pnn
from pygen.functional import vector_quantize


def tensors(shape: tuple[int, ...], codes: int) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(23)
    input = torch.randn(shape, generator=g, dtype=torch.float64)
    return {"input": input, "codebook": torch.randn((codes, shape[1]), generator=g, dtype=torch.float64)}


class _Snapped(torch.autograd.Function):
    """Each number to the nearest quarter, in the layout it has, whatever lies between; its gradient as it comes."""

    @staticmethod
    def forward(ctx, t):
        whole = t.as_strided((t.untyped_storage().nbytes() // t.element_size(),), (1,), 0)
        return ((whole * 4).round() / 4).as_strided(t.shape, t.stride(), t.storage_offset())

    @staticmethod
    def backward(ctx, grad):
        return grad


def snapped(t: dict, options: dict) -> tuple[dict, dict]:
    """With "quarters", of fuzz.py's calls, numbers whose scores are exact: of two codes all but equally near, arithmetic may take
    either, and each is right. Ties among them have one answer."""
    options = dict(options)
    if options.pop("quarters", False) is not True:
        return t, options

    def plain(x: object) -> bool:
        return type(x) is Tensor and x.layout is torch.strided and x.is_floating_point() and x.device.type == "cpu"

    memory = {k: x for k, x in t.items() if plain(x) and x.untyped_storage().size()}
    return t | {k: _Snapped.apply(x) for k, x in memory.items()}, options


def call(t: dict, options: dict, backend: str | None) -> tuple[Tensor, Tensor]:
    t, options = snapped(t, options)
    return vector_quantize(**t, **{"backend": backend} | options)[::2]


def composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor, Tensor]:
    """All distances as sums of squared differences, in float64; the rest as people write it."""
    t, options = snapped(t, options)
    z, e = t["input"], t["codebook"]
    rows = z.unsqueeze(2).flatten(2).transpose(1, 2)
    apart = (rows.detach().double().unsqueeze(2) - e.detach().double()).square().sum(3)
    indices = torch.where(apart == apart.amin(2, keepdim=True), torch.arange(len(e)), len(e)).amin(2)
    codes = e[indices].transpose(1, 2).reshape(z.shape)
    each = options.get("codebook_weight", 1.0) * (codes - z.detach()).square()
    each = (each + options.get("beta", 0.25) * (z - codes.detach()).square()).unsqueeze(2).flatten(1)
    reduction = options.get("reduction", "mean")
    loss = each.sum(1) if reduction == "none" else each.mean() if reduction == "mean" else each.sum()
    return codes.detach() + (z - z.detach()), loss


def samples() -> list[Sample]:
    return [
        Sample("one element", tensors((1, 1), 1)),
        Sample("odd everything", tensors((7, 13, 5, 3), 33), {"reduction": "none"}),
        Sample("narrow rows", tensors((67, 3), 5), {"reduction": "sum"}),
        Sample("a sequence", tensors((2, 20, 37), 17), {"beta": 0.5}),
        Sample("volumes", tensors((1, 5, 3, 2, 7), 9), {"codebook_weight": 0.0, "reduction": "none"}),
        Sample("empty batch", tensors((0, 3, 4, 4), 4), {"reduction": "sum"}),
        Sample("no features", tensors((3, 0, 2), 4), {"reduction": "none"}),
        Sample("tiny", tensors((3, 2, 2), 4), {"reduction": "none"}),
    ]


def more_samples() -> list[Sample]:
    """A large batch, and a codebook that lies the other way."""
    big = tensors((1, 2), 3)
    big["input"] = big["input"].expand(65536, -1).contiguous()
    odd = tensors((7, 13, 5, 3), 33)
    return [
        Sample("batch 65536", big),
        Sample("channels_last", odd | {"input": odd["input"].contiguous(memory_format=torch.channels_last)}),
        Sample("codebook transposed", odd | {"codebook": odd["codebook"].t().contiguous().t()}),
    ]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    t, options = sample.cast(dtype), {"beta": 0.25, "codebook_weight": 1.0, "reduction": "mean"} | dict(sample.options)
    z, e = t["input"].clone().requires_grad_(), t["codebook"].clone().requires_grad_()
    indices = vector_quantize(t["input"], t["codebook"])[1]
    count = len(z) if options["reduction"] == "none" else 1
    grad = torch.linspace(0.5, 1.5, max(1, count), dtype=torch.promote_types(dtype, torch.float32))[:count]
    grad = (grad if options["reduction"] == "none" else grad.reshape(())).requires_grad_()
    above = torch.ones_like(t["input"]).requires_grad_()
    rest = tuple(options[k] for k in ("beta", "codebook_weight", "reduction"))
    ops = torch.ops.pygen
    calls = [
        (ops.vector_quantize.default, (z, e, *rest, "auto")),
        (ops.vector_quantize_backward.default, (above, grad, z, e, indices, *rest, [True, True], "auto")),
    ]
    if sample.name != "odd everything":
        return calls
    return [
        *calls,
        (ops.vector_quantize_backward.default, (None, grad, z, e, indices, *rest, [True, False], "auto")),
        (ops.code_statistics.default, (t["input"], indices, len(e), "auto")),
    ]


def errors() -> list[ErrorInput]:
    t = {"input": torch.zeros(4, 3, 2), "codebook": torch.zeros(5, 3)}
    z, e = t.values()

    def error(name: str, kind: type[Exception], match: str, given: dict | None = None, **options: object) -> ErrorInput:
        return ErrorInput(name, t | (given or {}), options, kind, match)

    return [
        error("input array", TypeError, r"input: expected a torch.Tensor, got ndarray", {"input": np.zeros((4, 3))}),
        error("input int", TypeError, r"input: expected float64, .* got torch.int64", {"input": z.long()}),
        error("input sparse", TypeError, r"input: expected a strided", {"input": z.to_sparse()}),
        error("input dims", ValueError, r"input: expected at least two dims \[N, D, ...\], got \[4\]", {"input": z[:, 0, 0]}),
        error("codebook None", TypeError, r"codebook: expected a torch.Tensor, got NoneType", {"codebook": None}),
        error("codebook dims", ValueError, r"codebook: expected \[K, 3\], of input \[4, 3, 2\], got \[3\]", {"codebook": e[0]}),
        error("codebook turned", ValueError, r"codebook: expected \[K, 3\], .* got \[3, 5\]", {"codebook": e.t()}),
        error("features last", ValueError, r"got \[5, 3\] \(an input's features are in dim 1: input.movedim\(-1, 1\)\)",
              {"input": torch.zeros(4, 2, 3)}),
        error("codebook dtype", TypeError, r"codebook: expected torch.float32, the dtype of input, got torch.float64",
              {"codebook": e.double()}),
        error("codebook device", ValueError, r"codebook: expected a tensor on cpu, where input is, got meta",
              {"codebook": e.to("meta")}),
        error("no codes", ValueError, r"codebook: expected 1 .. 1073741824 codes, got \[0, 3\]", {"codebook": e[:0]}),
        error("beta None", TypeError, r"beta: expected a number, got NoneType", beta=None),
        error("beta negative", ValueError, r"beta: expected a number >= 0 and <= 1e\+06, got -0.25", beta=-0.25),
        error("beta NaN", ValueError, r"beta: expected a number >= 0 .*, got nan", beta=math.nan),
        error("weight bool", TypeError, r"codebook_weight: expected a number, got bool", codebook_weight=True),
        error("weight infinite", ValueError, r"codebook_weight: expected .* got inf", codebook_weight=math.inf),
        error("reduction batchmean", ValueError, r"reduction: expected 'mean', 'none' or 'sum', got 'batchmean'",
              reduction="batchmean"),
        error("reduction None", ValueError, r"reduction: expected .* got None", reduction=None),
        error("backend name", ValueError, r"backend: expected one of .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run", backend="cuda"),
    ]  # fmt: skip


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    images, features, *rest = fuzz_shape(rng, (2, 4), 1000)
    shape = images, min(features, 70), *rest
    codes = max(1, fuzz_size(rng, 300))
    reductions = ("none", "sum") if 0 in shape else ("none", "sum", "mean")  # a mean over nothing is NaN
    options = {"reduction": rng.choice(reductions), "beta": rng.choice((0.0, 0.25, 2.0))}
    options |= {"codebook_weight": rng.choice((0.0, 1.0)), "quarters": True}
    return {"input": shape, "codebook": (codes, shape[1])}, options


def _module():
    t = tensors((4, 6, 3, 3), 9)
    return pnn.VectorQuantizer(9, 6, reduction="none"), (t["input"].float(),)


ROWS = [
    Op(
        name="vector_quantize",
        outputs=("quantized", "loss"),
        differentiable=("input", "codebook"),
        call=call,
        composite=composite,
        samples=samples,
        errors=errors,
        low_outputs=frozenset({"quantized"}),
        elementwise=frozenset({"quantized"}),
        options={"reduction": ("none", "sum"), "beta": (0.25, 0.5), "codebook_weight": (1.0, 0.0)},
        batched=frozenset({"input"}),
        registered=registered,
        more_samples=more_samples,
        saved_extra=8 * 7 * 15,  # the indices
        fuzz=fuzz,
        modules={"VectorQuantizer": _module},
        surrogate=True,
        distinct=frozenset({"codebook"}),  # of equal codes the composite's distances differ by their rounding
    )
]
