"""What can run here: loads the compiled modules, never fails, and keeps each reason why not."""

import importlib
import importlib.metadata
import importlib.util
import os
from functools import cache
from types import ModuleType

import torch  # before the compiled modules: their OpenMP symbols resolve to torch's own runtime

_MODULES = {
    "reference": "pygen.reference",
    "composite": "pygen.composite",
    "cpu": "pygen.native",
    "triton": "pygen.kernels",
    "cuda": "pygen.native",
}


@cache
def _load(name: str) -> tuple[ModuleType | None, str | None]:
    try:
        return importlib.import_module(f"pygen.{name}"), None
    except ImportError as error:
        return None, f"the compiled module pygen.{name} did not load: {error}"


def compiled(name: str) -> ModuleType:
    """pygen._cpu or pygen._cuda."""
    module, reason = _load(name)
    if module is None:
        raise RuntimeError(reason)
    return module


def compiled_or_none(name: str) -> ModuleType | None:
    return _load(name)[0]


@cache
def triton_interpreted() -> bool:
    """Whether Triton kernels run under its interpreter. Fixed when they are decorated, so the answer is kept."""
    return os.environ.get("TRITON_INTERPRET", "0") == "1" and importlib.util.find_spec("triton") is not None


def _cuda_runtime() -> str | None:
    module, reason = _load("_cuda")
    if module is None:
        return reason
    return module.why_not() or None


def _triton() -> str | None:
    if importlib.util.find_spec("triton") is None:
        return "the package triton is not installed"
    if triton_interpreted():
        return _interpreter()
    return (
        None
        if torch.cuda.is_available()
        else "torch finds no CUDA device, and TRITON_INTERPRET=1 was not set before import"
    )


def _interpreter() -> str | None:
    """Triton 3.6's takes an array of one element for an int, as NumPy did until 2.4."""
    triton, numpy = (importlib.metadata.version(name) for name in ("triton", "numpy"))
    if _release(triton) < (3, 7) and _release(numpy) >= (2, 4):
        return f"the interpreter of Triton {triton} needs a NumPy before 2.4, this is {numpy}"
    return None


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


_WHY_NOT = {"reference": lambda: None, "cpu": lambda: _load("_cpu")[1], "triton": _triton, "cuda": _cuda_runtime}


@cache
def why_not(name: str) -> str | None:
    """None if that backend can run on this machine, else the reason.

    Asked of no other than the one that is needed: of triton torch looks for a device, which starts the driver, and a process that
    forks afterwards has children that cannot use CUDA.
    """
    return _WHY_NOT[name]()


def status() -> dict[str, str | None]:
    """why_not of each backend."""
    return {name: why_not(name) for name in _WHY_NOT}


@cache
def load_launcher(stem: str, backend: str) -> ModuleType:
    return importlib.import_module(f"{_MODULES[backend]}.{stem}")
