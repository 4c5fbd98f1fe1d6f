"""The row of masked_conv2d."""

import random

import numpy as np
import torch
import torch.nn.functional as F
from layouts import fuzz_size
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen import _taps
from pygen import nn as pnn
from pygen.functional import masked_conv2d

HOLES = ((True, False, True), (False, True, True), (True, False, False))
NOTHING = ((False,) * 3,) * 3


def tensors(
    n: int, ins: int, outs: int, size: tuple[int, int], kernel: tuple[int, int], bias: bool = True, add: bool = False
) -> dict:
    g = torch.Generator().manual_seed(3)
    shapes = {"input": (n, ins, *size), "weight": (outs, ins, *kernel)} | ({"bias": (outs,)} if bias else {})
    shapes |= {"add": (n, outs, *size)} if add else {}
    return {k: torch.randn(s, generator=g, dtype=torch.float64) for k, s in shapes.items()}


def composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor]:
    """As people write it."""
    if "add" in t:
        return (composite({k: v for k, v in t.items() if k != "add"}, options)[0] + t["add"],)
    x, weight, bias = t["input"], t["weight"], t.get("bias")
    kind, groups, dilation = options["mask_type"], options.get("color_groups", 1), options.get("dilation", 1)
    masked = weight * _taps.dense_mask(kind, groups, tuple(weight.shape)).to(weight.dtype)
    if 0 in weight.shape[:2]:  # F.conv2d refuses these
        out = (x.sum() * 0 + masked.sum() * 0).expand(len(x), len(weight), *x.shape[2:])
        return (out if bias is None else out + bias.view(1, -1, 1, 1),)
    pads = [side // 2 * dilation for side in weight.shape[2:]]
    return (F.conv2d(x, masked, bias, padding=pads, dilation=dilation),)


def call(t: dict[str, Tensor], options: dict, backend: str | None) -> tuple[Tensor]:
    return (masked_conv2d(t["input"], t["weight"], t.get("bias"), add=t.get("add"), backend=backend, **options),)


def samples() -> list[Sample]:
    return [
        Sample("one element", tensors(1, 1, 1, (1, 1), (1, 1)), {"mask_type": "B"}),
        Sample("odd everything", tensors(3, 5, 7, (5, 3), (3, 5)), {"mask_type": "B"}),
        Sample("narrow rows", tensors(2, 6, 9, (11, 2), (5, 3)), {"mask_type": "A", "color_groups": 3}),
        Sample("channels beyond a tile", tensors(1, 33, 19, (5, 25), (3, 3)), {"mask_type": "B"}, small=False),
        Sample(
            "minimal filtering",
            tensors(2, 18, 21, (6, 26), (3, 5)),
            {"mask_type": "B", "color_groups": 3},
            small=False,
        ),
        Sample("first layer", tensors(1, 3, 6, (8, 9), (7, 7)), {"mask_type": "A", "color_groups": 3}, small=False),
        Sample(
            "pattern and dilation", tensors(2, 4, 3, (7, 6), (3, 3), bias=False), {"mask_type": HOLES, "dilation": 3}
        ),
        Sample("nothing live", tensors(2, 2, 3, (3, 4), (3, 3)), {"mask_type": NOTHING}),
        Sample("empty batch", tensors(0, 3, 4, (3, 3), (3, 3)), {"mask_type": "B"}),
        Sample("empty inner dim", tensors(2, 0, 4, (3, 3), (3, 3)), {"mask_type": "A"}),
        Sample("residual", tensors(2, 6, 6, (5, 3), (1, 1), add=True), {"mask_type": "B", "color_groups": 3}),
        Sample("tiny", tensors(2, 2, 2, (2, 3), (3, 3)), {"mask_type": "B", "color_groups": 2}),
    ]


def more_samples() -> list[Sample]:
    """A large batch, and strides that say little."""
    big, odd, kind = tensors(1, 1, 1, (1, 1), (1, 1)), tensors(3, 5, 7, (5, 3), (3, 5)), {"mask_type": "B"}
    big["input"] = big["input"].expand(65536, 1, 1, 1).contiguous()
    n1hw, nc11 = tensors(3, 1, 2, (5, 3), (3, 5)), tensors(3, 5, 7, (1, 1), (3, 5))
    for t in (n1hw, nc11):
        t["input"] = t["input"].contiguous(memory_format=torch.channels_last)
    last = {k: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for k, t in odd.items()}
    turned = {k: t.transpose(0, -1).contiguous().transpose(0, -1) for k, t in odd.items()}
    named = {"batch 65536": big, "N1HW": n1hw, "NC11": nc11, "channels_last": last, "transposed": turned}
    return [Sample(name, t, kind) for name, t in named.items()]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    t = sample.cast(dtype)
    x, weight, bias = (t[k].requires_grad_() if k in t else None for k in ("input", "weight", "bias"))
    kind, groups = sample.options["mask_type"], sample.options.get("color_groups", 1)
    taps = _taps.live_taps("test", kind, groups, *weight.shape[2:])
    options = (taps, groups, kind == "A", sample.options.get("dilation", 1))
    grad = torch.randn(x.shape[0], weight.shape[0], *x.shape[2:]).to(dtype).requires_grad_()
    ops = torch.ops.pygen
    if "add" in t:
        return [(ops.masked_conv2d_add.default, (x, weight, bias, t["add"].requires_grad_(), *options, "auto"))]
    return [
        (ops.masked_conv2d.default, (x, weight, bias, *options, "auto")),
        (ops.masked_conv2d_grad_input.default, (grad, weight, *options, "auto")),
        (ops.masked_conv2d_grad_weight.default, (grad, x, list(weight.shape[2:]), *options, bias is not None, "auto")),
    ]


def errors() -> list[ErrorInput]:
    x, w, b = torch.zeros(2, 4, 5, 5), torch.zeros(6, 4, 3, 3), torch.zeros(6)

    def error(name: str, kind: type[Exception], match: str, given: dict | None = None, **options: object) -> ErrorInput:
        options = {"mask_type": "B", **options}
        return ErrorInput(name, {"input": x, "weight": w, "bias": b} | (given or {}), options, kind, match)

    return [
        error("input array", TypeError, r"input: expected a torch.Tensor, got ndarray", {"input": np.zeros((2, 4, 5, 5))}),
        error("input dims", ValueError, r"input: expected four dims \[N, Cin, H, W\], got \[4, 5, 5\]", {"input": x[0]}),
        error("input int", TypeError, r"input: expected float64, .* got torch.int64", {"input": x.long()}),
        error("input sparse", TypeError, r"input: expected a strided", {"input": x.to_sparse()}),
        error("weight dims", ValueError, r"weight: expected four dims \[Cout, Cin, kH, kW\]", {"weight": w[0]}),
        error("weight dtype", TypeError, r"weight: expected torch.float32, the dtype of input", {"weight": w.double()}),
        error("weight device", ValueError, r"weight: expected a tensor on cpu, where input is", {"weight": w.to("meta")}),
        error("weight channels", ValueError, r"weight: expected 4 input channels", {"weight": w[:, :3]}),
        error("even kernel", ValueError, r"weight: expected an odd kernel height, got 2 \(padded by", {"weight": w[:, :, :2]}),
        error("even kernel width", ValueError, r"weight: expected an odd kernel width, got 2", {"weight": w[..., :2]}),
        error("bias shape", ValueError, r"bias: expected the shape \[6\] of the output channels, got \[5\]", {"bias": b[:5]}),
        error("bias dtype", TypeError, r"bias: expected torch.float32, the dtype of input", {"bias": b.half()}),
        error("add shape", ValueError, r"add: expected the shape \[2, 6, 5, 5\], got \[2, 6\]", {"add": torch.zeros(2, 6)}),
        error("add dtype", TypeError, r"add: expected torch.float32, the dtype of input", {"add": x.half()}),
        error("bias number", TypeError, r"bias: expected a torch.Tensor, got float", {"bias": 0.0}),
        error("mask_type C", ValueError, r"mask_type: expected 'A', 'B' or a pattern of live taps, got 'C'", mask_type="C"),
        error("mask_type None", TypeError, r"mask_type: expected .* got NoneType", mask_type=None),
        error("pattern of int", TypeError, r"mask_type: expected .* got a pattern of int", mask_type=((1, 0, 1),) * 3),
        error("pattern of float", TypeError, r"mask_type: .* pattern of float", mask_type=np.ones((3, 3))),
        error("mask of channels", TypeError, r"got one of all channels, \[6, 4, 3, 3\]: mask\[0, 0\].bool\(\)",
              mask_type=torch.ones_like(w)),
        error("pattern rows", ValueError, r"mask_type: expected a pattern \[3, 3\], .* 2 rows", mask_type=HOLES[:2]),
        error("pattern ragged", ValueError, r"mask_type: expected a pattern \[3, 3\]", mask_type=(*HOLES[:2], (True,))),
        error("pattern and groups", ValueError, r"color_groups: expected 1 with a pattern", mask_type=HOLES, color_groups=2),
        error("groups input", ValueError, r"color_groups: expected a divisor of the input .*3 or 6.* 4 channels in 3",
              color_groups=3),
        error("groups output", ValueError, r"color_groups: expected a divisor of the weight .* 6 channels in 4",
              color_groups=4),
        error("groups zero", ValueError, r"color_groups: expected at least 1, got 0", color_groups=0),
        error("groups float", TypeError, r"color_groups: expected an int, got float", color_groups=2.0),
        error("dilation zero", ValueError, r"dilation: expected at least 1, got 0", dilation=0),
        error("dilation huge", ValueError, r"dilation: expected less than 2\^31, got 4611686018427387904", dilation=2**62),
        error("dilation pair", TypeError, r"dilation: expected an int, got tuple", dilation=(1, 1)),
        error("backend name", ValueError, r"backend: expected one of .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run", backend="cuda"),
    ]  # fmt: skip


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    groups, dilation = rng.choice((1, 1, 1, 2, 3)), rng.choice((1, 1, 2, 3))
    kernel = (rng.choice((1, 3, 3, 5, 7)), rng.choice((1, 3, 3, 5, 7)))
    ins, outs = groups * fuzz_size(rng, 17), groups * fuzz_size(rng, 17)
    n, h, w = fuzz_size(rng, 5), fuzz_size(rng, 17), fuzz_size(rng, 33)
    shapes = {"input": (n, ins, h, w), "weight": (outs, ins, *kernel)} | (
        {"bias": (outs,)} if rng.random() < 0.7 else {}
    )
    if rng.random() < 0.3:
        shapes["add"] = (n, outs, h, w)
    kind = rng.choice("AB")
    if groups == 1 and rng.random() < 0.3:
        kind = tuple(tuple(rng.random() < 0.5 for _ in range(kernel[1])) for _ in range(kernel[0]))
    return shapes, {"mask_type": kind, "color_groups": groups, "dilation": dilation}


ROWS = [
    Op(
        name="masked_conv2d",
        outputs=("output",),
        differentiable=("input", "weight", "bias", "add"),
        call=call,
        composite=composite,
        samples=samples,
        errors=errors,
        low_outputs=frozenset({"output"}),
        options={"mask_type": ("A", "B"), "dilation": (1, 2)},
        autocast="cast",
        unsaved=frozenset({"bias", "add"}),
        batched=frozenset({"input"}),
        registered=registered,
        fuzz=fuzz,
        finite=frozenset(
            {"weight"}
        ),  # a live inf times the padding's zeros: NaN for torch.conv2d, nothing for the reference
        more_samples=more_samples,
        modules={
            "MaskedConv2d": lambda: (pnn.MaskedConv2d(3, 6, 3, "B", color_groups=3), (torch.randn(2, 3, 5, 4),)),
            "GatedMaskedConv2d": lambda: (
                pnn.GatedMaskedConv2d(4, 4, 3, "B", cond_channels=2),
                (torch.randn(2, 4, 5, 4), torch.randn(2, 4, 5, 4), torch.randn(2, 2)),
            ),
        },
    )
]
