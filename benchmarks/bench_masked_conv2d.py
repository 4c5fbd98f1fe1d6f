"""masked_conv2d against the ways it is written in PyTorch: `weight * mask` eager and compiled, cropped, split; both layouts.

The crop, a kernel cut to its live rows, is no safe competitor: it multiplies dead taps, so NaN in a future pixel leaks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import harness
import pytest
import torch
import torch.nn.functional as F
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen import _dispatch, _taps
from pygen.functional import masked_conv2d

OP = "masked_conv2d"
Conv = Callable[[Tensor, Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """kernel, mask, channels in and out, batch, side of the image."""

    name: str
    kernel: tuple[int, int]
    mask_type: str | tuple[tuple[bool, ...], ...]
    ins: int
    outs: int
    batch: int
    side: int
    color_groups: int = 1
    dtype: torch.dtype = torch.float32

    def live(self) -> Tensor:
        return _taps.dense_mask(self.mask_type, self.color_groups, (self.outs, self.ins, *self.kernel))


def square(kind: str, channels: int, batch: int = 16, side: int = 28, k: int = 3, **options: object) -> Case:
    name = f"{k}x{k} {kind} C={channels} N={batch} {side}x{side}"
    return Case(name, (k, k), kind, channels, channels, batch, side, **options)


ABOVE = ((True,) * 3, (True,) * 3, (False,) * 3)  # the vertical stack of a Gated PixelCNN, type B
CASES = [
    square("B", 32),
    square("B", 64),
    square("A", 64),
    square("B", 64, batch=64),
    square("B", 128),
    square("B", 128, side=32),
    square("B", 256, side=32),
    square("B", 128, batch=8, k=7),
    Case("7x7 A 1->64 N=16 28x28", (7, 7), "A", 1, 64, 16, 28),
    Case("7x7 A 3->64 N=16 32x32", (7, 7), "A", 3, 64, 16, 32),
    Case("7x7 A RGB 3->66 N=16 32x32", (7, 7), "A", 3, 66, 16, 32, 3),
    Case("3x3 B RGB C=66 N=16 32x32", (3, 3), "B", 66, 66, 16, 32, 3),
    Case("gated 2x3 64->128 N=16 28x28", (3, 3), ABOVE, 64, 128, 16, 28),
    Case("gated 1x3 B 64->128 N=16 28x28", (1, 3), "B", 64, 128, 16, 28),
]
if DEVICE.type == "cuda":
    CASES += [square("B", 256, batch=64, side=32, dtype=torch.bfloat16)]
DIRECTIONS = ("forward", "forward+backward")


def competitors(case: Case) -> dict[str, Conv]:
    """What people write. The mask is ready; the multiplication belongs to the call, as in every PixelCNN."""
    mask = case.live().to(case.dtype).to(DEVICE)
    pads = (case.kernel[0] // 2, case.kernel[1] // 2)
    rows = pads[0] + 1

    def eager(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.conv2d(x, w * mask, b, padding=pads)

    def crop(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.conv2d(F.pad(x, (0, 0, pads[0], 0)), (w * mask)[:, :, :rows], b, padding=(0, pads[1]))

    def split(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        """The rows above whole, and of the current row the taps up to the centre."""
        row = (w * mask)[:, :, pads[0] : rows, : pads[1] + 1]
        out = F.conv2d(F.pad(x, (pads[1], 0, 0, 0)), row, b)
        if pads[0] == 0:
            return out
        above = F.conv2d(F.pad(x, (0, 0, pads[0], -1)), w[:, :, : pads[0]], padding=(0, pads[1]))
        return out + above

    ops = {"w*mask": eager, "w*mask compiled": torch.compile(eager, dynamic=False), "crop": crop}
    return ops | ({"split": split} if isinstance(case.mask_type, str) else {})


def _providers(case: Case) -> dict[str, Conv]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    ops = competitors(case)
    for name in ("composite", "cpu", "triton", "cuda"):
        if _dispatch.why_not(OP, name, DEVICE.type) is None:
            ops[f"pygen {name}"] = lambda x, w, b, name=name: masked_conv2d(
                x, w, b, mask_type=case.mask_type, color_groups=case.color_groups, backend=name
            )
    return ops


def _work(op: Conv, direction: str, tensors: tuple[Tensor, ...], grad: Tensor, needs_input: bool) -> Work:
    if direction == "forward":

        def forward() -> None:
            with torch.no_grad():
                op(*tensors)

        return forward
    x, w, b = (t.detach() for t in tensors)
    leaves = [t.requires_grad_() for t in ((x, w, b) if needs_input else (w, b))]  # pixels need no gradient

    def both() -> None:
        torch.autograd.grad(op(x, w, b), leaves, grad)

    return both


def _checked_error(name: str, op: Conv, case: Case, tensors: tuple[Tensor, ...]) -> float:
    """Largest error over the largest value, against the float64 reference; fails where a provider is wrong."""
    wide = [t.double() for t in tensors]
    truth = F.conv2d(
        wide[0], wide[1] * case.live().to(DEVICE), wide[2], padding=(case.kernel[0] // 2, case.kernel[1] // 2)
    )
    with torch.no_grad():
        error = ((op(*tensors).double() - truth).abs().max() / truth.abs().max()).item()
    assert error <= 50 * torch.finfo(case.dtype).eps, f"{name} is off by {error}"
    return error


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    x = torch.randn(case.batch, case.ins, case.side, case.side, device=DEVICE).to(case.dtype)
    w = (torch.randn(case.outs, case.ins, *case.kernel, device=DEVICE) * 0.1).to(case.dtype)
    tensors = (x, w, torch.randn(case.outs, device=DEVICE).to(case.dtype))
    grad = torch.randn(case.batch, case.outs, case.side, case.side, device=DEVICE).to(case.dtype)
    last = torch.channels_last
    ops = _providers(case)
    errors = {name: _checked_error(name, op, case, tensors) for name, op in ops.items()}
    inner = case.ins > 3
    works = {name: _work(op, direction, tensors, grad, inner) for name, op in ops.items()}
    turned = (x.contiguous(memory_format=last), w.contiguous(memory_format=last), tensors[2])
    for name in ("w*mask", "crop", *(n for n in ops if n.startswith("pygen "))):
        as_last = f"{name} channels_last"
        works[as_last] = _work(ops[name], direction, turned, grad.contiguous(memory_format=last), inner)
        errors[as_last] = errors[name]
    measured = harness.measure(works)
    flops = 2 * case.batch * case.side**2 * int(case.live().sum())
    flops *= 1 if direction == "forward" else 3 if inner else 2
    moved = (x.numel() + grad.numel()) * x.element_size()
    for name, m in measured.items():
        m.info = {
            "live_gflop_per_s": round(flops / m.median / 1e9, 1),
            "bytes": moved,
            "gb_per_s": round(moved / m.median / 1e9, 3),
            "error_vs_float64": errors[name],
            "default": name.removeprefix("pygen ") == pygen.explain(OP, *tensors).backend,
        }
    collect(OP, case.name, direction, measured)
    return measured


GROUPS = [
    pytest.param((c, d), id=f"{c.name} {d}", marks=pytest.mark.benchmark(group=f"{c.name} {d}"))
    for c in CASES
    for d in DIRECTIONS
]


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_masked_conv2d(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's default; the table and the stored rows have all providers."""
    name = next(n for n in group if group[n].info["default"] and "channels_last" not in n)
    harness.record(benchmark, group[name])
