"""Rehearses a benchmark's GPU branches where there is no GPU: python tools/rehearse.py OP [arguments of pytest]

torch.cuda is pretended, pygen's CUDA kernels run on the host (tests/cuda_host), shapes are small, cases that are the same then
run once, nothing is compiled, and every provider is called once. Times mean nothing and nothing is stored: what it finds are
the mistakes that would have stopped a run on a GPU, a CUDA graph of work that waits for the device among them.
"""

from __future__ import annotations

import contextlib
import dataclasses
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT / "benchmarks"), str(ROOT / "tests")]
os.environ["PYGEN_HOST_CAPABILITY"] = "9"  # of a Hopper card

import attempts  # noqa: E402
import harness  # noqa: E402
import host_cuda  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

import pygen  # noqa: E402
from pygen import _backends, _dispatch  # noqa: E402
from pygen.models import _conditional, _engines, _flow, _levels  # noqa: E402
from pygen.native import _sampling_cluster, _sampling_cuda, _sampling_dense_cuda, _sampling_scales  # noqa: E402

attempts.leave_out = False  # what fails here is what a rehearsal is for
torch.set_num_threads(1)  # the sizes are small, and threads that wait for each other on a busy host take seconds

SIZES = (2, 32, 4)  # of a shape: images, channels, what is left
KEPT = (100,)  # channels: what PixelCNN++ says of a pixel by ten components
FIELDS = {"batch": 2, "side": 4, "channels": 32, "blocks": 2, "ins": 66, "outs": 132}
OPTIONS = {"hidden_channels": 24, "num_blocks": 2, "num_resnets": 1, "num_inputs": 16, "hidden_sizes": (12, 12)}

OF_CPU_TENSORS = {"_finite", "check_level_values", "check_values"}  # pygen's functions that read nothing of a GPU's


class Device(str):
    """The CPU, which says that it is a GPU."""

    type, index = "cuda", 0


class Event:
    def __init__(self, **_: object) -> None:
        self.at = 0.0

    def record(self) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        pass

    def elapsed_time(self, end: Event) -> float:
        return 1e3 * (end.at - self.at)


def measure(works: dict[str, Callable[[], object]], *_: object, **__: object) -> dict[str, harness.Measurement]:
    for name, work in works.items():
        if name.endswith(harness.GRAPHED):  # which has run twice
            continue
        start = time.perf_counter()
        work()
        print(f"  {name}: {time.perf_counter() - start:.1f} s", flush=True)
    return {name: harness.Measurement([1e-3] * 7) for name in works}


@contextlib.contextmanager
def no_waiting() -> Iterator[None]:
    """Refuses what on a GPU would wait for it, as a capture does: numbers read, sizes that values decide, lists copied there."""

    def refuse(name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **options: Any) -> Any:
            frame = sys._getframe(1)
            while frame is not None and frame.f_code.co_name not in OF_CPU_TENSORS:
                frame = frame.f_back  # type: ignore[assignment]
            if frame is None:
                raise RuntimeError(f"{name} waits for the device: no CUDA graph can hold it")
            return real(*given, **options)

        return call

    pick = torch.Tensor.__getitem__

    def checked(t: torch.Tensor, index: Any) -> torch.Tensor:
        parts = index if isinstance(index, tuple) else (index,)
        if any(isinstance(part, torch.Tensor) and part.dtype in (torch.bool, torch.uint8) for part in parts):
            return by_booleans(t, index)
        return pick(t, index)

    by_booleans = refuse("an index of booleans", pick)

    with pytest.MonkeyPatch.context() as patch:
        for name in ("__bool__", "__float__", "__int__", "item", "masked_select", "nonzero", "tolist", "unique"):
            patch.setattr(torch.Tensor, name, refuse(f"Tensor.{name}", getattr(torch.Tensor, name)))
        for name in ("masked_select", "nonzero", "tensor", "unique"):
            patch.setattr(torch, name, refuse(f"torch.{name}", getattr(torch, name)))
        patch.setattr(torch.Tensor, "__getitem__", checked)
        yield


def graphed(work: Callable[[], object]) -> Callable[[], object]:
    work()  # what a first call alone copies or compiles is done before a capture
    with no_waiting():
        work()
    return work


def small(value: Any, at: int = 0) -> Any:
    """A case, or the part of one that stands there in a tuple."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {}
        for field in dataclasses.fields(value):
            old = getattr(value, field.name)
            if field.name == "options":
                changed["options"] = tuple((key, OPTIONS.get(key, given)) for key, given in old)
            elif field.name in FIELDS and isinstance(old, int):
                changed[field.name] = min(old, FIELDS[field.name])
            elif dataclasses.is_dataclass(old):
                changed[field.name] = small(old)
        return dataclasses.replace(value, **changed)
    if isinstance(value, tuple):
        return tuple(small(part, i) for i, part in enumerate(value))
    if isinstance(value, int) and not isinstance(value, bool):
        return value if value in KEPT else min(value, SIZES[min(at, len(SIZES) - 1)])
    return value


def pretend(patch: pytest.MonkeyPatch, folder: Path) -> None:
    compiled, load, why_not = host_cuda.run_native_on(patch), _backends.compiled, _dispatch.why_not
    requested = _dispatch.requested
    patch.setattr(harness, "DEVICE", Device("cpu"))
    patch.setattr(harness, "RESULTS", folder / "benchmarks" / "results")
    patch.setattr(harness, "measure", measure)
    patch.setattr(harness, "graphed", graphed)
    patch.setattr(torch, "compile", lambda op=None, **_: op or (lambda made: made))
    for name, value in {
        "Event": Event,
        "synchronize": lambda *_: None,
        "get_device_name": lambda *_: "no GPU",
        "get_device_capability": lambda *_: (9, 0),
        "memory_allocated": lambda *_: 0,
        "max_memory_allocated": lambda *_: 0,
        "reset_peak_memory_stats": lambda *_: None,
        "stream": lambda *_: contextlib.nullcontext(),
    }.items():
        patch.setattr(torch.cuda, name, value)

    # CPU tensors, for which "cuda" is the launchers of pygen/native, sent to the host's module.
    patch.setattr(_backends, "compiled", lambda name: compiled if name == "_cuda" else load(name))
    patch.setattr(_dispatch, "requested", lambda op, name: requested(op, "cpu" if name == "cuda" else name))
    absent = {"cuda": None, "triton": "not rehearsed"}
    patch.setattr(_dispatch, "why_not", lambda op, name, device: absent.get(name, why_not(op, name, device)))
    patch.setattr(pygen, "backends", lambda: {"reference": None, "cpu": "not rehearsed", **absent})
    patch.setattr(pygen, "explain", lambda *_, **__: _dispatch.Choice("cuda", "rehearsed", {}))
    patch.setattr(_sampling_cuda, "target", lambda t: (compiled, 0, 0))
    patch.setattr(_sampling_dense_cuda, "target", lambda t: (compiled, (0, 0)))
    for models in (_conditional, _flow, _levels):  # which look at a CPU's values
        patch.setattr(models, "free_to_look_at", lambda x: False)
    for launcher in (_sampling_cluster, _sampling_scales):
        patch.setattr(launcher, "THREADS", 32)  # the host takes its time for each

    def draws(model: torch.nn.Module) -> str | None:
        wide = next(model.parameters()).dtype is torch.float64
        return "not in float64" if wide and isinstance(model, pygen.models.PixelCNNPP) else None

    for name, reason in (("cuda", draws), ("cpu", lambda model: "not rehearsed")):
        patch.setitem(_engines.ENGINES, name, dataclasses.replace(_engines.ENGINES[name], why_not=reason))


def unnamed(value: Any) -> Any:
    """A case without its name: what two cases have in common that run the same lines with the same sizes."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = (field.name for field in dataclasses.fields(value) if field.name != "name")
        return type(value), *(unnamed(getattr(value, name)) for name in fields)
    return tuple(map(unnamed, value)) if isinstance(value, tuple) else value


class Small:
    """Pytest's plugin: every case as small as can be, and those once that are the same then."""

    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, config: pytest.Config, items: list[pytest.Item]) -> None:
        kept: dict[Any, pytest.Item] = {}
        for item in items:
            params = item.callspec.params
            if "group" in params:
                params["group"] = small(params["group"])
            others = tuple((name, value) for name, value in params.items() if name != "group")
            kept.setdefault(repr((item.function, unnamed(params.get("group")), others)), item)
        config.hook.pytest_deselected(items=[item for item in items if item not in kept.values()])
        items[:] = kept.values()


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__)
        return 2
    op, *rest = arguments
    where = ["-c", str(ROOT / "benchmarks" / "pytest.ini"), str(ROOT / "benchmarks" / f"bench_{op}.py")]
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        pretend(patch, Path(folder))
        return int(pytest.main([*where, "-q", "-s", *rest], plugins=[Small()]))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
