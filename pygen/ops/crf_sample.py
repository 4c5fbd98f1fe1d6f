"""crf_sample: tag sequences drawn from a linear-chain conditional random field."""

from typing import Any

import torch
from torch import Generator, Tensor

from pygen import _checks, _dispatch, _noise
from pygen.native._arguments import strided
from pygen.ops import _library
from pygen.ops._crf import launcher_of
from pygen.ops._crf_checks import check_lengths, check_values, floating_arguments
from pygen.ops.crf import how as how  # for pygen.explain
from pygen.reference._sampler import inverse_temperature

_OP = "crf_sample"


def crf_sample(
    emissions: Tensor,
    transitions: Tensor,
    start: Tensor | None = None,
    end: Tensor | None = None,
    *,
    num_samples: int | None = None,
    lengths: Tensor | None = None,
    temperature: float = 1.0,
    seed: int | Tensor | None = None,
    generator: Generator | None = None,
    backend: str | None = None,
) -> Tensor:
    """Draws tags exactly from a linear-chain CRF: each sequence's whole tagging y with probability e^score(y) / Z.

    The distribution is exp(-crf_nll), its marginals are crf_marginals. Impossible tags (score -inf) are never drawn;
    where no tagging is possible, or a score is NaN or +inf, the tags are arbitrary. Not differentiable. Arguments not
    named here are as in crf_log_partition.

    Forward filtering, backward sampling (Fruehwirth-Schnatter 1994; Scott 2002): one forward pass, from whose states
    all samples are drawn, a tag a step, from the last step to the first. A tag takes one uniform number, a pure
    function of the seed, its sample, its sequence's place in the batch and its step. So draws do not depend on the rest
    of the batch, on num_samples, on padding, threads or the backend, but where a number lies within the rounding of a
    boundary: in float32 about one tag in a million, after which the tags before it may differ as well.

    Args:
        num_samples: S taggings of each sequence, 0 .. 2^29; None: one, and result[0] of any S is that one.
        temperature: all scores are divided by it, which is another pass over the emissions; towards 0 crf_decode's tags come.
        seed: an int, or a 0-dim int64 tensor on emissions' device.
        generator: on emissions' device, draws the seed (torch.compile(fullgraph=True) cannot trace one: use seed=). Without both
            the seed comes from torch's default generator.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        [N, T], int64, or [S, N, T]; -1 past a sequence's length. On a GPU, where lengths are not looked at, a wrong length makes
        the whole sequence -1.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> emissions, transitions = torch.randn(2, 7, 5), torch.randn(5, 5)  # 2 sequences of 7 steps, 5 tags
        >>> pygen.functional.crf_sample(emissions, transitions).shape
        torch.Size([2, 7])
        >>> pygen.functional.crf_sample(emissions, transitions, num_samples=10, seed=0).shape
        torch.Size([10, 2, 7])
    """
    floating = floating_arguments(_OP, emissions, transitions, start, end)
    check_lengths(_OP, lengths, floating[0])
    _check_samples(num_samples)
    _checks.check_temperature(_OP, temperature)
    name, device = _dispatch.requested(_OP, backend), floating[0].device
    plain = _dispatch.is_plain(*floating, lengths, seed)
    if not plain:
        _dispatch.ask(_OP, name, device.type)
    launcher = launcher_of(_OP, name, floating[0]) if plain else None
    if plain:
        check_values(_OP, *floating, None, lengths)
        for t in floating:
            if t is not None and not t.is_meta:
                strided(t)  # raises where there is no memory, before a temperature has torch read it
    drawn = _noise.resolve_seed(_OP, seed, generator, device)
    with torch.no_grad():
        scores = floating if temperature == 1 else tuple(_tempered(t, float(temperature)) for t in floating)
        args = (*scores, lengths, drawn, 1 if num_samples is None else num_samples)
        tags = torch.ops.pygen.crf_sample(*args, name) if launcher is None else launcher.sample(*args)
    return tags.squeeze(0) if num_samples is None else tags


def _tempered(scores: Tensor | None, temperature: float) -> Tensor | None:
    """Less the largest, of emissions at each step, which every tagging's score has as much of; over the temperature."""
    if scores is None:
        return None
    wide = torch.promote_types(scores.dtype, torch.float32)
    given = scores.to(wide)
    top = given.amax(-1, keepdim=True) if given.dim() == 3 else given.amax()
    return (given - top.clamp(min=torch.finfo(wide).min)) * inverse_temperature(temperature, wide)


def _check_samples(num_samples: Any) -> None:
    if num_samples is None:
        return
    if isinstance(num_samples, bool) or not isinstance(num_samples, (int, torch.SymInt)):
        raise _checks.fail(_OP, "num_samples", "an int or None", type(num_samples).__name__, kind=TypeError)
    if num_samples < 0 or num_samples > 2**29:
        raise _checks.fail(_OP, "num_samples", "0 .. 2^29", num_samples)


def _launch(emissions, transitions, start, end, lengths, seed, num_samples, backend):
    launcher = launcher_of(_OP, backend, emissions)
    check_values(_OP, emissions, transitions, start, end, None, lengths)
    return launcher.sample(emissions, transitions, start, end, lengths, seed, num_samples)


def _fake(emissions, transitions, start, end, lengths, seed, num_samples, backend):
    return torch.empty((num_samples, *emissions.shape[:2]), dtype=torch.int64, device=emissions.device)


_below = _library.register(
    "crf_sample(Tensor emissions, Tensor transitions, Tensor? start, Tensor? end, Tensor? lengths, Tensor seed,"
    " SymInt num_samples, str backend) -> Tensor",
    _launch,
    _fake,
    lambda *args: _below(*args),
)
