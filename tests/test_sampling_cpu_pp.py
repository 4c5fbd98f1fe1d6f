"""The C++ sampling engine on networks of several resolutions: teams, the last bit, programs that no model has."""

import pytest
import torch
from pixel_twins import randomise
from support import instruction_set, isas, threads
from test_sampling_cpu import draw, expected, masked, uniforms

import pygen
from pygen import models
from pygen.models._builder import Builder
from pygen.models._program import Elu
from pygen.models._shifted import down, down_right, grow

pytestmark = pytest.mark.skipif(pygen.backends()["cpu"] is not None, reason="the C++ module did not load")


def network(channels=1, hidden=5, resnets=1, scales=2, gain=1.0, **options):
    options = {"num_mixtures": 2, "num_levels": 7, "weight_norm": False} | options
    model = models.PixelCNNPP(channels, hidden_channels=hidden, num_resnets=resnets, num_scales=scales, **options)
    return randomise(model, gain=gain).double()


@pytest.mark.parametrize("scales", [1, 2, 3, 4])
def test_sampling_cpu_of_several_resolutions_by_teams(scales):
    """More threads than images: pieces of columns and rows of each stream's own. Sizes that no stride divides."""
    model = network(1 + 2 * (scales % 2), scales=scales)
    for shape in ((1, 1), (1, 7), (5, 3), (6, 9), (2, 34)):
        cached = model.sample(3, shape, seed=3, engine="cached")
        assert shape == (1, 1) or cached.unique().numel() > 4
        for count in (1, 2, 4, 8):
            with threads(count):
                for n in (1, 2, 3):
                    assert torch.equal(model.sample(n, shape, seed=3, engine="cpu"), cached[:n]), (shape, count, n)


@pytest.mark.parametrize("n", [2, 12, 25])
def test_sampling_cpu_of_several_resolutions_in_any_batch(n):
    """Blocks of several images, where a row of a coarser stream is no row of a matrix of the finer one."""
    model = network(3, scales=3)
    for shape in ((3, 5), (4, 8)):
        assert torch.equal(*(model.sample(n, shape, seed=1, engine=engine) for engine in ("cpu", "cached"))), shape


@pytest.mark.parametrize("hidden", [1, 8, 17])
def test_sampling_cpu_of_several_resolutions_with_any_number_of_channels(hidden):
    """concat_elu's second half begins at a vector of its own, or does not."""
    model = network(1, hidden)
    assert torch.equal(*(model.sample(3, (4, 5), seed=1, engine=engine) for engine in ("cpu", "cached")))


def test_sampling_cpu_of_mixtures_depends_on_neither_batch_nor_threads_to_the_last_bit():
    """So many levels that the last bits of the means decide: PyTorch's order of summation draws otherwise."""
    top = 1 << 22
    model = network(3, 20, scales=3, num_levels=top).float()
    with torch.no_grad():
        model.out.weight[2:].mul_(0.1)  # means within the image's range
        model.out.bias[2:].unflatten(0, (3, 3, 2))[:, 1].sub_(4)  # narrow
    u = uniforms(17, 3, 5, 6)
    program = model._program(None)
    whole = draw(program, u)
    assert (model.sample(17, (5, 6), seed=3, engine="cached") != whole).sum() > 20
    assert ((whole > 0) & (whole < top - 1)).float().mean() > 0.9
    for cut in (1, 2, 6, 7, 13):
        assert torch.equal(torch.cat([draw(program, some) for some in u.split(cut)]), whole), cut
    for count in (2, 3, 8):
        with threads(count):
            assert torch.equal(draw(program, u), whole), count
            assert torch.equal(draw(program, u[:1]), whole[:1]), count


@pytest.mark.parametrize("levels", [2, 256, 300, 65536])
def test_sampling_cpu_of_mixtures_of_any_number_of_levels(levels):
    """At a temperature, some channels of some pixels known."""
    model = network(3, num_levels=levels)
    known = torch.randint(0, levels, (9, 3, 4, 4), generator=torch.Generator().manual_seed(1))
    known = known.to(torch.uint8 if levels <= 256 else torch.int64)
    mask = torch.rand(9, 3, 4, 4, generator=torch.Generator().manual_seed(2)) < 0.3
    args = {"seed": 5, "known": known, "known_mask": mask, "temperature": 1.7}
    naive, ours = (model.sample(9, (4, 4), engine=engine, **args) for engine in ("naive", "cpu"))
    assert torch.equal(naive, ours) and naive.dtype == ours.dtype and naive.unique().numel() > min(levels, 20) - 1


def test_sampling_cpu_of_a_mixture_that_is_not_a_number_draws_level_0():
    model = network(3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(float("nan"))
    assert (draw(model._program(None), uniforms(5, 3, 4, 4)) == 0).all()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_sampling_cpu_computes_mixtures_of_half_precision_in_float32(dtype):
    model = network(1, num_levels=5).float()
    u = uniforms(8, 1, 6, 6)
    half = model.to(dtype)._program(None)
    assert torch.equal(draw(half, u), draw(model.float()._program(None), u))


def test_sampling_cpu_of_several_resolutions_takes_no_images_and_images_without_pixels():
    model = network()
    assert model.sample(0, (3, 3), engine="cpu").shape == (0, 1, 3, 3)
    assert draw(model._program(None), uniforms(2, 1, 0, 4)).shape == (2, 1, 0, 4)


@pytest.mark.parametrize("shape", [(1, 1), (4, 4), (7, 6)])
def test_sampling_cpu_takes_conditions_of_every_resolution(shape):
    """At stride 4 a map is one pixel, or an odd number of them, and lies with gaps."""
    model = network(1, scales=3, cond_channels=2)
    cond = torch.randn(3, 2, *shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    cached = model.sample(3, shape, cond=cond, seed=1, engine="cached")
    for count in (1, 4):
        with threads(count):
            assert torch.equal(model.sample(3, shape, cond=cond, seed=1, engine="cpu"), cached), count


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e20, 1e200])
def test_sampling_cpu_draws_images_with_huge_numbers_by_the_taps_themselves(value):
    """One image's early streams go beyond what may be read in pairs; its batch-mates stay as they were, to the last bit."""
    model = network(1, 6, scales=2, cond_channels=2, num_levels=1 << 16)
    cond = torch.ones(3, 2, 4, 7, dtype=torch.float64)
    clean = model.sample(3, (4, 7), cond=cond, seed=3, engine="cpu")
    cond[1, :, 1, 4] = value
    cached = model.sample(3, (4, 7), cond=cond, seed=3, engine="cached")
    for count in (1, 2, 8):
        with threads(count):
            drawn = model.sample(3, (4, 7), cond=cond, seed=3, engine="cpu")
            assert torch.equal(drawn, cached), count
            assert torch.equal(drawn[::2], clean[::2]) and not torch.equal(drawn, clean), count
    single = model.float()
    cond = cond.float()
    drawn = single.sample(3, (4, 7), cond=cond, seed=3, engine="cpu")
    alone = single.sample(3, (4, 7), cond=torch.ones_like(cond), seed=3, engine="cpu")
    assert torch.equal(drawn[::2], alone[::2])


@pytest.mark.parametrize("value", [1e20, 1e200])
def test_sampling_cpu_keeps_huge_numbers_from_the_columns_beside_them(value):
    """Where no weight leads from column to column; a pair's sums and differences would, and drown what is beside."""
    model = network(1, 6, scales=1, cond_channels=2, num_levels=1 << 16)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.shape[3:] == (3,):
                weight[..., ::2] = 0
            elif weight.shape[2:] == (2, 2):
                weight[..., 0] = 0
        model.first_left.weight.zero_()
    cond = torch.ones(2, 2, 4, 7, dtype=torch.float64)
    clean = model.sample(2, (4, 7), cond=cond, seed=3, engine="cpu")
    cond[1, :, 0, 3] = value
    drawn = model.sample(2, (4, 7), cond=cond, seed=3, engine="cpu")
    assert not torch.equal(drawn[1, :, :, 3], clean[1, :, :, 3])
    drawn[1, :, :, 3] = clean[1, :, :, 3]
    assert torch.equal(drawn, clean)


# Programs that no model has yet


def made(layer, seed):
    return randomise(layer, gain=1.0, seed=seed).double()


def every_form():
    """Streams that are read as they are, through relu, elu and concat_elu at once: a convolution's, a gate's, the image."""
    b = Builder(1, 3, 1)

    def read(source, outs, seed, add=None):
        ways = (
            (source, False),
            (source, True),
            (b.elu(source, concat=False), False),
            (b.elu(source, concat=True), False),
        )
        for way, relu in ways:
            add = b.conv(masked(b.channels[way], outs, (1, 1), ((True,),)), way, relu=relu, add=add)
        return add

    x = b.conv(masked(1, 6, (3, 3), "A"), 0)
    image = b.elu(0, concat=True)
    x = read(x, 8, 1)
    g = b.gate(x, torch.linspace(-1, 1, 8).double().expand(5, 8))
    v = b.conv(masked(2, 4, (3, 3), ((True,) * 3, (False,) * 3, (False,) * 3)), image)
    g = b.gate(b.conv(masked(4, 8, (1, 1), "B"), g), add=b.pointwise(made(torch.nn.Conv2d(4, 4, 1), 3), v))
    read(g, 3, 2, add=read(v, 3, 4))
    return b.program()


def odd_linear_gates():
    """Of an early convolution with a late one to add, of a gate, of a convolution to half the size, of Up."""
    b = Builder(1, 3, 1)
    v = b.shifted(made(down(1, 6), 1), b.conv(masked(1, 1, (3, 3), ((True,) * 3, (False,) * 3, (False,) * 3)), 0))
    x = b.conv(masked(1, 3, (1, 3), "A"), 0)
    g = b.gate(v, linear=True, add=x)
    g = b.gate(b.conv(masked(3, 6, (1, 1), "B"), g), linear=True, add=x)
    coarse = b.shifted(made(down_right(3, 6, 2), 2), g)
    coarse = b.gate(coarse, torch.randn(5, 6, 2, 3).double(), linear=True)
    wide = b.up(made(grow(3, 2), 3), coarse)
    early = b.up(made(grow(6, 3), 4), b.shifted(made(down(6, 6, 2), 5), v))
    y = b.gate(b.conv(masked(3, 6, (1, 1), "B"), wide), add=wide)
    y = b.conv(masked(3, 6, (1, 1), "B"), y, add=b.conv(masked(6, 6, (1, 1), "B"), early))
    b.conv(masked(3, 3, (1, 1), "B"), b.gate(y, linear=True))
    return b.program()


@pytest.mark.parametrize("make", [every_form, odd_linear_gates])
@pytest.mark.parametrize("isa", isas())
def test_sampling_cpu_runs_any_program_of_elu_and_strides(make, isa):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        program = make()
    with instruction_set(isa), torch.no_grad():
        u = uniforms(5, 1, 4, 6)
        wanted = expected(program, u)
        assert torch.equal(draw(program, u), wanted)
        with threads(8):
            assert torch.equal(draw(program, u), wanted)


def elu_in_a_gate(b, x):
    b.conv(masked(2, 3, (1, 1), "B"), b.gate(b.elu(x, concat=False)))


def elu_added(b, x):
    b.conv(masked(4, 4, (1, 1), "B"), x, add=b.elu(x, concat=False))


def elu_through_relu(b, x):
    b.conv(masked(4, 3, (1, 1), "B"), b.elu(x, concat=False), relu=True)


def elu_of_elu(b, x):
    b.conv(masked(4, 3, (1, 1), "B"), b.elu(b.elu(x, concat=False), concat=False))


def elu_at_the_end(b, x):
    b.elu(x, concat=False)


@pytest.mark.parametrize("add", [elu_in_a_gate, elu_added, elu_through_relu, elu_of_elu, elu_at_the_end])
def test_sampling_cpu_refuses_elu_where_no_convolution_reads_it(add):
    b = Builder(1, 4, 1)
    add(b, b.conv(masked(1, 4, (3, 3), "A"), 0))
    assert any(isinstance(stage, Elu) for stage in b.stages)
    with pytest.raises(ValueError, match="elu is read"):
        draw(b.program(), uniforms(1, 1, 2, 2))


def test_sampling_cpu_refuses_a_mixture_whose_parameters_have_another_number():
    b = Builder(1, 4, 1, ones=True)
    b.conv(masked(2, 4, (3, 3), "A"), 0)
    with pytest.raises(ValueError, match="mixture's parameters"):
        draw(b.multi_scale_program(2, -7.0), uniforms(1, 1, 2, 2))
