"""The row of affine_coupling."""

import random
from collections.abc import Callable

import numpy as np
import torch
from registry import ErrorInput, Op, Sample
from torch import Tensor, nn

from pygen import nn as pnn
from pygen.functional import affine_coupling


def half_shape(shape: tuple[int, ...], mask: str = "channel", flip: bool = False) -> tuple[int, ...]:
    """Of the transformed half."""
    return (shape[0], shape[1] - shape[1] // 2 if flip else shape[1] // 2, *shape[2:])


def tensors(
    shape: tuple[int, ...], params: tuple[int, ...] | None = None, *, additive: bool = False, scale: float = 1.0
) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(5)
    params = shape if params is None else params
    shapes = {"input": shape, "shift": params} | ({} if additive else {"log_scale": params})
    return {k: torch.randn(s, generator=g, dtype=torch.float64) * scale for k, s in shapes.items()}


def positive(t: dict[str, Tensor]) -> dict[str, Tensor]:
    """Log scales of one sign: the rounding of a long sum is that of its terms, not of what they leave when they cancel."""
    return t | {"log_scale": t["log_scale"].abs()}


def live(shape: tuple[int, ...], mask: str | None, flip: bool) -> Tensor:
    """The mask as people make it, [1, C, ...]: 1 where the places are transformed."""
    m = torch.zeros(1, *shape[1:], dtype=torch.bool)
    if mask is None:
        m[:] = True
    elif mask == "channel":
        m[:, (shape[1] + 1) // 2 :] = True
    elif mask == "even_odd":
        m[:, 1::2] = True
    else:
        m[..., ::2, ::2] = m[..., 1::2, 1::2] = True
    return m != flip


def by_sign(y: Tensor, f: Callable[[Tensor], Tensor], g: Callable[[Tensor], Tensor]) -> Tensor:
    """f(y) where y >= 0, else g(-y)."""
    return torch.where(y >= 0, f(y.clamp(min=0)), g((-y).clamp(min=0)))


def factor(s: Tensor, scale: str, bound: float | None) -> tuple[Tensor, Tensor]:
    """(log factor, the factor of "sigmoid"). Of exponentials that fall: torch takes 1 - tanh^2 and 1 - sigmoid for slopes, which
    have no digits left where these are all but 1."""
    if scale == "tanh":
        tanh = by_sign(s / bound, half_tanh, lambda y: -half_tanh(y))
        return bound * tanh, s
    y = s + 2
    k = by_sign(y, lambda y: 1 / (1 + torch.exp(-y)), lambda y: torch.exp(-y) / (1 + torch.exp(-y)))
    return (torch.nn.functional.logsigmoid(y), k) if scale == "sigmoid" else (s, s)


def half_tanh(y: Tensor) -> Tensor:
    e = torch.exp(-2 * y)  # the slope of expm1 is its value and 1
    return torch.where(y < 0.5, -torch.expm1(-2 * y), 1 - e) / (1 + e)


def composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor, Tensor]:
    """With a mask; e^f as a square, so that 0 times infinity is 0 as in the op, whatever dtype counts as infinite."""
    x, shift, s = t["input"], t["shift"], t.get("log_scale")
    mask, flip, inverse = options.get("mask", "channel"), options.get("flip", False), options.get("inverse", False)
    m = live(tuple(x.shape), mask, flip)
    if shift.shape != x.shape:
        index = live((1, x.shape[1]), mask, flip)[0].nonzero()[:, 0]
        shift, s = (None if p is None else torch.zeros_like(x).index_copy(1, index, p) for p in (shift, s))
    shift = torch.where(m, shift, 0)
    if s is None:
        return torch.where(m, x - shift if inverse else x + shift, x), x.new_zeros(len(x))
    s = torch.where(m, s, 0)
    f, k = factor(s, options.get("scale", "exp"), options.get("bound"))
    if options.get("scale") == "sigmoid":
        out = (x - shift) / k if inverse else x * k + shift
    else:
        most = 88.0 if x.dtype == torch.float32 else 708.0
        h = (-f if inverse else f) / 2
        root = torch.exp(
            torch.where(h > most, most, torch.where(h < -most, -most, h))
        )  # the slope of clamp at NaN is 0
        out = (x - shift) * root * root if inverse else x * root * root + shift
    log_det = torch.where(m, -f if inverse else f, 0)
    return torch.where(m, out, x), log_det.sum(tuple(range(1, x.dim())))


def call(t: dict[str, Tensor], options: dict, backend: str | None) -> tuple[Tensor, Tensor]:
    return affine_coupling(t["input"], t["shift"], t.get("log_scale"), backend=backend, **options)


def samples() -> list[Sample]:
    odd, map_ = (3, 5, 5, 3), (2, 4, 6, 5)
    return [
        Sample("one element", tensors((1, 2), (1, 1))),
        Sample("odd everything", tensors(odd), {"mask": "checkerboard"}),
        Sample("odd half", tensors(odd, half_shape(odd, flip=True)), {"flip": True, "inverse": True}),
        Sample("map", tensors(map_), {"mask": "checkerboard", "flip": True, "scale": "tanh", "bound": 1.5, "inverse": True}),
        Sample("full channel", tensors((2, 6, 3, 2)), {"scale": "sigmoid"}),
        Sample("rows", tensors((37, 9), (37, 4)), {"mask": "even_odd", "scale": "sigmoid", "inverse": True}),
        Sample("full rows", tensors((3, 70)), {"mask": "even_odd", "flip": True, "scale": "tanh", "bound": 2}),
        Sample("no mask", tensors((5, 7)), {"mask": None}),
        Sample("additive", tensors((3, 7, 4), (3, 3, 4), additive=True), {"inverse": True}),
        Sample("blocks of 1024", positive(tensors((2, 6, 33, 31), (2, 3, 33, 31))), small=False),
        Sample("empty batch", tensors((0, 4, 3, 3), (0, 2, 3, 3))),
        Sample("no pixels", tensors((2, 4, 0, 3)), {"mask": "checkerboard"}),
        Sample("tiny", tensors((2, 3, 2, 1), (2, 1, 2, 1))),
    ]  # fmt: skip


def more_samples() -> list[Sample]:
    """A large batch, and strides that say little."""
    big = {k: t.expand(65536, -1).contiguous() for k, t in tensors((1, 2), (1, 1)).items()}
    odd = tensors((3, 5, 5, 3), (3, 2, 5, 3))
    last = {k: t.contiguous(memory_format=torch.channels_last) for k, t in odd.items()}
    turned = {k: t.transpose(0, -1).contiguous().transpose(0, -1) for k, t in odd.items()}
    chunks = tensors((3, 4, 5, 3), (3, 4, 5, 3), additive=True)
    shift, log_scale = chunks["shift"].chunk(2, 1)
    one, both = tensors((2, 1, 3)), tensors((9, 6, 3))["input"]
    named = {
        "batch 65536": (big, {}),
        "channels_last": (last, {}),
        "channels_last board": (last | {k: last["input"] for k in ("shift", "log_scale")}, {"mask": "checkerboard"}),
        "transposed": (turned, {"inverse": True}),
        "chunks": ({"input": chunks["input"], "shift": shift, "log_scale": log_scale}, {"mask": "even_odd"}),
        "no mask channels_last": (
            last | {k: last["input"] for k in ("shift", "log_scale")},
            {"mask": None, "inverse": True},
        ),
        "interleaved": ({k: both[..., i] for i, k in enumerate(("input", "shift", "log_scale"))}, {"mask": None}),
        "one channel": (one, {"flip": True}),
        "one channel that passes": (one, {}),
        "five dims": (tensors((2, 3, 2, 3, 2), (2, 1, 2, 3, 2)), {}),
    }
    return [Sample(name, t, options) for name, (t, options) in named.items()]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    t = {k: v.requires_grad_() for k, v in sample.cast(dtype).items()}
    x, shift, log_scale = t["input"], t["shift"], t.get("log_scale")
    o = sample.options
    inverse = o.get("inverse", False)
    options = (
        o.get("mask", "channel") or "all",
        o.get("flip", False),
        o.get("scale", "exp"),
        float(o.get("bound", 1.0)),
        inverse,
    )
    wide = torch.promote_types(dtype, torch.float32)
    affine = log_scale is not None
    grads = torch.randn(x.shape).to(dtype).requires_grad_(), torch.randn(len(x)).to(wide).requires_grad_()
    kept = (x if affine else None, shift if affine and inverse else None, log_scale)
    half, ops = shift.shape != x.shape, torch.ops.pygen
    return [
        (ops.affine_coupling.default, (x, shift, log_scale, *options, "auto")),
        (ops.affine_coupling_backward.default, (*grads, *kept, half, *options, [True, True, affine], "auto")),
    ]  # fmt: skip


def errors() -> list[ErrorInput]:
    x, s = torch.zeros(2, 5, 4, 3), torch.zeros(2, 2, 4, 3)

    def error(name: str, kind: type[Exception], match: str, given: dict | None = None, **options: object) -> ErrorInput:
        return ErrorInput(name, {"input": x, "shift": s, "log_scale": s} | (given or {}), options, kind, match)

    return [
        error("input array", TypeError, r"input: expected a torch.Tensor, got ndarray", {"input": np.zeros((2, 4))}),
        error("input int", TypeError, r"input: expected float64, .* got torch.int64", {"input": x.long()}),
        error("input sparse", TypeError, r"input: expected a strided", {"input": x.to_sparse()}),
        error("input dims", ValueError, r"input: expected at least two dims \[N, C, ...\], got \[3\]", {"input": x[0, 0, 0]}),
        error("board dims", ValueError, r"input: expected at least three dims \[N, ..., H, W\], got \[4, 3\]", {"input": x[0, 0]},
              mask="checkerboard"),
        error("shift list", TypeError, r"shift: expected a torch.Tensor, got list", {"shift": [1.0]}),
        error("shift dtype", TypeError, r"shift: expected torch.float32,.* got torch.float64", {"shift": s.double()}),
        error("shift device", ValueError, r"shift: expected a tensor on cpu, where input is, got meta", {"shift": s.to("meta")}),
        error("shift shape", ValueError, r"shift: expected input's shape \[2, 5, 4, 3\] or \[2, 3, 4, 3\], its transformed half",
              flip=True),
        error("shift of a board", ValueError, r"shift: expected input's shape \[2, 5, 4, 3\], got \[2, 2, 4, 3\]",
              mask="checkerboard"),
        error("log_scale shape", ValueError, r"log_scale: expected shift's shape \[2, 2, 4, 3\], got", {"log_scale": x}),
        error("log_scale dtype", TypeError, r"log_scale: expected torch.float32, the dtype of input", {"log_scale": s.half()}),
        error("log_scale number", TypeError, r"log_scale: expected a torch.Tensor, got float", {"log_scale": 1.0}),
        error("log_scale missing", ValueError, r"log_scale: expected a tensor, since scale is 'tanh'", {"log_scale": None},
              scale="tanh", bound=1.0),
        error("mask name", ValueError, r"mask: expected None, 'channel', .* or 'even_odd', got 'channels'", mask="channels"),
        error("flip without a mask", ValueError, r"flip: expected False, since mask is None, got True", mask=None, flip=True),
        error("shift of all", ValueError, r"shift: expected input's shape \[2, 5, 4, 3\], got \[2, 2, 4, 3\]", mask=None),
        error("mask array", ValueError, r"mask: expected None, 'channel', .* got array", mask=np.zeros(2)),
        error("flip number", TypeError, r"flip: expected True or False, got 1", flip=1),
        error("inverse number", TypeError, r"inverse: expected True or False, got 0", inverse=0),
        error("scale name", ValueError, r"scale: expected 'exp', 'sigmoid' or 'tanh', got 'softplus'", scale="softplus"),
        error("bound missing", TypeError, r"bound: expected a positive number, since .* got NoneType", scale="tanh"),
        error("bound unasked", ValueError, r"bound: expected None, since scale is 'exp', got 2.0", bound=2.0),
        error("bound zero", ValueError, r"bound: expected 1e-6 <= bound <= 1e6, got 0", scale="tanh", bound=0),
        error("bound nan", ValueError, r"bound: expected 1e-6 <= bound <= 1e6, got nan", scale="tanh", bound=float("nan")),
        error("backend name", ValueError, r"backend: expected one of reference, .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run: it runs on CUDA tensors", backend="cuda"),
    ]  # fmt: skip


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    shape = tuple(rng.choice((1, 2, 3, 5, 8)) for _ in range(rng.choice((2, 3, 4, 4, 5))))
    masks = (None, "channel", "even_odd") if len(shape) == 2 else (None, "channel", "even_odd", "checkerboard")
    mask, flip = rng.choice(masks), rng.random() < 0.5
    options: dict = {"mask": mask, "flip": flip and mask is not None, "inverse": rng.random() < 0.5}
    half = mask in ("channel", "even_odd") and rng.random() < 0.5
    params = half_shape(shape, flip=options["flip"]) if half else shape
    shapes = {"input": shape, "shift": params}
    if rng.random() < 0.8:
        shapes["log_scale"] = params
        options |= rng.choice(
            ({"scale": "exp"}, {"scale": "sigmoid"}, {"scale": "tanh", "bound": rng.choice((0.7, 3))})
        )
    return shapes, options


def _module():
    return pnn.AffineCoupling(nn.Linear(2, 4), mask="even_odd", scale="tanh", bound=2.0), (torch.randn(3, 4),)


def _autoregressive():
    layer = pnn.MaskedAutoregressive(4, (5, 6), cond_features=2, scale="tanh", bound=2.0)
    nn.init.normal_(layer.layers[-1].weight, std=0.3)  # which begins with zeros
    return layer, (torch.randn(3, 4), torch.randn(3, 2))


ROWS = [
    Op(
        name="affine_coupling",
        outputs=("output", "log_det"),
        differentiable=("input", "shift", "log_scale"),
        call=call,
        composite=composite,
        samples=samples,
        errors=errors,
        low_outputs=frozenset({"output"}),
        elementwise=frozenset({"output"}),
        options={
            "mask": ("channel", "even_odd"),
            "flip": (False, True),
            "scale": ("exp", "sigmoid"),
            "inverse": (False, True),
        },
        batched=frozenset({"input", "shift", "log_scale"}),
        unsaved=frozenset({"shift"}),
        registered=registered,
        more_samples=more_samples,
        fuzz=fuzz,
        modules={"AffineCoupling": _module, "MaskedAutoregressive": _autoregressive},
    )
]
