"""How pygen.models.GAN is built and called: noise, modes, optimizers, copies, dtypes, refusals."""

from __future__ import annotations

import copy
import gc
import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from gan_twins import SMALL, Z, flat, images, small, state
from support import assert_same, live_tensors, threads

from pygen.models import GAN


@pytest.fixture(autouse=True)
def _one_thread():
    """Layers of a few pixels: a second thread gains nothing, and costs much on a busy machine."""
    with threads(1):
        yield


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


# Refusals

_X = images(4, (1, 4, 4), torch.float32)
NOT_BUILT = {
    "shape-of-two": (ValueError, "image_shape: .*got \\(8, 8\\)", {"image_shape": (8, 8)}),
    "zero-side": (ValueError, "image_shape: .*got 0", {"image_shape": (1, 0, 8)}),
    "float-latents": (TypeError, "latent_dim: .*got 2.5", {"latent_dim": 2.5}),
    "kind": (ValueError, "GAN: kind: .*nonsaturating.*got 'vanilla'", {"kind": "vanilla"}),
    "no-hidden": (ValueError, "hidden: .*got none", {"hidden": ()}),
    "zero-hidden": (ValueError, "hidden: .*got 0", {"hidden": (4, 0)}),
    "too-deep": (
        ValueError,
        "hidden: .*at most 2 widths.*\\(5, 6\\), got 3",
        {"image_shape": (1, 5, 6), "hidden": (4, 4, 4)},
    ),
    "too-small": (ValueError, "hidden: .*at most 1 widths", {"image_shape": (1, 2, 3)}),
    "smoothing": (ValueError, "label_smoothing: .*got 0.5", {"label_smoothing": 0.5}),
    "smoothed-hinge": (ValueError, "label_smoothing: .*'hinge'", {"label_smoothing": 0.1, "kind": "hinge"}),
    "n-dis": (ValueError, "n_dis: .*got 0", {"n_dis": 0}),
    "penalty": (ValueError, "penalty: .*r1, r2, wgan_gp, dragan, got 'gp'", {"penalty": "gp"}),
    "idle-gamma": (ValueError, "gamma: expected None without a penalty, got 10", {"gamma": 10.0}),
    "idle-interval": (ValueError, "penalty_every: expected None.*got 16", {"penalty_every": 16}),
    "negative-gamma": (ValueError, "gamma: .*got -1", {"penalty": "r1", "gamma": -1}),
    "text-gamma": (TypeError, "gamma: .*got '1' \\(str\\)", {"penalty": "r1", "gamma": "1"}),
    "zero-interval": (ValueError, "penalty_every: .*got 0", {"penalty": "r1", "penalty_every": 0}),
    "coupled": (
        ValueError,
        "discriminator_batch_norm: expected False with a penalty.*got True",
        {"penalty": "r1", "discriminator_batch_norm": True},
    ),
    "decay-of-one": (ValueError, "ema_decay: .*got 1", {"ema_decay": 1.0}),
    "bool-decay": (TypeError, "ema_decay: .*got True", {"ema_decay": True}),
    "zero-lr": (ValueError, "lr: .*got 0", {"lr": 0.0}),
    "nan-lr": (ValueError, "lr: .*got nan", {"lr": math.nan}),
    "one-beta": (ValueError, "betas: .*two numbers, got 0.5", {"betas": 0.5}),
    "beta-of-one": (ValueError, "betas: .*got 1.0", {"betas": (0.5, 1.0)}),
}
REFUSED = {
    "uint8": (TypeError, "x: .*\\[-1, 1\\] \\(levels.*got torch.uint8", lambda m: m.step(_X.to(torch.uint8))),
    "list": (TypeError, "x: .*got list", lambda m: m.discriminator_step([0.0])),
    "float64": (
        TypeError,
        "x: .*torch.float32, the dtype of the model, got torch.float64",
        lambda m: m.step(_X.double()),
    ),
    "wrong-size": (ValueError, "x: .*\\[N, 1, 4, 4\\], got \\[4, 1, 4, 3\\]", lambda m: m.step(_X[..., :3])),
    "no-channel": (ValueError, "x: .*got \\[4, 4, 4\\]", lambda m: m.step(_X[:, 0])),
    "no-images": (ValueError, "x: .*at least one image, got \\[0, 1, 4, 4\\]", lambda m: m.step(_X[:0])),
    "one-image": (ValueError, "x: .*at least 2 images for the batch norms.*got 1", lambda m: m.step(_X[:1])),
    "one-latent": (ValueError, "n: .*at least 2 images for the batch norms.*got 1", lambda m: m.generator_step(1)),
    "zero-n": (ValueError, "n: .*got 0", lambda m: m.generator_step(0)),
    "float-n": (TypeError, "n: .*got 2.0", lambda m: m.sample(2.0)),
    "negative-n": (ValueError, "n: .*got -1", lambda m: m.sample(-1)),
    "idle-real": (ValueError, "GAN: real: expected None.*got logits", lambda m: m.generator_step(4, real=_X)),
    "wide-z": (ValueError, "z: .*\\[N, 3\\], got \\[2, 4\\]", lambda m: m(torch.zeros(2, 4))),
    "two-noises": (ValueError, "generator: .*at most one", lambda m: m.step(_X, seed=1, generator=torch.Generator())),
    "text-seed": (TypeError, "seed: .*got str", lambda m: m.sample(2, seed="1")),
    "text-generator": (TypeError, "generator: .*got int", lambda m: m.generator_step(4, generator=3)),
}


@pytest.mark.parametrize("name", NOT_BUILT)
def test_gan_is_not_built(name: str) -> None:
    kind, message, options = NOT_BUILT[name]
    with pytest.raises(kind, match=message):
        GAN(**{"image_shape": (1, 8, 8), "latent_dim": 2, **options})


@pytest.mark.parametrize("name", REFUSED)
def test_gan_refuses(name: str) -> None:
    kind, message, call = REFUSED[name]
    model = small((1, 4, 4), torch.float32)
    before, weights = torch.get_rng_state(), state(model)
    with pytest.raises(kind, match=message):
        call(model)
    assert torch.equal(before, torch.get_rng_state())
    for key, value in model.state_dict().items():
        assert_same(value, weights[key], what=key)
    model.step(_X)


def test_gan_refuses_real_images_that_do_not_fit_the_latents() -> None:
    model = small((1, 4, 4), torch.float32, kind="relativistic")
    for real, message in (
        (None, "real: .*got None"),
        (_X[:3], "real: .*4 images.*got 3"),
        (_X[:0], "real: .*at least one"),
    ):
        with pytest.raises(ValueError, match=message):
            model.generator_step(4, real=real)
    model.generator_step(4, real=_X)
    averaging = small((1, 4, 4), torch.float32, kind="relativistic_average")
    averaging.generator_step(4, real=_X[:3])
    with pytest.raises(ValueError, match=r"real: .*got None"):
        averaging.generator_step(4)


def test_gan_takes_one_image_where_batch_norms_have_enough_pixels() -> None:
    model = small((1, 8, 8), torch.float32)
    model.step(images(1, dtype=torch.float32))
    small((1, 4, 4), torch.float32, generator_batch_norm=False).step(_X[:1])


def test_gan_takes_numpy_ints() -> None:
    model = GAN(tuple(np.array([1, 8, 8])), np.int64(2), hidden=(np.int32(4), 6), n_dis=np.int64(2))
    assert model.latent_dim == 2 and model.n_dis == 2 and model.discriminator[0].out_channels == 4
    assert "kind='nonsaturating'" in repr(model) and SMALL["hidden"] == (4, 6)
