"""pygen.models.GAN against its plain-PyTorch twin, and what a step may and may not touch."""

from __future__ import annotations

import pytest
import torch
from gan_twins import (
    SMALL,
    Z,
    flat,
    gradients,
    images,
    one_thread,  # noqa: F401 (a fixture)
    small,
    state,
    twins,
)
from support import assert_accurate, assert_same
from torch import nn

from pygen._gan_terms import KINDS, RELATIVISTIC
from pygen.functional import discriminator_loss, generator_loss, gradient_penalty
from pygen.models import GAN
from pygen.reference.models import GAN as PlainGAN

STEPS = 5
# (image_shape, options): each option of the constructor once, odd and mixed sides, and sides of one pixel.
MODELS = {
    "default": ((1, 8, 8), {}),
    "rgb-odd": ((3, 7, 10), {"hidden": (4, 5)}),
    "one-layer": ((2, 3, 2), {"hidden": 4}),
    "one-pixel": ((1, 4, 4), {}),
    "no-batch-norm": ((1, 8, 8), {"generator_batch_norm": False}),
    "both-batch-norms": ((1, 8, 8), {"discriminator_batch_norm": True}),
    "n-dis": ((1, 8, 8), {"n_dis": 3}),
    "no-average": ((1, 8, 8), {"ema_decay": None}),
    "smoothed": ((1, 8, 8), {"label_smoothing": 0.2}),
    "lazy-r1": ((1, 8, 8), {"penalty": "r1", "gamma": 3.0, "penalty_every": 2}),
    "r2": ((1, 8, 8), {"penalty": "r2"}),
    "dragan": ((1, 8, 8), {"penalty": "dragan", "gamma": 0.5}),
    "wgan-gp": ((1, 8, 8), {"kind": "wasserstein", "penalty": "wgan_gp", "n_dis": 2}),
    **{kind: ((1, 8, 8), {"kind": kind}) for kind in KINDS if kind != "nonsaturating"},
}


# The twin


@pytest.mark.parametrize("name", MODELS)
def test_gan_equals_its_twin_step_by_step(name: str) -> None:
    """Losses, penalties, statistics, weights, running statistics, averages: all of them, after every step."""
    shape, options = MODELS[name]
    plain, ours = twins(shape, **options)
    for i in range(STEPS):
        x = images(5, shape, seed=i)
        theirs, got = flat(plain.step(x, seed=i)), flat(ours.step(x, seed=i))
        assert [t is None for t in theirs] == [t is None for t in got]
        for a, b in zip(theirs, got, strict=True):
            if a is not None:
                assert not b.requires_grad and b.shape == ()
                torch.testing.assert_close(b, a, rtol=1e-9, atol=1e-12)
        for (key, a), b in zip(plain.state_dict().items(), ours.state_dict().values(), strict=True):
            torch.testing.assert_close(
                b, a, rtol=1e-8, atol=1e-10, msg=lambda text, at=f"step {i}: {key}": f"{at}: {text}"
            )
    torch.testing.assert_close(ours.sample(4, seed=9), plain.sample(4, seed=9), rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("name", ["default", "lazy-r1", "hinge", "relativistic_average"])
def test_gan_gradients_of_a_step_obey_the_tolerance_rule(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """float32, both players, against the twin in float64 on the same weights, images and latents."""
    shape, options = MODELS[name]
    plain, ours = twins(shape, torch.float32, **options)
    truth, _ = twins(shape, **options)
    truth.load_state_dict(plain.state_dict())
    n = 6
    x, z = images(n, shape, torch.float32), torch.randn(n, Z)
    real = x if ours.kind in RELATIVISTIC else None
    for model in (plain, ours, truth):
        dtype = torch.float64 if model is truth else torch.float32
        monkeypatch.setattr(model, "_latents", lambda n, source, dtype=dtype: z.to(dtype))
    of_discriminator = [
        flat(model.discriminator_step(batch)) for model, batch in ((ours, x), (truth, x.double()), (plain, x))
    ]
    for i, (got, ref, base) in enumerate(zip(*of_discriminator, strict=True)):
        if ref is not None:
            assert_accurate(got, ref, base, what=f"discriminator's result {i}")
    for model in (plain, ours):  # so that both generators meet the same discriminator
        model.discriminator.load_state_dict(truth.discriminator.state_dict())
    truth.discriminator.load_state_dict(ours.discriminator.state_dict())
    for player in ("discriminator", "generator"):
        if player == "generator":
            for model in (plain, ours, truth):
                dtype = torch.float64 if model is truth else torch.float32
                model.generator_step(n, real=None if real is None else real.to(dtype))
        # All gradients of a player as one: in a single bias terms may cancel, and plain PyTorch be exact by luck.
        grads = [torch.cat([g.flatten() for g in gradients(getattr(m, player))]) for m in (ours, truth, plain)]
        assert_accurate(*grads, what=f"the {player}'s gradients")


@pytest.mark.parametrize("name", MODELS)
def test_gan_state_dict_loads_both_ways(name: str) -> None:
    shape, options = MODELS[name]
    options = {**SMALL, **options}
    plain, ours = PlainGAN(shape, Z, **options), GAN(shape, Z, **options)
    assert list(plain.state_dict()) == list(ours.state_dict())
    ours.step(images(3, shape, torch.float32))
    plain.load_state_dict(ours.state_dict(), strict=True)
    GAN(shape, Z, **options).load_state_dict(plain.state_dict(), strict=True)
    assert (plain.discriminator_steps, plain.generator_steps) == (1, int(ours.n_dis == 1))
    torch.testing.assert_close(ours.sample(4, seed=5), plain.sample(4, seed=5))


def test_gan_has_every_public_method_of_its_twin_and_no_loss() -> None:
    public = {name for name in vars(PlainGAN) if not name.startswith("_")}
    assert public <= {name for name in vars(GAN) if not name.startswith("_")}
    assert not hasattr(GAN, "loss") and not hasattr(PlainGAN, "loss")


@pytest.mark.parametrize("side", [8, 28, 32])
@pytest.mark.parametrize("channels", [1, 3])
def test_gan_makes_images_of_the_usual_sizes(side: int, channels: int) -> None:
    """With the default widths, whose twins must be equal too: the deepest features have sides of 2, 7 and 4."""
    shape = (channels, side, side)
    plain, ours = PlainGAN(shape, 5), GAN(shape, 5)
    assert {k: v.shape for k, v in plain.state_dict().items()} == {k: v.shape for k, v in ours.state_dict().items()}
    assert ours.generator[1].unflattened_size[1:] == {8: (2, 2), 28: (7, 7), 32: (4, 4)}[side]
    x = images(2, shape, torch.float32)
    ours.step(x)
    drawn = ours.sample(3)
    assert drawn.shape == (3, *shape) and drawn.abs().max() <= 1
    assert ours(torch.randn(3, 5)).shape == (3, *shape)
    assert ours.discriminator(x).shape == (2,)


# The frozen player


def test_gan_discriminator_step_leaves_the_generator_as_it_was() -> None:
    model = small(discriminator_batch_norm=True)
    model.step(images(5))
    before, seen = state(model.generator), state(model.discriminator)
    averaged, grads = state(model.generator_ema), gradients(model.generator)
    model.discriminator_step(images(5))
    for key, value in model.generator.state_dict().items():
        assert_same(value, before[key], what=key)
    for key, value in model.generator_ema.state_dict().items():
        assert_same(value, averaged[key], what=key)
    for g, h in zip(gradients(model.generator), grads, strict=True):
        assert_same(g, h)
    assert all(not torch.equal(v, seen[k]) for k, v in model.discriminator.state_dict().items())
    assert int(model.discriminator[3].num_batches_tracked) == 4  # a real and a generated batch in each step


def test_gan_generator_step_leaves_the_discriminator_as_it_was() -> None:
    for kind in ("nonsaturating", "relativistic"):
        model = small(discriminator_batch_norm=True, kind=kind)
        model.step(images(5))
        before, seen, grads = state(model.discriminator), state(model.generator), gradients(model.discriminator)
        model.generator_step(5, real=images(5) if kind in RELATIVISTIC else None)
        for key, value in model.discriminator.state_dict().items():
            assert_same(value, before[key], what=key)
        for g, h in zip(gradients(model.discriminator), grads, strict=True):
            assert_same(g, h)
        assert all(not torch.equal(v, seen[k]) for k, v in model.generator.state_dict().items())
        assert int(model.generator[2].num_batches_tracked) == 2  # of the generator's own two steps


def test_gan_freezing_ends_with_the_step_and_keeps_what_the_user_froze() -> None:
    model = small(discriminator_batch_norm=True)
    model.discriminator[0].weight.requires_grad_(False)
    model.generator[2].track_running_stats = False
    before = model.discriminator[0].weight.clone()
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    model.step(images(5))
    assert {name: p.requires_grad for name, p in model.named_parameters()} == flags
    assert torch.equal(model.discriminator[0].weight, before)
    assert model.discriminator[3].track_running_stats and not model.generator[2].track_running_stats

    def fail(module: nn.Module, args: object) -> None:
        raise RuntimeError("out of memory")

    hooks = [network[-1].register_forward_pre_hook(fail) for network in (model.generator, model.discriminator)]
    for step in (lambda: model.discriminator_step(images(5)), lambda: model.generator_step(5)):
        with pytest.raises(RuntimeError, match="out of memory"):
            step()
    hooks.pop(0).remove()
    with pytest.raises(RuntimeError, match="out of memory"):
        model.generator_step(5)
    assert {name: p.requires_grad for name, p in model.named_parameters()} == flags
    assert model.discriminator[3].track_running_stats and not model.generator[2].track_running_stats
    assert (model.discriminator_steps, model.generator_steps) == (1, 1)


def test_gan_steps_follow_the_closed_form_of_plain_gradient_descent() -> None:
    """With SGD a step is theta - lr grad of the loss, taken here by hand from the same latents."""
    model, z = small(generator_batch_norm=False), torch.randn(5, Z, dtype=torch.float64)
    model._latents = lambda n, source: z
    model.discriminator_optimizer = torch.optim.SGD(model.discriminator.parameters(), 0.1)
    model.generator_optimizer = torch.optim.SGD(model.generator.parameters(), 0.1)
    x = images(5)
    loss = discriminator_loss(real=model.discriminator(x), fake=model.discriminator(model(z)))
    for network in (model.discriminator, model.generator):
        if network is model.generator:
            loss = generator_loss(fake=model.discriminator(model(z)))
        parameters = list(network.parameters())
        grads = torch.autograd.grad(loss, parameters)
        expected = [p.detach() - 0.1 * g for p, g in zip(parameters, grads, strict=True)]
        step = model.discriminator_step(x) if network is model.discriminator else model.generator_step(5)
        torch.testing.assert_close(step.loss, loss.detach())
        torch.testing.assert_close([p.detach() for p in parameters], expected)


# The average of the generator


def test_gan_average_is_its_formula_buffers_included() -> None:
    decay = 0.4  # below (1 + t) / (10 + t) from the sixth step on
    model = small(ema_decay=decay)
    expected = state(model.generator)
    for t in range(8):
        model.step(images(5, seed=t))
        weight = min(decay, (1 + t) / (10 + t))
        for key, value in model.generator.state_dict().items():
            if value.is_floating_point():
                expected[key] = weight * expected[key] + (1 - weight) * value
            else:
                expected[key] = value.clone()
    torch.testing.assert_close(dict(model.generator_ema.state_dict()), dict(expected), rtol=1e-13, atol=1e-15)
    assert any("running_var" in key for key in expected)
    assert not any(p.requires_grad for p in model.generator_ema.parameters())
    assert model.generator_ema.state_dict()["2.running_mean"].ne(model.generator[2].running_mean).all()


def test_gan_average_moves_where_half_precision_would_round_its_steps_away() -> None:
    model = small(dtype=torch.bfloat16, ema_decay=0.9999)
    assert {p.dtype for p in model.generator_ema.parameters()} == {torch.float32}
    before = state(model.generator_ema)
    model.generator_steps = 10**7  # the warm-up is over: a step moves the average by 1e-4 of the way
    with torch.no_grad():
        for p in model.generator.parameters():
            p.add_(0.1)
    model.generator_ema.update(model.generator, 0.9999)
    for key, p in model.generator.named_parameters():
        expected = before[key] + 1e-4 * (p.float() - before[key])
        torch.testing.assert_close(model.generator_ema.state_dict()[key], expected)
        assert (model.generator_ema.state_dict()[key] != before[key]).any()
    assert model.sample(2).dtype == torch.bfloat16


# The penalty


def test_gan_lazy_penalty_comes_at_its_interval_and_counts_so_many_times() -> None:
    every, gamma = 3, 7.0
    model, z = small(penalty="r1", gamma=gamma, penalty_every=every), torch.randn(5, Z, dtype=torch.float64)
    model._latents = lambda n, source: z
    taken = []
    for i in range(7):
        x = images(5, seed=i)
        expected = discriminator_loss(real=model.discriminator(x), fake=model.discriminator(model(z).detach()))
        points = x.clone().requires_grad_()
        (slope,) = torch.autograd.grad(model.discriminator(points).sum(), points, create_graph=True)
        penalty = gamma / 2 * slope.square().sum((1, 2, 3)).mean()
        total = expected + (every * penalty if i % every == 0 else 0)
        grads = torch.autograd.grad(total, list(model.discriminator.parameters()))
        step = model.discriminator_step(x)
        taken.append(step.penalty is not None)
        torch.testing.assert_close(step.loss, expected.detach())
        if step.penalty is not None:
            torch.testing.assert_close(step.penalty, penalty.detach())
        torch.testing.assert_close(gradients(model.discriminator), list(grads))
    assert taken == [True, False, False, True, False, False, True]


def test_gan_penalties_default_to_the_papers_factor() -> None:
    x = images(4)
    for kind, samples in (("r1", {"real": x}), ("dragan", {"real": x})):
        model = small(penalty=kind)
        expected = gradient_penalty(
            model.discriminator, **samples, kind=kind, gamma=10.0, generator=_after_latents(4, seed=2)
        )
        torch.testing.assert_close(model.discriminator_step(x, seed=2).penalty, expected.detach())


def _after_latents(n: int, seed: int) -> torch.Generator:
    source = torch.Generator().manual_seed(seed)
    torch.randn(n, Z, dtype=torch.float64, generator=source)
    return source
