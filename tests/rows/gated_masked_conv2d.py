"""The row of gated_masked_conv2d."""

import math
import random
from collections.abc import Callable

import torch
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen import _taps
from pygen.functional import gated_masked_conv2d
from rows import gated_activation as gate
from rows import masked_conv2d as convolution

HOLES = convolution.HOLES
ABOVE = ((True,) * 3, (False,) * 3, (False,) * 3)
ARGUMENTS = ("input", "weight", "bias", "add", "cond", "side", "side_weight")
MAP, ROW = "map", "row"  # a cond of every pixel's own, or one for an image


def tensors(
    n: int, ins: int, half: int, size: tuple[int, int], kernel: tuple[int, int],
    *, add: bool = True, cond: str = "", bias: bool = True, side: int | None = None,
) -> dict[str, Tensor]:  # fmt: skip
    t = convolution.tensors(n, ins, 2 * half, size, kernel, bias)
    g = torch.Generator().manual_seed(7)
    t["weight"] = t["weight"] / max(ins * kernel[0] * kernel[1], 1) ** 0.5  # gates that are neither shut nor open
    shapes = {"add": (n, 2 * half, *size)} if add else {}
    if cond:
        shapes["cond"] = (n, 2 * half, *size) if cond == MAP else (n, 2 * half)
    t |= {k: torch.randn(s, generator=g, dtype=torch.float64) for k, s in shapes.items()}
    if side is not None:
        t["side"] = torch.randn(n, side, *size, generator=g, dtype=torch.float64)
        t["side_weight"] = torch.randn(2 * half, side, 1, 1, generator=g, dtype=torch.float64) / max(side, 1) ** 0.5
    return t


def on_grid(t: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sums that come out exactly: of a gate behind long ones, which has their absolute error, float64 is no truth."""
    return {k: (v * 64).round() / 64 for k, v in t.items()}


def composite(
    t: dict[str, Tensor], options: dict, rounded: Callable = lambda x, gradient=False: x
) -> tuple[Tensor, Tensor]:
    """As people write it. rounded: see Op.rounds_between."""
    (pre,) = convolution.composite({k: v for k, v in t.items() if k in ARGUMENTS[:3]}, options)
    if "side" in t:
        pre = rounded(pre) + rounded(torch.einsum("nkhw,ok->nohw", t["side"], t["side_weight"].flatten(1)))
    if "add" in t:
        pre = rounded(pre) + t["add"]
    pre = rounded(rounded(pre), gradient=True)
    gated = {"input": pre} | ({"cond": t["cond"]} if "cond" in t else {})
    return pre, *gate.composite(gated, {"color_groups": options.get("color_groups", 1)})


def call(t: dict[str, Tensor], options: dict, backend: str | None) -> tuple[Tensor, Tensor]:
    given = {k: t.get(k) for k in ARGUMENTS[3:]} | {"backend": backend, **options}
    return gated_masked_conv2d(t["input"], t["weight"], t.get("bias"), **given)


def samples() -> list[Sample]:
    return [
        Sample("one element", tensors(1, 1, 1, (1, 1), (1, 1)), {"mask_type": "B"}),
        Sample("odd everything", tensors(3, 5, 5, (5, 3), (3, 3), cond=ROW, side=7), {"mask_type": "B"}),
        Sample("narrow rows", tensors(2, 6, 6, (11, 2), (1, 3), cond=MAP, side=12), {"mask_type": "A", "color_groups": 3}),
        Sample("channels beyond a tile", on_grid(tensors(1, 17, 35, (5, 25), (1, 3), cond=MAP)), {"mask_type": "B"}, small=False),
        Sample(
            "minimal filtering",
            on_grid(tensors(2, 18, 33, (5, 12), (3, 3), cond=ROW)),
            {"mask_type": "B", "color_groups": 3},
            small=False,
        ),
        Sample("vertical stack", on_grid(tensors(2, 4, 6, (6, 7), (3, 3), add=False, side=5)), {"mask_type": ABOVE}),
        Sample("dilation alone", tensors(2, 4, 3, (7, 6), (3, 3), bias=False), {"mask_type": HOLES, "dilation": 3}),
        Sample("nothing live", tensors(2, 2, 2, (3, 4), (3, 3), cond=ROW, side=3), {"mask_type": convolution.NOTHING}),
        Sample("empty batch", tensors(0, 3, 2, (3, 3), (3, 3), cond=ROW, side=3), {"mask_type": "B"}),
        Sample("empty inner dim", tensors(2, 0, 2, (3, 3), (3, 3), side=2), {"mask_type": "A"}),
        Sample("empty side", tensors(2, 2, 2, (3, 3), (3, 3), side=0), {"mask_type": "A"}),
        Sample("tiny", tensors(2, 2, 2, (2, 3), (3, 3), cond=ROW, side=3), {"mask_type": "B", "color_groups": 2}),
    ]  # fmt: skip


def more_samples() -> list[Sample]:
    """A large batch, and strides that say little."""
    big, odd = tensors(1, 1, 1, (1, 1), (1, 1)), tensors(3, 5, 5, (5, 3), (3, 5), cond=MAP)
    big = {k: t.expand(65536, *t.shape[1:]).contiguous() if k in ("input", "add") else t for k, t in big.items()}
    n1hw, nc11 = tensors(3, 1, 1, (5, 3), (3, 5)), tensors(3, 5, 5, (1, 1), (3, 5))
    for t in (n1hw, nc11):
        for k in ("input", "add"):
            t[k] = t[k].contiguous(memory_format=torch.channels_last)
    last = {k: t.contiguous(memory_format=torch.channels_last) if t.dim() == 4 else t for k, t in odd.items()}
    turned = {k: t.transpose(0, -1).contiguous().transpose(0, -1) for k, t in odd.items()}
    named = {"batch 65536": big, "N1HW": n1hw, "NC11": nc11, "channels_last": last, "transposed": turned}
    return [Sample(name, t, {"mask_type": "B"}) for name, t in named.items()]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    t = sample.cast(dtype)
    given = [t[k].requires_grad_() if k in t else None for k in ARGUMENTS]
    kind, groups = sample.options["mask_type"], sample.options.get("color_groups", 1)
    taps = _taps.live_taps("test", kind, groups, *t["weight"].shape[2:])
    mask = (taps, groups, kind == "A", sample.options.get("dilation", 1))
    return [(torch.ops.pygen.gated_masked_conv2d.default, (*given, *mask, "auto"))]


def errors() -> list[ErrorInput]:
    """Those of masked_conv2d, in this op's name, and its own."""
    x, w, b = torch.zeros(2, 4, 5, 5), torch.zeros(12, 4, 3, 3), torch.zeros(12)
    add, cond = torch.zeros(2, 12, 5, 5), torch.zeros(2, 12)
    side, mix = torch.zeros(2, 3, 5, 5), torch.zeros(12, 3, 1, 1)

    def error(name: str, kind: type[Exception], match: str, given: dict | None = None, **options: object) -> ErrorInput:
        tensors = {"input": x, "weight": w, "bias": b, "add": add, "cond": cond, "side": side, "side_weight": mix}
        tensors |= given or {}
        return ErrorInput(name, tensors, {"mask_type": "B", **options}, kind, match)

    none = {"add": None, "cond": None, "side": None, "side_weight": None}
    odd = {"weight": w[:11], "bias": None, **none}
    own = [
        error("halves", ValueError, r"weight: expected a multiple of 2 output channels \(two halves in 1 groups\), got 11", odd),
        error("halves in groups", ValueError, r"weight: expected a multiple of 4 .* got 10 channels",
              {"weight": w[:10], "bias": None, **none}, color_groups=2),
        error("add shape", ValueError, r"add: expected the shape \[2, 12, 5, 5\], got \[2, 12, 5, 1\]", {"add": add[..., :1]}),
        error("add dims", ValueError, r"add: expected the shape \[2, 12, 5, 5\], got \[2, 12\]", {"add": cond}),
        error("add dtype", TypeError, r"add: expected torch.float32, the dtype of input", {"add": add.double()}),
        error("add device", ValueError, r"add: expected a tensor on cpu, where input is", {"add": add.to("meta")}),
        error("add number", TypeError, r"add: expected a torch.Tensor, got float", {"add": 0.0}),
        error("cond shape", ValueError, r"cond: expected the shape \[2, 12\] or \[2, 12, 5, 5\], got \[12\]", {"cond": cond[0]}),
        error("cond broadcast", ValueError, r"cond: expected the shape", {"cond": add[:, :, :1, :1]}),
        error("cond dtype", TypeError, r"cond: expected torch.float32, the dtype of input", {"cond": cond.half()}),
        error("side alone", TypeError, r"side_weight: expected a tensor, as side and side_weight belong together, got None",
              {"side_weight": None}),
        error("side_weight alone", TypeError, r"side: expected a tensor, as side", {"side": None}),
        error("side shape", ValueError, r"side: expected the shape \[2, K, 5, 5\], got \[2, 3, 5, 1\]", {"side": side[..., :1]}),
        error("side dims", ValueError, r"side: expected the shape \[2, K, 5, 5\], got \[2, 3\]", {"side": side[..., 0, 0]}),
        error("side dtype", TypeError, r"side: expected torch.float32, the dtype of input", {"side": side.double()}),
        error("side_weight shape", ValueError, r"side_weight: expected the shape \[12, 3, 1, 1\], got \[12, 2, 1, 1\]",
              {"side_weight": mix[:, :2]}),
        error("side_weight device", ValueError, r"side_weight: expected a tensor on cpu", {"side_weight": mix.to("meta")}),
        error("cond sparse", TypeError, r"cond: expected a strided", {"cond": cond.to_sparse()}),
    ]  # fmt: skip
    return own + [
        ErrorInput(e.name, {**e.tensors, **none}, e.options, e.error, e.match)
        for e in convolution.errors()
        if "add" not in e.name
    ]


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    shapes, options = convolution.fuzz(rng)
    shapes.pop("add", None)
    (n, _, h, w), (outs, *rest) = shapes["input"], shapes["weight"]
    groups = options["color_groups"]
    outs = 2 * groups * min(outs // groups, 9)
    shapes["weight"] = (outs, *rest)
    if "bias" in shapes:
        shapes["bias"] = (outs,)
    if rng.random() < 0.6:
        shapes["add"] = (n, outs, h, w)
    if rng.random() < 0.6:
        shapes["cond"] = rng.choice(((n, outs), (n, outs, h, w)))
    if rng.random() < 0.5:
        side = rng.choice((1, 3, 17))
        shapes |= {"side": (n, side, h, w), "side_weight": (outs, side, 1, 1)}
    return shapes, {k: v for k, v in options.items() if k != "dilation"} if rng.random() < 0.5 else options


ROWS = [
    Op(
        name="gated_masked_conv2d",
        outputs=("pre", "out"),
        differentiable=ARGUMENTS,
        call=call,
        composite=composite,
        samples=samples,
        errors=errors,
        low_outputs=frozenset({"pre", "out"}),
        kept=frozenset({"pre"}),
        options={"mask_type": ("A", "B"), "dilation": (1, 2)},
        autocast="cast",
        unsaved=frozenset({"bias", "add"}),
        batched=frozenset({"input", "add", "cond", "side"}),
        registered=registered,
        fuzz=fuzz,
        # What is not finite in pre is so in its gradient, which meets the padding's zeros: NaN for torch, not for the reference.
        finite=frozenset(ARGUMENTS),
        rounds_between=lambda dtype: dtype,
        # The gate of a rounded number has the number's error: no rule for outputs of at most 1 holds where it is large.
        gentle={
            k: (lambda s: max(math.prod(s[1:]), 1) ** -0.5) if k.endswith("weight") else (lambda s: 1.0)
            for k in ARGUMENTS
        },
        more_samples=more_samples,
    )
]
