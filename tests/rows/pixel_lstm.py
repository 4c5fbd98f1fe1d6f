"""The row of pixel_lstm."""

import random

import numpy as np
import torch
from layouts import fuzz_size
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen import nn as pnn
from pygen.functional import pixel_lstm


def tensors(n: int, hidden: int, rows: int, columns: int, kernel: int = 2) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(5)
    weight = torch.randn((4 * hidden, hidden, kernel), generator=g, dtype=torch.float64)
    return {
        "input": torch.randn((n, 4 * hidden, rows, columns), generator=g, dtype=torch.float64),
        "weight": weight / max(1, hidden * kernel) ** 0.5,
    }


def composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor]:
    """Pixel after pixel, as the equations stand."""
    x, weight, groups = t["input"], t["weight"], options.get("color_groups", 1)
    (n, channels, rows, columns), direction = x.shape, options["direction"]
    hidden, kernel = channels // 4, weight.shape[2]
    side = 1 if direction == "left" else -1
    order = range(columns) if side < 0 else range(columns - 1, -1, -1)
    taps = [(-1, t - kernel // 2) for t in range(kernel)] if direction == "down" else [(-1, 0), (0, side)]
    last = (-1, 0) if direction == "down" else (0, side)
    h: dict[tuple[int, int], Tensor] = {}
    c: dict[tuple[int, int], Tensor] = {}
    for i in range(rows):
        for j in order:
            s = x[:, :, i, j]
            for tap, (di, dj) in enumerate(taps):
                if (i + di, j + dj) in h:
                    s = s + h[i + di, j + dj] @ weight[:, :, tap].T
            gates = [block.chunk(4, 1) for block in s.chunk(groups, 1)]
            o, f, k, g = (torch.cat([block[q] for block in gates], 1) for q in range(4))
            before = c.get((i + last[0], j + last[1]), torch.zeros_like(o))
            c[i, j] = torch.sigmoid(f) * before + torch.sigmoid(k) * torch.tanh(g)
            h[i, j] = torch.sigmoid(o) * torch.tanh(c[i, j])
    if not (n and h and hidden):
        return (x[:, :hidden] + 0 * weight.sum(),)
    if len(h) == 1:  # no tap is read
        h[0, 0] = h[0, 0] + 0 * weight.sum()
    return (torch.stack([torch.stack([h[i, j] for j in range(columns)], -1) for i in range(rows)], -2),)


def samples() -> list[Sample]:
    return [
        Sample("one element", tensors(1, 1, 1, 1), {"direction": "right"}),
        Sample("odd everything", tensors(3, 5, 3, 5), {"direction": "right"}),
        Sample("tall, mirrored, groups", tensors(2, 6, 7, 3), {"direction": "left", "color_groups": 3}),
        Sample("rows", tensors(3, 3, 4, 5, 3), {"direction": "down"}),
        Sample("rows of one tap, groups", tensors(2, 4, 3, 2, 1), {"direction": "down", "color_groups": 2}),
        Sample("a kernel wider than the rows", tensors(2, 2, 3, 2, 7), {"direction": "down"}),
        Sample("more than a tile", tensors(5, 17, 6, 9), {"direction": "left"}, small=False),
        Sample("one row", tensors(2, 3, 1, 5), {"direction": "right"}),
        Sample("empty batch", tensors(0, 2, 3, 3), {"direction": "right"}),
        Sample("no pixels", tensors(2, 2, 0, 3, 3), {"direction": "down"}),
        Sample("no columns", tensors(2, 2, 3, 0), {"direction": "left"}),
        Sample("no hidden units", tensors(2, 0, 3, 2), {"direction": "left"}),
        Sample("tiny", tensors(2, 1, 2, 2), {"direction": "right"}),
    ]


def more_samples() -> list[Sample]:
    """A large batch, strides that say little, and two pixels of each set of options, to be traced."""
    last = tensors(3, 5, 3, 5)
    last["input"] = last["input"].contiguous(memory_format=torch.channels_last)
    turned = {k: t.transpose(0, -1).contiguous().transpose(0, -1) for k, t in tensors(3, 2, 3, 5).items()}
    named = {"batch 65536": tensors(65536, 1, 1, 2), "channels_last": last, "transposed": turned}
    two = {
        "two, left": ((1, 1, 1, 2), {"direction": "left"}),
        "two, left, groups": ((1, 3, 1, 2), {"direction": "left", "color_groups": 3}),
        "two, rows": ((1, 1, 2, 1, 3), {"direction": "down"}),
        "two, rows, groups": ((1, 2, 2, 1, 1), {"direction": "down", "color_groups": 2}),
    }
    small = [Sample(name, tensors(*sizes), options) for name, (sizes, options) in two.items()]
    return small + [Sample(name, t, {"direction": "right"}) for name, t in named.items()]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    x, weight = (t.requires_grad_() for t in sample.cast(dtype).values())
    options = (sample.options["direction"], sample.options.get("color_groups", 1))
    output, kept = torch.ops.pygen.pixel_lstm_keep(x.detach(), weight.detach(), *options, "auto")
    grad = torch.linspace(0.5, 1.5, max(1, output.numel()))[: output.numel()].view(output.shape).to(dtype)
    given = (grad.requires_grad_(), weight, output.requires_grad_(), kept.requires_grad_())
    ops = torch.ops.pygen
    return [
        (ops.pixel_lstm.default, (x, weight, *options, "auto")),
        (ops.pixel_lstm_keep.default, (x, weight, *options, "auto")),
        (ops.pixel_lstm_backward.default, (*given, *options, [True, True], "auto")),
    ]


def errors() -> list[ErrorInput]:
    valid = {k: t.float() for k, t in tensors(2, 3, 4, 5).items()}
    x, weight = valid["input"], valid["weight"]

    def error(name: str, kind: type[Exception], match: str, given: dict | None = None, **options: object) -> ErrorInput:
        return ErrorInput(name, valid | (given or {}), {"direction": "right"} | options, kind, match)

    odd = torch.zeros(12, 3, 3)
    return [
        error("input array", TypeError, r"input: expected a torch.Tensor, got ndarray", {"input": np.zeros((2, 4))}),
        error("input int", TypeError, r"input: expected float64, .* got torch.int64", {"input": x.long()}),
        error("input sparse", TypeError, r"input: expected a strided", {"input": x.to_sparse()}),
        error("input dims", ValueError, r"input: expected four dims \[N, 4 H, R, W\], got \[12, 4, 5\]", {"input": x[0]}),
        error("input channels", ValueError, r"input: expected 12 channels \(dim 1\), .* got \[2, 11, 4, 5\]",
              {"input": x[:, 1:]}),
        error("weight None", TypeError, r"weight: expected a torch.Tensor, got NoneType", {"weight": None}),
        error("weight dims", ValueError, r"weight: expected three dims \[4 H, H, k\], got \[12, 3\]", {"weight": weight[..., 0]}),
        error("weight dtype", TypeError, r"weight: expected torch.float32, the dtype of input", {"weight": weight.double()}),
        error("weight device", ValueError, r"weight: expected a tensor on cpu, where input is", {"weight": weight.to("meta")}),
        error("weight gates", ValueError, r"weight: expected the shape \[8, 2, k\], .* got \[12, 2, 2\]",
              {"weight": weight[:, 1:]}),
        error("three taps of a diagonal", ValueError, r"weight: expected two taps \(dim 2\), .*'right', got 3", {"weight": odd}),
        error("two taps of a row", ValueError, r"weight: expected an odd number of taps .* got 2", direction="down"),
        error("no taps", ValueError, r"weight: expected an odd number .* got 0", {"weight": odd[..., :0]}, direction="down"),
        error("direction", ValueError, r"direction: expected 'down', 'right' or 'left', got 'up'", direction="up"),
        error("direction None", ValueError, r"direction: expected .* got None", direction=None),
        error("groups", ValueError, r"color_groups: expected a divisor of .*, got 3 in 2 groups", color_groups=2),
        error("groups zero", ValueError, r"color_groups: expected at least 1, got 0", color_groups=0),
        error("groups float", TypeError, r"color_groups: expected an int, got float", color_groups=1.0),
        error("backend name", ValueError, r"backend: expected one of .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run", backend="cuda"),
    ]  # fmt: skip


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    direction = rng.choice(("down", "right", "left"))
    kernel = rng.choice((1, 3, 5)) if direction == "down" else 2
    n, rows, columns = fuzz_size(rng, 17), fuzz_size(rng, 9), fuzz_size(rng, 9)
    groups = rng.choice((1, 1, 2, 3))
    hidden = groups * fuzz_size(rng, max(1, min(33, 3000 // (groups * max(1, n * rows * columns)))))
    shapes = {"input": (n, 4 * hidden, rows, columns), "weight": (4 * hidden, hidden, kernel)}
    return shapes, {"direction": direction, "color_groups": groups}


def call(t: dict[str, Tensor], options: dict, backend: str | None) -> tuple[Tensor]:
    return (pixel_lstm(t["input"], t["weight"], **{"backend": backend, "direction": "right"} | options),)


def _module(kind: type, **options: object):
    g = torch.Generator().manual_seed(5)
    return lambda: (kind(3, 5, **options), (torch.randn((2, 3, 4, 5), generator=g),))


ROWS = [
    Op(
        name="pixel_lstm",
        outputs=("h",),
        differentiable=("input", "weight"),
        call=call,
        composite=composite,
        samples=samples,
        errors=errors,
        low_outputs=frozenset({"h"}),
        options={"direction": ("right", "left")},
        batched=frozenset({"input"}),
        autocast="cast",
        registered=registered,
        more_samples=more_samples,
        fuzz=fuzz,
        modules={
            "RowLSTM": _module(pnn.RowLSTM),
            "DiagonalBiLSTM": _module(pnn.DiagonalBiLSTM),
        },
        unsaved=frozenset({"input"}),
        kept=frozenset({"h"}),
        saved_extra=4 * 5 * 17 * 6 * 9 * 6,  # h, which the caller has, the gates and c
        # Of larger ones the recurrence is chaotic: rounding errors grow with each line, in whatever order sums were taken.
        gentle={"weight": lambda shape: max(1, shape[1] * shape[2]) ** -0.5},
        finite=frozenset({"weight"}),  # times the 0 outside of the image, which kernels multiply or skip
    ),
]
