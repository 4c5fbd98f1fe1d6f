"""Plants the faults of planted_faults/ one at a time and runs the tests that ought to see each: make mutants

    python tools/mutants.py [--only TEXT] [--fresh]

Works on a copy of what git knows of this checkout, never on the checkout. A fault is caught if those tests fail or do not end;
first they must pass without any. One that does not compile shows nothing of the tests: it is to be mended. The report,
docs/mutants.md, keeps each result with a digest of the fault and of its file's content, so that a run goes on where the last
one ended, and with the survivors.
"""

import argparse
import hashlib
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

from planted_faults import FAULTS, Fault

ROOT = Path(__file__).resolve().parent.parent
COPY = ROOT / "build" / "mutants"
REPORT = ROOT / "docs" / "mutants.md"
LIMIT = 900.0  # seconds; what hangs is caught
SLOWER = (
    20  # or that many times as long as without the fault, on a machine that is busy: what compiles anew does not hang
)

# Survivors that no test here can see, and why.
REASONS: dict[str, str] = {
    "C++: a row that is exactly one block is cut": "equal: the other branch gives ceil(1024 / 1024) = 1 too",
    "pixel_lstm, C++: c is written beyond a line's end": "equal: no tap reads h there, so g is tanh(0) and c stays 0 until "
    "the line has come so far",
}


SURVIVED = "**survived**"
NOT_COMPILED = "**does not compile**"
OF_A_COMPILER = re.compile(r":\d+:\d+: error: |^error: does not compile", re.MULTILINE)


class Result(NamedTuple):
    fault: Fault
    by: str  # what saw it, or SURVIVED, or NOT_COMPILED

    @property
    def caught(self) -> bool:
        return self.by not in (SURVIVED, NOT_COMPILED)


def prepare() -> None:
    """The copy, up to date; compiled objects come along, as they are keyed by content."""
    files = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True).stdout.decode()
    known = set(files.rstrip("\0").split("\0"))
    for path in known:
        source, target = ROOT / path, COPY / path
        if source.exists() and not (target.exists() and target.read_bytes() == source.read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    for folder in ("csrc", "kernels", "pygen", "tests", "tools"):
        for path in (COPY / folder).rglob("*"):
            ours = path.is_file() and path.suffix in (".py", ".h", ".cpp", ".cu", ".cuh")
            if ours and str(path.relative_to(COPY)) not in known:
                path.unlink()
    link = COPY / "pygen" / "kernels"  # where an installed package has them
    if not link.is_symlink():
        link.symlink_to("../kernels")
    if not (COPY / "build").exists() and (ROOT / "build").exists():
        for objects in (ROOT / "build").glob("objects-*"):
            shutil.copytree(objects, COPY / "build" / objects.name)


def run(command: str, limit: float | None = None) -> tuple[bool, str]:
    """Whether the command succeeds in the copy, and what it says."""
    env = {**os.environ, "PYTHONPATH": str(COPY), "PYTHONDONTWRITEBYTECODE": "1"}
    # Compiles sooner; a fault is one however well it is optimised. With the multiply-adds that tests of huge numbers need.
    env["CXXFLAGS"] = "-O1 -fexpensive-optimizations"
    out = subprocess.PIPE
    with subprocess.Popen(
        command, cwd=COPY, shell=True, env=env, stdout=out, stderr=subprocess.STDOUT, text=True, start_new_session=True
    ) as process:
        try:
            text, _ = process.communicate(timeout=limit)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            return False, "did not end"
    return process.returncode == 0, text if text.strip() else f"ended with {process.returncode} and without a word"


def build() -> tuple[bool, str]:
    return run(f"{shlex.quote(sys.executable)} setup.py -q build_ext --inplace")


def tests(arguments: str, limit: float | None = None) -> tuple[bool, str]:
    python = shlex.quote(sys.executable)
    if arguments.startswith("tests/cuda_host/"):
        return run(f"{python} {arguments}", limit)
    return run(f"{python} -m pytest -q -x -p no:cacheprovider {arguments}", limit)


def key_of(fault: Fault) -> str:
    text = repr(fault) + (ROOT / fault.file).read_text()
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def first_failure(text: str) -> str:
    if OF_A_COMPILER.search(text):
        return NOT_COMPILED
    lines = [line for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if line.startswith(("FAILED", "ERROR")) or "ThreadSanitizer: " in line]
    telling += [
        line for line in lines if "AddressSanitizer" in line or "did not end" in line or "error" in line.lower()
    ]
    return (telling or lines[-1:] or [""])[0].split(" - ")[0].removeprefix("FAILED ").replace(f"{COPY}/", "")[:160]


def is_built(fault: Fault) -> bool:
    """Whether it is in what setup.py compiles; the CUDA kernels on the host are compiled by their tests."""
    return fault.file.startswith("csrc/") and "cuda" not in fault.file


def try_fault(fault: Fault, limit: float = LIMIT) -> Result:
    path = COPY / fault.file
    before = path.read_text()
    if before.count(fault.old) != 1:
        sys.exit(f"{fault.name}: {fault.file} has its text {before.count(fault.old)} times: mend tools/planted_faults")
    start = time.monotonic()
    path.write_text(before.replace(fault.old, fault.new))
    try:
        compiled, text = build() if is_built(fault) else (True, "")
        passed, text = tests(fault.tests, limit) if compiled else (False, "error: does not compile")
    finally:
        path.write_text(before)
    by = SURVIVED if passed else first_failure(text)
    print(f"{round(time.monotonic() - start):4} s  {fault.name}  {by}", flush=True)
    return Result(fault, by)


def known_results() -> dict[str, Result]:
    """What the report says, by key, of faults and contents that still are as they were."""
    present = {key_of(fault): fault for fault in FAULTS}
    rows = re.findall(r"^\| .* \| .* \| (.*) \| ([0-9a-f]{12}) \|$", REPORT.read_text(), flags=re.MULTILINE)
    return {key: Result(present[key], by.replace("\\|", "|")) for by, key in rows if key in present}


def report(results: list[Result]) -> str:
    caught = sum(r.caught for r in results)
    lines = [
        "# Planted faults",
        "",
        "Written by `make mutants` (tools/mutants.py); the faults are in tools/planted_faults/. Each is planted alone in",
        "a copy of the sources and must be seen by the tests named there; `of` is a digest of the fault and its file.",
        "",
        f"Caught: {caught} of {len(results)} ({100 * caught / max(len(results), 1):.0f} %); "
        f"not run yet: {len(FAULTS) - len(results)}.",
        "",
    ]
    survivors = [r.fault.name for r in results if not r.caught]
    if survivors:
        lines += ["## Survivors", ""]
        missing = [r.fault.name for r in results if r.by == NOT_COMPILED]
        reasons = {name: "does not compile: mend tools/planted_faults" for name in missing} | REASONS
        lines += [f"- {name}: {reasons.get(name, 'no test yet')}" for name in survivors] + [""]
    lines += ["## All", "", "| fault | file | caught by | of |", "| --- | --- | --- | --- |"]
    for r in results:
        by = r.by.replace("|", "\\|")
        lines.append(f"| {r.fault.name} | {r.fault.file} | {by} | {key_of(r.fault)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", default="", help="faults whose name or file contains this text")
    parser.add_argument("--fresh", action="store_true", help="forget earlier results")
    options = parser.parse_args()
    kept = {} if options.fresh else known_results()
    prepare()
    compiled, text = build()
    if not compiled:
        sys.exit(text[-3000:])
    sound: dict[str, float] = {}  # tests that pass without any fault, and how long they take
    stale = False  # the compiled module has the last fault still
    for fault in FAULTS:
        known = kept.get(key_of(fault))
        if known and (known.caught or fault.name in REASONS):  # a survivor is tried again: its tests may see more
            continue
        if options.only not in fault.name and options.only not in fault.file:
            continue
        if stale and not (is_built(fault) and fault.tests in sound):
            build()
        if fault.tests not in sound:
            start = time.monotonic()
            passed, text = tests(fault.tests)
            if not passed:
                sys.exit(f"{fault.tests}\nfail without any fault:\n{text[-3000:]}")
            sound[fault.tests] = time.monotonic() - start
        kept[key_of(fault)] = try_fault(fault, max(LIMIT, SLOWER * sound[fault.tests]))
        stale = is_built(fault)
        write(kept)
    build()
    results = write(kept)
    unexplained = [r.fault.name for r in results if not r.caught and r.fault.name not in REASONS]
    print(
        f"{sum(r.caught for r in results)} of {len(results)} caught; survivors without a reason: {unexplained or 'none'}"
    )
    return int(bool(unexplained))


def write(kept: dict[str, Result]) -> list[Result]:
    """The report of what was tried, in the table's order."""
    results = [kept[key] for key in map(key_of, FAULTS) if key in kept]
    REPORT.write_text(report(results))
    return results


if __name__ == "__main__":
    sys.exit(main())
