"""What fails is left out by its name, and the others go on: a provider that does not compile, finds no memory, cannot be
captured or is wrong costs neither its group nor the file. One of pygen's that fails makes the run fail at its end.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
from collections.abc import Iterator

import pytest
import torch

PYGEN = "pygen "  # providers of ours start with this
# For a provider's first calls on a GPU, and what they compile.
LIMIT_S = int(os.environ.get("PYGEN_BENCH_LIMIT_S", "200"))
HANGS_S = LIMIT_S + 200  # after that much a kernel waits for ever, which Python cannot end

leave_out = True  # a rehearsal wants to see it
failed: dict[str, str] = {}  # of the present group: provider -> what happened


class Group(dict):
    """Measurements by provider: asked for one that failed, it ends the test that asks."""

    def __missing__(self, name: str) -> None:
        why = f"{name}: {failed.get(name, 'not measured')}"
        if name.startswith(PYGEN):
            pytest.fail(why)
        pytest.skip(why)


@contextlib.contextmanager
def attempt(name: str) -> Iterator[None]:
    """What a provider does for the first time. Leaves the body where it fails, or lasts longer than LIMIT_S on a GPU."""
    try:
        with _limited():
            yield
    except Exception as error:
        if not leave_out:
            raise
        failed[name] = f"{type(error).__name__}: {' '.join(str(error).split())[:300]}"
        if torch.cuda.is_initialized():
            _recover(name)


def _recover(name: str) -> None:
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError as error:  # every later call would fail for its sake
        pytest.exit(f"{name} left a device that answers no more: {failed[name]}; then {error}", returncode=3)


@contextlib.contextmanager
def _limited() -> Iterator[None]:
    if not (torch.cuda.is_initialized() and leave_out):
        yield
        return

    def stop(*_: object) -> None:
        raise TimeoutError(f"not ready after {LIMIT_S} s")

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(LIMIT_S)
    faulthandler.dump_traceback_later(HANGS_S, exit=True, file=_stderr)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
        faulthandler.cancel_dump_traceback_later()


_stderr = 2  # a copy of it, once pytest no longer shows what is written there


def keep_stderr() -> None:
    global _stderr
    _stderr = os.dup(2)
