"""PixelCNN on scikit-learn's digits, trained with plain PyTorch and with pygen."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from pygen.data import ImageData, digits
from pygen.models import PixelCNN
from pygen.reference import models as plain_models

from ._pictures import image_grid, save_grids
from ._progress import training_bars
from ._report import Check, JobResult, Measure, Setting
from ._timing import compare_ms, one_thread, shuffled_batches, train_in_turn

Model = PixelCNN | plain_models.PixelCNN

OPTIONS: dict[str, Any] = {"hidden_channels": 64, "num_blocks": 4, "first_kernel_size": 7}
BATCH, STEPS, PEAK_LR = 64, 400, 5e-3
# One of the size people train on 28x28 images, for its time alone.
LARGE_HIDDEN, LARGE_SIDE, LARGE_BATCH = 64, 28, 32
# One stack has a blind spot and ends near 18.3 nats; below 15.5 a pixel would have leaked.
WORST_NLL, BEST_POSSIBLE_NLL, LARGEST_GAP = 18.6, 15.5, 0.3
PIXELS = 64
EPS = torch.finfo(torch.float32).eps


def run(setting: Setting) -> JobResult:
    """Trains both from the same start, compares likelihood and time, draws the same noise through both."""
    data = digits()
    steps, samples, side, budget_s = (STEPS, 100, LARGE_SIDE, 8.0) if not setting.quick else (10, 10, 8, 0.0)
    with training_bars(setting, steps) as on_step:
        plain, ours, step_ms = train(data, steps, setting.seed, setting.device, on_step)
    test_x = data.test_x.to(setting.device)
    nlls = [nll(model, test_x) for model in (plain, ours)]
    errors = log_prob_errors(ours, test_x)
    pictures, equal = draw(plain, ours, data, samples, setting)
    size = f"{side}x{side}, batch {LARGE_BATCH}, {LARGE_HIDDEN} channels"
    measures = [
        Measure("training step, 1 CPU thread", "time", *(statistics.median(taken) for taken in step_ms)),
        Measure(f"training step, {size}", "time", *large_step_ms(side, setting.device, budget_s)),
        Measure("test NLL", "nats", nlls[0], nlls[1]),
        Measure("log p of the test images", "error", *errors),
    ]
    bits = [value / (PIXELS * math.log(2)) for value in nlls]
    setting.console.print(
        f"test: {bits[0]:.4f} bits/dim with plain PyTorch, {bits[1]:.4f} with pygen; with equal weights and noise"
        f" {100 * equal:.1f} % of {samples} sampled images are equal",
        highlight=False,
    )
    checks = [
        Check("log p's error is at most twice plain PyTorch's plus 4 eps", errors[1] <= 2 * errors[0] + 4 * EPS),
        Check("equal weights and noise give equal samples, but for roundings", equal >= 0.9),
    ]
    if not setting.quick:
        checks += quality_checks(*nlls)
    settings = {"steps": steps, "batch": BATCH, "peak_lr": PEAK_LR, **OPTIONS}
    return JobResult(
        job="pixelcnn_digits",
        title=f"PixelCNN on 8x8 digits: {steps:,} steps, equal starts and batches",
        measures=measures,
        checks=checks,
        pictures=pictures,
        settings={**settings, "seed": setting.seed, "bits_per_dim": bits},
    )


def train(
    data: ImageData, steps: int, seed: int, device: torch.device, on_step: Callable[[list[float]], None]
) -> tuple[plain_models.PixelCNN, PixelCNN, list[list[float]]]:
    """Both models, trained in turn from the same weights on the same batches, and the ms of each one's steps."""
    torch.manual_seed(seed)
    plain, ours = plain_models.PixelCNN(**OPTIONS).to(device), PixelCNN(**OPTIONS).to(device)
    ours.load_state_dict(plain.state_dict())
    batches = shuffled_batches(data.train_x.to(device), BATCH, torch.Generator().manual_seed(seed))
    with one_thread():
        step_ms = train_in_turn([plain, ours], batches, steps, peak_lr=PEAK_LR, on_step=on_step)
    return plain, ours, step_ms


@torch.no_grad()
def nll(model: Model, x: Tensor) -> float:
    """Mean NLL in nats of images x [N, C, H, W]."""
    return -model.log_prob(x).double().mean().item()


@torch.no_grad()
def log_prob_errors(ours: PixelCNN, x: Tensor) -> tuple[float, float]:
    """Largest error of log p against float64 over its largest value, both sides with our weights: (plain, pygen)."""
    same = plain_models.PixelCNN(**OPTIONS).to(x.device)
    same.load_state_dict(ours.state_dict())
    log_probs = [model.log_prob(x).double() for model in (same, ours)]
    truth = same.double().log_prob(x)
    theirs, our = (((lp - truth).abs().max() / truth.abs().max()).item() for lp in log_probs)
    return theirs, our


def large_step_ms(side: int, device: torch.device, budget_s: float) -> list[float]:
    """Milliseconds of a whole step, plain first: zero_grad, loss, backward, update."""
    torch.manual_seed(0)
    plain = plain_models.PixelCNN(hidden_channels=LARGE_HIDDEN).to(device)
    ours = PixelCNN(hidden_channels=LARGE_HIDDEN).to(device)
    x = torch.randint(0, 2, (LARGE_BATCH, 1, side, side), dtype=torch.uint8).to(device)
    optimizers = [torch.optim.Adam(model.parameters(), fused=True) for model in (plain, ours)]

    def step(model: Model, optimizer: torch.optim.Optimizer) -> None:
        optimizer.zero_grad()
        model.loss(x).backward()
        optimizer.step()

    works = [lambda: step(plain, optimizers[0]), lambda: step(ours, optimizers[1])]
    return compare_ms(works, device, budget_s)


def quality_checks(plain_nll: float, our_nll: float) -> list[Check]:
    gap = abs(our_nll - plain_nll)
    return [
        Check(f"both reach an NLL of {WORST_NLL} nats or less", max(plain_nll, our_nll) <= WORST_NLL),
        Check(f"they differ by at most {LARGEST_GAP} nats: {gap:.3f}", gap <= LARGEST_GAP),
        Check(
            f"neither is below {BEST_POSSIBLE_NLL} nats, which no model can be",
            min(plain_nll, our_nll) >= BEST_POSSIBLE_NLL,
        ),
    ]


def draw(
    plain: plain_models.PixelCNN, ours: PixelCNN, data: ImageData, n: int, setting: Setting
) -> tuple[list[str], float]:
    """Samples and in-paintings as two pictures; their names, and how many images are equal for equal weights and noise."""
    with one_thread():
        drawn = ours.sample(n, seed=setting.seed)
        theirs = plain.sample(n, seed=setting.seed)
        plain.load_state_dict(ours.state_dict())
        same = plain.sample(n, seed=setting.seed)
        of_each = torch.stack([data.test_x[data.test_y == digit][0] for digit in range(10)])
        some = of_each.to(setting.device).repeat_interleave(n // 10, 0)
        top = torch.arange(8, device=some.device)[:, None] < 4
        completed = ours.sample(n, known=some, known_mask=top, seed=setting.seed)
    grids = {"real digits": data.test_x[:n], "plain PyTorch": theirs, "pygen": drawn}
    save_grids(
        setting.out / "pixelcnn_samples.png",
        {name: image_grid(images, 10) for name, images in grids.items()},
        "Samples of the trained models",
    )
    grids = {"test digits": some, "their upper half, completed": completed}
    save_grids(
        setting.out / "pixelcnn_completions.png",
        {name: image_grid(images, n // 10) for name, images in grids.items()},
        "A test digit in each row",
    )
    equal = (same == drawn).flatten(1).all(1).float().mean().item()
    return ["pixelcnn_samples.png", "pixelcnn_completions.png"], equal
