"""pygen.models.GAN in training: what it learns, and that it never waits for the device."""

from __future__ import annotations

import math

import pytest
import torch
from gan_twins import (
    Z,
    flat,
    gradients,
    images,
    one_thread,  # noqa: F401 (a fixture)
    small,
)
from torch import Tensor

from pygen._gan_terms import KINDS
from pygen.models import GAN


@pytest.mark.parametrize("kind", KINDS)
def test_gan_of_every_kind_learns_where_the_data_are(kind: str) -> None:
    """Images of one of two patterns with noise: the samples' mean comes close to the data's from far away."""
    patterns = torch.tensor([[[[0.7, -0.7], [-0.3, 0.3]]], [[[0.7, 0.1], [-0.3, -0.5]]]])
    model = GAN((1, 2, 2), 2, hidden=16, kind=kind, penalty="r1", gamma=1.0, ema_decay=0.9, lr=1e-2)
    start, end = [], []
    for distances, steps in ((start, 0), (end, 100)):
        for _ in range(steps):
            x = patterns[torch.randint(2, (32,))] + 0.05 * torch.randn(32, 1, 2, 2)
            of_discriminator, of_generator = model.step(x)
        distances.append((model.sample(400, seed=0).mean(0) - patterns.mean(0)).norm().item())
    assert all(t.isfinite() for t in flat((of_discriminator, of_generator)))
    assert end[0] < 0.25 * start[0]


def test_gan_generator_learns_from_bad_samples_unless_its_loss_saturates() -> None:
    """D sure that samples are fake (logits -10): the notes' slopes 0.99995 and 4.5e-5 of the two losses."""
    slopes = {}
    for kind in ("minimax", "nonsaturating"):
        model, z = small(kind=kind, generator_batch_norm=False), torch.randn(4, Z, dtype=torch.float64)
        model._latents = lambda n, source, z=z: z
        with torch.no_grad():
            model.discriminator[-2].bias.add_(-10 - model.discriminator(model(z)).mean())
        model.generator_step(4)
        slopes[kind] = torch.cat([g.flatten() for g in gradients(model.generator)]).norm()
    ratio = (slopes["minimax"] / slopes["nonsaturating"]).item()
    assert ratio == pytest.approx(1 / (1 + math.exp(10)) * (1 + math.exp(-10)), rel=0.5)


def test_gan_steps_never_wait_for_the_device() -> None:
    """No step reads a tensor's value on the host, which is what would wait for a GPU."""
    from torch.utils._python_dispatch import TorchDispatchMode

    reads: list[str] = []

    class Watch(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default):
                reads.append(str(func))
            return func(*args, **(kwargs or {}))

    model = small(penalty="wgan_gp", kind="relativistic_average", dtype=torch.float32)
    x = images(5, dtype=torch.float32)
    with Watch():
        float(torch.ones(()))
        assert len(reads) == 1  # the watch sees one
        result = model.step(x)
    assert len(reads) == 1
    assert all(isinstance(t, Tensor) for t in flat(result))
