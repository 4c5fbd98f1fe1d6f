"""Collects what the benchmarks measured; says of each group how long it took and who failed; at the end one table per op."""

import os
import time
from collections import defaultdict

import attempts
import harness
import pytest
import report
import torch

_rows: dict[str, list[dict[str, object]]] = defaultdict(list)
_failed: dict[str, list[dict[str, str]]] = defaultdict(list)
_ours_failed: list[str] = []


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", help="also the cases that take minutes")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if not config.getoption("--long"):
        items[:] = [item for item in items if "long" not in item.keywords]


def pytest_configure(config: pytest.Config) -> None:
    torch.manual_seed(0)
    attempts.keep_stderr()
    config.addinivalue_line("markers", "slow: more than a few seconds")
    config.addinivalue_line("markers", "long: minutes, only with --long")


@pytest.hookimpl(wrapper=True)
def pytest_fixture_setup(fixturedef, request):
    if fixturedef.argname != "group":
        return (yield)
    attempts.failed.clear()
    begun = time.perf_counter()
    try:
        return (yield)
    finally:
        lines = [
            f"{os.environ['PYTEST_CURRENT_TEST'].partition('[')[2].rpartition(']')[0]}: {time.perf_counter() - begun:.0f} s"
        ]
        lines += [f"  left out: {name}: {why}" for name, why in attempts.failed.items()]
        _ours_failed.extend(name for name in attempts.failed if name.startswith(attempts.PYGEN))
        plugins = request.config.pluginmanager
        with plugins.getplugin("capturemanager").global_and_fixture_disabled():
            # Now: a run that is killed has told how far it came.
            plugins.getplugin("terminalreporter").write("\n" + "\n".join(lines) + "\n", flush=True)


@pytest.fixture(scope="session")
def collect():
    """collect(op, case, direction, group) keeps one group of measurements for the report, in place of an earlier one."""

    def add(op: str, case: str, direction: str, group: dict[str, harness.Measurement]) -> None:
        for kept in (_rows[op], _failed[op]):
            kept[:] = [row for row in kept if (row["case"], row["direction"]) != (case, direction)]
        _rows[op].extend(report.rows_of(case, direction, group))
        _failed[op].extend(
            {"case": case, "direction": direction, "provider": name, "why": why}
            for name, why in attempts.failed.items()
        )
        harness.save(op, _rows[op], _failed[op])  # now: a run that is stopped keeps what it has measured

    return add


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _ours_failed and session.exitstatus == 0:
        session.exitstatus = 1


def pytest_terminal_summary(terminalreporter) -> None:
    for op, rows in _rows.items():
        report.show(op, rows)
        path = harness.save(op, rows, _failed[op])
        terminalreporter.write_line(f"stored in {path.relative_to(harness.RESULTS.parent.parent)}")
    if _ours_failed:
        terminalreporter.write_line(f"left out, which are pygen's own: {', '.join(_ours_failed)}", red=True)
