"""Writes the README's measured tables from benchmarks/results and its picture's caption from docs/samples.json; `--check` fails
where they differ.

First a row or two of each op, with its least and its best ratio anywhere, then every op's whole table, folded.

python tools/readme_figures.py [--check]
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START, END = "<!-- figures: written by tools/readme_figures.py -->", "<!-- end of figures -->"
PICTURE, PICTURE_END = "<!-- picture: written by tools/readme_figures.py -->", "<!-- end of picture -->"


# What a newcomer reads first. The range beside it keeps it honest.
HEADLINES = {
    "sampling": [
        (case, "sample")
        for case in ("binary 28x28 C=32 B=16", "PixelCNN++ 16x16 C=64 2 layers B=1", "MADE 784-500-500-784 B=64")
    ],
    "logistic_mixture_nll": [
        ("64x3x32x32 K=10 float32 contiguous", direction) for direction in ("forward", "forward+backward")
    ],
    "reparameterize_kl": [("1024x256 float32", "forward"), ("1024x256 float32", "forward+backward")],
    "gan_loss": [("D nonsaturating 64x1x30x30", "forward+backward"), ("D nonsaturating 1048576", "forward+backward")],
    "masked_conv2d": [("3x3 B C=64 N=16 28x28", "forward"), ("3x3 B C=64 N=16 28x28", "forward+backward")],
}


@dataclass
class Row:
    """One of ours beside the fastest competitor."""

    case: str
    direction: str
    rival: str
    ours: str
    speedup: float
    plain: float | None  # against the way that people usually write it

    def cells(self) -> list[str]:
        return [self.case, self.direction, self.rival, self.ours, f"{self.speedup:.2f}x"]


def time_of(row: dict) -> str:
    us = row["median_us"]
    return f"{us / 1000:,.1f} ms" if us >= 10_000 else f"{us:,.0f} us"


def read(path: Path) -> tuple[dict, list[Row]]:
    """The report of one op on one device; of a large grid only the rows that their benchmark marks with `readme`."""
    report = json.loads(path.read_text())
    ours = []
    for row in report["rows"]:
        if not row["provider"].startswith("pygen ") or not row.get("readme", True):
            continue
        where = row["case"], row["direction"]
        rival = next(
            r for r in report["rows"] if (*where, row["against"]) == (r["case"], r["direction"], r["provider"])
        )
        ours.append(
            Row(
                *where,
                f"{time_of(rival)} ({row['against']})",
                f"{time_of(row)} ({row['provider'].removeprefix('pygen ')})",
                row["speedup"],
                row.get("vs_w*mask"),
            )
        )
    return report, ours


def lines_of(*rows: list[str]) -> str:
    return "\n".join("| " + " | ".join(row) + " |" for row in (rows[0], ["---"] * len(rows[0]), *rows[1:]))


def measured_on(report: dict) -> str:
    tamed = "; glibc kept from returning memory" if report["allocator_tamed"] else ""
    return f"{report['device']}, torch {report['torch']}, {report['date']}{tamed}"


def table(report: dict, rows: list[Row]) -> str:
    """One op on one device, folded."""
    plain = any(row.plain is not None for row in rows)
    title = ["case", "direction", "best competitor", "pygen", "speed-up", *(["against w*mask"] if plain else [])]
    body = [row.cells() + ([f"{row.plain:.2f}x"] if plain else []) for row in rows]
    summary = f"<details><summary><code>{report['op']}</code> on {measured_on(report)}</summary>"
    return f"{summary}\n\n{lines_of(title, *body)}\n\n</details>"


def headlines(reports: list[tuple[dict, list[Row]]]) -> str:
    """What each op buys, and the least and the most of it anywhere in its table."""
    body = []
    for op, wanted in HEADLINES.items():
        for report, rows in reports:
            if report["op"] != op:
                continue
            ratios = [row.speedup for row in rows]
            span = f"{min(ratios):.2f}x to {max(ratios):.2f}x in {len(rows)} rows"
            body += [[f"`{op}`", *row.cells(), span] for row in rows if (row.case, row.direction) in wanted]
    places = dict.fromkeys(measured_on(report) for report, _ in reports)
    title = ["op", "case", "direction", "best competitor", "pygen", "speed-up", "over its table"]
    return f"{lines_of(title, *body)}\n\nOn {'; on '.join(places)}. All that was measured, op by op:"


def picture() -> str:
    """Samples and how long they took, as tools/readme_picture.py has measured it."""
    facts = json.loads((ROOT / "docs" / "samples.json").read_text())
    height, width = facts["shape"]
    return "\n".join(
        [
            f"![{facts['images']} digits drawn by a Gated PixelCNN](docs/samples.png)",
            "",
            f"*{facts['images']} digits of {height}x{width} pixels, drawn by `GatedPixelCNN.sample` in {facts['ms']:.1f} ms "
            f"(engine `{facts['engine']}`, {facts['device']}, {facts['date']}); the loop that runs "
            f"the whole network for every pixel takes {facts['plain_loop_ms']:,.0f} ms for the same images. The model is the "
            f"demo's: {facts['steps']} steps on scikit-learn's digits, {facts['test_nll_nats']:.2f} nats an image on the test "
            "set. `make picture` trains it, draws and measures again.*",
        ]
    )


def replace(text: str, start: str, end: str, fresh: str) -> str:
    """What stands between two marks of the text."""
    head, rest = text.split(start, 1)
    _, tail = rest.split(end, 1)
    return f"{head}{start}\n\n{fresh}\n\n{end}{tail}"


def main(arguments: list[str]) -> int:
    readme = ROOT / "README.md"
    text = readme.read_text()
    stored = sorted((ROOT / "benchmarks" / "results").glob("*/*.json"))
    reports = [read(path) for path in stored if path.stem != "ceilings"]
    parts = [headlines(reports), *(table(*each) for each in reports)]
    fresh = replace(text, START, END, "\n\n".join(parts))
    fresh = replace(fresh, PICTURE, PICTURE_END, picture())
    if "--check" in arguments:
        if fresh != text:
            print("README.md does not show what benchmarks/results and docs hold: run python tools/readme_figures.py")
            return 1
        return 0
    readme.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
