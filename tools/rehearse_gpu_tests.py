"""Runs the bodies of tests that need a GPU where there is none: python tools/rehearse_gpu_tests.py tests/test_gpu_losses.py [...]

torch.cuda is pretended: "cuda" is the CPU, and pygen's CUDA kernels run on the host (tests/cuda_host), one stream after the
other. A graph's replay runs the captured lines once more, and what waits for the device is refused where a capture would not
survive it. What it finds are the mistakes that would have cost time on a GPU; of the kernels it says nothing that tests on
the host do not. A test that takes longer than PYGEN_REHEARSAL_SECONDS (60) is given up, between calls: its sizes are a GPU's.
"""

from __future__ import annotations

import ast
import inspect
import os
import signal
import sys
import tempfile
import textwrap
from pathlib import Path
from types import FrameType
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"

import pytest
import rehearse  # what benchmarks and tests import is on the path from here on
import torch
from torch import Tensor

from pygen import _tf32

LIMIT = int(os.environ.get("PYGEN_REHEARSAL_SECONDS", "60"))
# A process of their own, values of which CPU tensors are asked at once, engines of which rehearse.py says that they can.
NOT_HERE = ("first_call_may_be_captured", "of_a_wrong_length", "of_classes_that_are_none", "takes_cuda_where_it_can")
MADE_BY = (
    "arange as_tensor empty empty_like empty_strided eye full full_like linspace ones ones_like rand rand_like randint"
)
MADE_BY += " randn randn_like randperm tensor zeros zeros_like"
MADE_FROM = "to new_empty new_full new_ones new_tensor new_zeros"


def on_cpu(value: Any) -> Any:
    """A device, or whatever stands in its place."""
    named = isinstance(value, (str, torch.device)) and str(value).partition(":")[0] == "cuda"
    return "cpu" if named else value


def send_to_cpu(patch: pytest.MonkeyPatch, owner: Any, name: str) -> None:
    real = getattr(owner, name)

    def call(*given: Any, **options: Any) -> Any:
        if "device" in options:
            options["device"] = on_cpu(options["device"])
        return real(*(map(on_cpu, given) if name == "to" else given), **options)

    patch.setattr(owner, name, call)


class Generator(torch.Generator):
    def __new__(cls, device: object = "cpu") -> Generator:
        return super().__new__(cls, on_cpu(device))


class Stream:
    cuda_stream = 0

    def synchronize(self) -> None:
        pass

    def wait_stream(self, other: Stream) -> None:
        pass


class Graph:
    """Of torch.cuda.graph's block the source, and the variables that it needs."""

    def __init__(self) -> None:
        self.code: Any = None
        self.variables: dict[str, Any] = {}
        self.assigned: set[str] = set()

    def record(self, frame: FrameType) -> None:
        lines, start = inspect.getsourcelines(frame.f_code)
        tree = ast.parse(textwrap.dedent("".join(lines)))
        blocks = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.With) and "cuda.graph(" in ast.unparse(node.items[0])
        ]
        (block,) = (b for b in blocks if b.lineno <= frame.f_lineno - start + 1 <= (b.end_lineno or b.lineno))
        names = (node for line in block.body for node in ast.walk(line) if isinstance(node, ast.Name))
        self.assigned = {name.id for name in names if isinstance(name.ctx, ast.Store)}
        self.code = compile(ast.Module(block.body, []), frame.f_code.co_filename, "exec")
        self.variables = {**frame.f_globals, **frame.f_locals}

    def replay(self) -> None:
        again = dict(self.variables)
        exec(self.code, again)
        for name in self.assigned:
            overwrite(self.variables[name], again[name])


def overwrite(old: Any, new: Any) -> None:
    """The tensors of a capture take the values of its replay."""
    if isinstance(old, Tensor):
        with torch.no_grad():
            old.copy_(new)
    elif isinstance(old, (list, tuple)):
        for one, other in zip(old, new, strict=True):
            overwrite(one, other)


class Capture:
    def __init__(self, graph: Graph) -> None:
        self.graph, self.refuses = graph, rehearse.no_waiting()

    def __enter__(self) -> None:
        frame = sys._getframe(1)
        self.frame = frame
        self.refuses.__enter__()

    def __exit__(self, *error: Any) -> None:
        self.refuses.__exit__(*error)
        if error[0] is None:
            self.graph.record(self.frame)


refusing: list[Any] = []


def set_sync_debug_mode(mode: str) -> None:
    if mode == "error":
        refusing.append(rehearse.no_waiting())
        refusing[-1].__enter__()
    else:
        while refusing:
            refusing.pop().__exit__(None, None, None)


def pretend(patch: pytest.MonkeyPatch, folder: Path) -> None:
    rehearse.pretend(patch, folder)
    for name, value in {
        "CUDAGraph": Graph,
        "Stream": Stream,
        "_sleep": lambda cycles: None,
        "current_device": lambda: 0,
        "current_stream": lambda *_: Stream(),
        "device_count": lambda: 1,
        "graph": Capture,
        "is_available": lambda: True,
        "is_initialized": lambda: False,
        "mem_get_info": lambda *_: (0, 0),  # what needs much memory is left out
        "set_sync_debug_mode": set_sync_debug_mode,
    }.items():
        patch.setattr(torch.cuda, name, value)
    for name, of in (("allowed", torch.backends.cudnn.conv), ("allowed_in_products", torch.backends.cuda.matmul)):
        patch.setattr(_tf32, name, lambda t, of=of: t.dtype is torch.float32 and of.fp32_precision == "tf32")
    patch.setattr(torch, "Generator", Generator)
    for name in ("cuda", "pin_memory"):
        patch.setattr(Tensor, name, lambda t, *_, **__: t)
    for owner, names in ((torch, MADE_BY), (Tensor, MADE_FROM)):
        for name in names.split():
            send_to_cpu(patch, owner, name)


class Limits:
    """Pytest's plugin."""

    passed = 0

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self.passed += report.when == "call" and report.passed

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        for item in items:
            if any(name in item.name for name in NOT_HERE):
                item.add_marker(pytest.mark.skip(reason="not in a rehearsal"))

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_call(self, item: pytest.Item) -> Any:
        def give_up(*_: object) -> None:
            pytest.skip(f"longer than {LIMIT} s")

        before = signal.signal(signal.SIGALRM, give_up)
        signal.alarm(LIMIT)
        try:
            return (yield)
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)
            set_sync_debug_mode("default")


def main(arguments: list[str]) -> int:
    if not arguments:
        print(__doc__)
        return 2
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        pretend(patch, Path(folder))
        plugin = Limits()
        status = pytest.main(["-q", "-p", "no:xdist", "-p", "no:cacheprovider", *arguments], plugins=[plugin])
    return int(status) or (
        0 if plugin.passed else pytest.ExitCode.NO_TESTS_COLLECTED
    )  # where all are left out, nothing is shown


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
