"""The console commands, and that importing pygen stays light."""

from __future__ import annotations

import csv
import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pygen import cli


@pytest.mark.slow
def test_cli_demo_quick_writes_everything(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("rich", "matplotlib", "sklearn"):
        pytest.importorskip(name)
    out = tmp_path / "new" / "demo"
    assert cli.main(["demo", "--quick", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "plain PyTorch" in printed and "passed" in printed and torch.__version__ in printed
    report = json.loads((out / "report.json").read_text())
    assert {"device", "threads", "torch_version", "pygen_version", "backend", "date"} <= set(report["machine"])
    jobs = {job["job"]: job for job in report["jobs"]}
    assert list(jobs) == ["vae_digits", "pixelcnn_digits", "gan_digits", "sampling_digits"]
    for job in jobs.values():
        assert job["pictures"] and all(check["passed"] for check in job["checks"])
        for picture in job["pictures"]:
            assert (out / picture).read_bytes().startswith(b"\x89PNG")
    with open(out / "table.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    measures = [measure for job in jobs.values() for measure in job["measures"]]
    engines = {measure["what"].split()[-1] for measure in jobs["sampling_digits"]["measures"]}
    assert "cached" in engines
    assert len(rows) == len(measures) == 18 + 2 * len(engines)
    assert {row["kind"] for row in rows} == {"time", "nats", "error", "fraction", "count"}
    for row, measure in zip(rows, measures, strict=True):
        assert row["measure"] == measure["what"] and row["date"] == report["machine"]["date"]
        least = 0 if row["kind"] == "count" else 1e-12
        assert least <= float(row["plain"]) == measure["plain"] and least <= float(row["pygen"]) == measure["pygen"]
    settings = jobs["gan_digits"]["settings"]
    assert settings["quality"]["real digits"]["coverage"] == 10
    with open(out / settings["curves"], newline="") as file:
        curves = list(csv.DictReader(file))
    assert len(curves) == settings["steps"] and len(curves[0]) == 9
    first, last = curves[0], curves[-1]
    for name in ("loss of D", "loss of G", "mean logit D(x)", "mean logit D(G(z))"):
        plain, ours = (float(first[f"{side}: {name}"]) for side in ("plain PyTorch", "pygen"))
        assert plain == pytest.approx(ours, rel=1e-4, abs=1e-6), "equal starts, batches and latents"
        assert float(last[f"pygen: {name}"]) != ours


def test_cli_demo_fails_when_a_check_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("rich")
    pytest.importorskip("matplotlib")
    from pygen._demo import JOBS
    from pygen._demo._report import Check, JobResult, Measure

    result = JobResult("wrong", "a job", [Measure("step", "time", 1.0, 2.0)], [Check("it works", False)])
    monkeypatch.setitem(JOBS, "wrong", lambda setting: result)
    assert cli.main(["demo", "--job", "wrong", "--out", str(tmp_path)]) == 1


def test_cli_demo_refuses_unknown_jobs_and_devices(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("rich")
    pytest.importorskip("matplotlib")
    assert cli.main(["demo", "--job", "pixelfly", "--out", str(tmp_path)]) == 2
    assert "expected any of vae_digits" in capsys.readouterr().out
    if not torch.cuda.is_available():
        assert cli.main(["demo", "--device", "cuda", "--out", str(tmp_path)]) == 2
        assert "--device: cuda is not available" in capsys.readouterr().out


def test_cli_demo_names_the_extra_where_it_is_missing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("pygen._demo")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "rich.console", None)
    assert cli.main(["demo"]) == 2
    assert 'pip install "pygen-kernels[demo]"' in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "plain", "ours", "expected"),
    [
        ("time", 3.0, 2.0, "1.50x faster"),
        ("time", 2.0, 3.0, "1.50x slower"),
        ("time", 2.0, 2.0, "1.00x faster"),
        ("error", 1e-7, 2e-7, "2.00x larger"),
        ("error", 1e-7, 5e-8, "2.00x smaller"),
        ("error", 1e-7, 0.0, "exact"),
        ("nats", 17.5, 17.4, "-0.10"),
        ("fraction", 0.8, 0.825, "+2.5"),
        ("count", 10, 9, "-1"),
    ],
)
def test_demo_measure_says_which_side_is_better(kind: str, plain: float, ours: float, expected: str) -> None:
    pytest.importorskip("rich")
    pytest.importorskip("matplotlib")
    from pygen._demo._report import Measure

    assert Measure("it", kind, plain, ours).comparison == expected


def test_demo_trains_both_sides_on_the_same_batches_in_turn() -> None:
    pytest.importorskip("rich")
    pytest.importorskip("matplotlib")
    from pygen._demo._timing import shuffled_batches, train_in_turn

    class Recorder(torch.nn.Linear):
        def loss(self, x: torch.Tensor) -> torch.Tensor:
            order.append((self, x))
            return self(x).square().mean()

    order: list[tuple[Recorder, torch.Tensor]] = []
    models = [Recorder(3, 1), Recorder(3, 1)]
    models[1].load_state_dict(models[0].state_dict())
    batches = shuffled_batches(torch.randn(10, 3), 4, torch.Generator().manual_seed(0))
    assert len(train_in_turn(models, batches, 5, peak_lr=0.1)) == 2
    assert [models.index(model) for model, _ in order] == [0, 1, 1, 0, 0, 1, 1, 0, 0, 1]
    assert all(first[1] is second[1] for first, second in zip(order[::2], order[1::2], strict=True))
    assert all(torch.equal(a, b) for a, b in zip(models[0].parameters(), models[1].parameters(), strict=True))


def test_demo_of_the_gan_fails_on_samples_that_are_no_digits() -> None:
    pytest.importorskip("rich")
    pytest.importorskip("matplotlib")
    from pygen._demo._quality import TwoSample
    from pygen._demo.gan_digits import Quality, quality_checks

    good = Quality(10, 0.85, [0.1] * 10, TwoSample(0.8, 0.8), TwoSample(0.9, 0.9))
    bad = {
        "covers nine": good._replace(coverage=9),
        "unsure": good._replace(confidence=0.5),
        "behind the twin": good._replace(confidence=0.79),
        "copies": good._replace(nearest_neighbour=TwoSample(0.1, 0.2)),
    }
    assert all(check.passed for check in quality_checks(good, good))
    for why, quality in bad.items():
        assert not all(check.passed for check in quality_checks(good, quality)), why


@pytest.mark.slow
def test_gan_digits_tool_writes_its_page(tmp_path: Path) -> None:
    for name in ("rich", "matplotlib", "sklearn"):
        pytest.importorskip(name)
    tool = Path(__file__).resolve().parent.parent / "tools" / "gan_digits.py"
    out = tmp_path / "page.md"
    command = [sys.executable, str(tool), "--seeds", "1", "--steps", "2", "--out", str(out)]
    subprocess.run(command, check=True, capture_output=True)
    rows = [line.split(" | ") for line in out.read_text().splitlines() if line.startswith("| ")]
    assert [(row[0], row[1]) for row in rows[2:]] == [
        ("| 0", "plain PyTorch"),
        ("| 0", "pygen"),
        ("| mean", "plain PyTorch"),
        ("| mean", "pygen"),
        ("| ", "real digits instead"),
    ]
    assert rows[2][2:] == rows[4][2:] and rows[-1][2] == "10"
    assert "`python tools/gan_digits.py --seeds 1 --steps 2`" in out.read_text()


def test_cli_doctor_reports_every_backend(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["doctor"]) == 0
    printed = capsys.readouterr().out
    assert torch.__version__ in printed
    for backend in ("reference", "cpu", "triton", "cuda"):
        assert re.search(rf"^{backend}: ", printed, re.MULTILINE)
    assert re.search(r"reference on cpu +ok, largest relative error \d", printed)
    assert "WRONG" not in printed and "FAILED" not in printed


def test_cli_doctor_fails_on_a_wrong_backend(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from pygen import _doctor

    right = _doctor._results

    def wrong(dtype: torch.dtype, backend: str, device: str) -> list[torch.Tensor]:
        results = right(dtype, backend, device)
        return [-t for t in results] if dtype == torch.float32 else results

    monkeypatch.setattr(_doctor, "_results", wrong)
    assert cli.main(["doctor"]) == 1
    assert "WRONG" in capsys.readouterr().out


def test_cli_ends_quietly_when_its_reader_has_left() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    with open(writing, "w") as nobody:
        ran = subprocess.run(
            [sys.executable, "-m", "pygen", "doctor"], stdout=nobody, stderr=subprocess.PIPE, text=True
        )
    assert (ran.returncode, ran.stderr) == (141, "")


def test_cli_ends_quietly_on_ctrl_c(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(subprocess, "run", interrupted)
    assert cli.main(["bench", "--op", "reparameterize_kl"]) == 130


def test_cli_bench_runs_one_op_in_a_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    ran = {}

    def record(command: list[str], env: dict[str, str], cwd: Path) -> subprocess.CompletedProcess:
        ran.update(command=command, env=env)
        return subprocess.CompletedProcess(command, 3)

    monkeypatch.setattr(cli, "_BENCHMARKS", Path("benchmarks"))
    monkeypatch.setattr(subprocess, "run", record)
    monkeypatch.setattr(Path, "glob", lambda self, pattern: [self / "bench_first.py", self / "bench_second.py"])
    assert cli.main(["bench", "--op", "second", "-k", "eager"]) == 3
    assert [Path(part).name for part in ran["command"][3:]] == ["bench_second.py", "-k", "eager"]
    assert "MALLOC_TRIM_THRESHOLD_" in ran["env"] and "PATH" in ran["env"]
    assert cli.main(["bench"]) == 3
    assert [Path(part).name for part in ran["command"][3:]] == ["bench_first.py", "bench_second.py"]


def test_cli_bench_refuses_unknown_ops_and_missing_checkouts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(cli, "_BENCHMARKS", tmp_path)
    assert cli.main(["bench"]) == 2
    assert "source checkout" in capsys.readouterr().err
    (tmp_path / "bench_first.py").touch()
    assert cli.main(["bench", "--op", "frist"]) == 2
    assert "--op: expected one of first, got frist" in capsys.readouterr().err


def test_cli_refuses_arguments_it_does_not_know(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        cli.main(["demo", "--quik"])
    assert "unrecognized arguments: --quik" in capsys.readouterr().err


def test_import_pygen_stays_light() -> None:
    """No console, plotting, data or model package is imported before it is asked for."""
    heavy = ("rich", "matplotlib", "sklearn", "mlxtend", "pandas", "pygen.models", "pygen.data", "pygen._demo")
    code = f"import pygen, pygen.cli, sys; print([m for m in {heavy} if m in sys.modules]); pygen.models.NICE; pygen.data.digits"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.slow
def test_readme_picture_tool_draws_and_measures(tmp_path: Path) -> None:
    for name in ("rich", "matplotlib", "sklearn"):
        pytest.importorskip(name)
    tool = Path(__file__).resolve().parent.parent / "tools" / "readme_picture.py"
    subprocess.run([sys.executable, str(tool), "--steps", "2", "--out", str(tmp_path)], check=True, capture_output=True)
    facts = json.loads((tmp_path / "samples.json").read_text())
    assert facts["steps"] == 2 and facts["threads"] == 1 and 0 < facts["ms"] < facts["plain_loop_ms"]
    assert (tmp_path / "samples.png").read_bytes()[:4] == b"\x89PNG"


def test_readme_shows_its_picture_and_when_it_was_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    root = Path(__file__).resolve().parent.parent
    monkeypatch.syspath_prepend(str(root / "tools"))
    tool = importlib.import_module("readme_figures")
    readme = (root / "README.md").read_text()
    assert tool.replace(readme, tool.PICTURE, tool.PICTURE_END, tool.picture()) == readme, "run make picture"
    assert readme.index("](docs/samples.png)") == readme.index("](")
    assert (root / "docs" / "samples.png").read_bytes()[:4] == b"\x89PNG"
