"""Every model compiled, exported, traced, checkpointed, transformed by torch.func, and without values."""

import pytest
import torch
from model_rows import ROWS, as_function, assert_close, built, each_model, results
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils.checkpoint import checkpoint


@pytest.fixture
def fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


@pytest.mark.slow
@each_model
def test_compiled_loss_and_gradients(row, fresh_compiler):
    model, inputs = built(row), row.inputs()
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_close(results(model, inputs, compiled), results(built(row), inputs))


@pytest.mark.slow
@each_model
def test_compiled_once_for_every_batch_size(row, fresh_compiler):
    model, inputs = built(row), row.inputs()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="eager")
    with torch._dynamo.config.patch(error_on_recompile=True):
        for n in (13, 11):
            compiled(*(t[:n].clone() for t in inputs))


@pytest.mark.slow
@each_model
def test_exported_with_a_batch_of_any_size(row):
    model, inputs = built(row).eval(), row.inputs()
    n = torch.export.Dim("n", min=2, max=99)
    program = torch.export.export(model, inputs, dynamic_shapes=tuple({0: n} for _ in inputs)).module()
    three = tuple(t[:3] for t in inputs)
    torch.manual_seed(5)
    loss = program(*three)
    torch.manual_seed(5)
    torch.testing.assert_close(loss, model(*three))


@each_model
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")  # of shapes that are looked at
def test_traced_by_jit(row):
    model, inputs = built(row).eval(), row.inputs()
    traced = torch.jit.trace(model, inputs, check_trace=False)
    others = [t[torch.arange(len(t)) // 2] for t in inputs]  # what became a constant is seen
    torch.manual_seed(5)
    loss = traced(*others)
    torch.manual_seed(5)
    torch.testing.assert_close(loss, model(*others))


@each_model
def test_without_values(row):
    """Shapes alone: on the meta device, and fake."""
    model = built(row).to("meta")
    loss = model(*(t.to("meta") for t in row.inputs()))
    loss.backward()
    assert loss.is_meta and loss.shape == ()
    with FakeTensorMode():
        model = row.make()
        model(*(torch.empty_like(t) for t in row.inputs())).backward()


@each_model
@pytest.mark.parametrize("reentrant", (False, True))
def test_activation_checkpointing(row, reentrant):
    model, inputs, nothing = built(row), row.inputs(), torch.zeros((), requires_grad=True)

    def call(*values):
        return checkpoint(lambda zero, *values: model(*values) + zero, nothing, *values, use_reentrant=reentrant)

    torch.manual_seed(5)
    loss = call(*inputs)
    if row.moves:
        with pytest.raises(RuntimeError, match="decay: expected None or eval"):
            loss.backward()
        model.load_state_dict(built(row).state_dict())
        model.eval()
        torch.manual_seed(5)
        loss = call(*inputs)
    loss.backward()
    got = [loss.detach(), *(torch.zeros_like(p) if p.grad is None else p.grad for p in model.parameters())]
    assert_close(got, results(built(row).train(model.training), inputs))


@each_model
def test_functions_of_parameters(row):
    """torch.func: gradients, of each sample too, and forward mode."""
    if row.moves:
        pytest.skip("torch refuses what changes buffers within a transform, as it does BatchNorm")
    inputs = row.inputs()
    expected = results(built(row), inputs)
    loss, parameters = as_function(built(row), inputs)
    torch.manual_seed(5)
    got, value = torch.func.grad_and_value(loss)(parameters)
    assert_close([value, *got.values()], expected)

    each = torch.func.grad(lambda p, *values: loss(p, *(v.unsqueeze(0) for v in values)))
    each = torch.func.vmap(each, in_dims=(None, *(0 for _ in inputs)), randomness="different")(parameters, *inputs)
    if not row.draws:
        assert_close([g.mean(0) for g in each.values()], expected[1:], 1e-4, 1e-5)
    assert all(g.isfinite().all() for g in each.values())

    if not row.weight_norm:
        tangents = {name: torch.ones_like(p) for name, p in parameters.items()}
        torch.manual_seed(5)
        _, slope = torch.func.jvp(loss, (parameters,), (tangents,))
        assert_close([slope], [sum(g.sum() for g in expected[1:])], 1e-3, 1e-3)


@each_model
def test_draws_of_each_sample_under_vmap(row):
    """randomness="different" gives the entries noise of their own, "same" one noise; without it torch refuses to draw."""
    if not row.draws:
        pytest.skip("draws nothing")
    loss, parameters = as_function(built(row), ())
    same = row.inputs()[0][:1].expand(4, *row.inputs()[0].shape[1:])
    losses = {}
    for randomness in ("different", "same"):
        mapped = torch.func.vmap(lambda x: loss(parameters, x.unsqueeze(0)), randomness=randomness)
        losses[randomness] = mapped(same).unique().numel()
    assert losses["same"] == 1 < losses["different"]
    with pytest.raises(RuntimeError, match="randomness"):
        torch.func.vmap(lambda x: loss(parameters, x.unsqueeze(0)))(same)


@each_model
def test_a_wrong_level_or_class_makes_its_own_loss_nan_under_vmap(row):
    """Which lets nobody look at values: eager calls refuse it."""
    images, *rest = row.inputs()
    if images.is_floating_point() or row.moves:
        pytest.skip("takes any number, or changes buffers, which torch refuses")
    images = images.long()
    images[1].view(-1)[-1] = -1
    loss, parameters = as_function(built(row).eval(), ())
    each = torch.func.vmap(lambda *values: loss(parameters, *(v.unsqueeze(0) for v in values)), randomness="different")
    three = tuple(t[:3] for t in (images, *rest))
    if row is ROWS["RBM"]:
        with pytest.raises(ValueError, match="rbm_gibbs: v: expected levels"):  # which looks at each entry's
            each(*three)
    else:
        assert each(*three).isnan().tolist() == [False, True, False]
    if rest and not rest[0].is_floating_point():
        classes = torch.tensor([0, 9, 2])
        assert each(row.inputs()[0][:3], classes).isnan().tolist() == [False, True, False]
    with pytest.raises(ValueError, match="x: expected levels 0"):
        built(row)(images, *rest)
