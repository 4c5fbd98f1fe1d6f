"""The sampling program of each pixel model says what the model computes, and what may be computed early."""

import pytest
import torch
import torch.nn.functional as F
from pixel_twins import CASES, twins
from torch import Tensor

from pygen.models._levels import scale_levels
from pygen.models._program import Conv, Program


def streams(program: Program, x: Tensor) -> list[Tensor]:
    """All streams over whole images at once, as the words of `_program` define them."""
    made = [x]
    height, width = x.shape[2:]
    for stage in program.stages:
        source = made[stage.source]
        if isinstance(stage, Conv):
            out = x.new_zeros(len(x), stage.weight.shape[1], height, width)
            if stage.bias is not None:
                out = out + stage.bias[:, None, None]
            if stage.add is not None:
                out = out + made[stage.add]
            source = F.relu(source) if stage.relu else source
            for (dy, dx), weight in zip(stage.taps, stage.weight, strict=True):
                margin = max(abs(dy), abs(dx))
                padded = F.pad(source, (margin,) * 4)
                shifted = padded[..., margin + dy :, margin + dx :][..., :height, :width]  # reads at (y + dy, x + dx)
                out = out + torch.einsum("oi,nihw->nohw", weight, shifted)
        else:
            blocks = (source if stage.cond is None else source + stage.cond).unflatten(1, (stage.groups, -1))
            a, b = blocks.chunk(2, dim=2)
            out = (torch.tanh(a) * torch.sigmoid(b)).flatten(1, 2)
        made.append(out)
    return made


@pytest.mark.parametrize("name", CASES)
def test_program_gives_the_models_logits(name):
    case = CASES[name]
    _, model = twins(name)
    x = scale_levels(case.images(2, 5, 4), model.num_levels, torch.float64)
    cond = model._prepare_cond(case.conditions(2, 5, 4), 2, (5, 4))
    with torch.no_grad():
        program = model._program(cond)
        torch.testing.assert_close(streams(program, x)[-1], model._logits(x, cond), rtol=1e-12, atol=1e-12)
    assert program.channels[-1] == model.in_channels * model.num_levels


@pytest.mark.parametrize("name", CASES)
def test_early_streams_know_the_rows_before_and_late_stages_read_the_present_row_only(name):
    case = CASES[name]
    _, model = twins(name)
    x = scale_levels(case.images(1, 5, 4), model.num_levels, torch.float64)
    cond = model._prepare_cond(case.conditions(1, 5, 4), 1, (5, 4))
    with torch.no_grad():
        program = model._program(cond)
        changed = x.clone()
        changed[:, :, 2:] = 7
        for early, a, b in zip(program.early, streams(program, x), streams(program, changed), strict=True):
            assert not early or torch.equal(a[:, :, :3], b[:, :, :3])
    for s, stage in enumerate(program.stages):
        if isinstance(stage, Conv) and not program.early[s + 1]:
            assert all(dy == 0 and dx <= 0 for dy, dx in stage.taps)
    assert any(program.early)
