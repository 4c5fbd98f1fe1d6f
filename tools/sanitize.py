"""The C++ kernels under sanitizers: builds a copy of the sources so, and calls every op on its row's samples, and the samplers.

    python tools/sanitize.py [address,undefined] [thread] [op ...]     (`make sanitize` also runs the CUDA kernels on the host so)

ThreadSanitizer knows nothing of OpenMP's runtime and would report every join as a race: for it the kernels get
tools/openmp_threads.cpp in place of that, and csrc/cpu/parallel.h shares out the least of work to threads.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Of C++20, which defines what a left shift does to a sign; compilers do the same before it.
FLAGS = "-std=c++20 -fno-sanitize-recover=all -fno-sanitize=vptr -g1 -fno-omit-frame-pointer -O1"
LIBRARIES = {"address": "libasan.so", "undefined": "libubsan.so", "thread": "libtsan.so"}
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:exitcode=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=1:report_signal_unsafe=0:ignore_noninstrumented_modules=1",
}
THREADS = 3


def copy(to: Path) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for path in files.rstrip("\0").split("\0"):
        source, target = ROOT / path, to / path
        if source.exists() and not (target.exists() and target.read_bytes() == source.read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    link = to / "pygen" / "kernels"
    if not link.is_symlink():
        link.symlink_to("../kernels")


def library(name: str) -> str:
    done = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def exercise_ops(makers: int, only: list[str]) -> None:
    """Forward and backward of every row that has C++ kernels: every dtype on every instruction set, on the last in layouts.

    And what else the row has registered, without a gradient: paths, chains.
    """
    import layouts
    import support
    from registry import OPS, SAMPLERS, gradients, leaves

    target, calls = support.Target("cpu", "cpu"), 0
    for op in [*OPS, *SAMPLERS]:
        if (only and op.name not in only) or not support.has_kernel(op.name, target):
            continue
        for isa in support.isas():
            with support.instruction_set(isa):
                for sample in op.samples():
                    for dtype in support.DTYPES:
                        for function, given in op.registered(sample, dtype):
                            function(*given)
                        for maker in layouts.MAKERS[: makers if isa == support.isas()[-1] else 1]:
                            tensors = {k: maker(t) if t.dim() else t for k, t in sample.cast(dtype).items()}
                            marked, inputs = leaves(op, tensors)
                            gradients(op.run(marked, sample.options, "cpu"), inputs, retain_graph=False)
                            calls += 1
        print(f"{op.name}: no fault in {calls} calls so far", flush=True)


def exercise_samplers() -> None:
    """A block of images a thread, and teams of threads on one image; known pixels and conditions."""
    import support
    import torch
    from pixel_twins import CASES, twins

    from pygen import models

    for isa in support.isas():
        with support.instruction_set(isa):
            for name, case in CASES.items():
                for dtype in (torch.float32, torch.float64) if name in ("gated", "plain-rgb") else (torch.float32,):
                    _, model = twins(name, dtype)
                    for n in (1, 2, 7):
                        cond = case.conditions(n, 3, 7)
                        cond = cond.to(dtype) if cond is not None and cond.is_floating_point() else cond
                        known = case.images(n, 3, 7, seed=9)
                        given = {"known": known, "known_mask": known > 0} if n == 2 else {}
                        model.sample(n, (3, 7), cond=cond, seed=3, engine="cpu", **given)
            models.MADE(20, [16, 16]).sample(9, seed=1, engine="cpu")
            models.NADE(20, 17, num_orders=2).sample(9, seed=1, engine="cpu")
    print("the samplers: no fault", flush=True)


def exercise(root: Path, sanitizers: str, *only: str) -> None:
    sys.path.insert(0, str(root / "tests"))
    import conftest  # noqa: F401
    import torch

    torch.set_num_threads(1)  # torch's own operations; the launchers ask the following
    torch.get_num_threads = lambda: THREADS
    if not only:
        exercise_samplers()
    exercise_ops(2 if sanitizers == "thread" else 100, list(only))


def sanitize(sanitizers: str, only: list[str]) -> int:
    root = ROOT / "build" / f"sanitized-{sanitizers.partition(',')[0]}"
    copy(root)
    if sanitizers == "thread":
        shutil.copy(ROOT / "tools" / "openmp_threads.cpp", root / "csrc" / "cpu")
    env = {**os.environ, "CXXFLAGS": f"-fsanitize={sanitizers} {FLAGS}", "PYGEN_BUILD_CUDA": "0"}
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    if subprocess.run(build, cwd=root, env=env).returncode:
        return 1
    preload = ":".join(library(LIBRARIES[name]) for name in sanitizers.split(","))
    env |= {**OPTIONS, "LD_PRELOAD": preload, "PYTHONPATH": str(root), "PYGEN_SANITIZED": str(root)}
    command = [sys.executable, str(root / "tools" / "sanitize.py"), sanitizers, *only]
    code = subprocess.run(command, cwd=root, env=env).returncode
    print(f"no fault found by {sanitizers}" if code == 0 else f"{shlex.join(command)} ended with {code}", flush=True)
    return code


if __name__ == "__main__":
    if root := os.environ.get("PYGEN_SANITIZED"):
        exercise(Path(root), *sys.argv[1:])
    else:
        asked = [name for name in sys.argv[1:] if name.partition(",")[0] in LIBRARIES]
        only = [name for name in sys.argv[1:] if name not in asked]
        sys.exit(any([sanitize(names, only) for names in asked or ("address,undefined", "thread")]))
