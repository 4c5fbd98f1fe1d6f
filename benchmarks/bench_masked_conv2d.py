"""masked_conv2d against the ways it is written in PyTorch: `weight * mask` eager and compiled, cropped, split; both layouts.

The crop, a kernel cut to its live rows, is no safe competitor: it multiplies dead taps, so NaN in a future pixel leaks.
On a GPU cuDNN chooses its algorithms by trial, the bias comes with the call or after it, the weight also comes masked before
(as in the `weight.data` idiom), and those in channels_last are replayed as CUDA graphs too, which leaves the host out.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable
from dataclasses import dataclass, replace

import exact
import harness
import pytest
import torch
import torch.nn.functional as F
from harness import DEVICE, Measurement
from torch import Tensor

import pygen
from pygen import _backends, _dispatch, _taps
from pygen.functional import masked_conv2d

OP = "masked_conv2d"
MASKED_BEFORE = "masked before"
MMA = "pygen cuda mma.sync"  # where Hopper would take its warpgroups
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


def _as(case: Case, dtype: torch.dtype) -> Case:
    return replace(case, name=f"{case.name} {str(dtype).removeprefix('torch.')}", dtype=dtype)


def _gpu_cases() -> list[Case]:
    squares = [square("B", c, batch=64, side=32) for c in (128, 256, 64, 32)]  # those of most worth first
    batches = [square("B", c, batch=n) for c in (64, 256) for n in (16, 256)]
    others = [
        square("A", 64),
        *(case for case in CASES if case.kernel != (3, 3) or case.ins != case.outs or case.color_groups > 1),
    ]
    large = [*(_as(case, torch.bfloat16) for case in squares[:3]), *(_as(squares[i], torch.float32) for i in (1, 2))]
    narrow = [_as(case, torch.bfloat16) for case in (squares[3], *batches, *others)]
    return [*large, _as(squares[1], torch.float16), *narrow]


def _grid() -> list[Case]:
    """Every size: half an hour on two cores; on a GPU, in every dtype that multiplies on tensor cores, picked from by -k."""
    if DEVICE.type == "cpu":
        return [square(*case) for case in itertools.product("AB", (32, 64, 128, 256), (16, 64), (28, 32))]
    dtypes = (torch.bfloat16, torch.float16, torch.float32)
    sizes = itertools.product((32, 64, 128, 256), (16, 64, 256), (28, 32), dtypes)
    return [_as(square("B", *size), dtype) for *size, dtype in sizes]


if DEVICE.type == "cuda":
    CASES = _gpu_cases()
if os.environ.get("PYGEN_BENCH_FULL"):
    CASES += [case for case in _grid() if case not in CASES]
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

    ops = {"w*mask": eager, "w*mask compiled": harness.compiled(eager), "crop": crop}
    if isinstance(case.mask_type, str):
        ops["split"] = split
    if DEVICE.type == "cuda":
        ops |= _gpu_competitors(mask, eager, crop)
    return ops


def _gpu_competitors(mask: Tensor, eager: Conv, crop: Conv) -> dict[str, Conv]:
    """The bias in a kernel of its own, the crop compiled, and the dense convolution alone: its weight was masked before."""
    pads = (mask.shape[2] // 2, mask.shape[3] // 2)

    def apart(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.conv2d(x, w * mask, padding=pads).add_(b.view(1, -1, 1, 1))

    def masked_before(x: Tensor, w: Tensor, b: Tensor) -> Tensor:
        return F.conv2d(x, w, b, padding=pads)

    return {
        "w*mask, bias apart": apart,
        "crop compiled": harness.compiled(crop),
        MASKED_BEFORE: masked_before,
    }


def _executed_taps(case: Case, name: str) -> float:
    """How many taps a provider multiplies for each output, in live ones."""
    live = case.live().sum().item() / (case.outs * case.ins)
    if name.startswith("crop"):
        return (case.kernel[0] // 2 + 1) * case.kernel[1] / live
    return case.kernel[0] * case.kernel[1] / live if "mask" in name and "pygen" not in name else 1.0


def _providers(case: Case) -> dict[str, Conv]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    ops = competitors(case)
    for name in ("composite", "cpu", "triton", "cuda"):
        if _dispatch.why_not(OP, name, DEVICE.type) is None:
            ops[f"pygen {name}"] = lambda x, w, b, name=name: masked_conv2d(
                x, w, b, mask_type=case.mask_type, color_groups=case.color_groups, backend=name
            )
    if "pygen cuda" in ops and torch.cuda.get_device_capability()[0] == 9:
        ops[MMA] = ops["pygen cuda"]
    return ops


def _without_wgmma(work: exact.Checked) -> exact.Checked:
    """The same on the kernels that Ampere has too."""

    def run() -> exact.Results:
        compiled = _backends.compiled("_cuda")
        before = compiled.use_wgmma(False)
        try:
            return work()
        finally:
            compiled.use_wgmma(before)

    return run


def _work(op: Conv, direction: str, tensors: tuple[Tensor, ...], grad: Tensor, needs_input: bool) -> exact.Checked:
    if direction == "forward":

        def forward() -> exact.Results:
            with torch.no_grad():
                return exact.Results((op(*tensors),), {})

        return forward
    leaves = {name: t.detach().requires_grad_() for name, t in zip(("input", "weight", "bias"), tensors, strict=True)}
    given = tuple(leaves.values())
    if not needs_input:  # pixels need no gradient
        leaves.pop("input").requires_grad_(False)

    def both() -> exact.Results:
        out = op(*given)
        return exact.Results((out,), exact.gradients(out, leaves, grad))

    return both


def _live_only(work: exact.Checked, live: Tensor) -> exact.Checked:
    """Without the gradients of dead weights, which a weight that was masked before the call has too."""

    def run() -> exact.Results:
        found = work()
        return found._replace(gradients={n: g * live if n == "weight" else g for n, g in found.gradients.items()})

    return run


def _given(case: Case) -> tuple[tuple[Tensor, Tensor, Tensor], Tensor]:
    """Input, weight, bias and what comes upstream."""
    x = torch.randn(case.batch, case.ins, case.side, case.side, device=DEVICE).to(case.dtype)
    w = (torch.randn(case.outs, case.ins, *case.kernel, device=DEVICE) * 0.1).to(case.dtype)
    b = torch.randn(case.outs, device=DEVICE).to(case.dtype)
    return (x, w, b), torch.randn(case.batch, case.outs, case.side, case.side, device=DEVICE).to(case.dtype)


def _checked(
    case: Case, direction: str, ops: dict[str, Conv], tensors: tuple[Tensor, Tensor, Tensor], grad: Tensor
) -> tuple[dict[str, exact.Checked], dict[str, exact.Errors]]:
    """What is timed, in both layouts, and its errors, gradients' too; without what is wrong."""
    last, live, needs_input = torch.channels_last, case.live().to(DEVICE), case.ins > 3
    masked = (tensors[0], tensors[1] * live, tensors[2])
    turn = lambda given: (*(t.contiguous(memory_format=last) for t in given[:2]), given[2])  # noqa: E731
    works: dict[str, exact.Checked] = {}
    for name, op in ops.items():
        given = masked if name == MASKED_BEFORE else tensors
        called = _without_wgmma if name == MMA else lambda work: work
        if not (DEVICE.type == "cuda" and "compiled" in name):  # in its faster layout alone: half a minute each
            works[name] = called(_work(op, direction, given, grad, needs_input))
        turned = _work(op, direction, turn(given), grad.contiguous(memory_format=last), needs_input)
        works[f"{name} channels_last"] = called(turned)
    dense = lambda x, w, b: F.conv2d(x, w * live, b, padding=(case.kernel[0] // 2, case.kernel[1] // 2))  # noqa: E731
    truth = _work(dense, direction, tuple(t.double() for t in tensors), grad.double(), needs_input)()
    check = exact.within(exact.slack(case.dtype), truth, works["w*mask"])
    errors = harness.errors_of(
        works, lambda name, work: check(name, _live_only(work, live) if name.startswith(MASKED_BEFORE) else work)
    )
    return works, errors


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    tensors, grad = _given(case)
    works, errors = _checked(case, direction, _providers(case), tensors, grad)
    works = harness.with_graphs(works, [name for name in works if "channels_last" in name])
    measured = harness.measure(works)
    flops = 2 * case.batch * case.side**2 * int(case.live().sum())
    flops *= 1 if direction == "forward" else 3 if case.ins > 3 else 2
    moved = (tensors[0].numel() + grad.numel()) * grad.element_size()
    default = pygen.explain(OP, *tensors).backend
    for name, m in measured.items():
        m.info = {
            "live_gflop_per_s": round(flops / m.median / 1e9, 1),
            "executed_gflop_per_s": round(_executed_taps(case, name) * flops / m.median / 1e9, 1),
            "bytes": moved,
            "gb_per_s": round(moved / m.median / 1e9, 3),
            **errors[name.removesuffix(harness.GRAPHED)].info(),
            "peak_bytes": harness.peak_bytes_of(name, works),
            "default": name == f"pygen {default}",
        }
        for rival in ("w*mask", "crop", "split"):
            if name.startswith("pygen ") and rival in measured:
                m.info[f"vs_{rival}"] = round(measured[rival].median / m.median, 3)
    collect(OP, case.name, direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, lambda case: case.name)


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_masked_conv2d(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's default; the table and the stored rows have all providers."""
    harness.record(benchmark, group[next(n for n in group if group[n].info["default"])])
