"""gated_masked_conv2d against the layer as people write it: a convolution (masked, cropped, split), a sum, chunk, tanh, sigmoid.

Eager and compiled whole, beside pygen's own kernels one after the other ("pygen unfused"); both layouts. Forward+backward takes
the gradients of all that is given, from out and, in the vertical stack, which hands it on, from pre.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import bench_masked_conv2d as convolutions
import exact
import harness
import pytest
import torch
from harness import DEVICE, Measurement
from torch import Tensor

import pygen
from pygen import _dispatch
from pygen.functional import gated_activation, gated_masked_conv2d, masked_conv2d

OP = "gated_masked_conv2d"
Layer = Callable[..., tuple[Tensor, Tensor]]  # of input, weight, bias, add or None, cond or None
Given = list[Tensor | None]


@dataclass(frozen=True)
class Case:
    """The convolution, and whether the layer adds to it, hands pre on, and has a condition for each image."""

    conv: convolutions.Case
    add: bool
    cond: bool = False

    def __str__(self) -> str:
        conv, kind = self.conv, "horizontal" if self.add else "vertical"
        rgb = " RGB" if conv.color_groups > 1 else ""
        cond = ", cond" if self.cond else ""
        dtype = str(conv.dtype).removeprefix("torch.")
        return f"{kind}{rgb} {conv.ins}->{conv.outs} N={conv.batch} {conv.side}x{conv.side}{cond} {dtype}"


def _case(
    kind: str, channels: int, batch: int, side: int, dtype: torch.dtype, *, cond: bool = False, groups: int = 1
) -> Case:
    kernel, mask = ((3, 3), convolutions.ABOVE) if kind == "vertical" else ((1, 3), "B")
    conv = convolutions.Case(kind, kernel, mask, channels, 2 * channels, batch, side, groups, dtype)
    return Case(conv, kind == "horizontal", cond)


def _cases() -> list[Case]:
    if DEVICE.type == "cpu":
        sizes = [(32, 16, 28, torch.float32), (64, 16, 28, torch.float32), (64, 16, 28, torch.bfloat16)]
        rgb = _case("horizontal", 66, 16, 32, torch.float32, groups=3)
    else:
        sizes = [(128, 64, 32, torch.bfloat16), (256, 64, 32, torch.bfloat16), (128, 64, 32, torch.float32)]
        sizes += [(c, n, side, torch.bfloat16) for c, n, side in ((64, 64, 32), (64, 256, 32), (64, 16, 28))]
        sizes += [(128, 64, 32, torch.float16)]
        rgb = _case("horizontal", 66, 64, 32, torch.bfloat16, groups=3)
    stacks = [_case(kind, *size) for size in sizes for kind in ("vertical", "horizontal")]
    return [*stacks, _case("horizontal", *sizes[1 if DEVICE.type == "cpu" else 0], cond=True), rgb]


CASES = _cases()
DIRECTIONS = ("forward", "forward+backward")


def _behind(conv: convolutions.Conv, groups: int) -> Layer:
    """What people write behind a convolution."""

    def layer(x: Tensor, w: Tensor, b: Tensor, add: Tensor | None, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        pre = conv(x, w, b)
        pre = pre if add is None else pre + add
        given = pre if cond is None else pre + cond[:, :, None, None]
        halves = [block.chunk(2, dim=1) for block in given.chunk(groups, dim=1)]
        gated = [torch.tanh(first) * torch.sigmoid(second) for first, second in halves]
        return pre, gated[0] if groups == 1 else torch.cat(gated, dim=1)

    return layer


def _providers(case: Case) -> dict[str, Layer]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    conv, groups = case.conv, case.conv.color_groups
    options = {"mask_type": conv.mask_type, "color_groups": groups}
    written = convolutions.competitors(conv)
    ops = {name: _behind(written[name], groups) for name in ("w*mask", "crop", "split") if name in written}
    ops |= {f"{name} compiled": harness.compiled(ops[name]) for name in ("w*mask", "crop")}

    def unfused(x: Tensor, w: Tensor, b: Tensor, add: Tensor | None, cond: Tensor | None) -> tuple[Tensor, Tensor]:
        pre = masked_conv2d(x, w, b, **options)
        pre = pre if add is None else pre + add
        return pre, gated_activation(pre, cond, color_groups=groups)

    ops["pygen unfused"] = unfused
    for name in ("cpu", "triton", "cuda"):
        if _dispatch.why_not(OP, name, DEVICE.type) is None:
            ops[f"pygen {name}"] = lambda x, w, b, add, cond, name=name: gated_masked_conv2d(
                x, w, b, add=add, cond=cond, backend=name, **options
            )
    return ops


def _work(op: Layer, direction: str, case: Case, tensors: Given, weights: list[Tensor]) -> exact.Checked:
    if direction == "forward":

        def forward() -> exact.Results:
            with torch.no_grad():
                return exact.Results(op(*tensors), {})

        return forward
    given = [None if t is None else t.detach().requires_grad_() for t in tensors]
    leaves = {
        name: t for name, t in zip(("input", "weight", "bias", "add", "cond"), given, strict=True) if t is not None
    }

    def both() -> exact.Results:
        pre, out = op(*given)
        results, upstream = ((out,), weights[1:]) if case.add else ((pre, out), weights)
        return exact.Results((pre, out), exact.gradients(results, leaves, tuple(upstream)))

    return both


def _given(case: Case) -> tuple[Given, list[Tensor]]:
    """What a layer is given, and what comes upstream of pre and out."""
    conv = case.conv
    draw = lambda *shape: torch.randn(shape, device=DEVICE).to(conv.dtype)  # noqa: E731
    image = (conv.batch, conv.outs, conv.side, conv.side)
    fan_in = conv.live().sum().item() / conv.outs
    x, w, b = (
        draw(conv.batch, conv.ins, *image[2:]),
        draw(conv.outs, conv.ins, *conv.kernel) / fan_in**0.5,
        draw(conv.outs),
    )
    tensors = [x, w, b, draw(*image) if case.add else None, draw(*image[:2]) if case.cond else None]
    return tensors, [draw(*image), draw(conv.batch, conv.outs // 2, *image[2:])]


def _checked(
    case: Case, direction: str, ops: dict[str, Layer], tensors: Given, weights: list[Tensor]
) -> tuple[dict[str, exact.Checked], dict[str, exact.Errors]]:
    """What is timed, in both layouts, and its errors, gradients' too; without what is wrong."""
    conv, last = case.conv, torch.channels_last
    turn = lambda ts: [t.contiguous(memory_format=last) if t is not None and t.dim() == 4 else t for t in ts]  # noqa: E731
    works: dict[str, exact.Checked] = {}
    for name, op in ops.items():
        # On a GPU what is compiled, half a minute a layout, in channels_last alone, its faster one.
        if not (DEVICE.type == "cuda" and "compiled" in name):
            works[name] = _work(op, direction, case, tensors, weights)
        works[f"{name} channels_last"] = _work(op, direction, case, turn(tensors), turn(weights))
    pads, live = (conv.kernel[0] // 2, conv.kernel[1] // 2), conv.live().to(DEVICE)
    dense = lambda x, w, b: torch.nn.functional.conv2d(x, w * live, b, padding=pads)  # noqa: E731
    wide = [None if t is None else t.double() for t in tensors]
    truth = _work(_behind(dense, conv.color_groups), direction, case, wide, [t.double() for t in weights])()
    check = exact.within(exact.slack(conv.dtype), truth, works["w*mask"])
    return works, harness.errors_of(works, check)


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    conv, (tensors, weights) = case.conv, _given(case)
    works, errors = _checked(case, direction, _providers(case), tensors, weights)
    works = harness.with_graphs(works, [name for name in works if "channels_last" in name])
    measured = harness.measure(works)
    # Forward reads what is given and writes pre and out; backward reads all that and what comes upstream, and writes gradients.
    read = sum(t.numel() for t in tensors if t is not None)
    written = sum(t.numel() for t in weights)
    moved = (read + written if direction == "forward" else 3 * read + 3 * written) * weights[0].element_size()
    harness.describe(measured, works, moved, {name: found.output for name, found in errors.items()})
    flops = 2 * conv.batch * conv.side**2 * int(conv.live().sum()) * (1 if direction == "forward" else 3)
    default = f"pygen {pygen.explain(OP, tensors[0]).backend}"
    for name, m in measured.items():
        m.info |= errors[name.removesuffix(harness.GRAPHED)].info()
        m.info |= {"live_gflop_per_s": round(flops / m.median / 1e9, 1), "default": name == default}
        if name.startswith("pygen "):
            m.info |= {
                f"vs_{rival}": round(measured[rival].median / m.median, 3)
                for rival in ("crop", "crop compiled", "crop compiled channels_last")
                if rival in measured
            }
    collect(OP, str(case), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, str)


@pytest.mark.parametrize("group", GROUPS, indirect=True)
def bench_gated_masked_conv2d(benchmark, group: dict[str, Measurement]) -> None:
    """Records pygen's default; the table and the stored rows have all providers."""
    harness.record(benchmark, group[next(n for n in group if group[n].info["default"])])
