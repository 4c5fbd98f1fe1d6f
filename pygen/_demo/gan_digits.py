"""A GAN on scikit-learn's digits with their 17 levels of grey, trained with plain PyTorch and with pygen."""

from __future__ import annotations

import csv
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pygen.data import ImageData, digits
from pygen.models import GAN
from pygen.reference import models as plain_models

from . import _op_gan_loss as op
from ._op_reparameterize_kl import EPS
from ._pictures import image_grid, save_curves, save_grids
from ._progress import training_bars
from ._quality import Classifier, TwoSample, classifier_test, nearest_neighbour_test
from ._report import Check, JobResult, Measure, Setting
from ._timing import compare_ms, half_cosine, one_thread, shuffled_batches, steps_in_turn

Model = GAN | plain_models.GAN

LATENTS, BATCH, STEPS, PEAK_LR = 16, 32, 2500, 1e-3
OPTIONS: dict[str, Any] = {"hidden": (32, 64), "penalty": "r1", "gamma": 1.0, "penalty_every": 8, "ema_decay": 0.998}
SAMPLES = 1000  # for the digit classifier; the two-sample tests take as many as there are test images
# Real test digits reach 0.96 and noise 0.19: the classifier is unsure wherever there are no real images.
LEAST_CONFIDENCE, LARGEST_GAP = 0.7, 0.05
CURVES = ("loss of D", "loss of G", "mean logit D(x)", "mean logit D(G(z))")


class Quality(NamedTuple):
    """Of one model's samples, or of other images in their place."""

    coverage: int  # of the ten classes
    confidence: float
    shares: list[float]
    nearest_neighbour: TwoSample
    classifier: TwoSample


@dataclass
class Trained:
    """One side after its training."""

    name: str
    model: Model
    step_ms: list[float]
    curves: list[list[Tensor]] = field(default_factory=lambda: [[] for _ in CURVES])  # CURVES, a value a step

    def curve(self, name: str) -> Tensor:
        return torch.stack(self.curves[CURVES.index(name)]).cpu()


class Judge:
    """The digit classifier and the real images that samples are compared with."""

    def __init__(self, data: ImageData) -> None:
        self.data, self.classifier = data, Classifier(data.train_x, data.train_y)

    def quality(self, levels: Tensor) -> Quality:
        """Of images of levels 0 .. 16 [N, 1, 8, 8], at least as many as there are test images."""
        real = self.data.test_x
        some = levels[: len(real)]
        figures = self.classifier.figures(levels)
        return Quality(*figures, nearest_neighbour_test(real, some), classifier_test(real, some))

    def of_model(self, model: Model, n: int, seed: int) -> Quality:
        return self.quality(to_levels(model.sample(n, seed=seed)))

    def of_real_images(self) -> Quality:
        """What the best samples could reach: test images to the digit classifier, train images to the two-sample tests."""
        order = torch.randperm(len(self.data.train_x), generator=torch.Generator().manual_seed(0))
        of_train = self.quality(self.data.train_x[order])
        return of_train._replace(**self.classifier.figures(self.data.test_x)._asdict())


def run(setting: Setting) -> JobResult:
    """Trains both from the same start, compares time and the quality of samples, draws samples and curves."""
    data = digits(binarize=False)
    steps, samples = (STEPS, SAMPLES) if not setting.quick else (20, 400)
    with training_bars(setting, steps, unit=" (of D)") as on_step:
        sides = train(data, steps, setting.seed, setting.device, on_step)
    judge = Judge(data)
    plain, ours = (judge.of_model(side.model, samples, setting.seed) for side in sides)
    real = judge.of_real_images()
    setting.console.print(
        f"real digits in place of samples: {real.coverage} digits, confidence {real.confidence:.1%}, told apart by"
        f" {real.nearest_neighbour.accuracy:.1%} (nearest neighbours) and {real.classifier.accuracy:.1%} (classifier)",
        highlight=False,
    )
    measures = [
        Measure("training step, 1 CPU thread", "time", *(statistics.median(side.step_ms) for side in sides)),
        Measure("digits among the samples", "count", plain.coverage, ours.coverage),
        Measure("the digit classifier's confidence", "fraction", plain.confidence, ours.confidence),
        *_two_sample_measures(plain, ours),
        *_measures_of_the_op(setting),
    ]
    bound = 2 * measures[-1].plain + 4 * EPS
    checks = [Check("the losses' error is at most twice plain PyTorch's plus 4 eps", measures[-1].pygen <= bound)]
    if not setting.quick:
        checks += quality_checks(plain, ours)
    settings = {"steps": steps, "batch": BATCH, "latents": LATENTS, "peak_lr": PEAK_LR, **OPTIONS, "seed": setting.seed}
    quality = {"plain PyTorch": plain, "pygen": ours, "real digits": real}
    return JobResult(
        job="gan_digits",
        title=f"GAN on 8x8 digits: {steps:,} steps of both players, equal starts, batches and latents",
        measures=measures,
        checks=checks,
        pictures=draw(sides, data, setting),
        settings={
            **settings,
            "quality": {name: q._asdict() for name, q in quality.items()},
            "curves": "gan_curves.csv",
        },
    )


def train(
    data: ImageData, steps: int, seed: int, device: torch.device, on_step: Callable[[list[float]], None]
) -> list[Trained]:
    """Both models, plain first, trained in turn from the same weights on the same batches and latents."""
    torch.manual_seed(seed)
    shape = data.train_x.shape[1:]
    plain, ours = plain_models.GAN(shape, LATENTS, **OPTIONS).to(device), GAN(shape, LATENTS, **OPTIONS).to(device)
    ours.load_state_dict(plain.state_dict())
    for player in ("discriminator", "generator"):  # the same Adam, so that the models are compared and not its options
        adam = torch.optim.Adam(getattr(plain, player).parameters(), betas=(0.5, 0.999), fused=True)
        setattr(plain, f"{player}_optimizer", adam)
    sides = [Trained("plain PyTorch", plain, []), Trained("pygen", ours, [])]
    sources = [torch.Generator(device).manual_seed(seed) for _ in sides]

    def step_of(side: Trained, source: torch.Generator) -> Callable[[Tensor, int], Tensor]:
        def step(batch: Tensor, number: int) -> Tensor:
            for optimizer in (side.model.discriminator_optimizer, side.model.generator_optimizer):
                optimizer.param_groups[0]["lr"] = PEAK_LR * half_cosine(number, steps)
            (loss, _, stats), of_generator = side.model.step(batch, generator=source)
            assert of_generator is not None
            for curve, value in zip(side.curves, (loss, of_generator[0], stats[0], stats[1]), strict=True):
                curve.append(value)
            return loss

        return step

    x = to_floats(data.train_x).to(device)
    batches = shuffled_batches(x, BATCH, torch.Generator().manual_seed(seed))
    with one_thread():
        times = steps_in_turn([step_of(*pair) for pair in zip(sides, sources, strict=True)], batches, steps, on_step)
    for side, side_times in zip(sides, times, strict=True):
        side.step_ms = side_times
    return sides


def to_floats(levels: Tensor) -> Tensor:
    """Levels 0 .. 16 as floats in [-1, 1]."""
    return levels.float() / 8 - 1


def to_levels(images: Tensor) -> Tensor:
    """The nearest levels 0 .. 16, uint8 on the CPU."""
    return (8 * (images + 1)).round().to("cpu", torch.uint8)


def quality_checks(plain: Quality, ours: Quality) -> list[Check]:
    worst = min(plain.confidence, ours.confidence)
    gap = plain.confidence - ours.confidence
    copied = min(plain.nearest_neighbour.accuracy, ours.nearest_neighbour.accuracy) < 0.4
    return [
        Check("the samples of both cover all ten digits", plain.coverage == ours.coverage == 10),
        Check(
            f"the digit classifier's confidence in them is at least {LEAST_CONFIDENCE:.0%}", worst >= LEAST_CONFIDENCE
        ),
        Check(f"pygen's is at most {LARGEST_GAP:.0%} below plain PyTorch's: {gap:+.1%}", gap <= LARGEST_GAP),
        Check("the samples do not repeat real digits", not copied),
    ]


def _measures_of_the_op(setting: Setting) -> list[Measure]:
    budget_s = 0.05 if setting.quick else 2.0
    times = []
    for n in (64, 64 * 30 * 30):
        with one_thread():
            both_ms = compare_ms(op.workloads(n, setting.device), setting.device, budget_s)
        times.append(Measure(f"D loss, {n:,} logits, 1 CPU thread", "time", *both_ms))
    return [*times, Measure("both losses and their gradients", "error", *op.errors(1024, setting.device))]


def _two_sample_measures(plain: Quality, ours: Quality) -> list[Measure]:
    pairs = {
        "told from real by neighbours": (plain.nearest_neighbour, ours.nearest_neighbour),
        "told from real by a classifier": (plain.classifier, ours.classifier),
    }
    return [Measure(name, "fraction", a.accuracy, b.accuracy) for name, (a, b) in pairs.items()]


def draw(sides: list[Trained], data: ImageData, setting: Setting) -> list[str]:
    """Two pictures and the table of the curves; returns the pictures' names."""
    drawn = {side.name: to_levels(side.model.sample(100, seed=setting.seed)) for side in sides}
    grids = {name: image_grid(levels / 16, 10) for name, levels in {"real digits": data.test_x[:100], **drawn}.items()}
    save_grids(setting.out / "gan_samples.png", grids, "Samples of the averaged generators")
    panels = {
        f"{side.name}: {what}": {name: side.curve(name) for name in names}
        for what, names in (("logits", CURVES[2:]), ("losses", CURVES[:2]))
        for side in sides
    }
    save_curves(setting.out / "gan_curves.png", panels, "Training, by step")
    with open(setting.out / "gan_curves.csv", "w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["step", *(f"{side.name}: {name}" for side in sides for name in CURVES)])
        values = torch.stack([side.curve(name) for side in sides for name in CURVES], 1)  # [steps, curves]
        writer.writerows([step, *row] for step, row in enumerate(values.tolist()))
    return ["gan_samples.png", "gan_curves.png"]
