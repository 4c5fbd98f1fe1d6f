"""Every public name has an example in its docstring, and it does what it says: what a user copies out of `help(name)` works."""

import doctest
import inspect
from pathlib import Path

import pytest
import torch

import pygen
from pygen import functional, models, nn, presets

PLACES = {
    "pygen.functional": (functional, functional.__all__),
    "pygen.nn": (nn, nn.__all__),
    "pygen.models": (models, models.__all__),
    "pygen.presets": (presets, ["gan_loss"]),
    "pygen": (pygen, [name for name in pygen.__all__ if name not in ("__version__", "functional", "nn", "presets")]),
}
NAMES = [f"{place}.{name}" for place, (_, names) in PLACES.items() for name in names]
PARSER = doctest.DocTestParser()


@pytest.mark.parametrize("name", NAMES)
def test_the_docstring_has_an_example_that_runs(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    place, _, short = name.rpartition(".")
    text = inspect.getdoc(getattr(PLACES[place][0], short)) or ""
    example = text.partition("\nExample:\n")[2]
    test = PARSER.get_doctest(example, {"torch": torch, "pygen": pygen}, name, None, 0)
    assert any(step.want for step in test.examples), f"{name}: an example that shows what comes out is missing"
    monkeypatch.chdir(tmp_path)  # some save a model
    torch.manual_seed(0)
    said: list[str] = []
    result = doctest.DocTestRunner(verbose=False, optionflags=doctest.ELLIPSIS).run(test, out=said.append)
    assert result.failed == 0, "".join(said)
