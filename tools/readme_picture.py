"""Makes the README's first picture: the demo's model of digits, trained here, samples, and the time that drawing them took.

python tools/readme_picture.py [--steps N] [--out docs]     writes samples.png and samples.json; then tools/readme_figures.py
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import torch
from rich.console import Console

from pygen._demo import sampling_digits
from pygen._demo._report import Setting
from pygen._demo._timing import compare_ms, one_thread, seconds
from pygen._picture import grid, write_png
from pygen.data import digits
from pygen.models import _engines
from pygen.reference import models as plain_models

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "benchmarks"))
import harness  # noqa: E402

COLUMNS, ROWS, SCALE = 20, 4, 5
SEED = 0


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=sampling_digits.STEPS)
    parser.add_argument("--out", type=Path, default=ROOT / "docs")
    args = parser.parse_args(arguments)
    setting = Setting(args.out, harness.DEVICE, Console(), seed=SEED)
    data = digits()
    model = sampling_digits.train(data, args.steps, setting).eval()
    plain = plain_models.GatedPixelCNN(**sampling_digits.OPTIONS).to(harness.DEVICE).eval()
    plain.load_state_dict(model.state_dict())
    n, shape = COLUMNS * ROWS, tuple(data.train_x.shape[2:])
    images = model.sample(n, shape, seed=SEED)
    with one_thread():  # small images: more gain little
        ms = compare_ms([lambda: model.sample(n, shape, seed=SEED)], harness.DEVICE, budget_s=1.0)[0]
        plain_ms = 1e3 * min(seconds(lambda: plain.sample(n, shape, seed=SEED), harness.DEVICE) for _ in range(3))
        facts = harness.environment()
    with torch.no_grad():
        nll = -model.log_prob(data.test_x.to(harness.DEVICE)).double().mean().item()
    write_png(args.out / "samples.png", grid((1 - images.cpu()) * 255, COLUMNS, SCALE))
    facts |= {
        "images": n,
        "shape": list(shape),
        "steps": args.steps,
        "options": sampling_digits.OPTIONS,
        "test_nll_nats": round(nll, 2),
        "engine": _engines.choose(model, None),
        "ms": round(ms, 2),
        "plain_loop_ms": round(plain_ms, 1),
    }
    (args.out / "samples.json").write_text(json.dumps(facts, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
