"""Levels drawn from mixtures of logistics: a decision against the sum of the levels' probabilities, to the last digits."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from pygen.models._levels import no_levels, scale_levels
from pygen.models._mixture import Mixture
from pygen.reference.logistic_mixture_nll import scale_levels as reference_scale_levels

NUM_LEVELS = [2, 3, 17, 256, 300]


def mixture(channels: int, num_levels: int, n: int = 20, temperature: float = 1.0) -> tuple[Mixture, Tensor, Tensor]:
    """Of n pixels; the parameters [n, P]; and the levels [n, C] that it is given."""
    generator = torch.Generator().manual_seed(num_levels)
    params = torch.randn(n, 4 * (3 if channels == 1 else 10), generator=generator, dtype=torch.float64)
    levels = torch.randint(0, num_levels, (n, channels), generator=generator)
    return Mixture.of(params, levels, num_levels, -7.0, temperature), params, levels


@pytest.mark.parametrize("num_levels", NUM_LEVELS)
def test_decision_is_the_first_level_whose_cumulated_probability_reaches_u(num_levels: int) -> None:
    made, _, _ = mixture(3, num_levels)
    cumulated = made.logits().exp().cumsum(-1)
    torch.testing.assert_close(cumulated[..., -1], torch.ones_like(cumulated[..., -1]), rtol=1e-12, atol=0)
    for level in {0, 1, num_levels // 2, num_levels - 2} & set(range(num_levels - 1)):
        assert (made.decide(cumulated[..., level] - 1e-13) <= level).all()
        assert (made.decide(cumulated[..., level] + 1e-13) > level).all()
        if level:
            assert (made.decide(cumulated[..., level - 1] + 1e-13) >= level).all()
    assert (made.decide(torch.ones_like(cumulated[..., 0])) == made.decide(torch.tensor(1 - 2**-33).double())).any()
    assert (made.decide(torch.full_like(cumulated[..., 0], 2.0)) == num_levels - 1).all()


@pytest.mark.parametrize("temperature", [1.0, 0.5])
def test_channels_conditionals_multiply_to_the_joint_mixture(temperature: float) -> None:
    """Green's weights know red's level, blue's both: the product is the mixture over whole pixels."""
    made, params, levels = mixture(3, 6, temperature=temperature)
    product = made.logits().gather(-1, levels.unsqueeze(-1)).squeeze(-1).sum(1)
    weights = torch.log_softmax(params[:, :4] / temperature, -1)
    joint = []
    for k in range(4):
        one = Mixture(made.log_weights[..., k : k + 1], made.means[..., k : k + 1], made.log_scales[..., k : k + 1], 6)
        joint.append(weights[:, k] + one.logits().gather(-1, levels.unsqueeze(-1)).squeeze(-1).sum(1))
    torch.testing.assert_close(product, torch.stack(joint, -1).logsumexp(-1))


@pytest.mark.parametrize("num_levels", [2, 255, 256, 257])
def test_every_level_is_one_and_no_other_number(num_levels: int) -> None:
    """In uint8 too, where 256 would become 0: on a GPU a wrong level is NaN."""
    every = torch.arange(num_levels)
    assert not no_levels(every, num_levels).any()
    assert no_levels(torch.tensor([-1, num_levels, 2**40]), num_levels).all()
    for levels in [every, every.to(torch.uint8)] if num_levels <= 256 else [every]:
        assert not no_levels(levels, num_levels).any()
        expected = scale_levels(levels, num_levels, torch.float64)
        torch.testing.assert_close(reference_scale_levels(levels, num_levels, torch.float64), expected)
