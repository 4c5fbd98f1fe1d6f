"""How pygen.models.GAN is built and called: noise, modes, optimizers, copies, dtypes, refusals."""

from __future__ import annotations

import copy
import gc
import pickle
from typing import Any

import pytest
import torch
from gan_twins import (
    Z,
    flat,
    images,
    one_thread,  # noqa: F401 (a fixture)
    small,
    state,
)
from support import assert_same, live_tensors

# Noise and modes


def test_gan_noise_follows_seed_generator_and_manual_seed() -> None:
    x = images(5)
    model = small(penalty="dragan")
    calls = {
        "discriminator_step": lambda m, **noise: m.discriminator_step(x, **noise),
        "generator_step": lambda m, **noise: m.generator_step(5, **noise),
        "step": lambda m, **noise: m.step(x, **noise),
        "sample": lambda m, **noise: m.sample(5, **noise),
    }
    for name, call in calls.items():

        def once(call: Any = call, **noise: Any) -> list:
            return flat(call(copy.deepcopy(model), **noise))

        state_before = torch.get_rng_state()
        seeded = once(seed=7)
        assert_all_same(once(seed=7), seeded)
        assert_all_same(once(seed=torch.tensor(7)), seeded)
        assert_all_same(once(generator=torch.Generator().manual_seed(7)), seeded)
        assert not torch.equal(once(seed=8)[0], seeded[0]), name
        assert torch.equal(torch.get_rng_state(), state_before)
        torch.manual_seed(7)
        first, second = once(), once()
        assert_all_same(first, seeded)
        assert not torch.equal(first[0], second[0]), name


def assert_all_same(a: list, b: list) -> None:
    for s, t in zip(a, b, strict=True):
        assert_same(s, t)


def test_gan_step_gives_its_players_different_latents() -> None:
    model, drawn = small(), []
    latents = model._latents
    model._latents = lambda n, source: drawn.append(latents(n, source)) or drawn[-1]
    model.step(images(5), seed=3)
    assert len(drawn) == 2 and not torch.equal(*drawn)


def test_gan_step_trains_the_generator_after_every_n_dis_steps() -> None:
    model = small(n_dis=3)
    turns = [model.step(images(5, seed=i))[1] is not None for i in range(7)]
    assert turns == [False, False, True, False, False, True, False]
    assert (model.discriminator_steps, model.generator_steps) == (7, 2)


def test_gan_samples_come_from_the_average_in_evaluation_mode() -> None:
    model = small()
    for i in range(3):
        model.step(images(5, seed=i))
    drawn = model.sample(6, seed=2)
    z = torch.randn(6, Z, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    assert model.training and model.generator[2].training
    by_hand = copy.deepcopy(model.generator_ema).eval()(z)
    torch.testing.assert_close(drawn, by_hand)
    assert not torch.allclose(drawn, copy.deepcopy(model.generator).eval()(z))
    before = state(model)
    assert_same(model.eval().sample(6, seed=2), drawn)
    assert not model.training and not drawn.requires_grad
    for key, value in model.state_dict().items():
        assert_same(value, before[key], what=key)
    assert model.sample(0).shape == (0, 1, 8, 8)


def test_gan_whose_players_are_compiled_steps_as_before() -> None:
    """As people do it: `gan.generator = torch.compile(gan.generator)`, before or after steps."""
    x, results = images(6), []
    for compiled in (False, True):
        torch.manual_seed(0)
        gan = small()
        if compiled:
            gan.generator = torch.compile(gan.generator, backend="eager")
            gan.discriminator = torch.compile(gan.discriminator, backend="eager")
        steps = [gan.step(x, seed=seed) for seed in range(2)]
        results.append([*(step[0].loss for step in steps), *(step[1].loss for step in steps), gan.sample(2, seed=3)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


def test_gan_without_an_average_samples_from_the_generator_and_keeps_its_mode() -> None:
    model = small(ema_decay=None)
    model.step(images(5))
    z = torch.randn(6, Z, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    expected = copy.deepcopy(model.generator).eval()(z)
    model.generator[3].eval()  # the user's own choice
    torch.testing.assert_close(model.sample(6, seed=2), expected)
    assert model.generator[2].training and not model.generator[3].training


def test_gan_in_evaluation_mode_trains_with_running_statistics() -> None:
    model = small().eval()
    before = state(model.generator)
    model.step(images(1))
    after = model.generator.state_dict()
    assert_same(after["2.running_mean"], before["2.running_mean"])
    assert not torch.equal(after["0.weight"], before["0.weight"])


def test_gan_steps_run_where_gradients_are_off_and_leave_the_input_alone() -> None:
    model, other = small(penalty="r1"), small(penalty="r1")
    x = images(5)
    leaf = x.clone().requires_grad_()
    with torch.no_grad():
        off = flat(model.step(leaf, seed=0))
    assert leaf.grad is None and torch.equal(leaf, x)
    assert_all_same(off, flat(other.step(x, seed=0)))
    strided = images(5).transpose(2, 3).contiguous().transpose(2, 3)
    last = x.to(memory_format=torch.channels_last)
    for form in (strided, last):
        got, expected = copy.deepcopy(other).step(form, seed=1), copy.deepcopy(other).step(x, seed=1)
        torch.testing.assert_close(
            [t for t in flat(got) if t is not None], [t for t in flat(expected) if t is not None]
        )


def test_gan_steps_leave_no_tensors_behind() -> None:
    """Neither kept nor in a reference cycle, although a penalty's graph is differentiated twice."""
    model = small(penalty="wgan_gp", kind="relativistic")
    for i in range(2):
        model.step(images(5, seed=i))
    gc.collect()
    gc.disable()
    try:
        before = live_tensors()
        for i in range(5):
            model.step(images(5, seed=i))
        assert live_tensors() == before
    finally:
        gc.enable()


# Optimizers, copies, checkpoints


def test_gan_optimizers_are_adam_by_default_and_can_be_replaced() -> None:
    model = small(lr=3e-4, betas=(0.4, 0.9))
    for player in ("discriminator", "generator"):
        optimizer = getattr(model, f"{player}_optimizer")
        assert isinstance(optimizer, torch.optim.Adam) and optimizer is getattr(model, f"{player}_optimizer")
        (group,) = optimizer.param_groups
        assert group["lr"] == 3e-4 and group["betas"] == (0.4, 0.9)
        assert [id(p) for p in group["params"]] == [id(p) for p in getattr(model, player).parameters()]
    model.discriminator_optimizer = torch.optim.SGD(model.discriminator.parameters(), 0.0)
    before = state(model)
    model.step(images(5))
    for key, value in model.state_dict().items():
        if key.startswith("discriminator"):
            assert_same(value, before[key], what=key)
        elif key.startswith("generator."):
            assert not torch.equal(value, before[key]), key
    schedule = torch.optim.lr_scheduler.ConstantLR(model.generator_optimizer, factor=0.5)
    assert model.generator_optimizer.param_groups[0]["lr"] == 1.5e-4 and schedule.get_last_lr() == [1.5e-4]


@pytest.mark.parametrize("steps", [0, 2], ids=["fresh", "trained"])
def test_gan_copies_train_on_as_the_original_would(steps: int) -> None:
    model = small(penalty="r1", penalty_every=3)
    for i in range(steps):
        model.step(images(5, seed=i), seed=i)
    copies = [copy.deepcopy(model), pickle.loads(pickle.dumps(model))]
    before = state(model)
    for twin in copies:
        for i in range(3):
            twin.step(images(5, seed=i), seed=i)
    for key, value in model.state_dict().items():
        assert_same(value, before[key], what=key)  # a copy's optimizers move the copy
    for i in range(3):
        model.step(images(5, seed=i), seed=i)
    for twin in copies:
        for (key, value), other in zip(model.state_dict().items(), twin.state_dict().values(), strict=True):
            assert_same(value, other, what=key)


def test_gan_resumes_from_a_checkpoint() -> None:
    """Model and both optimizers, as for any two networks; the penalty and the average go on in their rhythm."""
    model = small(penalty="r1", penalty_every=3)
    for i in range(4):
        model.step(images(5, seed=i), seed=i)
    parts = (model, model.discriminator_optimizer, model.generator_optimizer)
    checkpoint = copy.deepcopy([part.state_dict() for part in parts])
    resumed = small(penalty="r1", penalty_every=3)
    for part, saved in zip(
        (resumed, resumed.discriminator_optimizer, resumed.generator_optimizer), checkpoint, strict=True
    ):
        part.load_state_dict(saved)
    for i in range(4, 8):
        of_both = [m.step(images(5, seed=i), seed=i) for m in (model, resumed)]
        assert_all_same(*map(flat, of_both))
        assert (of_both[0][0].penalty is not None) == (i == 6)
    for (key, value), other in zip(model.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert_same(value, other, what=key)


def test_gan_casts_what_its_optimizers_remember() -> None:
    model, wide = small(dtype=torch.float32), small(dtype=torch.float32)
    for m in (model, wide):
        m.step(images(5, dtype=torch.float32), seed=0)
    wide.double()
    for optimizer in (wide.discriminator_optimizer, wide.generator_optimizer):
        for group in optimizer.param_groups:
            for p in group["params"]:
                kept = optimizer.state[p]
                assert kept["exp_avg"].dtype == kept["exp_avg_sq"].dtype == p.dtype == torch.float64
    narrow_result = model.step(images(5, dtype=torch.float32), seed=1)
    z = torch.randn(5, Z, generator=torch.Generator().manual_seed(1))
    wide._latents = lambda n, source: z.double()
    expected = wide.discriminator_step(images(5, dtype=torch.float32).double()).loss.item()
    assert narrow_result[0].loss.item() == pytest.approx(expected, rel=1e-5)


# Dtypes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_gan_in_half_precision_gives_float32_results_near_the_truth(dtype: torch.dtype) -> None:
    wide, half = small(penalty="r1"), small(penalty="r1", dtype=dtype)
    z = torch.randn(6, Z, dtype=torch.float64)
    for model in (wide, half):
        model._latents = lambda n, source, model=model: z.to(model._weight.dtype)
    truth, got = flat(wide.step(images(6))), flat(half.step(images(6).to(dtype)))
    for a, b in zip(truth, got, strict=True):
        torch.testing.assert_close(b.double(), a, rtol=0.05, atol=0.05)
    assert {t.dtype for t in got[:-1]} == {torch.float32}
    assert half.sample(3).dtype == dtype


def test_gan_under_autocast_trains_float32_weights() -> None:
    models = [small(dtype=torch.float32, penalty="r1") for _ in range(2)]
    x = images(6, dtype=torch.float32)
    expected = flat(models[0].step(x, seed=0))
    in_backward: list[bool] = []
    for player in (models[1].generator, models[1].discriminator):
        player[0].weight.register_hook(lambda grad: in_backward.append(torch.is_autocast_enabled("cpu")))
    with torch.autocast("cpu", torch.bfloat16):
        got = flat(models[1].step(x, seed=0))
    assert set(in_backward) == {False}
    for a, b in zip(expected, got, strict=True):
        torch.testing.assert_close(b.float(), a, rtol=0.05, atol=0.02)
    for p in models[1].parameters():
        assert p.dtype == torch.float32 and (p.grad is None or p.grad.dtype == torch.float32)
    assert models[1].sample(2).dtype == torch.float32


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_gan_on_a_gpu_steps_without_waiting_and_moves_with_its_optimizers() -> None:
    model = small(dtype=torch.float32, penalty="r1")
    model.step(images(6, dtype=torch.float32))
    model.cuda()
    x = images(6, dtype=torch.float32).cuda()
    model.step(x)
    torch.cuda.set_sync_debug_mode("error")
    try:
        result = model.step(x)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert all(t.is_cuda and t.isfinite() for t in flat(result)) and model.sample(2, seed=1).is_cuda
