"""The row of rational_quadratic_spline."""

import math
import random
from collections.abc import Callable

import numpy as np
import torch
from registry import ErrorInput, Op, Sample
from support import compute_dtype
from torch import Tensor, nn

from pygen import nn as pnn
from pygen.functional import rational_quadratic_spline
from pygen.reference.models.nsf import spline

LEAST = ("min_bin_width", "min_bin_height", "min_derivative")


def live_index(channels: int, mask: str | None, flip: bool) -> list[int]:
    """Of dim 1, what is transformed."""
    second = [(c >= (channels + 1) // 2) if mask == "channel" else c % 2 == 1 for c in range(channels)]
    return [c for c in range(channels) if mask is None or second[c] != flip]


def numbers(bins: int, options: dict) -> int:
    return 3 * bins - 1 if options.get("tails", "linear") else 3 * bins + 1


def params_shape(shape: tuple[int, ...], bins: int, options: dict) -> tuple[int, ...]:
    live = live_index(shape[1], options.get("mask"), options.get("flip", False))
    return (shape[0], len(live) * numbers(bins, options), *shape[2:])


def tensors(
    shape: tuple[int, ...], bins: int, options: dict | None = None, scale: float = 1.5, seed: int = 9
) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(seed)
    shapes = {"input": (shape, scale), "params": (params_shape(shape, bins, options or {}), 0.7)}
    return {k: torch.randn(s, generator=g, dtype=torch.float64) * times for k, (s, times) in shapes.items()}


def gentle(t: dict[str, Tensor]) -> dict[str, Tensor]:
    """Bins nearly alike: sums of many log-derivatives whose rounding is that of sums."""
    return t | {"params": t["params"] * 0.1, "input": t["input"].clamp(-2.5, 2.5)}


def composite(
    t: dict[str, Tensor], options: dict, rounded: Callable[..., Tensor] = lambda t, size=0.0: t
) -> tuple[Tensor, Tensor]:
    """As people write it: a search, gathers, and a mask for what lies outside. rounded: see Op.rounds_between."""
    x, o = t["input"], dict(options)
    index = torch.tensor(live_index(x.shape[1], o.get("mask"), o.get("flip", False)))
    live = x.index_select(1, index)
    least = tuple(o.get(name, 1e-3) for name in LEAST)
    bound = o.get("bound", 3.0)
    low, high = bound if isinstance(bound, tuple) else (-bound, bound)
    if x.dtype == torch.float32:  # what a number of float32 is held against
        low, high = (float(np.float32(b)) for b in (low, high))
    out, log = spline(
        live,
        t["params"].unflatten(1, (len(index), -1)).movedim(2, -1),
        o.get("inverse", False),
        linear=o.get("tails", "linear") is not None,
        low=low,
        high=high,
        least=least,
        beta=math.log(2) / (1 - least[2]) if o.get("identity_init", True) else 1.0,
        rounded=rounded,
    )
    return x.index_copy(1, index, out), log.sum(tuple(range(1, x.dim())))


def call(t: dict[str, Tensor], options: dict, backend: str | None) -> tuple[Tensor, Tensor]:
    return rational_quadratic_spline(t["input"], t["params"], backend=backend, **options)


def samples() -> list[Sample]:
    def made(name: str, shape: tuple[int, ...], bins: int, scale: float = 1.5, small: bool = True, **options) -> Sample:
        return Sample(name, tensors(shape, bins, options, scale), options, small)

    box = {"tails": None, "bound": 12.0}
    return [
        made("one element", (1, 1), 2),
        made("odd everything", (3, 4, 5, 3), 3, mask="channel"),
        made("map", (2, 5, 6, 5), 4, mask="even_odd", flip=True, inverse=True, identity_init=False),
        made("rows", (19, 9), 8, inverse=True, min_bin_width=0.02, min_bin_height=0.05, min_derivative=0.1),
        made("box", (3, 37), 5, **box),
        made("pair", (5, 7, 3), 2, 0.4, mask="channel", flip=True, bound=(-1.0, 2.0)),
        made("box inverse", (2, 3, 4), 3, mask="even_odd", inverse=True, **box),
        Sample("blocks of 1024", gentle(tensors((2, 2, 33, 31), 4)), small=False),
        made("empty batch", (0, 4, 3, 3), 2),
        made("no pixels", (2, 4, 0, 3), 2, mask="channel"),
        made("tiny", (2, 2), 2),
    ]


def more_samples() -> list[Sample]:
    """A large batch, many bins, and strides that say little."""
    odd, options = tensors((3, 5, 5, 3), 3, {"mask": "even_odd"}), {"mask": "even_odd"}
    last = {k: t.contiguous(memory_format=torch.channels_last) for k, t in odd.items()}
    turned = {k: t.transpose(0, -1).contiguous().transpose(0, -1) for k, t in odd.items()}
    small = tensors((1, 1), 2, scale=4.0)
    named = {
        "batch 65536": ({k: t.expand(65536, -1).contiguous() for k, t in small.items()}, {}),
        "channels_last": (last, options),
        "transposed": (turned, options | {"inverse": True}),
        "many bins": (tensors((3, 20), 17), {}),
        "five dims": (tensors((2, 3, 2, 3, 2), 2, {"mask": "channel"}), {"mask": "channel"}),
    }
    return [Sample(name, t, options) for name, (t, options) in named.items()]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    t = {k: v.requires_grad_() for k, v in sample.cast(dtype).items()}
    x, params, o = t["input"], t["params"], sample.options
    least = [float(o.get(name, 1e-3)) for name in LEAST]
    bound = o.get("bound", 3.0)
    ends = bound if isinstance(bound, tuple) else (-bound, bound)
    beta = math.log(2) / (1 - least[2]) if o.get("identity_init", True) else 1.0
    tails = "linear" if o.get("tails", "linear") else "none"
    options = (o.get("mask") or "all", o.get("flip", False), tails, *ends, *least, beta, o.get("inverse", False))
    wide = torch.promote_types(dtype, torch.float32)
    grads = torch.randn(x.shape).to(dtype).requires_grad_(), torch.randn(len(x)).to(wide).requires_grad_()
    ops = torch.ops.pygen
    twice = sample.name in ("tiny", "odd everything")  # second order is a thousand traced ops
    again = [v if twice else v.detach() for v in (*grads, x, params)]
    return [
        (ops.rational_quadratic_spline.default, (x, params, *options, "auto")),
        (ops.rational_quadratic_spline_backward.default, (*again, *options, [True, True], "auto")),
    ]


def errors() -> list[ErrorInput]:
    x, p = torch.zeros(2, 5, 4, 3), torch.zeros(2, 40, 4, 3)  # 3 bins

    def error(name: str, kind: type[Exception], match: str, given: dict | None = None, **options: object) -> ErrorInput:
        return ErrorInput(name, {"input": x, "params": p} | (given or {}), options, kind, match)

    return [
        error("input array", TypeError, r"input: expected a torch.Tensor, got ndarray", {"input": np.zeros((2, 4))}),
        error("input int", TypeError, r"input: expected float64, .* got torch.int64", {"input": x.long()}),
        error("input dims", ValueError, r"input: expected at least two dims \[N, C, ...\], got \[3\]", {"input": x[0, 0, 0]}),
        error("input channels", ValueError, r"input: expected at least one channel that is transformed, got \[2, 1, 4, 3\]",
              {"input": x[:, :1]}, mask="channel"),
        error("params list", TypeError, r"params: expected a torch.Tensor, got list", {"params": [1.0]}),
        error("params sparse", TypeError, r"params: expected a strided", {"params": p.to_sparse()}),
        error("params dtype", TypeError, r"params: expected torch.float32,.* got torch.float64", {"params": p.double()}),
        error("params device", ValueError, r"params: expected a tensor on cpu, where .* got meta", {"params": p.to("meta")}),
        error("params shape", ValueError, r"params: expected shape \[2, 5 \* P, 4, 3\], got .* 2\]", {"params": p[..., :2]}),
        error("params dims", ValueError, r"params: expected shape \[2, 5 \* P, 4, 3\], got \[2, 40, 4\]", {"params": p[..., 0]}),
        error("params of each apart", ValueError, r"got \[2, 5, 8, 4, 3\] \(where dim 2 .*: params.flatten\(1, 2\)\)",
              {"params": p.unflatten(1, (5, 8))}),
        error("params number", ValueError, r"params: expected 3 K - 1 numbers, K = 1 .. 256, for each of 5 channel.* got 39 in",
              {"params": p[:, :39]}),
        error("params of no bins", ValueError, r"params: expected 3 K \+ 1 numbers, .* got 5", {"params": p[:, :5]}, tails=None),
        error("params of tails", ValueError, r"params: expected 3 K \+ 1 numbers, .* got 40 in", tails=None),
        error("params of a half", ValueError, r"3 K - 1 numbers, .* each of 3 channel.* got 40 in", mask="channel", flip=True),
        error("mask name", ValueError, r"mask: expected None, 'channel' or 'even_odd', got 'checkerboard'", mask="checkerboard"),
        error("mask tensor", ValueError, r"mask: expected .*, got float32 \[5\] on cpu", mask=torch.ones(5)),
        error("flip number", TypeError, r"flip: expected True or False, got 1", flip=1),
        error("flip alone", ValueError, r"flip: expected False, since mask is None, got True", flip=True),
        error("inverse number", TypeError, r"inverse: expected True or False, got 0", inverse=0),
        error("identity_init number", TypeError, r"identity_init: expected True or False, got 1", identity_init=1),
        error("tails name", ValueError, r"tails: expected 'linear' or None, got 'circular'", tails="circular"),
        error("bound word", TypeError, r"bound: expected a number, or a pair .* got str", bound="3"),
        error("bound zero", ValueError, r"bound: expected 1e-6 <= bound <= 1e6, got 0", bound=0),
        error("bound nan", ValueError, r"bound: expected 1e-6 <= bound <= 1e6, got nan", bound=float("nan")),
        error("bound three", TypeError, r"bound: expected a number, or a pair of them \(low, high\), got", bound=(0, 1, 2)),
        error("bound turned", ValueError, r"bound: expected low < high, .* got \(1, 0\)", bound=(1, 0)),
        error("min_bin_width much", ValueError, r"min_bin_width: expected 1e-6 <= min_bin_width < 1 / 3, .* got 0.34",
              min_bin_width=0.34),
        error("min_bin_height none", ValueError, r"min_bin_height: expected 1e-6 <= min_bin_height < 1 / 3, .* got 0",
              min_bin_height=0),
        error("min_derivative much", ValueError, r"min_derivative: expected 1e-6 <= min_derivative < 1, got 1", min_derivative=1),
        error("min_derivative word", TypeError, r"min_derivative: expected a number, got NoneType", min_derivative=None),
        error("backend name", ValueError, r"backend: expected one of reference, .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run: it runs on CUDA tensors", backend="cuda"),
    ]  # fmt: skip


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    shape = tuple(rng.choice((1, 2, 3, 5, 8)) for _ in range(rng.choice((2, 3, 4, 4, 5))))
    options: dict = {"inverse": rng.random() < 0.5, "identity_init": rng.random() < 0.7}
    if shape[1] > 1 and rng.random() < 0.6:
        options |= {"mask": rng.choice(("channel", "even_odd")), "flip": rng.random() < 0.5}
    if rng.random() < 0.3:
        options |= {"tails": None, "bound": 32.0}
    else:
        options["bound"] = rng.choice((1.0, 3.0, 5.0, (-1.5, 4.0)))
    if rng.random() < 0.3:
        options |= {"min_bin_width": 0.05, "min_bin_height": 0.02, "min_derivative": 0.1}
    bins = rng.choice((1, 2, 3, 5, 8, 11))
    return {"input": shape, "params": params_shape(shape, bins, options)}, options


def _module():
    return pnn.SplineCoupling(nn.Linear(2, 16), mask="even_odd", bound=2.0), (torch.randn(3, 4),)


def _autoregressive():
    layer = pnn.MaskedAutoregressiveSpline(4, (5, 6), num_bins=3, cond_features=2, bound=2.0)
    nn.init.normal_(layer.layers[-1].weight, std=0.3)  # which begins with zeros
    return layer, (torch.randn(3, 4), torch.randn(3, 2))


ROWS = [
    Op(
        name="rational_quadratic_spline",
        outputs=("output", "log_det"),
        differentiable=("input", "params"),
        call=call,
        composite=composite,
        samples=samples,
        errors=errors,
        low_outputs=frozenset({"output"}),
        elementwise=frozenset({"output"}),
        options={
            "mask": ("channel", "even_odd"),
            "flip": (False, True),
            "bound": (3.0, 2.0),
            "min_bin_width": (1e-3, 0.1),
            "min_bin_height": (1e-3, 0.1),
            "min_derivative": (1e-3, 0.1),
            "identity_init": (False, True),
            "inverse": (False, True),
        },
        batched=frozenset({"input", "params"}),
        # Knots have the rounding of sums over the whole range, which an element where all is small has no digits to hide.
        rounds_between=compute_dtype,
        # What is left of x beside a knot, a sum over bins, is divided by a width, and gradients by it again. Against 60 digits
        # (mpmath) the worst gradient of the samples is off by 63 eps in the composite, 40 in C++, 35 in the reference.
        double_eps=128.0,
        registered=registered,
        more_samples=more_samples,
        fuzz=fuzz,
        modules={"SplineCoupling": _module, "MaskedAutoregressiveSpline": _autoregressive},
    )
]
