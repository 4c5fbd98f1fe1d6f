"""The C++ sampling engine draws what whole forwards draw: exactly in float64, whatever the batch, the threads, the program."""

import dataclasses
import threading

import pytest
import torch
from pixel_twins import CASES, RECURRENT, SINGLE_SCALE, randomise, twins
from support import instruction_set, isas, threads
from test_sampling_program import streams

import pygen
from pygen import models
from pygen.models import _sampling
from pygen.models._builder import Builder
from pygen.models._levels import scale_levels
from pygen.models._program import Conv, Lstm, Program, Sum
from pygen.nn import MaskedConv2d

pytestmark = pytest.mark.skipif(pygen.backends()["cpu"] is not None, reason="the C++ module did not load")
SHAPES = [(1, 1), (1, 7), (5, 3), (8, 8)]


def uniforms(n, channels, height, width, seed=3):
    return _sampling.uniforms(n, height * width * channels, torch.tensor(seed)).view(n, height, width, channels)


def draw(program, u, known=None, known_mask=None, temperature=1.0):
    """The engine's levels for noise u [n, H, W, C]; whatever was in their memory before must not matter."""
    from pygen.native import sampling as native

    n, height, width, channels = u.shape
    dtype = torch.uint8 if program.num_levels <= 256 else torch.int64
    levels = torch.full((n, channels, height, width), 255, dtype=dtype)
    native.draw(program, levels, u.contiguous(), known, known_mask, temperature)
    return levels


def expected(program: Program, u, known=None, known_mask=None, temperature=1.0, dtype=torch.float64):
    """The same by evaluating all streams over whole images for each decision."""
    n, height, width, channels = u.shape
    levels = torch.zeros(n, channels, height, width, dtype=torch.uint8 if program.num_levels <= 256 else torch.int64)
    group = channels // program.groups
    for y in range(height):
        for x in range(width):
            for first in range(0, channels, group):
                of = slice(first, first + group)
                scaled = scale_levels(levels, program.num_levels, dtype, program.input_range)
                logits = streams(program, scaled)[-1][:, :, y, x].unflatten(1, (channels, -1))[:, of]
                drawn = _sampling.decide(logits, u[:, y, x, of], temperature).to(levels.dtype)
                if known is not None:
                    drawn = torch.where(known_mask[:, of, y, x], known[:, of, y, x], drawn)
                levels[:, of, y, x] = drawn
    return levels


# Models


@pytest.mark.parametrize("n", [1, 3, 17])
@pytest.mark.parametrize("name", [*SINGLE_SCALE, *RECURRENT])
def test_sampling_cpu_equals_naive_in_float64(name, n):
    case = CASES[name]
    _, model = twins(name)
    for height, width in SHAPES:
        cond = case.conditions(n, height, width)
        naive, ours = (model.sample(n, (height, width), cond=cond, seed=3, engine=e) for e in ("naive", "cpu"))
        assert torch.equal(naive, ours), (height, width)


@pytest.mark.parametrize("isa", isas())
@pytest.mark.parametrize("name", [*SINGLE_SCALE, *RECURRENT])
def test_sampling_cpu_equals_naive_on_each_instruction_set_and_any_threads(name, isa):
    """64 images, guided, at another temperature."""
    case = CASES[name]
    _, model = twins(name)
    known, mask = case.images(64, 4, 5, seed=7), torch.rand(64, 1, 4, 5) < 0.3
    args = {"cond": case.conditions(64, 4, 5), "seed": 5, "known": known, "known_mask": mask, "temperature": 0.6}
    naive = model.sample(64, (4, 5), engine="naive", **args)
    with instruction_set(isa):
        for count in (1, 2, 3):
            with threads(count):
                assert torch.equal(naive, model.sample(64, (4, 5), engine="cpu", **args)), count


@pytest.mark.parametrize("levels", [256, 300, 65536])
def test_sampling_cpu_equals_naive_at_many_levels(levels):
    model = randomise(models.GatedPixelCNN(hidden_channels=3, num_blocks=1, num_levels=levels)).double()
    n, side = (64, 4) if levels < 1000 else (4, 3)
    naive, ours = (model.sample(n, (side, side), seed=1, engine=e) for e in ("naive", "cpu"))
    assert torch.equal(naive, ours) and naive.dtype == ours.dtype and naive.unique().numel() > 10


def test_sampling_cpu_takes_rgb_groups_of_several_channels_and_levels():
    options = {"in_channels": 4, "color_groups": 2, "hidden_channels": 20, "num_blocks": 2, "num_levels": 17}
    for kind in (models.PixelCNN, models.GatedPixelCNN):
        model = randomise(kind(**options)).double()
        naive, ours = (model.sample(9, (3, 5), seed=1, engine=e) for e in ("naive", "cpu"))
        assert torch.equal(naive, ours)


@pytest.mark.parametrize("name", ["plain", "plain-rgb", "gated", "gated-rgb", "gated-classes"])
def test_sampling_cpu_in_float32_draws_what_its_logits_in_float64_say(name):
    """At each value of the finished images u lies where float64's cumulated probabilities put the level, up to float32's own
    error in the logits."""
    case = CASES[name]
    _, model = twins(name, torch.float32)
    n, height, width, seed = 64, 8, 8, 2
    cond = case.conditions(n, height, width)
    drawn = model.sample(n, (height, width), cond=cond, seed=seed, engine="cpu")
    with torch.no_grad():
        base = model.logits(drawn, cond).double()
        truth = model.double().logits(drawn, cond)
    error = 2 * (base - truth).abs().max() + 4 * torch.finfo(torch.float32).eps * truth.abs().max()
    cumulated = torch.softmax(truth, 2).cumsum(2)  # [n, C, L, H, W]
    level = drawn.long().unsqueeze(2)
    u = uniforms(n, model.in_channels, height, width, seed).permute(0, 3, 1, 2).unsqueeze(2).double()
    upper = cumulated.gather(2, level)
    lower = torch.where(level > 0, cumulated.gather(2, (level - 1).clamp(min=0)), -1.0)
    assert (u <= upper + error).all() and (u > lower - error).all()


@pytest.mark.parametrize(
    ("kind", "options"),
    [(models.GatedPixelCNN, {}), (models.PixelRNN, {}), (models.PixelRNN, {"kind": "row"})],
    ids=["gated", "rnn", "rnn-row"],
)
def test_sampling_cpu_depends_on_neither_batch_nor_threads_to_the_last_bit(kind, options):
    """A large number common to all logits makes the last bits of sums decide: PyTorch's order of summation draws otherwise."""
    model = randomise(kind(hidden_channels=6, num_blocks=2, num_levels=300, **options))
    with torch.no_grad():
        model.head[3].weight.add_(1e5)
    u = uniforms(17, 1, 6, 5)
    program = model._program(None)
    whole = draw(program, u)
    assert (model.sample(17, (6, 5), seed=3, engine="naive") != whole).sum() > 20
    for cut in (1, 2, 6, 7, 13):
        assert torch.equal(torch.cat([draw(program, some) for some in u.split(cut)]), whole), cut
    for count in (1, 3, 8):
        with threads(count):
            assert torch.equal(draw(program, u), whole), count
            assert torch.equal(draw(program, u[:1]), whole[:1]), count


def test_sampling_cpu_reads_neither_dead_weights_nor_what_an_earlier_call_left():
    _, model = twins("gated-rgb")
    u = uniforms(5, 3, 4, 4)
    program = model._program(None)
    before = draw(program, u)
    with torch.no_grad():
        for layer in model.modules():
            if isinstance(layer, MaskedConv2d):
                layer.weight.masked_fill_(~layer.live_mask(), float("nan"))
    assert torch.equal(draw(model._program(None), u), before)
    _, sick = twins("gated-rgb")
    with torch.no_grad():
        for parameter in sick.parameters():
            parameter.fill_(float("nan"))
    assert (draw(sick._program(None), u) == 0).all()  # NaN draws level 0, as `decide` does; its streams are all NaN
    assert torch.equal(draw(program, u), before)


def test_sampling_cpu_known_pixels_guide_and_do_not_leak():
    _, model = twins("gated")
    known = CASES["gated"].images(6, 5, 5)
    mask = torch.zeros(5, 5, dtype=torch.bool)
    mask[2:, 2:] = True
    free = model.sample(6, (5, 5), seed=1, engine="cpu")
    guided = model.sample(6, (5, 5), seed=1, known=known, known_mask=mask, engine="cpu")
    before = torch.arange(25).view(5, 5) < 12
    assert torch.equal(free[..., before], guided[..., before])
    assert torch.equal(guided[..., mask], known[..., mask])
    wrong = torch.where(mask, known, 255)
    assert torch.equal(model.sample(6, (5, 5), seed=1, known=wrong, known_mask=mask, engine="cpu"), guided)


def test_sampling_cpu_from_two_threads_at_once_equals_solo_runs():
    _, gated = twins("gated-rgb")
    _, plain = twins("plain-grey")
    jobs = [(model._program(None), uniforms(n, model.in_channels, 6, 6, n)) for model in (gated, plain) for n in (1, 9)]
    solo = [draw(*job) for job in jobs]
    got: list[list] = [[] for _ in jobs]

    def work(i):
        for _ in range(5):
            got[i].append(draw(*jobs[i]))

    workers = [threading.Thread(target=work, args=(i,)) for i in range(len(jobs))]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert all(len(g) == 5 and all(torch.equal(d, s) for d in g) for g, s in zip(got, solo, strict=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sampling_cpu_computes_half_precision_in_float32(dtype):
    _, model = twins("gated", torch.float32)
    u = uniforms(8, 1, 6, 6)
    half = model.to(dtype)._program(None)
    assert torch.equal(draw(half, u), draw(model.float()._program(None), u))


def test_sampling_cpu_takes_no_images_and_images_without_pixels():
    _, model = twins("gated")
    assert model.sample(0, (3, 3), engine="cpu").shape == (0, 1, 3, 3)
    assert draw(model._program(None), uniforms(2, 1, 0, 4)).shape == (2, 1, 0, 4)


# Programs that no model has yet


def masked(ins, outs, kernel, mask, **options):
    layer = MaskedConv2d(ins, outs, kernel, mask, **options)
    return randomise(layer, seed=kernel[1] + outs).double()


def dilated():
    b = Builder(1, 3, 1)
    above = ((True,) * 5, (False,) * 5, (False,) * 5)
    v = b.conv(masked(1, 7, (3, 5), above, dilation=2), 0)
    x = b.conv(masked(1, 7, (3, 3), "A", dilation=3), 0)
    x = b.conv(masked(7, 7, (5, 3), "B", dilation=2), x, relu=True)
    b.conv(masked(7, 3, (1, 5), "B", dilation=2), x, add=b.conv(torch.nn.Conv2d(7, 3, 1).double(), v, relu=True))
    return b.program()


def odd_gates():
    """A gate of the image, a gate of a gate, two gates of one convolution, an addition across layouts."""
    b = Builder(4, 2, 2)
    x = b.conv(masked(4, 12, (3, 3), "A", color_groups=2), 0)
    g = b.gate(x)
    twice = b.gate(x, torch.linspace(-1, 1, 12).double().expand(5, 12))
    wide = b.conv(masked(6, 12, (1, 3), "B", color_groups=2), twice, relu=True, add=x)
    y = b.gate(wide)
    y = b.conv(masked(6, 6, (1, 1), "B", color_groups=2), y, add=g)
    b.conv(masked(6, 8, (1, 3), "B", color_groups=2), y, relu=True)
    return b.program()


def far_sighted():
    """Taps beyond the image, an image read through relu, a late convolution of an early stream that looks right."""
    b = Builder(1, 4, 1)
    v = b.conv(masked(1, 6, (9, 9), ((True,) * 9,) * 4 + ((False,) * 9,) * 5), 0, relu=True)
    x = b.conv(masked(1, 5, (1, 9), "A"), 0)
    x = b.conv(masked(6, 5, (1, 3), ((True, True, True),)), v, add=x)
    b.conv(masked(5, 4, (1, 1), "B"), x)
    return b.program()


def early_alone():
    """Logits that know the rows before only; an early gate of an early gate; a stage that nothing reads."""
    b = Builder(1, 3, 1)
    above = ((True,) * 3, (False,) * 3, (False,) * 3)
    v = b.conv(masked(1, 16, (3, 3), above), 0)
    v = b.gate(b.gate(v))
    b.conv(masked(4, 2, (1, 1), "B"), v)
    b.conv(masked(4, 3, (1, 3), ((True,) * 3,)), v)
    return b.program()


@pytest.mark.parametrize("make", [dilated, odd_gates, far_sighted, early_alone])
@pytest.mark.parametrize("isa", isas())
def test_sampling_cpu_runs_any_program(make, isa):
    program = make()
    assert any(isinstance(stage, Conv) for stage in program.stages)
    with instruction_set(isa), torch.no_grad():
        for height, width in ((4, 6), (1, 2)):
            u = uniforms(5, program.in_channels, height, width)
            assert torch.equal(draw(program, u), expected(program, u)), (height, width)


def test_sampling_cpu_refuses_lstms_and_sums_of_other_forms():
    _, model = twins("rnn")
    program, u = model._program(None), uniforms(1, 1, 2, 2)
    at = next(i for i, stage in enumerate(program.stages) if isinstance(stage, Lstm))
    total = next(i for i, stage in enumerate(program.stages) if isinstance(stage, Sum))
    for i, change in (
        (at, {"weight": None}),
        (at, {"before": (-1, 0)}),
        (total, {"source": 1}),
        (total, {"add": at + 1}),
    ):
        stages = list(program.stages)
        stages[i] = dataclasses.replace(stages[i], **change)
        with pytest.raises(ValueError, match=r"sampling: (an LSTM along the row|a sum of other streams)"):
            draw(dataclasses.replace(program, stages=tuple(stages)), u)


def test_sampling_cpu_refuses_a_program_whose_channels_do_not_divide():
    b = Builder(2, 2, 2)
    conv = masked(2, 5, (1, 1), ((True,),))
    b.stages.append(Conv(0, ((0, 0),), conv.weight.detach().flatten(2).permute(2, 0, 1), None, strict=True))
    b.channels.append(5)
    b.early.append(False)
    b.strides.append(1)
    with pytest.raises(ValueError, match="do not divide"):
        draw(b.program(), uniforms(1, 2, 2, 2))
