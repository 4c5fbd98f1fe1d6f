"""Early convolutions by minimal filtering in the C++ sampling engine, pairs of columns at a time: what whole forwards draw."""

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from pixel_twins import randomise
from support import instruction_set, isas, threads
from test_sampling_cpu import draw, expected, masked, uniforms

import pygen
from pygen import models
from pygen.models._builder import Builder

pytestmark = pytest.mark.skipif(pygen.backends()["cpu"] is not None, reason="the C++ module did not load")


def gated(hidden=5, blocks=2, seed=0, **options):
    return randomise(models.GatedPixelCNN(hidden_channels=hidden, num_blocks=blocks, **options), seed=seed).double()


def assert_as_naive(model, n, shape, counts=(1,), **args):
    naive = model.sample(n, shape, seed=3, engine="naive", **args)
    for count in counts:
        with threads(count):
            assert torch.equal(model.sample(n, shape, seed=3, engine="cpu", **args), naive), (n, shape, count)
    return naive


@pytest.mark.parametrize("isa", isas())
def test_sampling_pairs_of_any_width(isa):
    """Narrower than the three taps, an even and an odd number of columns, more pairs than a tile and than a chunk."""
    model = gated()
    with instruction_set(isa):
        for shape in ((3, 1), (3, 2), (1, 3), (3, 4), (2, 5), (2, 13), (2, 14), (2, 101)):
            assert_as_naive(model, 3, shape, counts=(1, 2) if shape[1] < 15 else (1,))


@pytest.mark.parametrize("n", [1, 2, 5, 12, 25, 50, 120])
def test_sampling_pairs_of_any_batch(n):
    """Chunks of several pairs of columns, of one, and of one that is larger than a chunk should be; several blocks."""
    assert_as_naive(gated(), n, (3, 5), counts=(1, 3))


@pytest.mark.parametrize("hidden", [1, 8, 9, 16, 33])
def test_sampling_pairs_of_any_number_of_channels(hidden):
    assert_as_naive(gated(hidden, 1), 3, (3, 6))


def test_sampling_pairs_do_not_depend_on_batch_or_threads_to_the_last_bit():
    """A large number common to all logits makes the last bits of sums decide."""
    model = gated(20, 2, num_levels=300).float()
    with torch.no_grad():
        model.head[3].weight.add_(1e5)
    u = uniforms(26, 1, 4, 7)
    program = model._program(None)
    whole = draw(program, u)
    for cut in (1, 2, 3, 13, 25):
        assert torch.equal(torch.cat([draw(program, some) for some in u.split(cut)]), whole), cut
    for count in (2, 3, 8):
        with threads(count):
            assert torch.equal(draw(program, u), whole), count
            assert torch.equal(draw(program, u[:1]), whole[:1]), count


@pytest.mark.parametrize("width", [6, 7])
def test_sampling_pairs_keep_nan_to_the_pixels_that_see_it(width):
    """NaN in the condition of one place goes through pairs to where whole forwards have it, and nowhere else."""
    model = gated(4, 2, cond_channels=2)
    for x in range(width):
        cond = torch.ones(2, 2, 5, width, dtype=torch.float64)
        cond[0, :, 1, x] = torch.nan
        drawn = assert_as_naive(model, 2, (5, width), counts=(1, 2), cond=cond)
        clean = model.sample(2, (5, width), seed=3, cond=torch.ones_like(cond), engine="naive")
        before = torch.arange(5 * width).view(5, width) < width + max(x - 2, 0)  # each block sees one to the right
        assert torch.equal(drawn[..., before], clean[..., before]) and torch.equal(drawn[1], clean[1])


def test_sampling_pairs_leave_huge_weights_to_the_taps_themselves():
    """Their sum overflows where no single product does; the sign of the sum would then come from another pixel."""
    model = gated(4, 2)
    with torch.no_grad():
        weight = model.blocks[1].vertical.weight
        weight[:, 0, :, :2] = 1.2e308
        weight[1::2] *= -1
    drawn = assert_as_naive(model, 33, (6, 6))
    model = model.float()
    with torch.no_grad():
        weight.clamp_(-2e38, 2e38)
    drawn = [model.sample(33, (6, 6), seed=3, engine=engine) for engine in ("cpu", "naive")]
    assert (drawn[0] != drawn[1]).sum() < 5  # float32: what lies within rounding of the noise


def three_rows():
    """Three rows of taps, a gate read through relu, a bias of its own; beside it a convolution that is no triple."""
    b = Builder(1, 3, 1)
    above = ((True,) * 3, (False,) * 3, (False,) * 3)
    v = b.gate(b.conv(masked(1, 12, (3, 3), above), 0))
    v = b.gate(b.conv(masked(6, 14, (5, 3), ((True,) * 3,) * 3 + ((False,) * 3,) * 2), v, relu=True))
    w = b.conv(masked(7, 5, (3, 3), ((True, True, False), (True,) * 3, (False,) * 3)), v)
    x = b.conv(masked(1, 5, (1, 3), "A"), 0, add=w)
    b.conv(masked(5, 3, (1, 1), "B"), x, relu=True)
    return b.program()


def gates_of_gates():
    """A gate of a gate is filtered too; rows above alone are not, nor is what adds a stream."""
    b = Builder(1, 2, 1)
    above = ((True,) * 3, (False,) * 3, (False,) * 3)
    whole = ((True,) * 3, (True,) * 3, (False,) * 3)
    v = b.conv(masked(1, 16, (3, 3), above), 0)
    g = b.gate(v)
    h = b.conv(masked(8, 8, (3, 3), above), g)
    h = b.conv(masked(8, 8, (3, 3), whole), g, add=h)
    g = b.gate(b.gate(b.conv(masked(8, 12, (3, 3), whole), b.gate(v))))
    b.conv(masked(3, 2, (1, 1), "B"), g, add=b.conv(masked(8, 2, (1, 3), ((True,) * 3,)), h))
    return b.program()


def unbounded():
    """Infinite numbers in an early stream that is no gate's: their differences would be NaN, where their sum is infinite."""
    b = Builder(1, 2, 1)
    steep = masked(1, 2, (3, 3), ((True,) * 3, (False,) * 3, (False,) * 3))
    wide = masked(2, 4, (3, 3), ((True,) * 3, (True,) * 3, (False,) * 3))
    with torch.no_grad():
        steep.weight.copy_(steep.weight.sign() * 1.7e308)
        wide.weight.abs_()
    v = b.gate(b.conv(wide, b.conv(steep, 0), relu=True))
    x = b.conv(masked(1, 2, (1, 3), "A"), 0, add=b.conv(masked(2, 2, (1, 1), "B"), v))
    b.conv(masked(2, 2, (1, 1), "B"), x)
    return b.program()


@pytest.mark.parametrize("make", [three_rows, gates_of_gates, unbounded])
@pytest.mark.parametrize("isa", isas())
def test_sampling_pairs_in_any_program(make, isa):
    program = make()
    with instruction_set(isa), torch.no_grad():
        for height, width in ((5, 6), (4, 7), (2, 2)):
            u = uniforms(3, 1, height, width)
            assert torch.equal(draw(program, u), expected(program, u)), (height, width)
            with threads(4):
                assert torch.equal(draw(program, u[:1]), expected(program, u[:1])), (height, width)


def test_sampling_by_a_team_of_one_waits_for_what_it_sees():
    """OpenMP may give fewer threads than asked for: then nobody else makes early streams that a pixel forgets to wait for."""
    code = """
        import torch
        from test_sampling_cpu import draw, expected, far_sighted, uniforms
        from test_sampling_pairs import gates_of_gates, three_rows
        torch.set_num_threads(2)
        assert torch.get_num_threads() == 2
        for make in (far_sighted, gates_of_gates, three_rows):
            for width in (4, 7, 13):
                u = uniforms(1, 1, 3, width)
                program = make()
                assert torch.equal(draw(program, u), expected(program, u)), width
    """
    environment = {**os.environ, "OMP_THREAD_LIMIT": "1"}
    command = [
        sys.executable,
        "-c",
        "import torch\nwith torch.no_grad():\n" + textwrap.indent(textwrap.dedent(code), "    "),
    ]
    subprocess.run(command, check=True, env=environment, cwd=Path(__file__).parent)
