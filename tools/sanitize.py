"""The C++ kernels under AddressSanitizer and UBSan: builds a copy of the sources so, and calls every op on every row's samples.

    python tools/sanitize.py        (`make sanitize` also runs the CUDA kernels on the host, under ThreadSanitizer too)

Threads of the C++ kernels are OpenMP's, whose runtime ThreadSanitizer does not know: it would report every join as a race.
"""

import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "sanitized" if (ROOT / ".git").exists() else ROOT
FLAGS = "-fsanitize=address,undefined -fno-sanitize-recover=all -fno-sanitize=vptr -g1 -fno-omit-frame-pointer -O1"


def copy() -> None:
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for path in files.rstrip("\0").split("\0"):
        source, target = ROOT / path, COPY / path
        if source.exists() and not (target.exists() and target.read_bytes() == source.read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    link = COPY / "pygen" / "kernels"
    if not link.is_symlink():
        link.symlink_to("../kernels")


def library(name: str) -> str:
    done = subprocess.run(["g++", f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def exercise() -> None:
    """Forward and backward of every row that has C++ kernels, in every layout and dtype, on every instruction set."""
    sys.path.insert(0, str(COPY / "tests"))
    import conftest  # noqa: F401
    import layouts
    import support
    from registry import OPS, gradients, leaves

    target, calls = support.Target("cpu", "cpu"), 0
    for op in OPS:
        if not support.has_kernel(op.name, target):
            continue
        for isa in support.isas():
            with support.instruction_set(isa):
                for sample in op.samples():
                    for dtype in support.DTYPES:
                        for maker in layouts.MAKERS if isa == support.isas()[-1] else layouts.MAKERS[:1]:
                            tensors = {k: maker(t) if t.dim() else t for k, t in sample.cast(dtype).items()}
                            marked, inputs = leaves(op, tensors)
                            gradients(op.run(marked, sample.options, "cpu"), inputs, retain_graph=False)
                            calls += 1
        print(f"{op.name}: no fault in {calls} calls so far", flush=True)


def main() -> int:
    if os.environ.get("PYGEN_SANITIZED") == "cpu":
        exercise()
        return 0
    copy()
    env = {**os.environ, "CXXFLAGS": FLAGS, "PYGEN_BUILD_CUDA": "0"}
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    if subprocess.run(build, cwd=COPY, env=env).returncode:
        return 1
    env |= {
        "LD_PRELOAD": ":".join(map(library, ("libasan.so", "libubsan.so"))),
        "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:exitcode=1",
        "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
        "PYTHONPATH": str(COPY),
        "PYGEN_SANITIZED": "cpu",
    }
    command = [sys.executable, str(COPY / "tools" / "sanitize.py")]
    code = subprocess.run(command, cwd=COPY, env=env).returncode
    print("no fault found by address,undefined" if code == 0 else f"{shlex.join(command)} ended with {code}")
    return code


if __name__ == "__main__":
    sys.exit(main())
