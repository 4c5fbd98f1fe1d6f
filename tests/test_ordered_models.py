"""What MADE and NADE promise alike: state dicts, copies, torch.compile, low precision."""

from __future__ import annotations

import copy
import math
import pickle

import made_twins
import nade_twins
import pytest
import torch

from pygen.models import MADE, NADE

TWINS = {"made": made_twins, "nade": nade_twins}
each_model = pytest.mark.parametrize("model", TWINS)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """These models are too small for two."""
    torch.set_num_threads(1)


@pytest.mark.parametrize(("model", "case"), [(model, case) for model, of in TWINS.items() for case in of.CASES])
def test_ordered_model_state_dict_copies_and_pickles(model: str, case: str) -> None:
    plain, ours = TWINS[model].twins(case)
    assert list(plain.state_dict()) == list(ours.state_dict())
    x = TWINS[model].levels(ours, 3)
    ours.loss(x).backward()
    plain.load_state_dict(ours.state_dict(), strict=True)
    assert plain.trained_shape == ours.trained_shape == (ours.num_inputs,)
    for twin in (copy.deepcopy(ours), pickle.loads(pickle.dumps(ours))):
        assert torch.equal(twin.log_prob(x), ours.log_prob(x))


@pytest.mark.parametrize("of", (MADE, NADE))
def test_ordered_model_compiles_to_one_graph_and_trains(of: type[MADE] | type[NADE]) -> None:
    model = of(3, 4, num_orders=2).double()
    x = torch.randint(0, 2, (5, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    expected = torch.autograd.grad(model.loss(x), list(model.parameters()))
    model.trained_shape = ()
    loss = torch.compile(model, fullgraph=True, backend="aot_eager")(x)
    loss.backward()
    torch.testing.assert_close([p.grad for p in model.parameters()], list(expected))
    assert model.trained_shape == (3,)


@each_model
def test_ordered_model_in_half_precision_gives_float32_likelihoods(model: str) -> None:
    (_, wide), (_, low) = TWINS[model].twins("orders"), TWINS[model].twins("orders", torch.bfloat16)
    x = TWINS[model].levels(low, 5)
    assert low.loss(x).dtype == torch.float32
    torch.testing.assert_close(low.log_prob(x).double(), wide.log_prob(x), rtol=0.05, atol=0.3)
    assert low.log_prob(x[:0]).shape == (0,)
    assert math.isfinite(low.loss(x.long()).item())
