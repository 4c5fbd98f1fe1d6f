"""The CUDA C++ of csrc/cuda as a Python module that runs on the host: csrc with the shim of tests/cuda_host, built by g++."""

import fcntl
import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from types import ModuleType

import pybind11
import pytest
import torch

from pygen.native import (
    affine_coupling,
    am_softmax,
    autoregressive_inverse,
    bernoulli_nll,
    bernoulli_sample,
    categorical_nll,
    categorical_sample,
    crf,
    gan_loss,
    gated_activation,
    gated_masked_conv2d,
    logistic_mixture_nll,
    logistic_mixture_sample,
    masked_conv2d,
    masked_linear,
    nade_nll,
    noise_contrastive,
    noise_sample,
    pixel_lstm,
    rational_quadratic_spline,
    rbm,
    reparameterize_kl,
    sample_dot,
    vector_quantize,
)
from pygen.ops import _gan_common, _linear_common, _noise_contrastive_common, _rbm_common

LAUNCHERS = (
    affine_coupling,
    am_softmax,
    autoregressive_inverse,
    bernoulli_nll,
    bernoulli_sample,
    categorical_nll,
    categorical_sample,
    crf,
    gan_loss,
    gated_activation,
    gated_masked_conv2d,
    logistic_mixture_nll,
    logistic_mixture_sample,
    masked_conv2d,
    masked_linear,
    nade_nll,
    noise_contrastive,
    noise_sample,
    pixel_lstm,
    rational_quadratic_spline,
    rbm,
    reparameterize_kl,
    sample_dot,
    vector_quantize,
)
ROOT = Path(__file__).resolve().parent.parent
SHIM = ROOT / "tests" / "cuda_host"
FLAGS = ["-std=c++20", "-O1", "-fPIC", "-fvisibility=hidden", "-Wall", "-Werror"]
FLAGS += ["-Wno-unknown-pragmas", "-Wno-maybe-uninitialized"]
FLAGS += ["-Wno-psabi"]  # CUtensorMap is aligned more than gcc 4.6 knew
FLAGS += ["-DPYGEN_GAN_MANY_BLOCKS=6", "-DPYGEN_GAN_MAX_SEGMENTS=8"]  # several turns, several launches with few logits
FLAGS += ["-DPYGEN_WGMMA_FEW_TILES=6"]  # large tiles of few pixels


@cache
def toolkit_headers() -> Path | None:
    """The toolkit's include folder. The nvcc on PATH may be a wrapper: its dry run says where the real one lies."""
    nvcc = f"{os.environ['CUDA_HOME']}/bin/nvcc" if "CUDA_HOME" in os.environ else shutil.which("nvcc")
    if nvcc is None:
        return None
    dryrun = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True).stderr
    top = re.search(r"^#\$ TOP=(.+?)\s*$", dryrun, re.MULTILINE)
    include = Path(top[1]) / "include" if top else None
    return include if include and (include / "cuda_runtime.h").exists() else None


MARKS = [
    pytest.mark.slow,
    pytest.mark.usefixtures("cuda_on_host", "poisoned"),
    pytest.mark.skipif(toolkit_headers() is None, reason="the headers of a CUDA toolkit are not here"),
]


def _sources() -> list[Path]:
    return [
        SHIM / "shim.cpp",
        SHIM / "hopper_host.cpp",
        SHIM / "runtime_host.cpp",
        ROOT / "csrc" / "bindings_cuda.cpp",
        *sorted((ROOT / "csrc" / "cuda").glob("*.cu")),
    ]


def _object(source: Path, command: list[str]) -> Path:
    """The compiled source, from before if its command and all that it includes are as they were then.

    Or the time before, as when a planted fault is taken out again.
    """
    folder = ROOT / "build" / f"cuda_host-{hashlib.sha256(repr(command).encode()).hexdigest()[:16]}"
    current, earlier = (
        [folder / f"{when}{source.stem}{end}" for end in (".o", ".d", ".key")] for when in ("", "before-")
    )
    output, includes, stamp = current

    def key(listed: Path) -> str:
        paths = listed.read_text().replace("\\\n", " ").partition(":")[2].split()
        parts = (path.encode() + Path(path).read_bytes() for path in paths if Path(path).exists())
        return hashlib.sha256(b"".join(parts)).hexdigest()

    def fits(files: list[Path]) -> bool:
        return all(path.exists() for path in files) and files[2].read_text() == key(files[1])

    if fits(current):
        return output
    folder.mkdir(parents=True, exist_ok=True)
    again, old_key = fits(earlier), stamp.read_text() if stamp.exists() else ""
    for files in (current, earlier):
        files[2].unlink(missing_ok=True)  # a process that ends here leaves nothing that seems to fit
    for now, before in zip(current[:2], earlier[:2], strict=True):
        part = now.with_suffix(f".{os.getpid()}.part")
        if again:
            os.replace(before, part)
        if now.exists():
            os.replace(now, before)
        if again:
            os.replace(part, now)
    earlier[2].write_text(old_key)
    if not again:
        part, listed = (output.with_suffix(f".{os.getpid()}.{end}") for end in ("part", "list"))
        subprocess.run([*command, "-MMD", "-MF", str(listed), "-c", str(source), "-o", str(part)], check=True)
        os.replace(listed, includes)
        os.replace(part, output)
    stamp.write_text(key(includes))
    return output


def _compiler(*extra: str) -> list[str]:
    command = [os.environ.get("CXX", "g++"), *FLAGS, *extra, "-include", str(SHIM / "shim.h")]
    return [*command, f"-I{ROOT / 'csrc'}", f"-I{SHIM}", "-isystem", str(toolkit_headers())]


def compile_program(name: str, folder: Path, *machine: str, flags: Sequence[str] = ()) -> Path:
    """A program of tests/cuda_host, with those parts of the host's machine."""
    program, sources = folder / name, [str(SHIM / f"{part}.cpp") for part in (name, *machine)]
    subprocess.run([*_compiler("-pthread", *flags), "-x", "c++", *sources, "-o", str(program)], check=True)
    return program


def run_program(name: str, folder: Path) -> subprocess.CompletedProcess:
    """A program of tests/cuda_host, on threads of its own."""
    return subprocess.run([str(compile_program(name, folder))], capture_output=True, text=True, timeout=300)


def build(*extra: str) -> Path:
    """The module's file, compiled unless one of the same sources and flags is there."""
    command = [os.environ.get("CXX", "g++"), *FLAGS, *extra]
    compile_one = [*_compiler(*extra), f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
        objects = list(pool.map(lambda source: _object(source, [*compile_one, "-x", "c++"]), _sources()))
    key = hashlib.sha256(b"".join(path.read_bytes() for path in objects)).hexdigest()[:16]
    output = objects[0].parent / key / f"_cuda{sysconfig.get_config_var('EXT_SUFFIX')}"
    if not output.exists():
        output.parent.mkdir(parents=True, exist_ok=True)
        part = output.with_suffix(f".{os.getpid()}.part")
        subprocess.run([*command, "-shared", *map(str, objects), "-o", str(part)], check=True)
        os.replace(part, output)
    return output


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("_cuda", path)
    assert spec is not None and spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(loaded)
    return loaded


@cache
def module() -> ModuleType:
    """One of several test processes compiles, the others wait for it."""
    (ROOT / "build").mkdir(exist_ok=True)
    with (ROOT / "build" / "cuda_host.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return load(build())


@contextmanager
def asked_bytes() -> Iterator[list[int]]:
    """Bytes of workspace that each call asks for in the block."""
    asked: list[int] = []
    empty = torch.empty

    def asking(*args, **kwargs):
        if kwargs.get("dtype") is torch.uint8:
            asked.append(args[0])
        return empty(*args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:  # undone before the poison is
        patch.setattr(torch, "empty", asking)
        yield asked


def run_native_on(monkeypatch, where: tuple[int, int] = (0, 0)) -> ModuleType:
    """The launchers of pygen/native take CPU tensors to the CUDA kernels, on (device, stream)."""
    compiled = module()
    for launcher in LAUNCHERS:
        monkeypatch.setattr(launcher, "target", lambda t: (compiled, where))
    short = [(_gan_common, "loss"), (_linear_common, "product"), (_noise_contrastive_common, "loss")]
    short.append((_rbm_common, "energy"))
    short.append((sys.modules["pygen.ops.sample_dot"], "_short"))
    for common, name in short:
        monkeypatch.setattr(common, name, lambda *call: None)  # the short way knows the C++ kernels alone
    return compiled
