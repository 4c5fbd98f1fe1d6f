"""The command line of the tools that run kernels under sanitizers, and what they say of a process that dies."""

import signal
import sys

import pytest
from sanitizers import DEFAULT, command_line, ending, watch


def test_sanitizers_command_line_tells_sanitizers_from_names():
    known = ("crf", "nce_loss")
    assert command_line("", "op", known.__iter__, []) == (list(DEFAULT), [])
    assert command_line("", "op", known.__iter__, ["crf"]) == (list(DEFAULT), ["crf"])
    assert command_line("", "op", known.__iter__, ["thread", "crf", "address"]) == (["thread", "address"], ["crf"])


@pytest.mark.parametrize("name", ["crff", "address,thread", "leak", "--only"])
def test_sanitizers_command_line_refuses_what_is_neither(name, capsys):
    with pytest.raises(SystemExit):
        command_line("", "op", lambda: ("crf",), [name, "crf"])
    assert name in capsys.readouterr().err


def test_sanitizers_help_asks_for_no_names(capsys):
    with pytest.raises(SystemExit) as end:
        command_line("What it does.", "op", lambda: pytest.fail("nothing is imported, nothing built"), ["--help"])
    assert end.value.code == 0 and "What it does." in capsys.readouterr().out


def test_sanitizers_say_how_a_process_ended(tmp_path, capfd, monkeypatch):
    monkeypatch.setattr("sanitizers.RUNTIMES", {"none": "libc.so.6"})  # loads at once
    for statement, good, said in (
        ("pass", True, "no fault found by none"),
        ("import sys; sys.exit(3)", False, "ended with exit status 3: "),
        ("import os; os.kill(os.getpid(), 9)", False, "ended with signal SIGKILL: "),
    ):
        assert watch("none", [sys.executable, "-c", statement], tmp_path, tmp_path) is good
        assert capfd.readouterr().out.startswith(said)
    assert ending(-signal.SIGSEGV) == "signal SIGSEGV"
