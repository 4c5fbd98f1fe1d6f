"""The programs of docs/training.md run as they stand, with fewer steps."""

import math
import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "training.md").read_text()
PROGRAMS = dict(re.findall(r"^## ([^\n]+)\n.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))


def test_each_chapter_has_a_program() -> None:
    assert len(PROGRAMS) == PAGE.count("```python") == PAGE.count("\n## ")


@pytest.mark.parametrize("name", PROGRAMS)
def test_program_runs(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    """What it prints are numbers."""
    if "pygen.data" in PROGRAMS[name]:
        pytest.importorskip("sklearn")
    monkeypatch.chdir(tmp_path)
    program, changed = re.subn(r"^STEPS = \d+$", "STEPS = 3", PROGRAMS[name], flags=re.MULTILINE)
    assert changed == 1
    exec(compile(program, f"docs/training.md: {name}", "exec"), {"__name__": name})
    printed = [float(word) for word in re.findall(r"-?\d+\.\d+(?:e[+-]\d+)?|\b(?:nan|inf)\b", capsys.readouterr().out)]
    assert printed and all(map(math.isfinite, printed))
