"""Collects what the benchmarks measured; at the end prints one table per op and stores the rows."""

from collections import defaultdict

import harness
import pytest
import report
import torch

_rows: dict[str, list[dict[str, object]]] = defaultdict(list)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also the cases that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        items[:] = [item for item in items if "long" not in item.keywords]


def pytest_configure(config: pytest.Config) -> None:
    torch.manual_seed(0)
    config.addinivalue_line("markers", "slow: more than a few seconds")
    config.addinivalue_line("markers", "long: minutes, only with --long")


@pytest.fixture(scope="session")
def collect():
    """collect(op, case, direction, group) keeps one group of measurements for the report."""

    def add(op: str, case: str, direction: str, group: dict[str, harness.Measurement]) -> None:
        _rows[op].extend(report.rows_of(case, direction, group))
        harness.save(op, _rows[op])  # now: a run that is stopped keeps what it has measured

    return add


def pytest_terminal_summary(terminalreporter) -> None:
    for op, rows in _rows.items():
        report.show(op, rows)
        terminalreporter.write_line(f"stored in {harness.save(op, rows).relative_to(harness.RESULTS.parent.parent)}")
