"""What tools/sanitize.py and tests/cuda_host/sanitize.py share: their command line, and the process that a sanitizer watches."""

import argparse
import os
import shlex
import signal
import subprocess
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

RUNTIMES = {"address": "libasan.so", "undefined": "libubsan.so", "thread": "libtsan.so"}
DEFAULT = ("address,undefined", "thread")  # thread bears no other beside it
OPTIONS = {
    "ASAN_OPTIONS": "detect_leaks=0:halt_on_error=1:exitcode=1",
    "UBSAN_OPTIONS": "halt_on_error=1:print_stacktrace=1",
    "TSAN_OPTIONS": "halt_on_error=1:exitcode=1:report_signal_unsafe=0:ignore_noninstrumented_modules=1",
}
CHILD = "PYGEN_SANITIZED"  # in its environment, what was built for it


def is_sanitizer(name: str) -> bool:
    parts = name.split(",")
    return set(parts) <= RUNTIMES.keys() and ("thread" not in parts or parts == ["thread"])


def command_line(
    description: str | None, noun: str, known: Callable[[], Iterable[str]], arguments: Sequence[str] | None = None
) -> tuple[list[str], list[str]]:
    """The sanitizers and the names asked for, out of `known`, which is called if there are any; of no sanitizer all."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "what",
        nargs="*",
        help=f"sanitizers ({', '.join(RUNTIMES)}; several by commas, but thread alone; none: {' and then '.join(DEFAULT)}) "
        f"and {noun}s (none: all of them)",
    )
    what = parser.parse_args(arguments).what
    names = [name for name in what if not is_sanitizer(name)]
    expected = sorted({*known()}) if names else []
    for name in names:
        if name not in expected:
            parser.error(f"expected a sanitizer or one of the {noun}s {', '.join(expected)}, got {name!r}")
    return [name for name in what if is_sanitizer(name)] or list(DEFAULT), names


def ending(code: int) -> str:
    """How a process ended, of its return code as subprocess gives it."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit status {code}"


def watch(sanitizers: str, command: list[str], built: Path, cwd: Path, **env: str) -> bool:
    """Runs the command with the sanitizers' runtimes loaded first; whether it ended well.

    Says how it ended: a process that dies need not have said a word.
    """
    asked = (["g++", f"-print-file-name={RUNTIMES[name]}"] for name in sanitizers.split(","))
    preload = ":".join(subprocess.run(one, capture_output=True, text=True, check=True).stdout.strip() for one in asked)
    env = {**os.environ, **OPTIONS, **env, "LD_PRELOAD": preload, CHILD: str(built)}
    code = subprocess.run(command, cwd=cwd, env=env).returncode
    print(
        f"ended with {ending(code)}: {shlex.join(command)}" if code else f"no fault found by {sanitizers}", flush=True
    )
    return code == 0
