"""How the density models draw: the arguments of `sample`, its noise, and one decision.

Each decision has one uniform number, a pure function of (seed, image, position): position j = pixel * C + channel is word j of
the Philox counter (j // 4, 0, image, domain). A decision takes the first level whose cumulated probability reaches the
number. So a sample depends neither on its batch-mates nor on how a batch is cut, and engines that compute equal logits
draw equal images.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Generator, Tensor

from pygen import _backends
from pygen._checks import check_temperature, check_tensor, fail, instead_of_levels
from pygen._noise import DOMAINS, resolve_seed
from pygen.reference import noise

from ._levels import check_level_range
from ._mixture import Mixture

_UNDRAWN = 0  # level of what is not drawn yet; no conditional depends on it


def uniforms(n: int, draws: int, seed: Tensor) -> Tensor:
    """float32 in (0, 1], [n, draws]: row i depends on the seed (0-dim int64) and on i alone."""
    backend = seed.device.type
    if backend in ("cpu", "cuda") and _backends.why_not(backend) is None:
        return _backends.load_launcher("sampling", backend).uniforms(n, draws, seed)
    return uniforms_of_tensors(n, draws, seed)


def uniforms_of_tensors(n: int, draws: int, seed: Tensor) -> Tensor:
    """`uniforms` in plain PyTorch, on the seed's device."""
    return noise.uniforms(n, draws, seed, DOMAINS["sampling"])


def decide(logits: Tensor | Mixture, u: Tensor, temperature: float) -> Tensor:
    """Levels [...], int64, from logits [..., L] and uniforms u [...]; a level of probability 0 is never drawn.

    A mixture instead of logits knows the temperature already.
    """
    if isinstance(logits, Mixture):
        return logits.decide(u)
    cumulated = torch.softmax(logits.double() / temperature, dim=-1).cumsum(-1)
    return (cumulated < u.double().unsqueeze(-1) * cumulated[..., -1:]).sum(-1)


def binary_thresholds(u: Tensor, temperature: float) -> Tensor:
    """float64, of u's shape: `decide` takes level 1 of two iff logit 0 - logit 1 lies below it."""
    u = u.double()
    # At u = 1 it is the largest difference at which 1 + exp(-difference) > 1: beyond it level 1 has probability 0.
    return temperature * (torch.log(u) - torch.log1p(-u)).clamp_max_(53 * math.log(2))


@dataclass(frozen=True)
class Drawing:
    """What an engine is given, checked, and where it writes."""

    levels: Tensor  # [n, *shape], filled step by step
    u: Tensor  # [n, *shape]
    known: Tensor | None  # [n, *shape], to be taken over where known_mask [n, *shape] says so
    known_mask: Tensor | None
    temperature: float

    def rows(self, rows: slice | Tensor) -> Drawing:
        """Some of the images; levels written into a slice's are written into this one's."""
        known, mask = (None if t is None else t[rows] for t in (self.known, self.known_mask))
        return Drawing(self.levels[rows], self.u[rows], known, mask, self.temperature)

    def flat(self) -> Drawing:
        """The same memory as [n, positions]."""
        known, mask = (None if t is None else t.flatten(1) for t in (self.known, self.known_mask))
        return Drawing(self.levels.flatten(1), self.u.flatten(1), known, mask, self.temperature)

    def open_positions(self) -> Tensor | None:
        """bool [*shape] on the CPU: where any image has something to draw; None: everywhere."""
        return None if self.known_mask is None else (~self.known_mask).any(0).cpu()

    def take_known(self, where: tuple) -> None:
        """Positions that are known in all images."""
        if self.known is not None:
            self.levels[where] = self.known[where]

    def put(self, where: tuple, logits: Tensor | Mixture) -> None:
        """Decides the positions `where` from their logits [n, ..., L] or mixtures; known ones keep their level."""
        drawn = decide(logits, self.u[where], self.temperature).to(self.levels.dtype)
        if self.known is not None and self.known_mask is not None:
            drawn = torch.where(self.known_mask[where], self.known[where], drawn)
        self.levels[where] = drawn


def prepare(
    model: str,
    n: int,
    shape: Sequence[int],
    num_levels: int,
    device: torch.device,
    *,
    known: Tensor | None,
    known_mask: Tensor | None,
    temperature: float,
    seed: int | Tensor | None,
    generator: Generator | None,
    extra_draws: int = 0,
) -> tuple[Drawing, Tensor]:
    """A checked drawing of n images [n, *shape] and extra uniforms [n, extra_draws]. The seed is taken last.

    The noise's positions are those of [n, H, W, C] for images [C, H, W], of [n, D] otherwise.
    """
    check_temperature(model, temperature)
    dtype = torch.uint8 if num_levels <= 256 else torch.int64
    known, known_mask = _check_known(model, known, known_mask, (n, *shape), num_levels, dtype, device)
    draws = math.prod(shape)
    u = uniforms(n, draws + extra_draws, resolve_seed(model, seed, generator, device))
    own, extra = u[:, :draws], u[:, draws:]
    if len(shape) == 3:
        channels, height, width = shape
        own = own.view(n, height, width, channels).permute(0, 3, 1, 2)
    levels = torch.full((n, *shape), _UNDRAWN, dtype=dtype, device=device)
    own = own.reshape(n, *shape)
    return Drawing(levels, own, known, known_mask, float(temperature)), extra


def _check_known(
    model: str,
    known: Tensor | None,
    known_mask: Tensor | None,
    shape: tuple[int, ...],
    num_levels: int,
    dtype: torch.dtype,
    device: torch.device,
) -> tuple[Tensor | None, Tensor | None]:
    if known is None and known_mask is None:
        return None, None
    for name, t, other in (("known", known, "known_mask"), ("known_mask", known_mask, "known")):
        if t is None:
            raise fail(model, name, f"a tensor together with {other}", "None", kind=TypeError)
        check_tensor(model, name, t)
        if t.device != device:
            raise fail(model, name, f"a tensor on {device}, where the model is", t.device)
        if t.dim() > len(shape) or any(
            a not in (1, b) for a, b in zip(reversed(t.shape), reversed(shape), strict=False)
        ):
            raise fail(model, name, f"a shape that broadcasts to {list(shape)}", list(t.shape))
    assert known is not None and known_mask is not None
    if known_mask.dtype != torch.bool:
        raise fail(model, "known_mask", "torch.bool, true where known", known_mask.dtype, kind=TypeError)
    if known.dtype not in (torch.uint8, torch.int64):
        expected = f"levels 0 .. {num_levels - 1} as torch.uint8 or torch.int64"
        raise fail(model, "known", expected, instead_of_levels(known, num_levels), kind=TypeError)
    known, known_mask = known.expand(shape), known_mask.expand(shape)
    check_level_range(model, "known", known[known_mask].cpu(), num_levels)  # a wait that a sampler can afford
    return known.to(dtype), known_mask
