"""Samples of the pixel models: reproducible whatever the batch, in-painting, and nothing left behind."""

from __future__ import annotations

import pytest
import torch
from pixel_twins import CASES, all_binary_images, twins
from support import threads

import pygen
from pygen import _backends, models
from pygen._noise import DOMAINS
from pygen.models import _engines, _sampling, _task
from pygen.reference import noise
from pygen.reference.models import _autoregressive

SOME = ["plain", "plain-rgb", "gated", "gated-classes", "gated-map", "pp", "pp-rgb"]
each_case = pytest.mark.parametrize("name", SOME)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """These models are too small for two."""
    torch.set_num_threads(1)


# Noise


def test_sampling_noise_is_a_function_of_seed_and_image_and_position() -> None:
    assert DOMAINS["sampling"] == _autoregressive.SAMPLING_DOMAIN
    assert len(set(DOMAINS.values())) == len(DOMAINS)
    seed = torch.tensor(-5)
    u = _sampling.uniforms(5, 9, seed)
    assert u.shape == (5, 9) and u.dtype == torch.float32 and u.min() > 0 and u.max() <= 1
    assert torch.equal(u, _autoregressive.uniforms(5, 9, -5, None))
    assert torch.equal(u[:3, :6], _sampling.uniforms(3, 6, seed))
    assert not torch.equal(u, _sampling.uniforms(5, 9, torch.tensor(-6)))
    assert u.flatten().unique().numel() == 45
    many = _sampling.uniforms(200, 500, seed).double()
    assert abs(many.mean() - 0.5) < 5 * (1 / 12 / many.numel()) ** 0.5
    assert _sampling.uniforms(0, 4, seed).shape == (0, 4)


def test_sampling_noise_does_not_depend_on_how_it_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = _sampling.uniforms_of_tensors(7, 10, torch.tensor(3))
    monkeypatch.setattr(noise, "_QUADS_AT_ONCE", 7)
    assert torch.equal(_sampling.uniforms_of_tensors(7, 10, torch.tensor(3)), whole)


@pytest.mark.skipif(pygen.backends()["cpu"] is not None, reason="the C++ module did not load")
def test_sampling_noise_of_cpp_is_that_of_tensors_bit_for_bit() -> None:
    native = _backends.load_launcher("sampling", "cpu")
    for seed in (0, -1, 2**63 - 1, -(2**63), 0xFFFFFFFF, 1 << 32, -5):
        for n, draws in ((0, 3), (3, 0), (1, 1), (2, 5), (17, 784), (3, 20_001)):
            seed_tensor = torch.tensor(seed)
            for count in (1, 3):
                with threads(count):
                    ours = native.uniforms(n, draws, seed_tensor)
                assert torch.equal(ours, _sampling.uniforms_of_tensors(n, draws, seed_tensor)), (seed, n, draws)
                assert ours.dtype == torch.float32


def test_a_decision_takes_the_first_level_whose_cumulated_probability_reaches_u() -> None:
    logits = torch.log(torch.tensor([0.0, 0.25, 0.0, 0.75, 0.0], dtype=torch.float64))
    for u, level in ((2.0**-33, 1), (0.25, 1), (0.2500001, 3), (1.0, 3)):
        assert _sampling.decide(logits, torch.tensor(u, dtype=torch.float64), 1.0) == level
    for number in range(2, 50):  # rounding leaves some of these sums below 1
        assert _sampling.decide(torch.zeros(number), torch.tensor(1.0), 1.0) == number - 1
    cold = _sampling.decide(torch.tensor([0.0, 0.1, 0.0]).expand(99, 3), torch.linspace(0.01, 1, 99), 1e-3)
    assert (cold == 1).all()
    u = _sampling.uniforms(1, 40_000, torch.tensor(0))[0]
    logits = torch.tensor([0.3, -1.0, 1.2])
    for temperature in (0.5, 1.0, 2.0):
        drawn = _sampling.decide(logits.expand(len(u), 3), u, temperature)
        expected = torch.softmax(logits / temperature, 0)
        torch.testing.assert_close(torch.bincount(drawn) / len(u), expected, rtol=0, atol=0.012)


# Samples


@each_case
def test_sample_equals_the_twins(name: str) -> None:
    case = CASES[name]
    plain, ours = twins(case)
    cond = case.conditions(4, 4, 3)
    images = ours.sample(4, (4, 3), cond=cond, seed=11)
    assert torch.equal(images, plain.sample(4, (4, 3), cond=cond, seed=11))
    assert images.shape == (4, ours.in_channels, 4, 3) and images.dtype == torch.uint8
    assert images.max() < ours.num_levels and images.unique().numel() > 1
    known, mask = case.images(4, 4, 3), torch.rand(1, 1, 4, 3) < 0.5
    args = {"cond": cond, "seed": 11, "known": known, "known_mask": mask, "temperature": 0.7}
    assert torch.equal(ours.sample(4, (4, 3), **args), plain.sample(4, (4, 3), **args))


@each_case
def test_sample_does_not_depend_on_batch_mates_or_batch_split(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    case = CASES[name]
    _, model = twins(case)
    cond = case.conditions(6, 4, 4)
    whole = model.sample(6, (4, 4), cond=cond, seed=5, engine="naive")
    few = model.sample(2, (4, 4), cond=None if cond is None else cond[:2], seed=5, engine="naive")
    assert torch.equal(whole[:2], few)
    monkeypatch.setattr(_engines, "_PIXELS_AT_ONCE", 2 * 16)
    assert torch.equal(model.sample(6, (4, 4), cond=cond, seed=5, engine="naive"), whole)


def test_sample_follows_seed_generator_and_manual_seed() -> None:
    _, model = twins("plain", torch.float32)

    def draw(**noise: object) -> torch.Tensor:
        return model.sample(6, (3, 3), **noise)

    assert torch.equal(draw(seed=1), draw(seed=torch.tensor(1))) and not torch.equal(draw(seed=1), draw(seed=2))
    first, second = (draw(generator=torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    torch.manual_seed(4)
    first, second = draw(), draw()
    torch.manual_seed(4)
    assert torch.equal(draw(), first) and not torch.equal(first, second)
    state = torch.get_rng_state()
    draw(seed=1)
    assert torch.equal(state, torch.get_rng_state())
    assert draw(seed=1).shape == (6, 1, 3, 3) and model.sample(0, (3, 3)).shape == (0, 1, 3, 3)
    assert torch.equal(draw(seed=1, engine="naive"), draw(seed=1))


@pytest.mark.parametrize("name", ["plain", "gated", "pp"])
def test_sample_frequencies_are_the_models_probabilities(name: str) -> None:
    _, model = twins(name)
    n = 20_000
    drawn = model.sample(n, (2, 2), seed=0).flatten(1).long()
    counts = torch.bincount((drawn << torch.arange(4)).sum(1), minlength=16)
    expected = n * model.log_prob(all_binary_images(2, 2)).detach().exp()
    big = expected > 5
    chi2 = ((counts - expected).square() / expected)[big].sum()
    assert chi2 < 45  # 15 degrees of freedom: the 1 - 7e-5 quantile


def test_sample_beyond_256_levels_is_int64() -> None:
    model = models.PixelCNN(hidden_channels=2, num_blocks=0, num_levels=300)
    assert model.sample(2, (2, 2)).dtype == torch.int64


def test_sample_shape_defaults_to_the_last_trained() -> None:
    _, model = twins("plain")
    model.eval()
    model.loss(CASES["plain"].images(2, 3, 4))
    with pytest.raises(ValueError, match=r"PixelCNN: shape: expected \(H, W\), as the model has not been trained yet"):
        model.sample(1)
    model.train()
    model.loss(CASES["plain"].images(2, 3, 4))
    assert model.sample(2).shape == (2, 1, 3, 4)
    _, other = twins("plain")
    other.load_state_dict(model.state_dict())
    assert other.sample(1).shape == (1, 1, 3, 4)


# In-painting


@each_case
def test_inpainting_keeps_what_is_known_and_nothing_leaks_from_later_pixels(name: str) -> None:
    case = CASES[name]
    _, model = twins(case)
    cond = case.conditions(3, 4, 4)
    known = case.images(3, 4, 4, seed=9)
    mask = torch.zeros(4, 4, dtype=torch.bool)
    mask[2:, 1:] = True
    free = model.sample(3, (4, 4), cond=cond, seed=2)
    guided = model.sample(3, (4, 4), cond=cond, seed=2, known=known, known_mask=mask)
    assert torch.equal(guided[..., 2:, 1:], known[..., 2:, 1:])
    assert torch.equal(guided[..., :2, :], free[..., :2, :]) and torch.equal(guided[..., 2, 0], free[..., 2, 0])
    unused = torch.where(mask, known, torch.full_like(known, 255))  # what is not known may be anything
    assert torch.equal(model.sample(3, (4, 4), cond=cond, seed=2, known=unused, known_mask=mask), guided)
    per_image = torch.rand(known.shape) < 0.4
    guided = model.sample(3, (4, 4), cond=cond, seed=2, known=known, known_mask=per_image)
    assert torch.equal(guided[per_image], known[per_image])
    all_known = model.sample(3, (4, 4), cond=cond, seed=2, known=known, known_mask=torch.tensor(True))
    assert torch.equal(all_known, known)
    first_row = torch.arange(4)[:, None] < 1
    assert torch.equal(model.sample(3, (4, 4), cond=cond, seed=2, known=free, known_mask=first_row), free)


@pytest.mark.parametrize("engine", ["naive", "fixed_point"])  # the others keep no undrawn levels
def test_undrawn_pixels_do_not_matter(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("plain-grey", "gated"):
        _, model = twins(name)
        before = model.sample(3, (4, 3), seed=1, engine=engine)
        monkeypatch.setattr(_sampling, "_UNDRAWN", 1)
        assert torch.equal(model.sample(3, (4, 3), seed=1, engine=engine), before)
        monkeypatch.undo()


def test_temperature_sharpens() -> None:
    _, model = twins("plain")
    cold = model.sample(40, (3, 3), temperature=0.01, seed=0)
    hot = model.sample(40, (3, 3), temperature=100.0, seed=0)
    assert cold.unique(dim=0).shape[0] < 3 < 20 < hot.unique(dim=0).shape[0]
    assert abs(hot.double().mean() - 0.5) < 0.1


# What sampling leaves behind


def test_sample_restores_modes_and_gradients_even_when_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    for training in (True, False):
        _, model = twins("plain")
        model.train(training)
        model.head.train(not training)  # a mode of its own comes back too
        modes = [m.training for m in model.modules()]
        images = model.sample(2, (3, 3))
        assert [m.training for m in model.modules()] == modes and torch.is_grad_enabled()
        assert not images.requires_grad and not images.is_inference()

        def interrupt(*args: object, model=model) -> None:
            assert not torch.is_grad_enabled() and not any(m.training for m in model.modules())
            raise KeyboardInterrupt

        monkeypatch.setattr(_task.Watch, "__call__", interrupt)
        with pytest.raises(KeyboardInterrupt):
            model.sample(2, (3, 3))
        monkeypatch.undo()
        assert [m.training for m in model.modules()] == modes and torch.is_grad_enabled()
        model.loss(CASES["plain"].images(2)).backward()


def test_sample_shows_progress(capsys: pytest.CaptureFixture[str]) -> None:
    _, model = twins("plain")
    model.sample(1, (2, 2), progress=True)
    assert capsys.readouterr().err.endswith("PixelCNN.sample: 4 of 4\n")
    model.sample(1, (2, 2))
    assert not capsys.readouterr().err
