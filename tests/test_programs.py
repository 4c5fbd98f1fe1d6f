"""What programs have around ops and models: a default device, transforms, exported batches. Each in small models."""

import pytest
import torch
from registry import each_op, gradients, leaves
from support import FAST_TARGETS, assert_same, has_kernel
from torch.utils.checkpoint import checkpoint

import pygen.nn as pnn
from pygen import _degrees, models
from pygen.functional import noise_sample, noise_table

CPU = [t for t in FAST_TARGETS if t.backend in ("reference", "cpu")]


def levels(*shape, most=2):
    return torch.randint(most, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(2))


MODELS = {
    "PixelCNN": lambda: (models.PixelCNN(hidden_channels=4, num_blocks=1), levels(3, 1, 5, 4)),
    "GatedPixelCNN": lambda: (models.GatedPixelCNN(hidden_channels=4, num_blocks=1), levels(3, 1, 5, 4)),
    "PixelRNN": lambda: (models.PixelRNN(hidden_channels=4, num_blocks=1), levels(3, 1, 5, 4)),
    "MADE": lambda: (models.MADE(7, [5]), levels(3, 7)),
    "NADE": lambda: (models.NADE(7, 5), levels(3, 7)),
}
each_model = pytest.mark.parametrize("make", [pytest.param(m, id=n) for n, m in MODELS.items()])


@pytest.mark.parametrize("target", CPU, ids=str)
@each_op
def test_a_default_device_is_for_tensors_of_the_program_alone(op, target):
    """torch.set_default_device: of a CPU's tensors everything stays on the CPU. Without a GPU by the meta device."""
    if not has_kernel(op.name, target):
        pytest.skip(f"no {target.backend} of {op.name}")
    sample = op.sample("odd everything")
    marked, inputs = leaves(op, sample.cast(torch.float32))
    results = []
    for device in ("cpu", "meta"):
        torch.manual_seed(3)
        with torch.device(device):
            outputs = op.run(marked, sample.options, target.backend)
        results.append([*outputs, *gradients(outputs, inputs)])
    for a, b in zip(*results, strict=True):
        assert_same(a, b)


@each_model
def test_models_draw_the_same_under_a_default_device(make):
    model, x = make()
    shape = tuple(x.shape[2:]) or None
    drawn = [model.eval().sample(2, shape, seed=1, engine=engine) for engine in ("cpu", "cached")]
    _degrees._plan.cache_clear()
    with torch.device("meta"):
        again = [model.sample(2, shape, seed=1, engine=engine) for engine in ("cpu", "cached")]
    for a, b in zip(again, drawn, strict=True):
        assert_same(a, b)


def test_noise_tables_under_a_default_device():
    counts = torch.tensor([1.0, 5, 0, 2])
    with torch.device("meta"):
        table = noise_table(counts)
        drawn = noise_sample(table, (5, 3), seed=4)
        module = pnn.NCELoss(4, 2, num_negatives=3)
    assert_same(table, noise_table(counts))
    assert_same(drawn, noise_sample(table, (5, 3), seed=4))
    assert module.noise.is_meta
    there = module.to_empty(device="cpu")
    there.load_state_dict(pnn.NCELoss(4, 2, counts, num_negatives=3).state_dict())
    assert there(torch.randn(3, 2), torch.tensor([0, 1, 3])).isfinite()


@each_model
def test_wrong_levels_under_vmap(make):
    """They cannot be looked at there, and make their own sample NaN."""
    model, x = make()
    x[1].view(-1)[-1] = 2
    assert torch.func.vmap(lambda x: model(x.unsqueeze(0)))(x).isnan().tolist() == [False, True, False]


def test_degrees_met_first_in_a_transform_serve_plain_calls_later():
    """A plan of degrees is kept: its tensors must not be those of a transform."""
    torch.manual_seed(0)
    layer, x = pnn.MaskedLinear(tuple(range(11)), tuple(range(13)), strict=False), torch.randn(3, 11)
    torch.func.grad(lambda x: layer(x).sum())(x)
    out = layer(x)
    out.sum().backward()
    mask = torch.arange(13)[:, None] >= torch.arange(11)
    torch.testing.assert_close(out, x @ (layer.weight * mask).t() + layer.bias)


def test_noise_contrastive_loss_exported_with_a_batch_of_any_size():
    module, inputs = pnn.NCELoss(9, 3, num_negatives=2), (torch.randn(4, 3), torch.arange(4))
    n = torch.export.Dim("n", min=2, max=99)
    program = torch.export.export(module.eval(), inputs, dynamic_shapes=({0: n}, {0: n})).module()
    results = []
    for call in (program, module):
        torch.manual_seed(1)
        results.append(call(*(t[:3] for t in inputs)))
    torch.testing.assert_close(*results)


SEEDED = {
    "ReparameterizeKL": lambda: (pnn.ReparameterizeKL(), (torch.randn(4, 3), torch.randn(4, 3))),
    "NCELoss": lambda: (pnn.NCELoss(9, 3, num_negatives=2), (torch.randn(4, 3), torch.arange(4))),
}


@pytest.mark.parametrize("make", [pytest.param(m, id=n) for n, m in SEEDED.items()])
def test_checkpointing_in_a_compiled_region_draws_the_noise_of_forward_again(make):
    torch._dynamo.reset()
    module, inputs = make()
    inputs[0].requires_grad_()

    def loss(*values):
        made = module(*values)
        return made if isinstance(made, torch.Tensor) else made[0].square().sum() + made[1]

    compiled = torch.compile(lambda *v: checkpoint(loss, *v, use_reentrant=False), fullgraph=True, backend="aot_eager")
    results = []
    for call in (compiled, loss):
        torch.manual_seed(5)
        value = call(*inputs)
        results.append((value, *torch.autograd.grad(value, inputs[0])))
    torch.testing.assert_close(*results)
