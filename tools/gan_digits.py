"""Trains the demo's GAN on digits from several seeds and writes the quality of both twins into docs/gan_digits.md.

python tools/gan_digits.py [--seeds 3] [--steps N] [--out FILE]
"""

from __future__ import annotations

import argparse
import statistics
import sys
from collections.abc import Callable
from pathlib import Path

import torch

import pygen
from pygen._demo import gan_digits
from pygen._demo.gan_digits import Judge, Quality
from pygen.data import digits

ROOT = Path(__file__).resolve().parent.parent
FIGURES: dict[str, tuple[Callable[[Quality], float], str]] = {
    "digits covered": (lambda q: q.coverage, "{:.0f}"),
    "classifier's confidence": (lambda q: q.confidence, "{:.1%}"),
    "told from real by nearest neighbours": (lambda q: q.nearest_neighbour.accuracy, "{:.1%}"),
    "told from real by a classifier": (lambda q: q.classifier.accuracy, "{:.1%}"),
}


def page(by_seed: dict[int, tuple[Quality, Quality]], real: Quality, steps: int, command: str) -> str:
    """The report: a row for each seed, the means, and both sides' spread."""
    options = ", ".join(f"{name}={value!r}" for name, value in gan_digits.OPTIONS.items())
    lines = [
        "# The GAN on digits: quality of the samples",
        "",
        f"Written by `{command}` with pygen {pygen.__version__} and torch {torch.__version__}. `pygen.models.GAN` and its",
        "plain-PyTorch twin, trained from equal starts on equal batches and latents of scikit-learn's 8x8 digits (17 levels):",
        f"{steps:,} steps of both players, batches of {gan_digits.BATCH}, {gan_digits.LATENTS} latents, {options}.",
        "",
        "A digit counts as covered when at least 2 % of 1,000 samples are classified as it with probability 1/2 or more.",
        "The confidence is the mean of the largest probability. The two-sample tests compare 360 samples with the 360 test",
        "images: 50 % is the best, 100 % the worst, and far below 50 % would mean copies. pygen/_demo/_quality.py has them all.",
        "",
        "| seed | side | " + " | ".join(FIGURES) + " |",
        "| --- | --- |" + " --- |" * len(FIGURES),
    ]
    sides = {"plain PyTorch": [pair[0] for pair in by_seed.values()], "pygen": [pair[1] for pair in by_seed.values()]}
    for i, seed in enumerate(by_seed):
        lines += [_row(str(seed), name, {f: get(q[i]) for f, (get, _) in FIGURES.items()}) for name, q in sides.items()]
    for name, qualities in sides.items():
        means = {f: statistics.fmean(get(q) for q in qualities) for f, (get, _) in FIGURES.items()}
        lines.append(_row("mean", name, means))
    lines += [_row("", "real digits instead", {f: get(real) for f, (get, _) in FIGURES.items()}), ""]
    lines += [_verdict(sides["plain PyTorch"], sides["pygen"]), ""]
    return "\n".join(lines)


def _row(seed: str, name: str, values: dict[str, float]) -> str:
    return f"| {seed} | {name} | " + " | ".join(FIGURES[f][1].format(v) for f, v in values.items()) + " |"


def _verdict(plain: list[Quality], ours: list[Quality]) -> str:
    confidences = [[q.confidence for q in side] for side in (plain, ours)]
    gap = statistics.fmean(confidences[1]) - statistics.fmean(confidences[0])
    spread = max(max(side) - min(side) for side in confidences)
    covered = min(q.coverage for q in ours)
    return (
        f"pygen covers at least {covered} digits from every seed. Its mean confidence is {100 * gap:+.1f} points from plain"
        f" PyTorch's;\none side's figures spread over {100 * spread:.1f} points from seed to seed."
    )


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=3, help="how many, from 0 on (%(default)s)")
    parser.add_argument("--steps", type=int, default=gan_digits.STEPS, help="of both players (%(default)s)")
    parser.add_argument("--out", type=Path, default=ROOT / "docs" / "gan_digits.md", help="%(default)s")
    args = parser.parse_args(arguments)
    data = digits(binarize=False)
    judge, by_seed = Judge(data), {}
    for seed in range(args.seeds):
        sides = gan_digits.train(data, args.steps, seed, torch.device("cpu"), on_step=lambda losses: None)
        plain, ours = (judge.of_model(side.model, gan_digits.SAMPLES, seed) for side in sides)
        by_seed[seed] = (plain, ours)
        print(f"seed {seed}: {plain} {ours}", flush=True)
    command = " ".join(["python tools/gan_digits.py", f"--seeds {args.seeds}"])
    if args.steps != gan_digits.STEPS:
        command += f" --steps {args.steps}"
    args.out.write_text(page(by_seed, judge.of_real_images(), args.steps, command))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
