"""What every model must stand that programs do with modules. Rows and what they leave out: tests/model_rows.py."""

import copy
import io
import pickle
import threading

import pytest
import torch
from model_rows import assert_alike, assert_close, assert_draws, built, each_model, floating, results
from support import assert_same
from torch import Tensor, nn
from torch.nn.utils import parametrizations, prune

from pygen.nn import GatedMaskedConv2d


@each_model
def test_default_dtype(row):
    """It is of the layers that are made under it, and nothing to a model that there is."""
    inputs, expected = row.inputs(), results(built(row), row.inputs())
    model, other, drawn = built(row), built(row), row.sample(built(row).eval())
    torch.set_default_dtype(torch.float64)
    try:
        assert_close(results(model, inputs), expected)
        assert_draws(other, row, drawn)
        made = built(row)
        assert {p.dtype for p in made.parameters()} == {torch.float64}
        loss = results(made, floating(inputs, torch.float64))[0]
        assert loss.dtype == torch.float64 and loss.isfinite()
        assert row.sample(made.eval()).dtype in (torch.uint8, torch.float64)
    finally:
        torch.set_default_dtype(torch.float32)


@each_model
def test_default_device(row):
    """It is of tensors that the program makes, not of those that the model makes for itself."""
    inputs = row.inputs()
    expected, drawn = results(built(row), inputs), row.sample(built(row).eval())
    model, other = built(row), built(row)
    with torch.device("meta"):
        assert_close(results(model, inputs), expected)
        assert_draws(copy.deepcopy(other), row, drawn)


@each_model
@pytest.mark.parametrize("assign", (False, True))
def test_built_without_memory_then_loaded(row, assign):
    with torch.device("meta"):
        model = row.make()
    model = model if assign else model.to_empty(device="cpu")
    model.load_state_dict(built(row).state_dict(), assign=assign)
    assert not any(t.is_meta for t in [*model.parameters(), *model.buffers()])
    assert_close(results(copy.deepcopy(model), row.inputs()), results(built(row), row.inputs()))
    assert_draws(model, row)


@each_model
def test_copies(row):
    """Of a model that has been used: it learns and draws as the original."""
    model = built(row)
    row.sample(model.eval())
    model.train()
    copies = [copy.deepcopy(model)]
    if not row.weight_norm:  # which torch refuses to pickle; pygen.models.save does not
        held = io.BytesIO()
        torch.save(model, held)
        held.seek(0)
        copies += [pickle.loads(pickle.dumps(model)), torch.load(held, weights_only=False)]
    for other in copies:
        assert_draws(other, row)
        assert_close(results(other.train(), row.inputs()), results(built(row), row.inputs()), rtol=0, atol=0)


@each_model
def test_autocast(row):
    model, inputs = built(row), row.inputs()
    with torch.autocast("cpu", torch.bfloat16):
        torch.manual_seed(5)
        loss = model(*inputs)
        drawn = row.sample(built(row).eval())
    expected = results(built(row), inputs)
    assert loss.dtype == torch.float32 and drawn.dtype == row.sample(built(row).eval()).dtype
    assert_alike([loss, *torch.autograd.grad(loss, list(model.parameters()), materialize_grads=True)], expected, 0.15)


@each_model
@pytest.mark.parametrize("dtype", (torch.float64, torch.bfloat16, torch.float16), ids=str)
def test_moved_to_another_dtype(row, dtype):
    model, inputs = built(row).to(dtype), floating(row.inputs(), dtype)
    got = results(model, inputs)
    assert got[0].dtype == torch.promote_types(dtype, torch.float32)
    if dtype != torch.float64:
        assert_alike(got, results(built(row), row.inputs()), 0.02 if dtype == torch.float16 else 0.15)
    elif not row.draws:
        assert_close(got, results(built(row), row.inputs()), 1e-4, 1e-5)
    assert len(row.sample(model.eval())) == 3


@each_model
def test_inference_mode(row):
    model, inputs = built(row), row.inputs()
    with torch.inference_mode():
        torch.manual_seed(5)
        loss = model(*inputs)
        made = built(row)
        assert_draws(copy.deepcopy(made), row, row.sample(made.eval()))
    model.load_state_dict(built(row).state_dict())
    expected = results(built(row), inputs)
    assert_close([loss], expected[:1])
    assert_close(results(model, inputs), expected)


@each_model
def test_layouts(row):
    """Strided and expanded inputs, channels_last models."""
    inputs = row.inputs()
    strided = [torch.stack((t, t), -1)[..., 0] for t in inputs]
    assert_close(results(built(row), strided), results(built(row), inputs), rtol=0, atol=0)
    expanded = [t[:1].expand(t.shape) for t in inputs]
    assert_close(results(built(row), expanded), results(built(row), [t.contiguous() for t in expanded]))
    if inputs[0].dim() == 4:
        last = [inputs[0].contiguous(memory_format=torch.channels_last), *inputs[1:]]
        model = built(row).to(memory_format=torch.channels_last)
        assert_close(results(model, last), results(built(row), inputs), 1e-4, 1e-5)
        model = built(row).to(memory_format=torch.channels_last)
        assert_draws(model, row)


@each_model
def test_hooks(row):
    """What forward hooks keep nobody changes; backward hooks of every layer; and both gone again."""
    model, inputs, kept = built(row), row.inputs(), []

    def keep(_module, _inputs, out):
        outs = [o for o in (out if isinstance(out, tuple) else (out,)) if isinstance(o, Tensor)]
        kept.extend((o, o.detach().clone()) for o in outs)

    handles = [m.register_forward_hook(keep) for m in model.modules()]
    handles += [m.register_full_backward_hook(lambda *_: None) for m in model.modules()]
    expected = results(built(row), inputs)
    assert_close(results(model, inputs), expected)
    assert kept
    for now, then in kept:
        assert_same(now.detach(), then)
    for handle in handles:
        handle.remove()
    model.load_state_dict(built(row).state_dict())
    assert_draws(model, row)


@each_model
def test_frozen_parameters(row):
    model, inputs = built(row).requires_grad_(False), row.inputs()
    assert not model(*inputs).requires_grad
    model, expected = built(row), results(built(row), inputs)
    next(model.parameters()).requires_grad_(False)
    assert_close(results(model, inputs), [expected[0], *expected[2:]])


@each_model
def test_weights_changed_behind_a_samplers_back(row):
    """By an optimizer that computes in place, by assignment to .data, by averaging: each draws as a model that loaded them."""

    def check(model):
        loaded = built(row)
        loaded.load_state_dict(model.state_dict())
        assert_draws(model, row, row.sample(loaded.eval()))

    model = built(row)
    row.sample(model.eval())
    model.train()(*row.inputs()).backward()
    torch.optim.SGD(model.parameters(), lr=0.1, fused=True).step()
    check(model)
    torch.manual_seed(1)
    other = row.make()
    for now, then in zip([*model.parameters(), *model.buffers()], [*other.parameters(), *other.buffers()], strict=True):
        now.data = then.data.clone()
    check(model)
    averaged = torch.optim.swa_utils.AveragedModel(model)
    averaged.update_parameters(built(row))
    averaged.update_parameters(other)
    check(averaged.module)


@each_model
def test_parametrized_weights(row):
    """Weight norm put round every layer from outside; of rows that are zeros it makes NaN, so none are here."""
    if row.weight_norm or row.moves:
        pytest.skip("has weight norm of its own, or weights that are buffers")
    model, plain = built(row), built(row)
    for one in (model, plain):
        for module in one.modules():
            if isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.dim() > 1:
                nn.init.normal_(module.weight, generator=torch.Generator().manual_seed(3), std=0.3)
    for module in list(model.modules()):
        if isinstance(getattr(module, "weight", None), nn.Parameter) and module.weight.dim() > 1:
            parametrizations.weight_norm(module)
    assert_close(results(model, row.inputs())[:1], results(plain, row.inputs())[:1], 1e-4, 1e-5)
    drawn, expected = row.sample(model.eval()), row.sample(plain.eval())
    if drawn.is_floating_point():
        torch.testing.assert_close(drawn, expected, rtol=1e-3, atol=1e-4)
    else:
        assert (drawn != expected).double().mean() < 0.05  # where rounding decides


@each_model
def test_pruned_layers_follow_their_weights(row):
    """torch.nn.utils.prune makes a layer's weight in a hook: one that is not called keeps yesterday's."""
    if row.moves:
        pytest.skip("has weights that are buffers")
    model, plain = built(row), built(row)
    pairs = zip(list(model.modules())[1:], list(plain.modules())[1:], strict=True)
    layers = [(a, b) for a, b in pairs if isinstance(a, (nn.Conv2d, nn.Linear)) and "weight" in a._parameters]
    for pruned, _ in layers:
        prune.identity(pruned, "weight")
    results(model, row.inputs())
    with torch.no_grad():
        for pruned, layer in layers:
            pruned.weight_orig.mul_(0.75)
            layer.weight.mul_(0.75)
    assert_close(results(model, row.inputs())[:1], results(plain, row.inputs())[:1], 1e-6, 1e-6)


def test_a_pruned_layer_of_a_condition_map_follows_its_weights():
    layer, maps = GatedMaskedConv2d(3, 3, 3, "B", cond_channels=2), torch.randn(2, 2, 4, 5)
    x = torch.randn(2, 3, 4, 5)
    prune.identity(layer.cond, "weight")
    with torch.no_grad():
        layer.cond.weight_orig.mul_(3)
    got = layer(x, x, maps)
    prune.remove(layer.cond, "weight")
    assert_close(got, layer(x, x, maps), 1e-6, 1e-6)


@each_model
def test_evaluation_leaves_the_model_as_it_was(row):
    """Averages and the shape of the last training batch too, which a loss in training does remember."""
    model = built(row)
    state = copy.deepcopy(model.state_dict())
    model.eval()(*row.inputs())
    for name, now in model.state_dict().items():
        assert_same(now, state[name], what=name)
    assert not getattr(model, "trained_shape", ())
    model.train()(*row.inputs())
    assert getattr(model, "trained_shape", True)


@each_model
def test_sampling_leaves_the_model_as_it_was(row):
    """In training: mode, gradients, a graph that waits for backward; and from four threads at once."""
    model = built(row)
    loss = model(*row.inputs())
    state = copy.deepcopy(model.state_dict())
    drawn = row.sample(model)
    assert all(m.training for m in model.modules()) and all(p.grad is None for p in model.parameters())
    for name, now in model.state_dict().items():
        assert_same(now, state[name], what=name)
    loss.backward()
    model.eval()
    found = [None] * 4

    def draw(i):
        found[i] = row.sample(model)

    threads = [threading.Thread(target=draw, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for other in found:
        assert_same(other, drawn)
