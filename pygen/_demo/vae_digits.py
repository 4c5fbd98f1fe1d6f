"""The VAE on scikit-learn's digits, trained with plain PyTorch and with pygen."""

from __future__ import annotations

import statistics
from collections.abc import Callable

import torch
from torch import Tensor

from pygen.data import ImageData, digits
from pygen.models import VAE
from pygen.reference import models as plain_models

from . import _op_reparameterize_kl as op
from ._pictures import image_grid, principal_plane, save_grids, save_scatter
from ._progress import training_bars
from ._report import Check, JobResult, Measure, Setting
from ._timing import compare_ms, one_thread, shuffled_batches, train_in_turn

Model = VAE | plain_models.VAE

LATENTS, BATCH, EPOCHS, PEAK_LR = 8, 100, 150, 3e-3
RUNS = 4  # one run's NLL varies by 0.09 nats with its noise alone; the bars below are for the mean of these
NUM_SAMPLES = 500  # K of the importance-sampled likelihood
# A mixture of 30 Bernoullis reaches 18.5 nats; below 15.5 an image would have leaked or the bound be invalid.
WORST_NLL, BEST_POSSIBLE_NLL, LARGEST_GAP = 17.9, 15.5, 0.2


def run(setting: Setting) -> JobResult:
    """Trains both from several starts, compares quality and time, draws samples, reconstructions and latents."""
    data = digits()
    runs, steps, num_samples = RUNS, EPOCHS * (len(data.train_x) // BATCH), NUM_SAMPLES
    if setting.quick:
        runs, steps, num_samples = 1, 20, 20
    test_x = data.test_x.to(setting.device)
    step_ms: list[list[float]] = [[], []]
    nlls, negative_elbos = [], []
    with training_bars(setting, runs * steps) as on_step:
        for seed in range(setting.seed, setting.seed + runs):
            plain, ours, taken = train(data, steps, seed, setting.device, on_step)
            step_ms = [before + now for before, now in zip(step_ms, taken, strict=True)]
            nlls.append([nll(model, test_x, num_samples, seed) for model in (plain, ours)])
            negative_elbos.append([negative_elbo(model, test_x) for model in (plain, ours)])
    plain_nll, our_nll = _means(nlls)
    measures = [
        Measure("training step, 1 CPU thread", "time", *(statistics.median(taken) for taken in step_ms)),
        Measure(f"test NLL, {num_samples} samples of z", "nats", plain_nll, our_nll),
        Measure("test -ELBO", "nats", *_means(negative_elbos)),
        *_measures_of_the_op(setting),
    ]
    plain_error, our_error = measures[-1].plain, measures[-1].pygen
    bound = 2 * plain_error + 4 * op.EPS
    checks = [Check("the op's error is at most twice plain PyTorch's plus 4 eps", our_error <= bound)]
    if not setting.quick:
        checks += quality_checks(plain_nll, our_nll)
    settings = {"runs": runs, "steps": steps, "batch": BATCH, "latents": LATENTS, "peak_lr": PEAK_LR, "K": num_samples}
    return JobResult(
        job="vae_digits",
        title=f"VAE on 8x8 digits: {runs} runs of {steps:,} steps, equal starts and batches",
        measures=measures,
        checks=checks,
        pictures=draw(plain, ours, data, setting),
        settings={**settings, "seed": setting.seed, "nll_of_each_run": nlls},
    )


def train(
    data: ImageData, steps: int, seed: int, device: torch.device, on_step: Callable[[list[float]], None]
) -> tuple[plain_models.VAE, VAE, list[list[float]]]:
    """Both models, trained in turn from the same weights on the same batches, and the ms of each one's steps."""
    torch.manual_seed(seed)
    plain = plain_models.VAE(data.train_x.shape[1:], LATENTS).to(device)
    ours = VAE(data.train_x.shape[1:], LATENTS).to(device)
    ours.load_state_dict(plain.state_dict())
    batches = shuffled_batches(data.train_x.to(device), BATCH, torch.Generator().manual_seed(seed))
    with one_thread():
        step_ms = train_in_turn([plain, ours], batches, steps, peak_lr=PEAK_LR, on_step=on_step)
    return plain, ours, step_ms


@torch.no_grad()
def nll(model: Model, x: Tensor, num_samples: int, seed: int) -> float:
    """Mean importance-sampled NLL in nats of images x [N, C, H, W]."""
    return -model.log_prob(x, num_samples=num_samples, seed=seed).double().mean().item()


@torch.no_grad()
def negative_elbo(model: Model, x: Tensor, draws: int = 20) -> float:
    """Mean -ELBO in nats over images x [N, C, H, W] and a few draws of z."""
    return -torch.stack([model.elbo(x).double().mean() for _ in range(draws)]).mean().item()


def _measures_of_the_op(setting: Setting) -> list[Measure]:
    budget_s = 0.05 if setting.quick else 2.0
    times = []
    for n, z in ((BATCH, LATENTS), (1024, 256)):
        both_ms = compare_ms(op.workloads(n, z, setting.device), setting.device, budget_s)
        times.append(Measure(f"reparameterize_kl [{n}, {z}]", "time", *both_ms))
    return [*times, Measure("reparameterize_kl [1024, 256]", "error", *op.errors(1024, 256, setting.device))]


def _means(pairs: list[list[float]]) -> tuple[float, float]:
    plain, ours = (statistics.fmean(side) for side in zip(*pairs, strict=True))
    return plain, ours


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


def draw(plain: plain_models.VAE, ours: VAE, data: ImageData, setting: Setting) -> list[str]:
    """Three pictures; returns their file names."""
    x, labels = data.test_x.to(setting.device), data.test_y
    models: dict[str, Model] = {"plain PyTorch": plain, "pygen": ours}
    real = {"real digits": image_grid(x[:100], 10)}
    drawn = {name: image_grid(model.sample(100, seed=setting.seed), 10) for name, model in models.items()}
    save_grids(setting.out / "vae_samples.png", real | drawn, "Samples of the trained models")
    some = torch.stack([x[labels == digit][i] for i in range(2) for digit in range(10)])
    rebuilt = {name: image_grid(model.reconstruct(some), 20) for name, model in models.items()}
    grids = {"test digits": image_grid(some, 20)} | rebuilt
    save_grids(setting.out / "vae_reconstructions.png", grids, "Reconstructions from the posterior mean", vertical=True)
    with torch.no_grad():
        planes = {name: principal_plane(model.encode(x)[0]) for name, model in models.items()}
    save_scatter(setting.out / "vae_latents.png", planes, labels, "Test digits: principal plane of the posterior means")
    return ["vae_samples.png", "vae_reconstructions.png", "vae_latents.png"]
