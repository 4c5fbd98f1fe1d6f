"""Sampling from a Gated PixelCNN: the loop that people write beside engines that compute each activation once."""

from __future__ import annotations

import statistics
from typing import Any

import torch
from torch import Tensor

from pygen.data import ImageData, digits
from pygen.models import GatedPixelCNN, _engines
from pygen.reference import models as plain_models

from ._pictures import image_grid, save_grids
from ._progress import training_bars
from ._report import Check, JobResult, Measure, Setting
from ._timing import one_thread, seconds, shuffled_batches, train_in_turn

OPTIONS: dict[str, Any] = {"hidden_channels": 32, "num_blocks": 5, "first_kernel_size": 5}
BATCH, STEPS, PEAK_LR = 64, 400, 3e-3
# Of the size that the literature samples 28x28 images with, untrained, for its time alone.
LARGE_OPTIONS: dict[str, Any] = {"hidden_channels": 32, "num_blocks": 7}
LARGE_SIDE = 28
# A mixture of 30 Bernoullis reaches 18.5 nats; below 15.5 a pixel would have leaked.
WORST_NLL, BEST_POSSIBLE_NLL = 18.2, 15.5
ENGINES = ("cached", "cpu")
CAPTION = "Times are of one call: plain PyTorch's first, the median of an engine's three after a warm-up."
FRAMES, SHOWN = 9, 12
UNDRAWN = 0.35  # the grey of a pixel that is not drawn yet


def run(setting: Setting) -> JobResult:
    """Trains one model, draws the same images with the plain loop and with each engine, and times them."""
    data = digits()
    steps, n, side = (STEPS, 100, LARGE_SIDE) if not setting.quick else (10, 10, 6)
    model = train(data, steps, setting)
    plain = plain_models.GatedPixelCNN(**OPTIONS).to(setting.device)
    plain.load_state_dict(model.state_dict())
    engines = [engine for engine in ENGINES if _engines.why_not(model, engine) is None]
    shape = (data.train_x.shape[2], data.train_x.shape[3])
    measures, checks = compare(plain, model, engines, n, shape, setting)
    torch.manual_seed(setting.seed)
    plain = plain_models.GatedPixelCNN(**LARGE_OPTIONS).to(setting.device)
    large = GatedPixelCNN(**LARGE_OPTIONS).to(setting.device)
    large.load_state_dict(plain.state_dict())
    of_large, _ = compare(plain, large, engines, 1, (side, side), setting)
    with torch.no_grad():
        nll = -model.log_prob(data.test_x.to(setting.device)).double().mean().item()
    if not setting.quick:
        checks.append(Check(f"the model reaches {WORST_NLL} nats or less: {nll:.2f}", nll <= WORST_NLL))
        checks.append(Check(f"and not less than {BEST_POSSIBLE_NLL}, which no model can", nll >= BEST_POSSIBLE_NLL))
    return JobResult(
        job="sampling_digits",
        title="Sampling a Gated PixelCNN: a forward for every pixel (plain PyTorch), and each activation once (pygen)",
        measures=measures + of_large,
        checks=checks,
        pictures=[draw_filling_in(model, shape, setting)],
        settings={"steps": steps, "batch": BATCH, "peak_lr": PEAK_LR, **OPTIONS, "seed": setting.seed, "nll": nll},
        caption=CAPTION,
    )


def train(data: ImageData, steps: int, setting: Setting) -> GatedPixelCNN:
    torch.manual_seed(setting.seed)
    model = GatedPixelCNN(**OPTIONS).to(setting.device)
    x = data.train_x.to(setting.device)
    batches = shuffled_batches(x, BATCH, torch.Generator().manual_seed(setting.seed))
    with one_thread(), training_bars(setting, steps, sides=["pygen"]) as on_step:
        train_in_turn([model], batches, steps, peak_lr=PEAK_LR, on_step=on_step)
    return model


def compare(
    plain: plain_models.GatedPixelCNN,
    model: GatedPixelCNN,
    engines: list[str],
    n: int,
    shape: tuple[int, int],
    setting: Setting,
) -> tuple[list[Measure], list[Check]]:
    """Times of n images by the plain loop, once, and by each engine; and whether they are the same images."""
    drawn: list[Tensor] = []
    plain.sample(1, (1, 1))  # warm-up
    plain_ms = 1e3 * seconds(lambda: drawn.append(plain.sample(n, shape, seed=setting.seed)), setting.device)
    measures, checks = [], []
    for engine in engines:

        def work(engine: str = engine) -> None:
            drawn.append(model.sample(n, shape, seed=setting.seed, engine=engine))

        work()
        ms = [1e3 * seconds(work, setting.device) for _ in range(3)]
        what = f"{n} image{'s' if n > 1 else ''} {shape[0]}x{shape[1]}, engine {engine}"
        measures.append(Measure(what, "time", plain_ms, statistics.median(ms)))
        equal = (drawn[-1] == drawn[0]).flatten(1).all(1).double().mean().item()
        claim = f"engine {engine} draws the plain loop's images, but for roundings: {100 * equal:.1f} % of {n}"
        checks.append(Check(claim, equal >= 0.9))
    return measures, checks


def draw_filling_in(model: GatedPixelCNN, shape: tuple[int, int], setting: Setting) -> str:
    """Samples as they grow, pixel by pixel in raster order: a column each."""
    with one_thread():
        images = model.sample(SHOWN, shape, seed=setting.seed).cpu()
    order = torch.arange(shape[0] * shape[1]).view(shape)
    frames = [
        torch.where(order < drawn, images.float(), UNDRAWN)
        for drawn in torch.linspace(0, order.numel(), FRAMES).round().tolist()
    ]
    name = "samples_filling_in.png"
    grids = {"pixel after pixel, from above": image_grid(torch.cat(frames), SHOWN)}
    save_grids(setting.out / name, grids, "Samples of a Gated PixelCNN filling in")
    return name
