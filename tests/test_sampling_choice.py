"""Which sampling engine runs, why another cannot, and that the weights of now are the ones that count."""

from __future__ import annotations

import copy
import dataclasses
import pickle
import sys
import types
from collections.abc import Callable

import pytest
import torch
from pixel_twins import CASES, randomise, twins
from sampling_cases import ENGINES, each_engine, each_of_programs
from sampling_cases import _one_thread as _one_thread
from torch import Tensor, nn

from pygen import models
from pygen.models import _engines


def test_engine_none_is_the_first_that_can() -> None:
    model = models.PixelCNN(hidden_channels=4, num_blocks=0)
    assert _engines.choose(model, None) == ("cpu" if "cpu" in ENGINES else "cached")
    assert _engines.choose(model.bfloat16(), None) == "cached"
    assert _engines.choose(model, "naive") == "naive"


def test_engine_that_cannot_run_says_why() -> None:
    _, model = twins("plain")
    half = models.PixelCNN(num_blocks=0).bfloat16()
    state = torch.get_rng_state()
    with pytest.raises(
        RuntimeError, match="PixelCNN: engine 'cuda' cannot run: it runs on CUDA devices, the model is on cpu"
    ):
        model.sample(1, (2, 2), engine="cuda")
    with pytest.raises(
        RuntimeError, match=r"engine 'cpu' cannot run: it runs in float32 and float64, .* torch.bfloat16"
    ):
        half.sample(1, (2, 2), engine="cpu")
    assert torch.equal(torch.get_rng_state(), state)
    model.sample(1, (2, 2), seed=0)


def test_programs_do_not_speak_for_what_they_do_not_know() -> None:
    class Shifted(models.PixelCNN):
        def _logits(self, x: Tensor, cond: Tensor | None) -> Tensor:
            return super()._logits(x, cond) + 1

    with pytest.raises(RuntimeError, match="Shifted defines _logits without a sampling program"):
        Shifted(num_blocks=0).sample(1, (2, 2), engine="cached")
    _, model = twins("plain")
    handle = model.head.register_forward_hook(lambda module, args, out: None)
    with pytest.raises(RuntimeError, match="the model has forward hooks"):
        model.sample(1, (2, 2), engine="cached")
    assert _engines.choose(model, None) == "naive"
    handle.remove()
    assert _engines.choose(model, None) != "naive"


@pytest.mark.parametrize("name", ("plain", "gated", "rnn", "pp", "made"))
def test_programs_do_not_speak_for_layers_that_were_exchanged(name: str) -> None:
    """Whatever layer it is; copies and parametrized weights are the layers that they were."""
    model = {
        "plain": lambda: models.PixelCNN(hidden_channels=4, num_blocks=1),
        "gated": lambda: models.GatedPixelCNN(hidden_channels=4, num_blocks=1),
        "rnn": lambda: models.PixelRNN(hidden_channels=4, num_blocks=1),
        "pp": lambda: models.PixelCNNPP(
            1, hidden_channels=4, num_resnets=1, num_scales=1, num_mixtures=2, weight_norm=False
        ),
        "made": lambda: models.MADE(6, [5, 4]),
    }[name]()
    assert _engines.choose(pickle.loads(pickle.dumps(model)), None) != "naive"
    leaf = next(m for m in model.modules() if "weight" in m._parameters)
    torch.nn.utils.parametrize.register_parametrization(leaf, "weight", torch.nn.Identity())
    for same in (model, copy.deepcopy(model)):
        assert _engines.choose(same, None) != "naive"
    own = [(path, m) for path, m in model.named_modules() if path and "parametrizations" not in path]
    for path, layer in own:
        parent, _, last = path.rpartition(".")
        parent = model.get_submodule(parent)
        setattr(parent, last, torch.nn.Sequential(layer))
        assert _engines.choose(model, None) == "naive"
        with pytest.raises(RuntimeError, match="which its program does not know"):
            _engines.choose(model, "cached")
        setattr(parent, last, layer)
        layer.forward = layer.forward
        assert _engines.choose(model, None) == "naive"
        del layer.forward
        assert _engines.choose(model, None) != "naive"
    model.added = torch.nn.GELU()  # which `_logits` does not call
    assert _engines.choose(model, None) != "naive"


def test_a_subclass_that_exchanges_a_layer_is_drawn_by_its_own() -> None:
    class Softer(models.PixelCNN):
        def __init__(self, width: int) -> None:
            super().__init__(hidden_channels=width, num_blocks=0)
            self.head[2] = torch.nn.GELU()

    model = Softer(4)
    with pytest.raises(RuntimeError, match=r"head.2 is a GELU, which its program does not know"):
        model.sample(1, (2, 2), engine="cached")
    assert torch.equal(model.sample(2, (3, 3), seed=0), model.sample(2, (3, 3), seed=0, engine="naive"))
    model = models.PixelCNN(hidden_channels=4, num_blocks=0)
    model.head.append(torch.nn.GELU())
    with pytest.raises(RuntimeError, match=r"head has other layers than it was made with"):
        model.sample(1, (2, 2), engine="cached")


def test_cpu_engine_is_called_with_contiguous_tensors(monkeypatch: pytest.MonkeyPatch) -> None:
    """The contract with pygen.native.sampling, whichever is installed."""
    calls = []

    def draw(program: object, levels: Tensor, u: Tensor, known: Tensor, mask: Tensor, temperature: float) -> None:
        assert levels.shape == known.shape == mask.shape == (len(levels), 3, 5, 4) and u.shape == (len(levels), 5, 4, 3)
        assert all(t.is_contiguous() for t in (levels, u, known, mask)) and u.dtype == torch.float32
        calls.append((len(levels), temperature))
        levels.fill_(2)

    fake = types.ModuleType("pygen.native.sampling")
    fake.draw = draw
    monkeypatch.setitem(sys.modules, "pygen.native.sampling", fake)
    monkeypatch.setattr(_engines._backends, "why_not", {"cpu": None}.get)
    _, model = twins("plain-rgb")
    mask = torch.tensor(False)
    of_image = sum(p.numel() for p in model.parameters()) * 20
    for budget, sizes in ((2 * of_image, [32, 32, 6]), (2 * of_image - 1, [12] * 5 + [10])):  # fewer of large networks
        monkeypatch.setattr(_engines, "_MULTIPLY_ADDS_AT_ONCE", budget)
        calls.clear()
        images = model.sample(70, (5, 4), engine="cpu", known=torch.tensor(0, dtype=torch.uint8), known_mask=mask)
        assert (images == 2).all() and calls == [(size, 1.0) for size in sizes]
    monkeypatch.setattr(_engines._backends, "why_not", {"cpu": "it is not compiled"}.get)
    with pytest.raises(RuntimeError, match="engine 'cpu' cannot run: it is not compiled"):
        model.sample(1, (2, 2), engine="cpu")


@each_of_programs
def test_weights_that_changed_since_the_last_call_count_however_they_changed(engine: str) -> None:
    """Some of these ways bump no version counter, or keep the parameter and its address."""
    _, model = twins("gated")
    _, other = twins("gated")
    randomise(other, seed=1)
    weight = model.blocks[0].horizontal.weight

    def optimise() -> None:
        optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
        model.loss(CASES["gated"].images(4, 5, 5)).backward()
        optimizer.step()

    def flip_memory() -> None:
        weight.detach().numpy()[:] *= -1

    changes: list[Callable[[], object]] = [
        optimise,
        flip_memory,
        lambda: weight.data.mul_(3),
        lambda: model.load_state_dict(other.state_dict()),
        lambda: setattr(model.head[3], "weight", nn.Parameter(-model.head[3].weight.detach())),
        lambda: setattr(weight, "data", -weight.data),
    ]
    before = model.sample(9, (6, 6), seed=2, engine=engine)
    for i, change in enumerate(changes):
        change()
        after = model.sample(9, (6, 6), seed=2, engine=engine)
        assert torch.equal(after, model.sample(9, (6, 6), seed=2, engine="naive")), i
        assert not torch.equal(after, before), i
        before = after


@each_engine
def test_weights_that_change_meanwhile_are_an_error(engine: str, monkeypatch: pytest.MonkeyPatch) -> None:
    _, model = twins("plain")
    assert not any("cache" in key for key in model.state_dict())
    before = model.sample(2, (4, 4), seed=0, engine=engine)
    original = _engines.ENGINES[engine]

    def change(task: object, watch: object) -> None:
        model.head[1].weight.data.zero_()
        model.head[1].bias.mul_(2)
        original.draw(task, watch)

    def convert(task: object, watch: object) -> None:
        model.float()
        original.draw(task, watch)

    def replace(task: object, watch: object) -> None:
        model.head[1] = nn.Conv2d(8, 8, 1).double()
        original.draw(task, watch)

    for meddle in (change, convert, replace):
        _, model = twins("plain")
        monkeypatch.setitem(_engines.ENGINES, engine, dataclasses.replace(original, draw=meddle))
        with pytest.raises(RuntimeError, match=r"PixelCNN.sample: the model was changed while it was sampled from"):
            model.sample(2, (4, 4), seed=0, engine=engine)
        monkeypatch.undo()
    _, again = twins("plain")
    assert torch.equal(again.sample(2, (4, 4), seed=0, engine=engine), before)
