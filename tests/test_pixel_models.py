"""The pixel models against their plain-PyTorch twins: values, gradients, training curves, state_dict, samples."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from pixel_twins import CASES, twins

from pygen import models
from pygen.reference import models as plain_models

each_case = pytest.mark.parametrize("name", CASES)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """These models are too small for two."""
    torch.set_num_threads(1)


@each_case
def test_pixel_model_equals_its_twin_in_values_and_gradients(name: str) -> None:
    case = CASES[name]
    plain, ours = twins(case)
    x, cond = case.images(6), case.conditions(6)
    for method in (
        lambda m: m.loss(x, cond),
        lambda m: m(x, cond),
        lambda m: m.log_prob(x, cond),
        lambda m: m.logits(x, cond),
    ):
        a, b = method(plain), method(ours)
        torch.testing.assert_close(b, a, rtol=1e-11, atol=1e-11)
        weights = torch.linspace(-1, 2, a.numel(), dtype=torch.float64).view(a.shape)
        plain_grads = torch.autograd.grad(a, list(plain.parameters()), weights, allow_unused=True)
        our_grads = torch.autograd.grad(b, list(ours.parameters()), weights, allow_unused=True)
        for (key, parameter), g, h in zip(plain.named_parameters(), plain_grads, our_grads, strict=True):
            zeros = torch.zeros_like(parameter)
            g, h = (zeros if t is None else t for t in (g, h))
            torch.testing.assert_close(h, g, rtol=1e-9, atol=1e-9, msg=lambda text, key=key: f"{key}: {text}")


@each_case
def test_pixel_model_log_prob_is_the_sum_of_its_conditionals(name: str) -> None:
    case = CASES[name]
    _, model = twins(case)
    x, cond = case.images(4), case.conditions(4)
    log_p = torch.log_softmax(model.logits(x, cond), dim=2)
    manual = torch.zeros(4, dtype=torch.float64)
    for position in torch.cartesian_prod(*(torch.arange(s) for s in x.shape[1:])).tolist():
        channel, i, j = position
        manual += log_p[torch.arange(4), channel, x[:, channel, i, j].long(), i, j]
    torch.testing.assert_close(model.log_prob(x, cond), manual)
    torch.testing.assert_close(model.loss(x, cond), -manual.mean())


@pytest.mark.parametrize("name", ["plain", "plain-rgb", "gated", "gated-classes", "pp", "pp-map", "rnn"])
def test_pixel_model_trains_as_its_twin_step_by_step(name: str) -> None:
    case = CASES[name]
    sides = twins(case)
    optimizers = [torch.optim.AdamW(model.parameters(), 1e-2, weight_decay=0.1) for model in sides]
    for step in range(20):
        x, cond = case.images(8, seed=step), case.conditions(8)
        losses = []
        for model, optimizer in zip(sides, optimizers, strict=True):
            optimizer.zero_grad()
            loss = model.loss(x, cond)
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        assert losses[1] == pytest.approx(losses[0], rel=1e-9)


def test_data_twin_computes_the_same() -> None:
    _, ours = twins("plain")
    writing = plain_models.DataPixelCNN(**CASES["plain"].options).double()
    writing.load_state_dict(ours.state_dict(), strict=True)
    x = CASES["plain"].images(5)
    torch.testing.assert_close(writing.loss(x), ours.loss(x))


@each_case
def test_pixel_model_state_dict_loads_both_ways(name: str) -> None:
    case = CASES[name]
    plain, ours = (getattr(m, case.name)(**case.options) for m in (plain_models, models))
    assert list(plain.state_dict()) == list(ours.state_dict())
    x, cond = case.images(3), case.conditions(3)
    plain.loss(x, cond)
    ours.load_state_dict(plain.state_dict(), strict=True)
    getattr(plain_models, case.name)(**case.options).load_state_dict(ours.state_dict(), strict=True)
    torch.testing.assert_close(ours.log_prob(x, cond), plain.log_prob(x, cond))
    assert ours.trained_shape == plain.trained_shape == (5, 4)


def test_pixel_model_has_every_public_method_of_its_twin() -> None:
    for name in ("PixelCNN", "GatedPixelCNN", "PixelCNNPP", "PixelRNN", "MADE", "NADE"):
        plain, ours = getattr(plain_models, name), getattr(models, name)
        public = {n for n in dir(plain) if not n.startswith("_")} - {"conv", "uniforms"}
        assert public <= {n for n in dir(ours) if not n.startswith("_")} | {"orders"}


def test_pixel_model_dead_weights_do_not_matter() -> None:
    """NaN in them reaches nothing, their gradient is exactly zero, and weight decay on them changes nothing."""
    for name in ("plain-rgb", "gated-rgb"):
        case = CASES[name]
        plain, ours = twins(case)
        x = case.images(4)
        expected = ours.log_prob(x)
        dead = {}
        for key, layer in plain.named_modules():
            if hasattr(layer, "mask"):
                dead[f"{key}.weight"] = layer.mask == 0
        assert dead
        with torch.no_grad():
            for key, where in dead.items():
                ours.get_parameter(key)[where] = float("nan")
        torch.testing.assert_close(ours.log_prob(x), expected, rtol=0, atol=0)
        ours.loss(x).backward()
        for key, where in dead.items():
            assert (ours.get_parameter(key).grad[where] == 0).all()
        assert all(p.grad is None or p.grad.isfinite().all() for p in ours.parameters())


@pytest.mark.parametrize("name", ["plain", "gated-classes", "gated-map", "pp-rgb", "pp-map", "rnn"])
def test_pixel_model_survives_deepcopy_and_pickle(name: str) -> None:
    case = CASES[name]
    _, model = twins(case)
    x, cond = case.images(3), case.conditions(3)
    model.loss(x, cond).backward()
    for twin in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert torch.equal(twin.log_prob(x, cond), model.log_prob(x, cond))
        assert twin.trained_shape == (5, 4)


@pytest.mark.parametrize(
    ("name", "backend"),
    [
        ("plain-no-block", "aot_eager"),
        pytest.param("pp-one-scale-classes", "aot_eager", marks=pytest.mark.slow),
        pytest.param("plain", "aot_eager", marks=pytest.mark.slow),
        pytest.param("plain-rgb", "aot_eager", marks=pytest.mark.slow),
        pytest.param("gated-classes", "aot_eager", marks=pytest.mark.slow),
        pytest.param("plain-no-block", "inductor", marks=pytest.mark.slow),
    ],
)
def test_pixel_model_compiles_to_one_graph_and_trains(name: str, backend: str) -> None:
    case = CASES[name]
    _, model = twins(case)
    x, cond = case.images(4), case.conditions(4)
    expected = torch.autograd.grad(model.loss(x, cond), list(model.parameters()), allow_unused=True)
    model.trained_shape = ()
    torch._dynamo.reset()
    compiled = torch.compile(model, fullgraph=True, backend=backend)
    optimizer = torch.optim.SGD(model.parameters(), 1e-4)
    loss = compiled(x, cond)
    torch.testing.assert_close(loss, model.loss(x, cond))
    loss.backward()
    for parameter, grad in zip(model.parameters(), expected, strict=True):
        if grad is not None:
            torch.testing.assert_close(parameter.grad, grad)
    optimizer.step()
    assert model.trained_shape == (5, 4)
    assert compiled(x, cond) < loss
    assert compiled(case.images(4, 7, 6), None if cond is None else cond).isfinite()  # another size
    assert model.trained_shape == (7, 6)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["plain-rgb", "gated", "pp-rgb"])
def test_pixel_model_exports(name: str) -> None:
    case = CASES[name]
    _, model = twins(case)
    x = case.images(3)
    for training in (True, False):
        exported = torch.export.export(model.train(training), (x,))
        torch.testing.assert_close(exported.module()(x), model(x))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["fp16", "bf16"])
def test_pixel_model_in_half_precision_gives_float32_likelihoods_near_the_truth(dtype: torch.dtype) -> None:
    for name in ("plain", "gated", "pp", "pp-rgb"):
        case = CASES[name]
        (_, wide), (_, model) = twins(case), twins(case, dtype)
        x = case.images(5)
        assert model.loss(x).dtype == model.log_prob(x).dtype == torch.float32
        torch.testing.assert_close(model.log_prob(x).double(), wide.log_prob(x), rtol=0.05, atol=0.3)
        assert model.sample(2, (3, 3), seed=0).dtype == torch.uint8


def test_pixel_model_under_autocast_gives_float32_loss_and_gradients() -> None:
    for name in ("plain", "gated", "pp", "pp-rgb"):
        case = CASES[name]
        _, model = twins(case, torch.float32)
        x = case.images(6)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model.loss(x)
        loss.backward()
        assert loss.dtype == torch.float32
        torch.testing.assert_close(loss, model.loss(x), rtol=5e-2, atol=0)
        assert all(p.grad is None or p.grad.dtype == torch.float32 for p in model.parameters())


def test_pixel_model_takes_int64_and_strided_and_empty_levels() -> None:
    case = CASES["plain-rgb"]
    _, model = twins(case)
    x = case.images(5)
    expected = model.log_prob(x)
    for other in (x.long(), x.mT.contiguous().mT, x.to(memory_format=torch.channels_last)):
        torch.testing.assert_close(model.log_prob(other), expected, rtol=1e-12, atol=0)
    assert model.log_prob(x[:0]).shape == (0,) and model.logits(x[:0]).shape == (0, 3, 4, 5, 4)


def test_pixel_model_second_order_gradient_exists() -> None:
    """A gradient penalty through the masked convolutions, and through a mixture."""
    for name, a, b in (
        ("plain", "first.weight", "blocks.0.masked.weight"),
        ("pp-rgb", "first_left.weight", "up.1.0.horizontal.conv_in.weight"),
    ):
        x = CASES[name].images(3)
        results = []
        for model in twins(name):
            first = torch.autograd.grad(model.loss(x), model.get_parameter(a), create_graph=True)[0]
            results += torch.autograd.grad(first.square().sum(), model.get_parameter(b))
        assert results[0].abs().max() > 0
        torch.testing.assert_close(results[1], results[0], rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("name", ("plain", "plain-rgb", "plain-no-block", "gated", "gated-rgb", "pp", "pp-rgb"))
def test_pixel_model_in_channels_last_computes_in_channels_last(name):
    """After model.to(memory_format=torch.channels_last), though an image of one channel has no layout of its own."""
    _, model = twins(name)
    x = CASES[name].images(2, 5, 6)
    expected = model.logits(x)
    model.to(memory_format=torch.channels_last)
    seen = []
    blocks = model.blocks if hasattr(model, "blocks") else model.down[0]
    for block in blocks:
        block.register_forward_hook(
            lambda _, given, out: seen.extend([*given, *(out if isinstance(out, tuple) else [out])])
        )
    torch.testing.assert_close(model.logits(x), expected)
    images = [t for t in seen if isinstance(t, torch.Tensor) and t.dim() == 4 and t.shape[-2:] == (5, 6)]
    assert len(images) >= 2 * len(blocks)
    assert all(t.is_contiguous(memory_format=torch.channels_last) and not t.is_contiguous() for t in images)
    model.loss(x).backward()
    for p in model.parameters():
        assert p.grad is not None and (p.dim() < 4 or p.grad.is_contiguous(memory_format=torch.channels_last))
