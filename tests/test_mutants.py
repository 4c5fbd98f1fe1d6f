"""The table of planted faults cannot rot: each text stands exactly once in its file, and the tests named are there."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tools"))
import mutants  # noqa: E402
import planted_faults  # noqa: E402

FAULTS = planted_faults.FAULTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda f: f.name)
def test_planted_fault_applies(fault):
    text = (ROOT / fault.file).read_text()
    assert text.count(fault.old) == 1, f"{fault.file} has it {text.count(fault.old)} times: mend tools/planted_faults"
    assert fault.old != fault.new
    for path in re.findall(r"tests/\S+\.py", fault.tests):
        assert (ROOT / path).exists(), f"{path} is gone: mend tools/planted_faults"


def test_planted_faults_are_many_and_of_every_room():
    assert len(FAULTS) >= 50 and len({f.name for f in FAULTS}) == len(FAULTS)
    assert {f.file.rsplit("/", 1)[0] for f in FAULTS} >= {
        "csrc/cpu",
        "csrc/cuda",
        "csrc/common",
        "kernels",
        "pygen",
        "pygen/ops",
    }


def test_mutants_tell_what_saw_a_fault_out_of_all_that_was_said(tmp_path, monkeypatch):
    monkeypatch.setattr(mutants, "COPY", tmp_path)
    frames = "\n".join(f"    #{i} 0x7f in pygen::cuda::some_kernel ({tmp_path}/_cuda.so)" for i in range(99))
    report = f"{tmp_path}/csrc/a.cuh:5:7: runtime error: misaligned address\n{frames}\n\n"
    assert mutants.first_failure(report) == "csrc/a.cuh:5:7: runtime error: misaligned address"
    assert (
        mutants.first_failure("..F\nE  AssertionError: error\nFAILED tests/test_a.py::b - assert 1\n\n")
        == "tests/test_a.py::b"
    )
    unused = "csrc/a.cuh:5:7: error: unused variable 'x' [-Werror=unused-variable]\nERROR tests/test_a.py::b - Called\n"
    for text in (unused, "error: does not compile"):
        result = mutants.Result(FAULTS[0], mutants.first_failure(text))
        assert not result.caught and "does not compile: mend" in mutants.report([result])
    for command, said in (
        (f"printf '{'x' * 5000}\\nthe last\\n\\n'; exit 1", "the last"),
        ("kill -9 $$", "ended with -9"),
    ):
        passed, text = mutants.run(command)
        assert not passed and mutants.first_failure(text).startswith(said)
