"""Tries the Triton versions that pygen supports, one after the other, beside the installed torch: make matrix, docs/matrix.md.

    python tools/matrix.py [--versions 3.6.0,3.7.1] [--tests "..."] [--archs 90]

Each is installed into build/matrix and put before the environment's own: under the interpreter it runs the tests of the
Triton kernels, without it compiles them ahead of time. A version that pip has not is on the list as such.
"""

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VERSIONS = "3.6.0,3.7.1,3.8.0,3.9.0"
TESTS = " ".join(sorted(f"tests/{path.name}" for path in (ROOT / "tests").glob("test_triton_*.py")))
# What a version needs beside it: 3.6's interpreter makes numbers of arrays of one element, which NumPy 2.4 refuses.
BESIDE = {"3.6.0": ("numpy==2.3.5",)}


def install(version: str) -> Path | str:
    """The folder with that Triton, or why there is none."""
    folder = ROOT / "build" / "matrix" / f"triton-{version}"
    packages = (f"triton=={version}", *BESIDE.get(version, ()))
    if not all((folder / package.partition("==")[0]).exists() for package in packages):
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *packages]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            return "not installed: " + (done.stderr.strip().splitlines() or ["pip failed"])[-1][:120]
    return folder


def run(folder: Path, arguments: list[str], **env: str) -> tuple[int, str]:
    paths = [str(folder), os.environ.get("PYTHONPATH", "")]
    given = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    given |= {"PYTHONPATH": os.pathsep.join(p for p in paths if p), **env}
    done = subprocess.run([sys.executable, *arguments], cwd=ROOT, env=given, capture_output=True, text=True)
    return done.returncode, done.stdout + done.stderr


def interpreted(folder: Path, tests: str) -> str:
    _, text = run(folder, ["-m", "pytest", "-q", "-p", "no:cacheprovider", *tests.split()], TRITON_INTERPRET="1")
    counts = re.findall(r"^(?:=+ )?(\d+ (?:passed|failed|error).*?) in ", text, re.MULTILINE)
    failed = [line.split(" - ")[0].removeprefix("FAILED ") for line in text.splitlines() if line.startswith("FAILED")]
    return "; ".join([*counts[-1:], *failed[:3]]) or text.strip().splitlines()[-1][:120]


def compiled(folder: Path, archs: str) -> str:
    code, text = run(folder, ["tools/cuda_check.py", "--only", "triton", "--archs", archs])
    rows = [line for line in text.splitlines() if line.startswith("sm_")]
    last = (text.strip().splitlines() or [""])[-1]
    return f"{len(rows)} kernels compiled for sm_{archs.replace(',', ', sm_')}" + (
        "" if code == 0 else f"; {last[:160]}"
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--versions", default=VERSIONS)
    parser.add_argument("--tests", default=TESTS)
    parser.add_argument("--archs", default="90")
    options = parser.parse_args()
    import torch

    tests = "tests/test_triton_*.py" if options.tests == TESTS else options.tests
    lines = [
        "# Triton versions tried",
        "",
        f"Written by `make matrix` (tools/matrix.py), torch {torch.__version__}, Python {sys.version.split()[0]}, without a GPU.",
        f"Interpreter: `{tests}`. Ahead of time: every kernel and configuration of tools/triton_cases.",
        "",
        "| Triton | interpreter | compiled ahead of time |",
        "| --- | --- | --- |",
    ]
    fine = True
    for version in options.versions.split(","):
        folder = install(version)
        row = (
            (folder, "")
            if isinstance(folder, str)
            else (interpreted(folder, options.tests), compiled(folder, options.archs))
        )
        fine = fine and not any(word in " ".join(row) for word in ("failed", "rror", "spill"))
        beside = "".join(f", {package}" for package in BESIDE.get(version, ()))
        lines.append(f"| {version}{beside} | {row[0]} | {row[1]} |")
        print(lines[-1], flush=True)
    (ROOT / "docs" / "matrix.md").write_text("\n".join(lines) + "\n")
    return int(not fine)


if __name__ == "__main__":
    sys.exit(main())
