"""Compiles kernels for GPUs that are not there, by calling their launchers on CPU tensors.

The launchers run as they would on a GPU, so what is compiled is what a GPU would get; only the launch itself is left out. Needs a
process in which TRITON_INTERPRET was not set.
"""

import contextlib
import re
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from ._compat import INTERPRETED


@dataclass(frozen=True)
class Compiled:
    kernel: str
    constants: str
    registers: int
    stack: int  # bytes; what does not fit into registers
    shared: int  # bytes


class _AbsentDevice:
    """As much of a Triton driver as compilation asks for."""

    def __init__(self, capability: int) -> None:
        self._target = GPUTarget("cuda", capability, 32)

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return self._target.arch  # each target has its own cache of kernels

    def get_current_stream(self, device: int) -> int:
        return 0


def _resources(cubin: bytes) -> tuple[int, int, int]:
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    found = {name: int(value) for name, value in re.findall(r"\b(REG|STACK|SHARED|LOCAL):(\d+)", text)}
    return found["REG"], found["STACK"] + found["LOCAL"], found["SHARED"]


@contextlib.contextmanager
def compile_only(capability: int) -> Iterator[list[Compiled]]:
    """Within the block Triton launches compile for sm_`capability` and do not run; the list fills with what was compiled."""
    if INTERPRETED:
        raise RuntimeError("ahead-of-time compilation needs a process without TRITON_INTERPRET=1")
    compiled: list[Compiled] = []
    seen = set()
    run = JITFunction.run

    def compile_instead(self, *args, grid, warmup, **kwargs):
        kernel = run(self, *args, grid=grid, warmup=True, **kwargs)
        if kernel.hash not in seen:
            seen.add(kernel.hash)
            constants = " ".join(f"{k}={v}" for k, v in kwargs.items())
            registers, stack, _ = _resources(kernel.asm["cubin"])
            compiled.append(Compiled(self.fn.__name__, constants, registers, stack, kernel.metadata.shared))
        return kernel

    driver.set_active(_AbsentDevice(capability))
    JITFunction.run = compile_instead
    try:
        yield compiled
    finally:
        JITFunction.run = run
        driver.reset_active_to_none() if hasattr(driver, "reset_active_to_none") else setattr(driver, "_active", None)
