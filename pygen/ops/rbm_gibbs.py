"""Block Gibbs sampling in a restricted Boltzmann machine; rbm.py has its free energy."""

from typing import Any

import torch
from torch import Generator, Tensor

from pygen import _checks, _dispatch, _noise
from pygen.ops import _library
from pygen.ops._rbm import check, check_values, promoted
from pygen.reference import rbm as reference

_OP, _STEM = "rbm_gibbs", "rbm"
_MOST_STEPS = 1 << 30


def rbm_gibbs(
    v: Tensor,
    weight: Tensor,
    visible_bias: Tensor,
    hidden_bias: Tensor,
    *,
    steps: int = 1,
    temperature: float = 1.0,
    known_mask: Tensor | None = None,
    seed: int | Tensor | None = None,
    generator: Generator | None = None,
    return_hidden: bool = False,
    backend: str | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Block Gibbs sampling in a restricted Boltzmann machine: hidden units given visible ones and back, `steps` times.

    A unit is 1 where u <= sigmoid(a / temperature), a = W v + hidden_bias, then W^T h + visible_bias. Not
    differentiable: the chain's end is data for rbm_free_energy. Geman and Geman 1984; Hinton 2002.

    The uniforms u are a function of (seed, step, layer, image, unit) alone: the same on every backend, whatever the
    layout and the number of threads, and image i's chain does not depend on its batch-mates. Backends differ in a
    decision only where the rounding of a meets u.

    Args:
        v: [N, D], where the chains begin: torch.bool, torch.uint8 or torch.int64 levels {0, 1} (another raises on a CPU; on a GPU
            the image's units are undefined), or floating, of weight's dtype, such as chances in [0, 1], which enter as they are.
        weight: [H, D], finite; where a is NaN the unit is 0.
        visible_bias: [D].
        hidden_bias: [H].
        steps: full steps, 0 .. 2^30; 0 gives a copy of v.
        temperature: finite, > 0; below 1 the chain prefers what is likely.
        known_mask: [N, D], torch.bool: where v stays what it is, in all steps. None: nowhere.
        seed, generator: where the noise comes from, as in reparameterize_kl; at most one.
        return_hidden: whether the hidden units come back too, those that the last visible ones were drawn from.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        [N, D] in v's dtype, 0 and 1; or the pair of it and [N, H].

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> weight, visible_bias, hidden_bias = torch.randn(3, 6), torch.zeros(6), torch.zeros(3)
        >>> v = torch.randint(2, (4, 6), dtype=torch.uint8)
        >>> end = pygen.functional.rbm_gibbs(v, weight, visible_bias, hidden_bias, steps=10, seed=0)
        >>> end.shape, end.dtype
        (torch.Size([4, 6]), torch.uint8)
    """
    tensors = (v, weight, visible_bias, hidden_bias)
    if _checks.autocast_enabled():
        tensors = promoted(tensors)
    check(_OP, *tensors)
    _check_options(tensors[0], steps, temperature, known_mask, return_hidden)
    name = _dispatch.requested(_OP, backend)
    plain = _dispatch.is_plain(*tensors, known_mask, None if isinstance(seed, torch.SymInt) else seed)
    if plain:
        _dispatch.launcher(_OP, _STEM, name, weight)
        check_values(_OP, tensors[0])
    else:
        _dispatch.ask(_OP, name, weight.device.type)
    drawn = _noise.resolve_seed(_OP, seed, generator, weight.device)
    call = _launch if plain else torch.ops.pygen.rbm_gibbs
    with torch.no_grad():
        state, hidden = call(*tensors, steps, float(temperature), known_mask, drawn, name)
    return (state, hidden) if return_hidden else state


def _check_options(v: Tensor, steps: Any, temperature: Any, known_mask: Any, return_hidden: Any) -> None:
    if isinstance(steps, bool) or not isinstance(steps, int):
        raise _checks.fail(_OP, "steps", "an int", type(steps).__name__, kind=TypeError)
    if not 0 <= steps <= _MOST_STEPS:
        raise _checks.fail(_OP, "steps", "0 .. 2^30", steps)
    _checks.check_temperature(_OP, temperature)
    if not isinstance(return_hidden, bool):
        raise _checks.fail(_OP, "return_hidden", "a bool", type(return_hidden).__name__, kind=TypeError)
    if return_hidden and steps == 0:
        raise _checks.fail(_OP, "return_hidden", "False of no steps, which draw no hidden units", return_hidden)
    if known_mask is None:
        return
    _checks.check_tensor(_OP, "known_mask", known_mask)
    if known_mask.dtype != torch.bool:
        raise _checks.fail(_OP, "known_mask", "torch.bool, true where known", known_mask.dtype, kind=TypeError)
    if known_mask.device != v.device:
        raise _checks.fail(_OP, "known_mask", f"a tensor on {v.device}, where v is", known_mask.device)
    if known_mask.shape != v.shape:
        raise _checks.fail(_OP, "known_mask", f"the shape {list(v.shape)}, of v", list(known_mask.shape))


def _launch(v, weight, visible_bias, hidden_bias, steps, temperature, known_mask, seed, backend):
    launcher = _dispatch.launcher(_OP, _STEM, backend, weight)
    check_values(_OP, v)
    if steps == 0 or not v.numel():  # a machine without visible units has nothing that would be returned but h
        launcher = reference
    return launcher.gibbs(v, weight, visible_bias, hidden_bias, steps, temperature, known_mask, seed)


def _fake(v, weight, visible_bias, hidden_bias, steps, temperature, known_mask, seed, backend):
    return v.new_empty(v.shape), v.new_empty((v.shape[0], weight.shape[0]))


_below = _library.register(
    "rbm_gibbs(Tensor v, Tensor weight, Tensor visible_bias, Tensor hidden_bias, int steps, float temperature, "
    "Tensor? known_mask, Tensor seed, str backend) -> (Tensor, Tensor)",
    _launch,
    _fake,
    lambda *args: _below(*args),
)
