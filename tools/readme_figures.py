"""Writes what benchmarks/results holds: a few rows of each device into the README, a summary and every row into
docs/figures.md; and the caption of the README's picture from docs/samples.json. `--check` fails where they differ.

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


# One case or a few of each op, for the summaries. The range over all of its cases beside it keeps it honest.
HEADLINES = {
    "sampling": [
        (case, "sample")
        for case in (
            "binary 28x28 C=32 B=16",
            "PixelCNN++ 16x16 C=64 2 layers B=1",
            "PixelRNN diagonal binary 28x28 H=32 B=16",
        )
    ],
    "masked_conv2d": [("3x3 B C=64 N=16 28x28", "forward+backward")],
    "gated_masked_conv2d": [("vertical 64->128 N=16 28x28 bfloat16", "forward+backward")],
    "gated_pixelcnn": [("7 blocks C=32 N=16 28x28 float32", "zero_grad, loss, backward, Adam")],
    "reparameterize_kl": [("1024x256 float32", "forward+backward")],
    "gan_loss": [("D nonsaturating 64x1x30x30", "forward+backward")],
    "logistic_mixture_nll": [("64x3x32x32 K=10 float32 contiguous", "forward+backward")],
    "categorical_nll": [("64x1x32x32 L=256 float32 contiguous", "forward+backward")],
    "bernoulli_nll": [("256x3x64x64 float32", "forward+backward")],
    "samplers": [("categorical 16x256x28x28 float32 contiguous", "draw")],
    "masked_linear": [("784->500 N=128", "forward+backward")],
    "nade_nll": [("64x784 H=500 13% ones float32", "forward+backward")],
    "pixel_lstm": [("16x28x28 H=64 right float32", "forward+backward")],
    "rbm": [("512x784 H=1024 13% ones float32", "CD-1 step")],
    "affine_coupling": [("64x12x32x32 checkerboard exp float32", "forward+backward")],
    "masked_autoregressive": [("D=63 hidden 512x512 N=100 float32", "inverse")],
    "rational_quadratic_spline": [("64x12x32x32 K=8 float32", "forward+backward")],
    "am_softmax": [("N=1024 C=10575 D=512 float32", "forward+backward")],
    "vector_quantize": [("[16, 64, 32, 32] K=512 contiguous float32", "forward+backward")],
    "noise_contrastive": [("N=1024 C=71000 D=300 K=20", "sparse gradients")],
    "crf": [("N=64 T=512 K=64", "forward+backward"), ("N=64 T=512 K=64", "16 samples")],
}
# The README's table: ops by their first case, in plain words.
IN_README = {
    "sampling": "Gated PixelCNN: draw 16 binary images of 28x28",
    "gated_pixelcnn": "Gated PixelCNN: a training step with Adam, 7 blocks of 32 channels",
    "masked_conv2d": "masked 3x3 convolution, 64 channels, 16 images of 28x28",
    "categorical_nll": "256-way softmax likelihood of 64 images of 32x32",
    "logistic_mixture_nll": "PixelCNN++ likelihood, 10 components, 64 RGB images of 32x32",
    "reparameterize_kl": "VAE: sample and KL of 1024 x 256 latents",
    "vector_quantize": "VQ-VAE bottleneck, 512 codes of 64 channels, 16 maps of 32x32",
    "gan_loss": "discriminator loss of 64 maps of 30x30 logits",
    "masked_linear": "MADE: a layer 784 -> 500, batch of 128",
    "masked_autoregressive": "masked autoregressive flow: invert a layer for 100 samples of 63 numbers, 512x512 hidden units",
    "rational_quadratic_spline": "neural spline flow: 8 bins, 64x12x32x32 elements",
    "rbm": "RBM: loss and gradients of CD-1, 784 x 1024 units, batch of 512",
    "crf": "CRF loss, 64 tags, 64 sequences of 512 steps",
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


Measured = tuple[dict, list[Row]]  # the report of one op on one device, and its rows


def time_of(row: dict) -> str:
    us = row["median_us"]
    return f"{us / 1000:,.1f} ms" if us >= 10_000 else f"{us:,.0f} us"


def read(path: Path) -> tuple[dict, list[Row]]:
    """The report of one op on one device."""
    report = json.loads(path.read_text())
    ours = []
    for row in report["rows"]:
        if not row["provider"].startswith("pygen ") or row["against"] is None:
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


def measured_with(*reports: dict) -> str:
    """Versions and days."""
    versions = ", ".join(dict.fromkeys(f"torch {report['torch']}" for report in reports))
    drivers = "".join(dict.fromkeys(f", driver {report['driver']}" for report in reports if report.get("driver")))
    days = sorted({report["date"] for report in reports})
    tamed = "; glibc kept from returning memory" if reports[0]["allocator_tamed"] else ""
    return f"{versions}{drivers}, {' to '.join(dict.fromkeys((days[0], days[-1])))}{tamed}"


def table(report: dict, rows: list[Row]) -> str:
    """One op on one device."""
    plain = any(row.plain is not None for row in rows)
    title = ["case", "direction", "best competitor", "pygen", "speed-up", *(["against w*mask"] if plain else [])]
    body = [row.cells() + ([f"{row.plain:.2f}x"] if plain else []) for row in rows]
    return f"### `{report['op']}`\n\n{measured_with(report)}\n\n{lines_of(title, *body)}"


def best_of(rows: list[Row]) -> dict[tuple[str, str], Row]:
    """Of each case the fastest of ours."""
    return {(row.case, row.direction): row for row in sorted(rows, key=lambda row: row.speedup)}


def span(best: dict[tuple[str, str], Row]) -> str:
    ratios = [row.speedup for row in best.values()]
    return f"{min(ratios):.2f}x to {max(ratios):.2f}x in {len(ratios)} cases"


def summary(reports: list[Measured]) -> str:
    """What each op buys on one device, by the best of ours, and the least and the most of that anywhere in its table."""
    found = {report["op"]: best_of(rows) for report, rows in reports}
    body = [
        [f"`{op}`", *found[op][where].cells(), span(found[op])]
        for op, wanted in HEADLINES.items()
        for where in wanted
        if where in found.get(op, ())
    ]
    title = ["op", "case", "direction", "best competitor", "pygen", "speed-up", "all its cases"]
    return lines_of(title, *body)


def headlines(reports: list[Measured]) -> str:
    """The README's rows of one device, and where pygen is slower anywhere on it."""
    found = {report["op"]: best_of(rows) for report, rows in reports}
    body = []
    for op, words in IN_README.items():
        where = HEADLINES[op][0]
        if where in found.get(op, ()):
            row = found[op][where]
            body.append([words, row.rival, row.ours, f"{row.speedup:.2f}x", f"`{op}`: {span(found[op])}"])
    title = ["what is timed", "fastest PyTorch", "pygen", "speed-up", "all cases of the op"]
    with_what = measured_with(*(report for report, _ in reports))
    table = f"**{reports[0][0]['device']}** ({with_what})\n\n{lines_of(title, *body)}"
    return f"{table}\n\n{slower(found)}"


def slower(found: dict[str, dict[tuple[str, str], Row]]) -> str:
    ratios = {op: [row.speedup for row in best.values()] for op, best in found.items()}
    below = {op: [r for r in each if r < 1] for op, each in ratios.items()}
    losers = [f"`{op}` ({min(each):.2f}x at worst)" for op, each in sorted(below.items()) if each]
    total = sum(map(len, ratios.values()))
    count = sum(map(len, below.values()))
    if not losers:
        return f"In none of all {total} cases is pygen slower than the fastest PyTorch."
    return f"Of all {total} cases pygen is slower than the fastest PyTorch in {count}: {', '.join(losers)}."


def by_device() -> list[list[Measured]]:
    """GPUs before CPUs, the newest first."""
    folders = (ROOT / "benchmarks" / "results").iterdir()
    found = [[read(path) for path in sorted(f.glob("*.json")) if path.stem != "ceilings"] for f in sorted(folders)]
    days = [sorted(report["date"] for report, _ in reports) for reports in found]
    newest = sorted(zip(days, found, strict=True), key=lambda each: (each[0][-1:], each[0][:1]), reverse=True)
    return sorted((reports for _, reports in newest if reports), key=lambda reports: "cuda" not in reports[0][0])


def shown(devices: list[list[Measured]]) -> list[list[Measured]]:
    """Those of the README: every GPU, and the CPU measured last; the others are in docs/figures.md."""
    gpus = [reports for reports in devices if "cuda" in reports[0][0]]
    return gpus + [reports for reports in devices if reports not in gpus][:1]


def all_figures(devices: list[list[Measured]]) -> str:
    parts = [
        "# All that was measured\n",
        "Written by tools/readme_figures.py from `benchmarks/results/<device>/<op>.json`, which `make bench` stores. Times are",
        "medians of calls taken in turn, as a user makes them: allocation and autograd included. The best competitor is the",
        "fastest of eager PyTorch, `torch.compile(dynamic=False)` and, where there are several ways to write it, each of them.",
        "",
        "Competitors: `eager` is the usual composition, `compiled` the same under torch.compile. Of masked layers",
        "`w*mask` masks the weight in each call, `masked before` outside the clock, `crop` cuts the kernel to its live",
        "rows and `split` computes the current row apart; `crop` multiplies dead taps, so that a NaN leaks from a future",
        "pixel. `cached eager` is pygen's own engine in plain PyTorch, each activation once; `naive` runs the whole",
        "network for each pixel. Others are named after the torch function that they use. `compiled` behind a name: that",
        'under torch.compile. "glibc kept from returning memory": MALLOC_TRIM_THRESHOLD_ and MALLOC_MMAP_THRESHOLD_ are',
        "set, for all sides alike, so that the clock does not measure how the system makes fresh pages.",
    ]
    for reports in devices:
        parts.append(f"\n## {reports[0][0]['device']}")
        if any(report["op"] in HEADLINES for report, _ in reports):
            parts += ["\n### Summary\n", "One case or a few of each op; the last column is over all its cases.\n"]
            parts.append(summary(reports))
        parts += ["\n" + table(*each) for each in reports]
    return "\n".join(parts) + "\n"


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
    devices = by_device()
    readme = (ROOT / "README.md").read_text()
    tables = "\n\n".join(headlines(reports) for reports in shown(devices))
    readme = replace(readme, START, END, tables)
    pages = {"README.md": replace(readme, PICTURE, PICTURE_END, picture()), "docs/figures.md": all_figures(devices)}
    if "--check" in arguments:
        differ = [page for page, text in pages.items() if (ROOT / page).read_text() != text]
        if differ:
            print(
                f"benchmarks/results or docs/samples.json hold other than {', '.join(differ)}: run tools/readme_figures.py"
            )
        return int(bool(differ))
    for page, text in pages.items():
        (ROOT / page).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
