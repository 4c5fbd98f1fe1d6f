"""pygen.models.VQVAE against its plain-PyTorch twin, and with a pixel model as the prior of its codes."""

from __future__ import annotations

import pytest
import torch

from pygen import cli
from pygen.data import digits
from pygen.models import VQVAE, GatedPixelCNN, load, save
from pygen.reference.models import VQVAE as PlainVQVAE

SMALL = {"num_codes": 12, "code_dim": 4, "hidden_channels": 6, "num_halvings": 1, "num_residual": 1, "num_levels": 16}


def twins(decay):
    torch.manual_seed(4)
    plain = PlainVQVAE((2, 6, 8), decay=decay, **SMALL).double()
    ours = VQVAE((2, 6, 8), decay=decay, **SMALL).double()
    ours.load_state_dict(plain.state_dict())
    return plain, ours, torch.randint(16, (5, 2, 6, 8), dtype=torch.uint8)


@pytest.mark.parametrize("decay", (None, 0.9))
def test_vqvae_trains_as_its_twin_step_by_step(decay):
    plain, ours, x = twins(decay)
    for _ in range(3):
        losses = [model.loss(x) for model in (plain, ours)]
        torch.testing.assert_close(losses[1], losses[0], rtol=1e-10, atol=0)
        for model, loss in zip((plain, ours), losses, strict=True):
            named = dict(model.named_parameters())
            grads = torch.autograd.grad(loss, list(named.values()))
            with torch.no_grad():
                for t, grad in zip(named.values(), grads, strict=True):
                    t -= 0.1 * grad
    for (name, a), (_, b) in zip(ours.state_dict().items(), plain.state_dict().items(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-8, atol=1e-10, msg=name)
    codes = ours.eval().encode(x)
    assert torch.equal(codes, plain.eval().encode(x)) and codes.shape == (5, *ours.codes_shape)
    assert torch.equal(ours.decode(codes), plain.decode(codes)) and torch.equal(ours.reconstruct(x), ours.decode(codes))


def test_vqvae_encoding_moves_no_averages():
    _, ours, x = twins(0.9)
    before = {name: t.clone() for name, t in ours.state_dict().items()}
    ours.train().encode(x)
    assert all(torch.equal(t, before[name]) for name, t in ours.state_dict().items())


def test_vqvae_on_digits_with_a_prior_over_its_codes(tmp_path):
    """It learns, its codes are a pixel model's levels, and what that draws are images."""
    pytest.importorskip("sklearn")
    torch.manual_seed(0)
    x = digits(binarize=False).train_x[:256]
    levels = int(x.max()) + 1
    model = VQVAE(
        (1, 8, 8), num_codes=16, code_dim=4, hidden_channels=8, num_halvings=1, num_residual=0, num_levels=levels
    )
    optimizer, losses = torch.optim.Adam(model.parameters(), 1e-2), []
    for _ in range(25):
        optimizer.zero_grad()
        loss = model.loss(x)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    codes = model.eval().encode(x)
    prior = GatedPixelCNN(num_levels=16, hidden_channels=4, num_blocks=1)
    assert prior.loss(codes.unsqueeze(1)).isfinite()
    drawn = model.decode(prior.sample(3, model.codes_shape, seed=0).squeeze(1).long())
    assert drawn.shape == (3, 1, 8, 8) and drawn.dtype == torch.uint8 and int(drawn.max()) < levels
    save(model, tmp_path / "vqvae.pt")
    assert torch.equal(load(tmp_path / "vqvae.pt").eval().encode(x), codes)
    assert cli.main(["sample", str(tmp_path / "vqvae.pt")]) != 0


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda m, x: VQVAE((1, 6)), r"image_shape: expected \(C, H, W\), got \(1, 6\)"),
        (lambda m, x: VQVAE((1, 6, 8)), r"image_shape: expected height and width that 4 divides.* got \(1, 6, 8\)"),
        (lambda m, x: VQVAE((1, 8, 8), num_residual=-1), r"num_residual: expected a number >= 0, got -1"),
        (lambda m, x: VQVAE((1, 8, 8), num_levels=1), r"num_levels: expected an int >= 2, got 1"),
        (lambda m, x: m.loss(x + 16), r"x: expected levels 0 .. 15, got"),
        (lambda m, x: m.loss(x, x), r"cond: expected None: this model is unconditional, got Tensor"),
        (lambda m, x: m.decode(torch.zeros(5, 6, 8, dtype=torch.int64)), r"indices: expected codes \[N, 3, 4\] .* \[5, 6, 8\]"),
        (lambda m, x: m.decode(torch.full((5, 3, 4), 12)), r"indices: expected levels 0 .. 11, got 12 .. 12"),
    ],
)  # fmt: skip
def test_vqvae_refuses(call, match):
    _, ours, x = twins(None)
    with pytest.raises(ValueError, match="VQVAE: " + match):
        call(ours, x)
