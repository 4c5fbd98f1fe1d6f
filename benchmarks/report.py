"""The console table and the stored rows of one op's benchmark."""

from __future__ import annotations

import harness
from attempts import PYGEN
from harness import GRAPHED, Measurement
from rich.console import Console
from rich.table import Table


def best_competitor(group: dict[str, Measurement], provider: str) -> str | None:
    """Of those that are CUDA graphs if `provider` is one, else of the others: what is replayed is timed without the host."""
    alike = [n for n in group if n.endswith(GRAPHED) == provider.endswith(GRAPHED)]
    return min((n for n in alike if not n.startswith(PYGEN)), key=lambda n: group[n].median, default=None)


def rows_of(case: str, direction: str, group: dict[str, Measurement]) -> list[dict[str, object]]:
    """One row per provider: microseconds, ratio to the best competitor, and the measurement's own facts."""
    rows = []
    for name, m in group.items():
        best = best_competitor(group, name)
        quartiles = sorted(m.samples)
        rows.append(
            {
                "case": case,
                "direction": direction,
                "provider": name,
                "median_us": round(m.median * 1e6, 2),
                "low_us": round(quartiles[len(quartiles) // 4] * 1e6, 2),
                "high_us": round(quartiles[3 * len(quartiles) // 4] * 1e6, 2),
                "rounds": len(m.samples),
                "speedup": round(group[best].median / m.median, 3) if best else None,  # none: they failed
                "against": best,
                **({"mode": harness.COMPILE_MODE} if "compiled" in name and harness.DEVICE.type == "cuda" else {}),
                **m.info,
            }
        )
    return rows


def show(op: str, rows: list[dict[str, object]]) -> None:
    facts = harness.environment()
    table = Table(title=f"{op} on {facts['device']}, torch {facts['torch']}, {facts['date']}")
    for column in (
        "case",
        "direction",
        "provider",
        "median us",
        "quartiles",
        "vs best competitor",
        "GB/s",
        "live GFLOP/s",
        "error",
        "peak MB",
    ):
        table.add_column(column, justify="left" if column in ("case", "direction", "provider") else "right")
    last = None
    for row in rows:
        if last is not None and last != (row["case"], row["direction"]):
            table.add_section()
        last = (row["case"], row["direction"])
        ours = str(row["provider"]).startswith(PYGEN)
        ratio = f"{row['speedup']:.2f}x {row['against']}" if ours and row["against"] else ""
        error, peak = row.get("error_vs_float64"), row.get("peak_bytes")
        table.add_row(
            str(row["case"]),
            str(row["direction"]),
            str(row["provider"]),
            f"{row['median_us']:.1f}",
            f"{row['low_us']:.1f}-{row['high_us']:.1f}",
            ratio,
            f"{row.get('gb_per_s', 0):.2f}",
            f"{row['live_gflop_per_s']:.0f}" if "live_gflop_per_s" in row else "",
            "" if error is None else f"{error:.1e}",
            "" if peak is None else f"{peak / 1e6:.2f}",
            style="bold" if ratio and row["speedup"] >= 1 else "red" if ratio and row["speedup"] < 0.95 else None,
        )
    Console(width=160).print(table)
