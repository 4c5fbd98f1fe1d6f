"""The row of sample_dot, the per-sample sums of gradient_penalty: squared norms, and products of two batches."""

import random

import torch
from layouts import SHAPES, fuzz_shape
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen.ops.sample_dot import sample_dot


def _tensors(shape: tuple[int, ...], pair: bool = False) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(2)
    names = ("x", "y") if pair else ("x",)
    # Mostly of one sign, as squares are: of sums that cancel no precision leaves digits.
    return {n: torch.randn(shape, generator=g, dtype=torch.float64) * 0.5 + 1 for n in names}


def _composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor, ...]:
    x = t["x"]
    products = x * t.get("y", x)
    return (products.reshape(len(x), -1).sum(1) if products.numel() else products.sum() + products.new_zeros(len(x)),)


def _samples() -> list[Sample]:
    return [
        Sample("one element", _tensors(SHAPES["one element"])),
        Sample("odd everything", _tensors(SHAPES["odd everything"], pair=True)),
        Sample("squares", _tensors((5, 3, 7, 2))),
        Sample("one block of 1024", _tensors((4, 256))),
        Sample("one dim", _tensors((11,), pair=True)),
        Sample("narrow rows", _tensors((331, 3))),
        Sample("a block plus one", _tensors((1, 4097))),
        Sample("many blocks a row", _tensors((2, 3, 100, 101)), small=False),
        Sample("empty", _tensors(SHAPES["empty batch"])),
        Sample("empty rows", _tensors(SHAPES["empty inner dim"], pair=True)),
    ]


def _call(tensors: dict, options: dict, backend: str | None) -> tuple[Tensor, ...]:
    return (sample_dot(**tensors, **options, backend=backend),)


def _registered(sample: Sample, dtype: torch.dtype) -> list:
    tensors = sample.cast(dtype)
    x, y = (None if t is None else t.clone().requires_grad_() for t in (tensors["x"], tensors.get("y")))
    factor = torch.linspace(-1, 1, len(x), dtype=torch.promote_types(dtype, torch.float32)).requires_grad_()
    ops = torch.ops.pygen
    return [(ops.sample_dot.default, (x, y, "auto")), (ops.sample_dot_backward.default, (factor, x, "auto"))]


def _errors() -> list[ErrorInput]:
    x = torch.zeros(3, 4)

    def error(name: str, cls: type[Exception], match: str, tensors: dict) -> ErrorInput:
        return ErrorInput(name, {"x": x} | tensors, {}, cls, match)

    return [
        error("x number", TypeError, r"x: expected a torch.Tensor, got float", {"x": 1.0}),
        error("x int", TypeError, r"x: expected float64, .* got torch.int64", {"x": x.long()}),
        error("x sparse", TypeError, r"x: expected a strided", {"x": x.to_sparse()}),
        error("x without a batch", ValueError, r"x: expected at least one dim", {"x": x[0, 0]}),
        error("y list", TypeError, r"y: expected a torch.Tensor, got list", {"y": [1.0]}),
        error("y shape", ValueError, r"y: expected \[3, 4\], the shape of x, got \[4, 3\]", {"y": x.view(4, 3)}),
        error("y dtype", TypeError, r"y: expected torch.float32, the dtype of x", {"y": x.double()}),
        error("y device", ValueError, r"y: expected a tensor on cpu, where x is, got meta", {"y": x.to("meta")}),
    ]


def _fuzz(rng: random.Random) -> tuple[dict, dict]:
    shape = fuzz_shape(rng, (1, 4))
    return ({"x": shape, "y": shape} if rng.random() < 0.5 else {"x": shape}), {}


ROWS = [
    Op(
        name="sample_dot",
        outputs=("sums",),
        differentiable=("x", "y"),
        call=_call,
        composite=_composite,
        samples=_samples,
        errors=_errors,
        registered=_registered,
        fuzz=_fuzz,
    )
]
