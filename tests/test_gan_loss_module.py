"""nn.GANLoss and the presets: the constants and the calls of other code bases, each against its formula."""

import copy

import pytest
import registry  # noqa: F401 (before its rows, which import it)
import torch
import torch.nn.functional as F
from rows.gan_loss import logits

from pygen import nn as pnn
from pygen import presets
from pygen.functional import discriminator_loss, gradient_penalty

pytestmark = pytest.mark.usefixtures("poisoned")


def test_presets_are_the_formulas_of_their_code_bases():
    """As those files write them, in float64, where their epsilons do not matter."""
    r, f = logits((6,), (9,)).values()
    bce = F.binary_cross_entropy_with_logits
    theirs = {
        ("taming", None): (0.5 * (F.relu(1.0 - r).mean() + F.relu(1.0 + f).mean()), -f.mean()),
        ("taming", "vanilla"): (0.5 * (F.softplus(-r).mean() + F.softplus(f).mean()), -f.mean()),
        ("stylegan2", None): (F.softplus(-r).mean() + F.softplus(f).mean(), F.softplus(-f).mean()),
        ("pix2pix", None): (
            (F.mse_loss(f, torch.zeros_like(f)) + F.mse_loss(r, torch.ones_like(r))) * 0.5,
            F.mse_loss(f, torch.ones_like(f)),
        ),
        ("pix2pix", "vanilla"): (
            (bce(f, torch.zeros_like(f)) + bce(r, torch.ones_like(r))) * 0.5,
            bce(f, torch.ones_like(f)),
        ),
        ("pix2pix", "wgangp"): ((f.mean() - r.mean()) * 0.5, -f.mean()),
        ("mimicry", None): (F.relu(1.0 - r).mean() + F.relu(1.0 + f).mean(), -f.mean()),
        ("mimicry", "gan"): (bce(r, torch.ones_like(r)) + bce(f, torch.zeros_like(f)), bce(f, torch.ones_like(f))),
        ("mimicry", "ns"): (
            bce(r, torch.ones_like(r)) + bce(f, torch.zeros_like(f)),
            -torch.log(torch.sigmoid(f)).mean(),
        ),
        ("mimicry", "wasserstein"): (-r.mean() + f.mean(), -f.mean()),
    }
    for (like, variant), (d, g) in theirs.items():
        module = pnn.GANLoss(like=like, variant=variant)
        torch.testing.assert_close(module.discriminator(real=r, fake=f), d, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(module.generator(fake=f), g, rtol=1e-9, atol=1e-12)
        preset = presets.gan_loss(like, variant)
        assert discriminator_loss(real=r, fake=f, **preset.discriminator) == module.discriminator(real=r, fake=f)
    with pytest.raises(ValueError, match=r"like: expected one of taming, .* got 'biggan'$"):
        presets.gan_loss("biggan")
    with pytest.raises(ValueError, match=r"got 'stylegan2-ada', which is 'stylegan2' here"):
        presets.gan_loss("stylegan2-ada")
    with pytest.raises(ValueError, match=r"variant: expected one of hinge, vanilla for 'taming', got 'lsgan'"):
        presets.gan_loss("taming", "lsgan")


def test_preset_penalties_are_the_formulas_of_their_code_bases():
    """StyleGAN2's gamma / 2 times the squared norm, every 16 steps; 10 (norm - 1)^2 between real and fake; or none."""
    real, fake = (t.view(5, 3, 2, 2) for t in logits((5, 12)).values())
    weight = torch.randn(12, 7, dtype=torch.float64, generator=torch.Generator().manual_seed(1)).requires_grad_()

    def critic(x):
        return torch.tanh(x.flatten(1) @ weight).sum(1)

    def slope(x):
        x = x.detach().requires_grad_()
        return torch.autograd.grad(critic(x).sum(), x, create_graph=True)[0].flatten(1)

    u = torch.rand(5, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    between = slope(u * real + (1 - u) * fake)
    with_penalty = {
        ("stylegan2", "logistic"): (slope(real).square().sum(1) * (10.0 / 2)).mean(),
        ("pix2pix", "wgangp"): (((between + 1e-16).norm(2, dim=1) - 1.0) ** 2).mean() * 10.0,
        ("mimicry", "wasserstein"): 10.0 * ((between.norm(2, dim=1) - 1) ** 2).mean(),
    }
    for like, variants in presets._GAN.items():
        for variant in variants:
            preset, theirs = presets.gan_loss(like, variant), with_penalty.pop((like, variant), None)
            assert preset.penalty_every == (16 if like == "stylegan2" else 1)
            assert (preset.penalty is None) == (theirs is None)
            if theirs is None:
                continue
            given = {"real": real} if like == "stylegan2" else {"real": real, "fake": fake}
            ours = gradient_penalty(critic, **given, **preset.penalty, generator=torch.Generator().manual_seed(3))
            torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
            grads = [torch.autograd.grad(p, weight, retain_graph=True)[0] for p in (ours, theirs)]
            torch.testing.assert_close(*grads, rtol=1e-9, atol=1e-12)
    assert not with_penalty


@pytest.mark.parametrize("mode", ("lsgan", "vanilla", "wgangp"))
@pytest.mark.parametrize("target_is_real", (True, False))
def test_gan_loss_module_takes_the_call_of_pix2pix(mode, target_is_real):
    """Its criterion(prediction, target_is_real): MSE, BCE with logits, or plus and minus the mean; no factor."""
    x = logits((2, 1, 5, 5))["real"].requires_grad_()
    label = torch.full_like(x, float(target_is_real))
    theirs = {
        "lsgan": lambda: F.mse_loss(x, label),
        "vanilla": lambda: F.binary_cross_entropy_with_logits(x, label),
        "wgangp": lambda: -x.mean() if target_is_real else x.mean(),
    }[mode]()
    ours = pnn.GANLoss(like="pix2pix", variant=mode)(x, target_is_real)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)
    torch.testing.assert_close(
        torch.autograd.grad(ours, x)[0], torch.autograd.grad(theirs, x)[0], rtol=1e-12, atol=1e-14
    )


def test_gan_loss_module_in_the_generators_turn_and_of_lists():
    x, y = logits((4,), (3, 2)).values()
    hinge = pnn.GANLoss("hinge", scale=3.0)
    torch.testing.assert_close(hinge(x, True, for_discriminator=False), -x.mean())
    torch.testing.assert_close(hinge(x, True), F.relu(1 - x).mean())
    torch.testing.assert_close(hinge([x, y], False), (F.relu(1 + x).mean() + F.relu(1 + y).mean()) / 2)
    torch.testing.assert_close(hinge.generator(fake=x), -3 * x.mean())
    terms = pnn.GANLoss("hinge", reduction="none")([x, y], True)
    assert [t.shape for t in terms] == [(4,), (3, 2)]
    with pytest.raises(ValueError, match="target_is_real: expected True for the generator"):
        hinge(x, False, for_discriminator=False)
    with pytest.raises(TypeError, match=r"target_is_real: expected True or False, got float64 \[3, 2\] on cpu$"):
        hinge(x, y)
    with pytest.raises(ValueError, match="kind: expected one whose terms stand alone"):
        pnn.GANLoss("relativistic")(x, True)
    with pytest.raises(ValueError, match="kind: expected None, as like='taming' sets it"):
        pnn.GANLoss("hinge", like="taming")
    with pytest.raises(ValueError, match="kind: expected one of minimax"):
        pnn.GANLoss("lsgan")
    again = copy.deepcopy(hinge)
    assert again.kind == "hinge" and "hinge" in repr(again) and not again.state_dict()
