"""What each pixel of a PixelCNN may see: exact zeros in Jacobians, blind spots counted, probabilities that sum to one."""

from __future__ import annotations

import pytest
import torch
from pixel_twins import CASES, Case, all_binary_images, jacobian, randomise, twins

from pygen import models
from pygen.reference import models as plain_models

SIDES = {"plain": plain_models, "pygen": models}
each_case = pytest.mark.parametrize("name", CASES)
each_side = pytest.mark.parametrize("side", SIDES)


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    """These models are too small for two."""
    torch.set_num_threads(1)


@each_case
@each_side
def test_pixel_model_sees_the_past_alone(name: str, side: str) -> None:
    """Exact zeros: for later pixels, for the pixel itself, and within it for its own and later colour groups."""
    case = CASES[name]
    model = dict(zip(SIDES, twins(case), strict=True))[side]
    height, width = 4, 4
    cond = case.conditions(1, height, width)
    channels, groups = model.in_channels, model.color_groups
    found = jacobian(model, (channels, height, width), None if cond is None else _prepared(case, cond, side))
    pixel = torch.arange(height * width)
    group = torch.arange(channels) * groups // channels
    past = pixel[:, None, None, None] > pixel[None, None, :, None]
    now = pixel[:, None, None, None] == pixel[None, None, :, None]
    allowed = past | (now & (group[None, :, None, None] > group[None, None, None, :]))
    assert (found[~allowed.expand_as(found)] == 0).all()
    left = (
        past
        & (pixel[:, None, None, None] - 1 == pixel[None, None, :, None])
        & (pixel % width != 0)[:, None, None, None]
    )
    assert (found[left.expand_as(found)] > 0).all()
    if groups > 1:
        earlier_colour = now & (group[None, :, None, None] > group[None, None, None, :])
        seen = (found * earlier_colour).sum((0, 2)) > 0  # [C, C]; at a single pixel a relu may be shut
        assert torch.equal(seen, group[:, None] > group)


def _prepared(case: Case, cond: torch.Tensor, side: str) -> torch.Tensor:
    """A condition as `_logits` takes it."""
    classes = case.options.get("num_classes")
    return cond if classes is None or side == "plain" else torch.nn.functional.one_hot(cond, classes).double()


@each_case
def test_pixel_model_is_causal_in_float32_and_bfloat16_and_channels_last(name: str) -> None:
    """Changing a pixel changes nothing before it, bit for bit."""
    case = CASES[name]
    for dtype in (torch.float32, torch.bfloat16):
        _, model = twins(case, dtype)
        for layout in (torch.contiguous_format, torch.channels_last):
            x = case.images(2).contiguous(memory_format=layout)
            cond = case.conditions(2)
            other = x.clone(memory_format=torch.preserve_format)
            other[:, :, 2, 1] = 1 - other[:, :, 2, 1].clamp(max=1)
            before, after = model.logits(x, cond).flatten(-2), model.logits(other, cond).flatten(-2)
            here = 2 * x.shape[3] + 1
            assert torch.equal(before[..., :here], after[..., :here])
            assert torch.equal(before[:, 0, :, here], after[:, 0, :, here])
            assert not torch.equal(before[..., here + 1 :], after[..., here + 1 :])


# Zeros among the 2016 entries below the diagonal of an 8x8 Jacobian, five 3x3 residual blocks.
BLIND = {("PixelCNN", 5): 210, ("PixelCNN", 7): 125, ("PixelCNN", 3): 421}
BLIND |= {("GatedPixelCNN", 5): 0, ("GatedPixelCNN", 7): 0, ("GatedPixelCNN", 3): 126}
# The last pixel of the row above, right of what the first convolution sees: 7 rows times the columns too far to its left.
BLIND |= {("PixelRNN", 3): 7 * 6, ("PixelRNN", 7): 7 * 4}


@pytest.mark.parametrize(("name", "first"), BLIND, ids=lambda v: str(v))
@each_side
def test_pixel_model_blind_spot(name: str, first: int, side: str) -> None:
    model = getattr(SIDES[side], name)(hidden_channels=16, num_blocks=5, first_kernel_size=first).double()
    randomise(model)
    below = torch.ones(64, 64).tril(-1).bool()
    found = jacobian(model, (1, 8, 8))[:, 0, :, 0]
    assert below.sum() == 2016
    assert (found[below] == 0).sum() == BLIND[name, first]
    assert (found[~below] == 0).all()


@each_side
def test_pixelcnn_pp_has_no_blind_spot(side: str) -> None:
    model = (
        SIDES[side].PixelCNNPP(1, hidden_channels=4, num_resnets=2, num_scales=2, num_mixtures=2, dropout=0).double()
    )
    randomise(model, gain=1)
    found = jacobian(model, (1, 8, 8))[:, 0, :, 0]
    below = torch.ones(64, 64).tril(-1).bool()
    assert (found[below] == 0).sum() == 0
    assert (found[~below] == 0).all()


@pytest.mark.parametrize(
    ("name", "size"),
    [(name, (3, 3)) for name in ("plain", "plain-no-block", "gated", "gated-k5", "pp", "rnn")]
    + [(name, (4, 4)) for name in ("plain", "gated", "pp")],
)
def test_pixel_model_probabilities_sum_to_one(name: str, size: tuple[int, int]) -> None:
    _, model = twins(name)
    with torch.no_grad():
        log_probs = torch.cat([model.log_prob(x) for x in all_binary_images(*size).split(16384)])
    assert log_probs.exp().sum().item() == pytest.approx(1, abs=1e-9)
    assert log_probs.std() > 0.3  # a uniform model would pass as well


@pytest.mark.parametrize("name", ["gated-classes", "gated-features"])
def test_conditional_pixel_model_probabilities_sum_to_one_for_each_condition(name: str) -> None:
    case = CASES[name]
    _, model = twins(case)
    x = all_binary_images(3, 3)
    totals = []
    for cond in case.conditions(3, 3, 3):
        with torch.no_grad():
            totals.append(model.log_prob(x, cond.expand(len(x), *cond.shape)).exp())
    assert torch.stack(totals).sum(1).tolist() == pytest.approx([1] * 3, abs=1e-9)
    assert (totals[0] - totals[1]).abs().max() > 1e-3  # the condition matters


def test_rgb_pixel_model_probabilities_sum_to_one() -> None:
    """2x1 images of three binary channels: R, then G given R, then B given both, all dependent."""
    grouped = {"color_groups": 3, "hidden_channels": 12, "num_blocks": 1, "first_kernel_size": 3}
    pp = {"hidden_channels": 4, "num_resnets": 1, "num_scales": 2, "num_mixtures": 3, "num_levels": 2, "dropout": 0}
    for name, options in (("PixelCNN", grouped), ("GatedPixelCNN", grouped), ("PixelCNNPP", pp), ("PixelRNN", grouped)):
        model = getattr(models, name)(3, **options)
        randomise(model.double(), gain=1 if name == "PixelCNNPP" else 4)
        x = all_binary_images(3, 2).view(-1, 3, 2, 1)
        p = model.log_prob(x).exp()
        assert p.sum().item() == pytest.approx(1, abs=1e-9)
        first_pixel = p.view(2, 2, 2, 2, 2, 2).sum((0, 2, 4))  # bits count from the last dim: [B1 G1 R1] of pixel 0
        product = first_pixel.sum((1, 2))[:, None, None] * first_pixel.sum((0, 2))[:, None] * first_pixel.sum((0, 1))
        assert (first_pixel - product).abs().max() > 1e-3
