"""One row per model: what the generic tests of test_conformance_models*.py need to know of it, and what they share."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import pytest
import torch
from support import assert_same
from torch import Tensor, nn

from pygen import models

BATCH = 13  # no other size of a row, which a compiled region would take for the same


@dataclass(frozen=True)
class Row:
    """A model small enough to be looked at from all sides."""

    make: Callable[[], nn.Module]
    inputs: Callable[[], tuple[Tensor, ...]]  # of its loss: images, and a condition where it has one
    sample: Callable[[nn.Module], Tensor]  # three images, with a seed
    draws: bool = False  # its loss draws noise, of which a sample in a batch has other than alone
    moves: bool = False  # its loss moves buffers, which a second one then finds elsewhere
    weight_norm: bool = False  # which torch neither pickles nor differentiates forwards


def _levels(*shape: int, most: int = 2) -> Tensor:
    return torch.randint(most, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(2), device="cpu")


def _real(*shape: int) -> Tensor:
    return torch.rand(shape, generator=torch.Generator().manual_seed(2), dtype=torch.float32, device="cpu")


def _classes(n: int) -> Tensor:
    return torch.arange(n, device="cpu") % 3


def _images(model: nn.Module) -> Tensor:
    return model.sample(3, (5, 4), seed=1)


def _vectors(model: nn.Module) -> Tensor:
    return model.sample(3, seed=1)


def _vqvae(**options: object) -> Callable[[], nn.Module]:
    return lambda: models.VQVAE((1, 4, 4), num_codes=5, code_dim=3, hidden_channels=4, **options)


_GREY, _FLAT, _FLOW = lambda: (_levels(BATCH, 1, 5, 4),), lambda: (_levels(BATCH, 7),), lambda: (_real(BATCH, 6),)

ROWS = {
    "PixelCNN": Row(lambda: models.PixelCNN(hidden_channels=4, num_blocks=1), _GREY, _images),
    "PixelCNN rgb": Row(
        lambda: models.PixelCNN(in_channels=3, color_groups=3, hidden_channels=6, num_blocks=1, num_levels=4),
        lambda: (_levels(BATCH, 3, 5, 4, most=4),),
        _images,
    ),
    "GatedPixelCNN": Row(
        lambda: models.GatedPixelCNN(hidden_channels=4, num_blocks=2, num_classes=3),
        lambda: (_levels(BATCH, 1, 5, 4), _classes(BATCH)),
        lambda model: model.sample(3, (5, 4), cond=_classes(3), seed=1),
    ),
    "GatedPixelCNN of features": Row(
        lambda: models.GatedPixelCNN(hidden_channels=4, num_blocks=1, cond_channels=2),
        lambda: (_levels(BATCH, 1, 5, 4), _real(BATCH, 2)),
        lambda model: model.sample(3, (5, 4), cond=_real(3, 2), seed=1),
    ),
    "PixelCNNPP": Row(
        lambda: models.PixelCNNPP(
            1, hidden_channels=4, num_resnets=1, num_mixtures=2, num_scales=2, num_levels=6, num_classes=3, dropout=0.0
        ),
        lambda: (_levels(BATCH, 1, 5, 4, most=6), _classes(BATCH)),
        lambda model: model.sample(3, (5, 4), cond=_classes(3), seed=1),
        weight_norm=True,
    ),
    "PixelRNN": Row(lambda: models.PixelRNN(hidden_channels=4, num_blocks=1), _GREY, _images),
    "MADE": Row(lambda: models.MADE(7, [5]), _FLAT, _vectors),
    "NADE": Row(lambda: models.NADE(7, 5), _FLAT, _vectors),
    "NICE": Row(lambda: models.NICE(6, [5]), _FLOW, _vectors),
    "NICE of levels": Row(
        lambda: models.NICE(6, [5], num_levels=4), lambda: (_levels(BATCH, 6, most=4),), _vectors, draws=True
    ),
    "RealNVP": Row(
        lambda: models.RealNVP((2, 4, 4), hidden_channels=3, num_blocks=1), lambda: (_real(BATCH, 2, 4, 4),), _vectors
    ),
    "NSF": Row(lambda: models.NSF(6, hidden_sizes=[5]), _FLOW, _vectors),
    "MAF": Row(lambda: models.MAF(6, [5, 8], num_layers=2), _FLOW, _vectors),
    "MAF of conditions": Row(
        lambda: models.MAF(6, [5], num_layers=2, cond_features=3, bound=None),
        lambda: (_real(BATCH, 6), _real(BATCH, 3)),
        lambda model: model.sample(3, cond=_real(3, 3), seed=1),
    ),
    "RBM": Row(lambda: models.RBM(7, 5), _FLAT, _vectors, draws=True),
    "VAE": Row(lambda: models.VAE((1, 5, 4), 2, hidden=[3, 4], conv=True), _GREY, _vectors, draws=True),
    "VQVAE": Row(_vqvae(decay=None), lambda: (_levels(BATCH, 1, 4, 4),), lambda m: m.reconstruct(_levels(3, 1, 4, 4))),
    "VQVAE of averages": Row(
        _vqvae(decay=0.9), lambda: (_levels(BATCH, 1, 4, 4),), lambda m: m.reconstruct(_levels(3, 1, 4, 4)), moves=True
    ),
}

each_model = pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in ROWS.items()])


def built(row: Row) -> nn.Module:
    """The same model each time; no layer is at the zeros that some begin with, which hide those before it."""
    torch.manual_seed(0)
    model, generator = row.make(), torch.Generator().manual_seed(1)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=generator, dtype=torch.float32, device="cpu"))
    return model


def results(model: nn.Module, inputs: Sequence[Tensor], call: Callable | None = None) -> list[Tensor]:
    """The loss, with the noise of one seed, and the gradients of all parameters."""
    torch.manual_seed(5)
    loss = (model if call is None else call)(*inputs)
    assert loss.shape == ()
    learnt = [p for p in model.parameters() if p.requires_grad]
    return [loss.detach(), *torch.autograd.grad(loss, learnt, materialize_grads=True)]


def assert_close(got: Sequence[Tensor], expected: Sequence[Tensor], rtol: float = 1e-5, atol: float = 1e-6) -> None:
    for i, (a, b) in enumerate(zip(got, expected, strict=True)):
        torch.testing.assert_close(a, b, rtol=rtol, atol=atol, check_dtype=False, msg=lambda m, i=i: f"{i}: {m}")


def assert_alike(got: Sequence[Tensor], expected: Sequence[Tensor], rtol: float) -> None:
    """What low precision leaves of a loss and its gradients: each as a whole, beside its own size and hardly the largest's."""
    most = 0.1 * rtol * max(float(e.norm()) for e in expected[1:])
    torch.testing.assert_close(got[0].float(), expected[0], rtol=0.1 * rtol, atol=0)
    for i, (a, b) in enumerate(zip(got[1:], expected[1:], strict=True), 1):
        off = float((a.float() - b).norm())
        assert off <= rtol * float(b.norm()) + most, f"{i}: off by {off}, of {float(b.norm())}"


def assert_draws(model: nn.Module, row: Row, expected: Tensor | None = None) -> None:
    """The samples that the model as it is built draws, or these."""
    assert_same(row.sample(model.eval()), row.sample(built(row).eval()) if expected is None else expected)


def floating(inputs: Sequence[Tensor], dtype: torch.dtype) -> list[Tensor]:
    return [t.to(dtype) if t.is_floating_point() else t for t in inputs]


def as_function(model: nn.Module, inputs: Sequence[Tensor]) -> tuple[Callable, dict[str, Tensor]]:
    """The loss as a function of the parameters, and these."""
    parameters, buffers = dict(model.named_parameters()), dict(model.named_buffers())

    def loss(parameters, *values):
        return torch.func.functional_call(model, {**buffers, **parameters}, values or tuple(inputs))

    return loss, {name: p.detach() for name, p in parameters.items()}
