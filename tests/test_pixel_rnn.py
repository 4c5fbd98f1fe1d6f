"""PixelRNN: samples, and what its Row LSTMs see; the rest it shares with the other pixel models' tests."""

import types

import pytest
import torch
from pixel_twins import CASES, RECURRENT, jacobian, randomise, twins
from sampling_cases import FAST
from support import poisoned_memory

from pygen.models import PixelRNN, _engines

ENGINES = [name for name in FAST if _engines.why_not(PixelRNN(num_blocks=0), name) is None]


@pytest.mark.parametrize("name", RECURRENT)
def test_pixel_rnn_samples_are_its_twins(name):
    plain, ours = twins(name)
    shape = (3, 4)
    expected = plain.sample(3, shape, seed=5)
    for engine in ("naive", *ENGINES, None):
        assert torch.equal(ours.sample(3, shape, seed=5, engine=engine), expected)
    assert len(expected.flatten(1).unique(dim=0)) == 3


def test_pixel_rnn_samples_keep_what_is_known():
    case = CASES["rnn"]
    _, model = twins(case)
    known = case.images(4, 3, 3)
    mask = torch.arange(9).view(3, 3) < 5
    for engine in ("naive", *ENGINES):
        drawn = model.sample(4, (3, 3), known=known, known_mask=mask, seed=2, engine=engine)
        assert torch.equal(drawn[..., mask], known[..., mask])


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize(
    "options",
    [
        {"in_channels": 4, "color_groups": 2, "hidden_channels": 6, "num_blocks": 2, "num_levels": 17},
        {"in_channels": 4, "color_groups": 2, "hidden_channels": 6, "num_blocks": 2, "num_levels": 17, "kind": "row"},
        {"in_channels": 2, "hidden_channels": 5, "num_blocks": 1, "num_levels": 300},
        {"hidden_channels": 3, "num_blocks": 3, "first_kernel_size": 1},  # nothing of a pixel but what LSTMs bring
        {"hidden_channels": 3, "num_blocks": 1, "first_kernel_size": 1, "kind": "row"},
        {"hidden_channels": 3, "num_blocks": 0},
    ],
    ids=["groups", "groups-row", "300-levels", "kernel-1", "kernel-1-row", "no-block"],
)
def test_pixel_rnn_engines_draw_as_naive(options, engine):
    """Guided too; and neither what a batch is nor what memory was before matters."""
    model = randomise(PixelRNN(**options)).double()
    torch.manual_seed(1)
    for shape in ((1, 4), (3, 5), (4, 1)):
        known = torch.randint(0, model.num_levels, (9, model.in_channels, *shape))
        mask = torch.rand(known.shape) < 0.3
        for args in ({}, {"known": known, "known_mask": mask, "temperature": 0.7}):
            expected = model.sample(9, shape, seed=3, engine="naive", **args)
            with poisoned_memory():
                assert torch.equal(model.sample(9, shape, seed=3, engine=engine, **args), expected)
        alone = model.sample(2, shape, seed=3, engine=engine, **{**args, "known": known[:2], "known_mask": mask[:2]})
        assert torch.equal(alone, expected[:2])


def test_pixel_rnn_takes_the_fastest_engine_that_can():
    model = PixelRNN(hidden_channels=2, num_blocks=1)
    assert _engines.choose(model, None) == ("cpu" if "cpu" in ENGINES else "cached")
    assert _engines.choose(model.bfloat16(), None) == "cached"


def test_pixel_rnn_in_16_bits_is_left_to_cached_on_gpus():
    class OnGpu(PixelRNN):
        def parameters(self, recurse=True):
            yield types.SimpleNamespace(device=torch.device("cuda"), dtype=torch.bfloat16)

    reason = "it runs in float32 and float64, the model is in torch.bfloat16"
    assert _engines.why_not(OnGpu(num_blocks=0), "cuda") == reason


def test_row_pixel_rnn_sees_a_triangle():
    """h comes from one column further to either side with each row, whatever the block; and each layer reads one to the left."""
    model = PixelRNN(hidden_channels=8, num_blocks=2, kind="row", first_kernel_size=3).double()
    randomise(model)
    found = jacobian(model, (1, 6, 6))[:, 0, :, 0].view(6, 6, 6, 6) > 0
    for i in range(6):
        for j in range(6):
            for row in range(i):
                along = torch.arange(6) - j
                assert torch.equal(found[i, j, row], (along >= row - i - 3) & (along <= i - row)), (i, j, row)


@pytest.mark.parametrize(
    ("error", "match", "options"),
    [
        (ValueError, r"PixelRNN: kind: expected 'diagonal' or 'row', got 'both'", {"kind": "both"}),
        (ValueError, r"PixelRNN: kind: expected .* got None", {"kind": None}),
        (ValueError, r"PixelRNN: hidden_channels: .*multiple of 3.* got 64", {"in_channels": 3, "color_groups": 3}),
        (ValueError, r"PixelRNN: first_kernel_size: .*got 6", {"first_kernel_size": 6}),
        (TypeError, r"PixelRNN: num_blocks: .*got 1.5", {"num_blocks": 1.5}),
    ],
)
def test_pixel_rnn_refuses(error, match, options):
    with pytest.raises(error, match=match):
        PixelRNN(**{"hidden_channels": 64} | options)
    assert PixelRNN(3, color_groups=3, num_blocks=0).head[1].in_channels == 132
