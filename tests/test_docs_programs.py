"""The programs of docs/training.md run as they stand, with fewer steps; every other example of README.md and docs/ as it is."""

import importlib
import math
import re
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parent.parent
PAGE = (ROOT / "docs" / "training.md").read_text()
PROGRAMS = dict(re.findall(r"^## ([^\n]+)\n.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL))
BLOCK = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)
EXAMPLES = [
    pytest.param(page, block[1], id=f"{page.name}-{number}")
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
    if page.name not in ("training.md", "api.md")  # api.md has signatures
    for number, block in enumerate(BLOCK.finditer(page.read_text()), 1)
]


@pytest.mark.parametrize(("page", "example"), EXAMPLES)
def test_example_runs(page: Path, example: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # some save a model
    torch.manual_seed(0)
    exec(compile(example, f"an example of {page.name}", "exec"), {"__name__": page.stem})


def test_api_page_is_what_the_docstrings_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    tool = importlib.import_module("api_page")
    assert tool.PAGE.read_text() == tool.page(), "run tools/api_page.py"


@pytest.mark.parametrize("page", [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))], ids=lambda p: p.name)
def test_links_lead_somewhere(page: Path) -> None:
    """Of a page of ours: the file is there, and so is the heading."""
    text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        name, _, anchor = link.partition("#")
        if "://" in name:
            continue
        target = (page.parent / name).resolve() if name else page
        assert target.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", target.read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w\- ]", "", h).strip().lower().replace(" ", "-") for h in headings], link


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
