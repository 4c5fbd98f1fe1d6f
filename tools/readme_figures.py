"""Writes the measured table of the README from benchmarks/results; `--check` fails where the two differ.

python tools/readme_figures.py [--check]
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
START, END = "<!-- figures: written by tools/readme_figures.py -->", "<!-- end of figures -->"


def table(path: Path) -> str:
    """One op on one device: ours beside the faster of the competitors.

    Of a large grid only the rows that their benchmark marks with `readme`, then also against the plain way, `vs_w*mask`.
    """
    report = json.loads(path.read_text())
    rows = report["rows"]
    plain = any("vs_w*mask" in row for row in rows)
    tamed = "; glibc kept from returning memory" if report["allocator_tamed"] else ""
    lines = [
        f"`{report['op']}` on {report['device']}, torch {report['torch']}, {report['date']}{tamed}:",
        "",
        "| case | direction | best competitor | pygen | speed-up |" + (" against w*mask |" if plain else ""),
        "| --- | --- | --- | --- | --- |" + (" --- |" if plain else ""),
    ]
    for row in rows:
        if not row["provider"].startswith("pygen ") or not row.get("readme", True):
            continue
        same = [r for r in rows if (r["case"], r["direction"]) == (row["case"], row["direction"])]
        rival = next(r for r in same if r["provider"] == row["against"])
        lines.append(
            f"| {row['case']} | {row['direction']} | {rival['median_us']:,.0f} us ({row['against']}) "
            f"| {row['median_us']:,.0f} us ({row['provider'].removeprefix('pygen ')}) "
            + (f"| {row['speedup']:.2f}x | {row['vs_w*mask']:.2f}x |" if plain else f"| {row['speedup']:.1f}x |")
        )
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    readme = ROOT / "README.md"
    text = readme.read_text()
    head, rest = text.split(START, 1)
    _, tail = rest.split(END, 1)
    tables = [
        table(path) for path in sorted((ROOT / "benchmarks" / "results").glob("*/*.json")) if path.stem != "ceilings"
    ]
    fresh = head + START + "\n\n" + "\n\n".join(tables) + "\n\n" + END + tail
    if "--check" in arguments:
        if fresh != text:
            print("README.md does not show what benchmarks/results holds: run python tools/readme_figures.py")
            return 1
        return 0
    readme.write_text(fresh)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
