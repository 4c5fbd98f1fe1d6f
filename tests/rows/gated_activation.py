"""The row of gated_activation."""

import numpy as np
import torch
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen.functional import gated_activation


def tensors(shape: tuple[int, ...], cond: tuple[int, ...] | None = None, scale: float = 2.0) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(5)
    shapes = {"input": shape} | ({} if cond is None else {"cond": cond})
    return {k: torch.randn(s, generator=g, dtype=torch.float64) * scale for k, s in shapes.items()}


def composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor]:
    """As people write it."""
    x, cond, groups = t["input"], t.get("cond"), options.get("color_groups", 1)
    if cond is not None:
        x = x + (cond if cond.dim() == x.dim() else cond.reshape(*cond.shape, *[1] * (x.dim() - 2)))
    halves = [block.chunk(2, dim=1) for block in x.chunk(groups, dim=1)]
    return (torch.cat([torch.tanh(a) * torch.sigmoid(b) for a, b in halves], dim=1),)


def call(t: dict[str, Tensor], options: dict, backend: str | None) -> tuple[Tensor]:
    return (gated_activation(t["input"], t.get("cond"), backend=backend, **options),)


def samples() -> list[Sample]:
    odd = (3, 10, 5, 3)
    return [
        Sample("one element", tensors((1, 2))),
        Sample("odd everything", tensors(odd, odd[:2])),
        Sample("narrow rows", tensors((331, 6), (331, 6)), {"color_groups": 3}),
        Sample("map and groups", tensors((2, 12, 7, 5), (2, 12, 7, 5)), {"color_groups": 3}),
        Sample("blocks of 1024", tensors((2, 6, 33, 31), (2, 6)), small=False),
        Sample("large and one dim", tensors((2, 8, 29), (2, 8), scale=30.0)),
        Sample("empty batch", tensors((0, 4, 3, 3), (0, 4))),
        Sample("no pixels", tensors((2, 4, 0, 3), (2, 4))),
        Sample("tiny", tensors((2, 4, 2, 1), (2, 4)), {"color_groups": 2}),
    ]


def more_samples() -> list[Sample]:
    """A large batch, and strides that say little."""
    big = {"input": tensors((1, 2))["input"].expand(65536, 2).contiguous()}
    odd, n1hw, nc11 = (tensors(s, s[:2]) for s in ((3, 10, 5, 3), (3, 2, 5, 3), (3, 10, 1, 1)))
    for t in (n1hw, nc11):
        t["input"] = t["input"].contiguous(memory_format=torch.channels_last)
    last = {**odd, "input": odd["input"].contiguous(memory_format=torch.channels_last)}
    turned = {k: t.transpose(0, -1).contiguous().transpose(0, -1) for k, t in odd.items()}
    named = {"batch 65536": big, "N1HW": n1hw, "NC11": nc11, "channels_last": last, "transposed": turned}
    return [Sample(name, t, {}) for name, t in named.items()]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    t = sample.cast(dtype)
    x, cond = t["input"].requires_grad_(), t["cond"].requires_grad_() if "cond" in t else None
    groups = sample.options.get("color_groups", 1)
    grad = torch.randn(x.shape[0], x.shape[1] // 2, *x.shape[2:]).to(dtype).requires_grad_()
    ops = torch.ops.pygen
    return [
        (ops.gated_activation.default, (x, cond, groups, "auto")),
        (ops.gated_activation_backward.default, (grad, x, cond, groups, [True, cond is not None], "auto")),
    ]


def errors() -> list[ErrorInput]:
    x, cond = torch.zeros(2, 12, 5, 5), torch.zeros(2, 12)

    def error(name: str, kind: type[Exception], match: str, given: dict | None = None, **options: object) -> ErrorInput:
        return ErrorInput(name, {"input": x, "cond": cond} | (given or {}), options, kind, match)

    return [
        error("input array", TypeError, r"input: expected a torch.Tensor, got ndarray", {"input": np.zeros((2, 4))}),
        error("input dims", ValueError, r"input: expected at least two dims \[N, C, ...\], got \[12\]", {"input": x[0, :, 0, 0]}),
        error("input int", TypeError, r"input: expected float64, .* got torch.int64", {"input": x.long()}),
        error("input sparse", TypeError, r"input: expected a strided", {"input": x.to_sparse()}),
        error("channels", ValueError, r"input: expected a multiple of 2 channels .* got 11", {"input": x[:, 1:], "cond": None}),
        error("groups", ValueError, r"input: expected a multiple of 10 channels", color_groups=5),
        error("groups zero", ValueError, r"color_groups: expected at least 1, got 0", color_groups=0),
        error("groups float", TypeError, r"color_groups: expected an int, got float", color_groups=2.0),
        error("cond shape", ValueError, r"cond: expected the shape \[2, 12\] or \[2, 12, 5, 5\], got \[12\]", {"cond": cond[0]}),
        error("cond broadcast", ValueError, r"cond: expected the shape", {"cond": x[:, :, :1, :1]}),
        error("cond dtype", TypeError, r"cond: expected torch.float32, the dtype of input", {"cond": cond.double()}),
        error("cond device", ValueError, r"cond: expected a tensor on cpu, where input is", {"cond": cond.to("meta")}),
        error("cond number", TypeError, r"cond: expected a torch.Tensor, got float", {"cond": 0.0}),
        error("backend name", ValueError, r"backend: expected one of .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run", backend="cuda"),
    ]  # fmt: skip


ROWS = [
    Op(
        name="gated_activation",
        outputs=("output",),
        differentiable=("input", "cond"),
        call=call,
        composite=composite,
        samples=samples,
        errors=errors,
        low_outputs=frozenset({"output"}),
        elementwise=frozenset({"output"}),
        options={"color_groups": (1, 5)},
        batched=frozenset({"input", "cond"}),
        autocast="cast",
        registered=registered,
        more_samples=more_samples,
    )
]
