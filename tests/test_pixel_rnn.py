"""PixelRNN: samples, and what its Row LSTMs see; the rest it shares with the other pixel models' tests."""

import pytest
import torch
from pixel_twins import ALL, RECURRENT, jacobian, randomise, twins

from pygen.models import PixelRNN, _engines


@pytest.mark.parametrize("name", RECURRENT)
def test_pixel_rnn_samples_are_its_twins(name):
    plain, ours = twins(name)
    shape = (3, 4)
    expected = plain.sample(3, shape, seed=5)
    for engine in ("naive", "fixed_point", None):
        assert torch.equal(ours.sample(3, shape, seed=5, engine=engine), expected)
    assert len(expected.flatten(1).unique(dim=0)) == 3


def test_pixel_rnn_samples_keep_what_is_known():
    case = ALL["rnn"]
    _, model = twins(case)
    known = case.images(4, 3, 3)
    mask = torch.arange(9).view(3, 3) < 5
    for engine in ("naive", "fixed_point"):
        drawn = model.sample(4, (3, 3), known=known, known_mask=mask, seed=2, engine=engine)
        assert torch.equal(drawn[..., mask], known[..., mask])


def test_pixel_rnn_has_no_sampling_program():
    model = PixelRNN(hidden_channels=2, num_blocks=1)
    assert _engines.choose(model, None) == "naive"
    for engine in ("cached", "cpu"):
        with pytest.raises(RuntimeError, match=r"PixelRNN: engine .* cannot run: PixelRNN defines _logits without a"):
            model.sample(1, (2, 2), engine=engine)


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
