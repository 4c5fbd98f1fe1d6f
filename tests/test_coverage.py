"""Every kernel of kernels/ and csrc/ is on the list that says where it is executed without a GPU."""

import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
sys.path.append(str(ROOT / "tools"))
import coverage_list  # noqa: E402

KERNELS = coverage_list.kernels()


@pytest.mark.parametrize(("name", "kind", "path"), KERNELS, ids=[f"{k}-{n}" for n, k, _ in KERNELS])
def test_kernel_is_executed_somewhere(name, kind, path):
    stem = coverage_list.stem(name)
    assert stem, f"{path}: {name} is on no line of PLACES in tools/coverage_list.py"
    places = coverage_list.PLACES[stem][kind]
    assert places, f"{path}: {name} is executed nowhere"
    assert all((ROOT / place).exists() for place in places)


def test_the_committed_list_names_no_kernel_that_is_gone():
    assert {kind for _, kind, _ in KERNELS} == {"triton", "cpu", "cuda"}
    rows = re.findall(
        r"^\| (\w+) \| (triton|cpu|cuda) \| (\S+) \|", (ROOT / "docs" / "coverage.md").read_text(), re.MULTILINE
    )
    assert rows and set(rows) <= set(KERNELS), f"run `make coverage`: {set(rows) - set(KERNELS)}"
