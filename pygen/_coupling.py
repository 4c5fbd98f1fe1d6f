"""How the kernels of couplings see a call: where the transformed places lie in each tensor, and where the others do.

"all" has one part. "channel" and "even_odd" cut each tensor in two: the transformed part, and the rest, which is copied.
"checkerboard", and "even_odd" of parameters that have the input's shape, which would be read with gaps, take the whole tensor as
one part, in which the parity of weighted indices tells the transformed places. What is left after merging is three dims a
sample, innermost in memory last.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from pygen._layout import empty_images, empty_output
from pygen.native._arguments import contiguous

Strides = tuple[int, ...]
MAX_DIMS = 3


def live_channels(channels: int, mask: str, flip: bool) -> tuple[int, int, int]:
    """(first, step, count) of the transformed indices of dim 1."""
    if mask == "all":
        return (0, 1, channels)
    middle = (channels + 1) // 2
    if mask == "channel":
        return (0, 1, middle) if flip else (middle, 1, channels - middle)
    return (0, 2, middle) if flip else (1, 2, channels - middle)


@dataclass(frozen=True)
class Part:
    """sizes: of the three dims inside a sample. places: for each tensor its first element's offset, then its strides over the
    batch and these dims, in elements; None where the tensor is absent."""

    sizes: tuple[int, int, int]
    places: tuple[tuple[int, Strides] | None, ...]

    @property
    def count(self) -> int:
        return self.sizes[0] * self.sizes[1] * self.sizes[2]


@dataclass(frozen=True)
class Plan:
    """An element of `live` is transformed where the sum of weights times indices is odd, or with `even` where it is not; with
    weights None everywhere. `rest` is copied; it holds the tensors of input's shape alone."""

    live: Part
    rest: Part | None
    weights: tuple[int, int, int] | None
    even: bool


def _merge(dims: list[tuple[int, int, Strides]]) -> list[tuple[int, int, Strides]]:
    """(size, weight, strides) of dims, outermost first; neighbours that step as one, in memory and in parity, become one."""
    merged: list[tuple[int, int, Strides]] = []
    for size, weight, strides in reversed(dims):
        if size == 1:
            continue
        if merged:
            inner, inner_weight, inner_strides = merged[0]
            if all(a == b * inner for a, b in zip(strides, inner_strides, strict=True)) and (
                (weight - inner_weight * inner) % 2 == 0
            ):
                merged[0] = (size * inner, inner_weight, inner_strides)
                continue
        merged.insert(0, (size, weight, strides))
    return merged


def _part(
    sizes: tuple[int, ...],  # of dims 1 ...
    weights: tuple[int, ...],
    places: list[tuple[int, Strides] | None],  # offset, strides of all dims
) -> tuple[Part, tuple[int, int, int]] | None:
    present = [p for p in places if p is not None]
    lead = present[0][1]
    order = sorted(range(len(sizes)), key=lambda d: -lead[d + 1])
    dims = _merge([(sizes[d], weights[d], tuple(s[d + 1] for _, s in present)) for d in order])
    if len(dims) > MAX_DIMS:
        return None
    if 0 in sizes:
        dims = [(0, 0, (0,) * len(present))]
    dims = [(1, 0, (0,) * len(present))] * (MAX_DIMS - len(dims)) + dims
    rest = iter(range(len(present)))
    found = []
    for p in places:
        i = next(rest) if p is not None else 0
        found.append(None if p is None else (p[0], (p[1][0], *(strides[i] for _, _, strides in dims))))
    a, b, c = dims
    return Part((a[0], b[0], c[0]), tuple(found)), (a[1], b[1], c[1])


@lru_cache(maxsize=512)
def plan(
    shape: tuple[int, ...],  # [N, C, ...]
    half: bool,
    mask: str,
    flip: bool,
    whole: tuple[Strides | None, ...],  # strides of tensors of that shape, the first is present
    params: tuple[Strides | None, ...],  # of tensors of that shape or, with half, of the transformed half's
) -> Plan | None:
    """None if more than three dims remain: then with contiguous tensors."""
    if mask == "checkerboard" or (mask == "even_odd" and not half):
        last_two = len(shape) - 3
        weights = tuple(int(d >= last_two if mask == "checkerboard" else d == 0) for d in range(len(shape) - 1))
        made = _part(shape[1:], weights, [None if s is None else (0, s) for s in (*whole, *params)])
        return None if made is None else Plan(made[0], None, made[1], (mask == "checkerboard") != flip)

    def cut(strides: tuple[Strides | None, ...], first: int, step: int) -> list[tuple[int, Strides] | None]:
        return [None if s is None else (first * s[1], (s[0], s[1] * step, *s[2:])) for s in strides]

    first, step, count = live_channels(shape[1], mask, flip)
    none = (0,) * (len(shape) - 1)
    params_cut = cut(params, 0, 1) if half else cut(params, first, step)
    live = _part((count, *shape[2:]), none, [*cut(whole, first, step), *params_cut])
    if mask == "all":
        return None if live is None else Plan(live[0], None, None, False)
    other = live_channels(shape[1], mask, not flip)
    rest = _part((other[2], *shape[2:]), none, cut(whole, *other[:2]))
    return None if live is None or rest is None else Plan(live[0], rest[0], None, False)


class Call:
    """The plan of these tensors, of contiguous copies of those read where there is none as they are.

    Args:
        read, written: (tensors of input's shape, parameters), None where absent. What is written is dense.
    """

    def __init__(
        self,
        like: Tensor,
        half: bool,
        mask: str,
        flip: bool,
        read: tuple[list[Tensor | None], list[Tensor | None]],
        written: tuple[list[Tensor | None], list[Tensor | None]],
    ) -> None:
        self.whole, self.params = [*read[0], *written[0]], [*read[1], *written[1]]
        made = self._plan(like, half, mask, flip)
        if made is None:
            self.whole = [None if t is None else contiguous(t) for t in read[0]] + written[0]
            self.params = [None if t is None else contiguous(t) for t in read[1]] + written[1]
            made = self._plan(like, half, mask, flip)
            assert made is not None
        self.plan: Plan = made

    def _plan(self, like: Tensor, half: bool, mask: str, flip: bool) -> Plan | None:
        whole, params = (
            tuple(None if t is None else t.stride() for t in tensors) for tensors in (self.whole, self.params)
        )
        return plan(tuple(like.shape), half, mask, flip, whole, params)


def empty_gradients(
    like: Tensor, half: bool, mask: str, flip: bool, needs: tuple[bool, ...], together: bool = False
) -> list[Tensor | None]:
    """Where the gradients of input, shift and log_scale go, laid out as the output; with `together` those of shift and log_scale
    as the halves of one tensor, which `pygen.ops._halves` hands on as it is. Zeros where a kernel does not pass."""
    channels = live_channels(like.shape[1], mask, flip)[2] if half else like.shape[1]

    def param(count: int) -> Tensor:
        made = empty_images(like, count * channels) if half or count == 2 else empty_output(like)
        return made.zero_() if mask == "channel" and not half else made

    if together and needs[1] and needs[2] and channels:
        params: list[Tensor | None] = list(param(2).split(channels, 1))
    else:
        params = [param(1) if n else None for n in needs[1:]]
    return [empty_output(like) if needs[0] else None, *params]


def zero_gradients(grads: list[Tensor | None]) -> list[Tensor | None]:
    """Fills those of input and shift, which do not depend on log_det; what is left to a kernel."""
    for grad in grads[:2]:
        if grad is not None:
            grad.zero_()
    return [None, None, grads[2]]


def wide(like: Tensor) -> torch.dtype:
    return torch.promote_types(like.dtype, torch.float32)


class SplineCall:
    """Of parameters [N, C' * P, ...], P numbers for each transformed channel: where each place's first number lies, and how far
    apart the others are.

    Args:
        whole_read, whole_written: tensors of input's shape [N, C, ...], the first of which is there.
        params_read, params_written: of the parameters'. None where absent; what is written is dense.
    """

    def __init__(
        self,
        mask: str,
        flip: bool,
        tails: str,
        whole_read: list[Tensor | None],
        whole_written: list[Tensor | None],
        params_read: list[Tensor],
        params_written: list[Tensor | None],
    ) -> None:
        like = whole_read[0]
        assert like is not None
        self.images, self.mask, self.flip, self.like = len(like), mask, flip, like
        self.numbers = params_read[0].shape[1] // live_channels(like.shape[1], mask, flip)[2]
        self.bins = (self.numbers + (1 if tails == "linear" else -1)) // 3
        made = self._plan([*whole_read, *whole_written], [*params_read, *params_written])
        if made is None:
            dense = [None if t is None else contiguous(t) for t in whole_read]
            made = self._plan([*dense, *whole_written], [*(contiguous(t) for t in params_read), *params_written])
            assert made is not None
        self.plan: Plan = made

    def _plan(self, whole: list[Tensor | None], params: list[Tensor | None]) -> Plan | None:
        self.whole, self.params = whole, [None if t is None else t[:, :: self.numbers] for t in params]
        self.steps = [0 if t is None else t.stride(1) for t in params]
        strides = (tuple(None if t is None else t.stride() for t in tensors) for tensors in (whole, self.params))
        return plan(tuple(self.like.shape), True, self.mask, self.flip, *strides)

    @property
    def geometry(self) -> tuple:
        """As the compiled modules take it."""
        rest = self.plan.rest
        return self.images, self.plan.live.sizes, None if rest is None else rest.sizes
