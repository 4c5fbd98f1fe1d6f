"""The row of masked_linear."""

import numpy as np
import torch
import torch.nn.functional as F
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen import nn as pnn
from pygen.functional import masked_linear
from pygen.reference.masked_linear import live_mask


def degrees(count: int, most: int, seed: int) -> tuple[int, ...]:
    """In no order, with repetitions."""
    g = torch.Generator().manual_seed(seed)
    return tuple(torch.randint(most + 1, (count,), generator=g).tolist())


def options(ins: int, outs: int, most: int, strict: bool) -> dict:
    return {"in_degrees": degrees(ins, most, 1), "out_degrees": degrees(outs, most, 2), "strict": strict}


def tensors(lead: tuple[int, ...], ins: int, outs: int, bias: bool = True) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(7)
    shapes = {"input": (*lead, ins), "weight": (outs, ins)} | ({"bias": (outs,)} if bias else {})
    return {k: torch.randn(s, generator=g, dtype=torch.float64) for k, s in shapes.items()}


def composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor]:
    """As people write it."""
    mask = live_mask(options["in_degrees"], options["out_degrees"], options["strict"], t["weight"].device)
    return (F.linear(t["input"], t["weight"] * mask.to(t["weight"].dtype), t.get("bias")),)


def call(t: dict[str, Tensor], options: dict, backend: str | None) -> tuple[Tensor]:
    return (masked_linear(t["input"], t["weight"], t.get("bias"), backend=backend, **options),)


def samples() -> list[Sample]:
    nothing = {"in_degrees": (3,) * 5, "out_degrees": (1,) * 4, "strict": True}
    return [
        Sample("one element", tensors((1,), 1, 1), {"in_degrees": (1,), "out_degrees": (1,), "strict": False}),
        Sample("odd everything", tensors((7,), 11, 13), options(11, 13, 5, True)),
        Sample("several dims", tensors((2, 3, 5), 17, 33, bias=False), options(17, 33, 17, False)),
        Sample("narrow rows", tensors((331,), 3, 2), options(3, 2, 2, False)),
        Sample("beyond a panel", tensors((13,), 140, 41), options(140, 41, 139, True), small=False),
        Sample("nothing live", tensors((3,), 5, 4), nothing),
        Sample("empty batch", tensors((0,), 5, 4), options(5, 4, 3, False)),
        Sample("no inputs", tensors((3,), 0, 4), options(0, 4, 3, False)),
        Sample("tiny", tensors((2,), 3, 4), {"in_degrees": (2, 0, 1), "out_degrees": (1, 3, 0, 2), "strict": False}),
    ]


def more_samples() -> list[Sample]:
    """A large batch, and strides that say little."""
    one = {"in_degrees": (1,), "out_degrees": (1,), "strict": False}
    big = tensors((1,), 1, 1)
    big["input"] = big["input"].expand(65536, 1).contiguous()
    turned = {k: t.t().contiguous().t() if t.dim() == 2 else t for k, t in tensors((7,), 11, 13).items()}
    return [Sample("batch 65536", big, one), Sample("transposed", turned, options(11, 13, 5, False))]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    t = sample.cast(dtype)
    x, weight, bias = (t[k].requires_grad_() if k in t else None for k in ("input", "weight", "bias"))
    given = (sample.options["in_degrees"], sample.options["out_degrees"], sample.options["strict"])
    grad = torch.randn(*x.shape[:-1], weight.shape[0]).to(dtype).requires_grad_()
    ops = torch.ops.pygen
    return [
        (ops.masked_linear.default, (x, weight, bias, *given, "auto")),
        (ops.masked_linear_grad_input.default, (grad, weight, *given, "auto")),
        (ops.masked_linear_grad_weight.default, (grad, x, *given, bias is not None, "auto")),
    ]


def errors() -> list[ErrorInput]:
    x, w, b = torch.zeros(2, 4), torch.zeros(3, 4), torch.zeros(3)

    def error(name: str, kind: type[Exception], match: str, given: dict | None = None, **other: object) -> ErrorInput:
        options = {"in_degrees": (0, 1, 2, 3), "out_degrees": (1, 2, 3), "strict": True, **other}
        return ErrorInput(name, {"input": x, "weight": w, "bias": b} | (given or {}), options, kind, match)

    return [
        error("input array", TypeError, r"input: expected a torch.Tensor, got ndarray", {"input": np.zeros((2, 4))}),
        error("input dims", ValueError, r"input: expected at least one dim", {"input": x[0, 0]}),
        error("input int", TypeError, r"input: expected float64, .* got torch.int64", {"input": x.long()}),
        error("input sparse", TypeError, r"input: expected a strided", {"input": x.to_sparse()}),
        error("weight shape", ValueError, r"weight: expected the shape \[out, 4\], got \[4, 3\]", {"weight": w.t()}),
        error("weight dims", ValueError, r"weight: expected the shape \[out, 4\]", {"weight": w[0]}),
        error("weight dtype", TypeError, r"weight: expected torch.float32, the dtype of input", {"weight": w.double()}),
        error("weight device", ValueError, r"weight: expected a tensor on cpu, where input is", {"weight": w.to("meta")}),
        error("bias shape", ValueError, r"bias: expected the shape \[3\] of the outputs, got \[2\]", {"bias": b[:2]}),
        error("bias dtype", TypeError, r"bias: expected torch.float32, the dtype of input", {"bias": b.half()}),
        error("bias number", TypeError, r"bias: expected a torch.Tensor, got float", {"bias": 0.0}),
        error("degrees number", TypeError, r"in_degrees: expected a tuple of int, got int", in_degrees=4),
        error("degrees array", TypeError, r"a tuple of int \(tuple\(degrees", in_degrees=np.arange(4)),
        error("degrees float", TypeError, r"out_degrees: expected a tuple of int", out_degrees=(1.0, 2.0, 3.0)),
        error("degrees count", ValueError, r"in_degrees: expected 4 degrees, .* got 3", in_degrees=(0, 1, 2)),
        error("strict int", TypeError, r"strict: expected a bool, got int", strict=1),
        error("backend name", ValueError, r"backend: expected one of .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run", backend="cuda"),
    ]  # fmt: skip


ROWS = [
    Op(
        name="masked_linear",
        outputs=("output",),
        differentiable=("input", "weight", "bias"),
        call=call,
        composite=composite,
        samples=samples,
        errors=errors,
        low_outputs=frozenset({"output"}),
        options={"strict": (True, False)},
        autocast="cast",
        unsaved=frozenset({"bias"}),
        batched=frozenset({"input"}),
        registered=registered,
        more_samples=more_samples,
        modules={
            "MaskedLinear": lambda: (
                pnn.MaskedLinear((1, 2, 0, 1), (1, 0, 2), strict=False),
                (torch.randn(5, 4),),
            )
        },
    )
]
