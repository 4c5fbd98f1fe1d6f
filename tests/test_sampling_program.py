"""The sampling program of each pixel model says what the model computes, and what may be computed early."""

import pytest
import torch
import torch.nn.functional as F
from pixel_twins import CASES, twins
from torch import Tensor

from pygen.models._levels import scale_levels
from pygen.models._program import Conv, Elu, Gate, Lstm, MultiScaleProgram, Program, RecurrentProgram, Sum, Up


def streams(program: Program, x: Tensor) -> list[Tensor]:
    """All streams over whole images at once, as the words of `_program` define them.

    What an early convolution reads of a stream that comes later is right for one row more in each round.
    """
    image = torch.cat([x, torch.ones_like(x[:, :1])], 1) if isinstance(program, MultiScaleProgram) else x
    made = [image, *(x.new_zeros(len(x), channels, *x.shape[2:]) for channels in program.channels[1:])]
    for _ in range(x.shape[2] if isinstance(program, RecurrentProgram) else 1):
        made = one_round(program, image, made)
    return made


def one_round(program: Program, x: Tensor, before: list[Tensor]) -> list[Tensor]:
    """before: what the last round made."""
    made = [x]
    for s, stage in enumerate(program.stages, start=1):
        source = made[stage.source] if stage.source < s else before[stage.source]
        height, width = (-(-size // program.strides[s]) for size in x.shape[2:])
        if isinstance(stage, Elu):
            out = F.elu(torch.cat([source, -source], 1) if stage.concat else source)
        elif isinstance(stage, Gate):
            blocks = (source if stage.cond is None else source + stage.cond).unflatten(1, (stage.groups, -1))
            a, b = blocks.chunk(2, dim=2)
            out = ((a if stage.linear else torch.tanh(a)) * torch.sigmoid(b)).flatten(1, 2)
        elif isinstance(stage, Lstm):
            out = scanned(stage, source)
        elif isinstance(stage, Sum):
            out = source
        else:
            out = x.new_zeros(len(x), program.channels[s], height, width)
            if stage.bias is not None:
                out = out + stage.bias[:, None, None]
            if isinstance(stage, Up):
                for phase, (taps, weights) in enumerate(stage.phases):
                    for tap, weight in zip(taps, weights, strict=True):
                        wide = torch.einsum("oi,nihw->nohw", weight, moved(source, *tap))
                        wide = wide.repeat_interleave(2, 2).repeat_interleave(2, 3)[:, :, :height, :width]
                        out[:, :, phase // 2 :: 2, phase % 2 :: 2] += wide[:, :, phase // 2 :: 2, phase % 2 :: 2]
            else:
                source = F.relu(source) if stage.relu else source
                step = program.strides[s] // program.strides[stage.source]
                for tap, weight in zip(stage.taps, stage.weight, strict=True):
                    out = out + torch.einsum("oi,nihw->nohw", weight, moved(source, *tap)[:, :, ::step, ::step])
        if getattr(stage, "add", None) is not None:
            out = out + made[stage.add]
        made.append(out)
    return made


def scanned(stage: Lstm, sums: Tensor) -> Tensor:
    """h [n, H, R, W], pixel after pixel."""
    n, gates, rows, columns = sums.shape
    h, c = (sums.new_zeros(n, gates // 4, rows + 1, columns + 2) for _ in range(2))  # zeros above and at both sides
    dy, dx = stage.before
    for y in range(stage.first_row, rows):
        for x in range(columns) if dx <= 0 else reversed(range(columns)):
            there = ..., y + 1 + dy, x + 1 + dx
            sum = sums[..., y, x] if stage.weight is None else sums[..., y, x] + h[there] @ stage.weight.T
            o, f, i, g = sum.unflatten(1, (stage.groups, 4, -1)).unbind(2)
            o, f, i, g = (t.flatten(1) for t in (o.sigmoid(), f.sigmoid(), i.sigmoid(), g.tanh()))
            c[..., y + 1, x + 1] = f * c[there] + i * g
            h[..., y + 1, x + 1] = o * c[..., y + 1, x + 1].tanh()
    return h[:, :, 1:, 1:-1]


def moved(source: Tensor, dy: int, dx: int) -> Tensor:
    """(y + dy, x + dx) of it at (y, x), zeros around it."""
    height, width = source.shape[2:]
    margin = max(abs(dy), abs(dx))
    return F.pad(source, (margin,) * 4)[..., margin + dy :, margin + dx :][..., :height, :width]


@pytest.mark.parametrize("name", CASES)
def test_program_gives_the_models_logits(name):
    case = CASES[name]
    _, model = twins(name)
    x = scale_levels(case.images(2, 5, 4), model.num_levels, torch.float64, model.input_range)
    cond = model._prepare_cond(case.conditions(2, 5, 4), 2, (5, 4))
    with torch.no_grad():
        program = model._program(cond)
        torch.testing.assert_close(streams(program, x)[-1], model._logits(x, cond), rtol=1e-12, atol=1e-12)
    if isinstance(program, MultiScaleProgram):
        assert program.channels[-1] == program.num_mixtures * (10 if model.in_channels == 3 else 3)
    else:
        assert program.channels[-1] == model.in_channels * model.num_levels


@pytest.mark.parametrize("name", CASES)
def test_early_streams_know_the_rows_before_and_late_stages_read_the_present_row_only(name):
    case = CASES[name]
    _, model = twins(name)
    x = scale_levels(case.images(1, 5, 4), model.num_levels, torch.float64, model.input_range)
    cond = model._prepare_cond(case.conditions(1, 5, 4), 1, (5, 4))
    with torch.no_grad():
        program = model._program(cond)
        changed = x.clone()
        changed[:, :, 2:] = 7
        sides = streams(program, x), streams(program, changed)
        for early, stride, a, b in zip(program.early, program.strides, *sides, strict=True):
            rows = -(-3 // stride)  # those that stand for the image's rows 0 .. 2
            assert not early or torch.equal(a[:, :, :rows], b[:, :, :rows])
    for s, stage in enumerate(program.stages, start=1):
        if not program.early[s]:
            taps = stage.taps if isinstance(stage, Conv) else []
            taps = [tap for some, _ in stage.phases for tap in some] if isinstance(stage, Up) else taps
            assert all(dy == 0 and dx <= 0 for dy, dx in taps)
    assert any(program.early)
