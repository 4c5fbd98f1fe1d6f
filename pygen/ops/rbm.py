"""The free energy of a restricted Boltzmann machine, which learns; rbm_gibbs.py draws."""

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen.ops import _library, _rbm_common
from pygen.ops._rbm import check, check_values, gradients, promoted
from pygen.ops._reduction import reduced, spread
from pygen.ops._saved import save, saved
from pygen.ops._second_order import composite_gradients
from pygen.reference import rbm as reference

_ENERGY, _STEM = "rbm_free_energy", "rbm"


def rbm_free_energy(
    v: Tensor,
    weight: Tensor,
    visible_bias: Tensor,
    hidden_bias: Tensor,
    *,
    reduction: str = "batchmean",
    backend: str | None = None,
) -> Tensor:
    """The free energy, in nats, of a restricted Boltzmann machine's visible units: -log p(v) - log Z, with which it is trained.

    F(v) = -v . visible_bias - sum_j softplus(W v + hidden_bias)_j. The gradient of F of the data less F of a Gibbs
    chain's end (see rbm_gibbs) is contrastive divergence (CD or PCD), with the hidden units' probabilities instead of
    their samples. Hinton 2012, "A Practical Guide to Training Restricted Boltzmann Machines", section 16.1.

    Differentiable to any order in the parameters and in a floating v (first order under torch.compile); torch.func
    transforms run the reference composition. Backward keeps the hidden units' probabilities, [N, H] of float32
    (float64).

    Args:
        v: [N, D]. torch.bool, torch.uint8 or torch.int64 levels {0, 1}: another level raises on a CPU; on a GPU, where a
            check would have to synchronise, it makes the energy NaN. Or floating, of weight's dtype: any number, of which
            the formula is taken.
        weight: [H, D], float64, float32, bfloat16 or float16; computed in float32 (float64).
        visible_bias: [D].
        hidden_bias: [H].
        reduction: "none" gives [N]; "sum" the total; "batchmean" the total over N.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        float32 (float64 for float64), [N] or 0-dim.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> weight, visible_bias, hidden_bias = torch.randn(3, 6), torch.zeros(6), torch.zeros(3)
        >>> v = torch.randint(2, (4, 6), dtype=torch.uint8)
        >>> pygen.functional.rbm_free_energy(v, weight, visible_bias, hidden_bias, reduction="none").shape
        torch.Size([4])
    """
    tensors = (v, weight, visible_bias, hidden_bias)
    energy = _rbm_common.energy(*tensors, reduction, backend, _gradients)
    if energy is not None:
        return energy
    if _checks.autocast_enabled():
        tensors = promoted(tensors)
    check(_ENERGY, *tensors)
    _checks.check_reduction(_ENERGY, reduction)
    return _energy(_dispatch.requested(_ENERGY, backend), reduction, *tensors)


def _energy(name: str, reduction: str, *tensors: Tensor) -> Tensor:
    """[N] or []; name: of the backend."""
    v, weight, visible_bias, hidden_bias = tensors
    wanted = torch.is_grad_enabled() and any(t.requires_grad for t in tensors)
    if not _dispatch.is_plain(*tensors):
        if _dispatch.under_transform(_ENERGY, name, weight.device.type):
            return reduced(reference.forward(v, weight, visible_bias, hidden_bias)[0], reduction)
        return torch.ops.pygen.rbm_free_energy(*tensors, reduction, wanted, name)[0]
    name = _dispatch.resolve(_ENERGY, name, weight.device.type)
    launcher = _dispatch.launcher(_ENERGY, _STEM, name, weight)
    check_values(_ENERGY, tensors[0])
    if wanted:
        return _fast_apply(launcher, *tensors, reduction, True, name)[0]
    return reduced(launcher.forward(*tensors, False)[0], reduction)


def _launch(v, weight, visible_bias, hidden_bias, reduction, keep, backend):
    launcher = _dispatch.launcher(_ENERGY, _STEM, backend, weight)
    check_values(_ENERGY, v)
    energy, units = launcher.forward(v, weight, visible_bias, hidden_bias, keep)
    return reduced(energy, reduction), units


def _launch_backward(grad_energy, v, weight, visible_bias, hidden_bias, units, reduction, needs, backend):
    launcher = _dispatch.launcher(_ENERGY, _STEM, backend, weight)
    return _backward_on(launcher, grad_energy, v, weight, visible_bias, hidden_bias, units, reduction, needs)


def _backward_on(launcher, grad_energy, v, weight, visible_bias, hidden_bias, units, reduction, needs):
    given, each = (v, weight, visible_bias, hidden_bias), spread(grad_energy, v, reduction)
    if launcher is reference:
        grads = reference.backward(each, *given, needs)
    else:
        if units.shape != (v.shape[0], weight.shape[0]):  # forward was told not to keep them
            units = launcher.forward(*given, True)[1]
        grads = gradients(each, *given, units, needs)
    return [grad for grad in grads if grad is not None]


def _fake(v, weight, visible_bias, hidden_bias, reduction, keep, backend):
    wide = torch.promote_types(weight.dtype, torch.float32)
    energies, units = v.shape[:1] if reduction == "none" else (), (v.shape[0], weight.shape[0]) if keep else (0,)
    return weight.new_empty(energies, dtype=wide), weight.new_empty(units, dtype=wide)


def _fake_backward(grad_energy, v, weight, visible_bias, hidden_bias, units, reduction, needs, backend):
    tensors = (v, weight, visible_bias, hidden_bias)
    return [t.new_empty(t.shape) for t, n in zip(tensors, needs, strict=True) if n]


class _FreeEnergy(torch.autograd.Function):
    """With a launcher: the fast door. Without: the op below autograd."""

    @staticmethod
    def forward(ctx, launcher, v, weight, visible_bias, hidden_bias, reduction, keep, backend):
        ctx.set_materialize_grads(False)
        given = (v, weight, visible_bias, hidden_bias)
        if launcher is None:
            energy, units = _below(*given, reduction, keep, backend)
        else:
            energies, units = launcher.forward(*given, keep)
            energy = reduced(energies, reduction)
        ctx.mark_non_differentiable(units)
        save(ctx, *given, units)
        ctx.launcher, ctx.reduction, ctx.backend = launcher, reduction, backend
        return energy, units

    @staticmethod
    def backward(ctx, grad_energy, _):
        if grad_energy is None:
            return (None,) * 8
        needs = ctx.needs_input_grad[1:5]
        grads = _gradients(ctx.launcher, grad_energy, saved(ctx), ctx.reduction, needs, ctx.backend)
        return None, *grads, None, None, None


def _gradients(launcher, grad_energy, given, reduction, needs, backend) -> tuple[Tensor | None, ...]:
    """Of v and the parameters; recorded where a graph of the backward is asked for."""
    args = (_dispatch.readable(grad_energy), *given, reduction, needs)
    if _dispatch.transformed(grad_energy):
        return reference.backward(spread(args[0], given[0], reduction), *given[:4], needs)
    if launcher is None:
        grads = iter(torch.ops.pygen.rbm_free_energy_backward(*args, backend))
    elif torch.is_grad_enabled():
        grads = iter(_FreeEnergyBackward.apply(_launch_backward, *args, backend))
    else:
        grads = iter(_backward_on(launcher, *args))
    return tuple(next(grads) if n else None for n in needs)


class _FreeEnergyBackward(torch.autograd.Function):
    """The kernel forward, the composite of its formula backward."""

    @staticmethod
    def forward(ctx, call, grad_energy, v, weight, visible_bias, hidden_bias, units, reduction, needs, backend):
        ctx.set_materialize_grads(False)
        save(ctx, grad_energy, v, weight, visible_bias, hidden_bias)
        ctx.reduction, ctx.needs = reduction, needs
        return tuple(call(grad_energy, v, weight, visible_bias, hidden_bias, units, reduction, needs, backend))

    @staticmethod
    def backward(ctx, *grad_grads):
        def formula(grad, v, *parameters):
            return reference.backward(spread(grad, v, ctx.reduction), v, *parameters, ctx.needs)

        grads = composite_gradients(formula, saved(ctx), ctx.needs_input_grad[1:6], grad_grads)
        return None, *grads, *(None,) * 4


_fast_apply = _library.fast_apply(_FreeEnergy)

_TENSORS = "Tensor v, Tensor weight, Tensor visible_bias, Tensor hidden_bias"

_below = _library.register(
    f"rbm_free_energy({_TENSORS}, str reduction, bool keep, str backend) -> (Tensor, Tensor)",
    _launch,
    _fake,
    lambda *args: _FreeEnergy.apply(None, *args),
)
_below_backward = _library.register(
    f"rbm_free_energy_backward(Tensor grad_energy, {_TENSORS}, Tensor units, str reduction, bool[] needs, "
    "str backend) -> Tensor[]",
    _launch_backward,
    _fake_backward,
    lambda *args: list(_FreeEnergyBackward.apply(_below_backward, *args)),
)
