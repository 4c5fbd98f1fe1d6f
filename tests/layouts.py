"""Tensors of equal values in memory layouts that kernels get wrong, and the shapes that are worth testing.

Each maker takes a contiguous tensor. `maker.what_for(y)` says whether y has the property it was made for. Memory
between and around the elements is NaN (of integers the largest), so that reading one element too many shows.
"""

import random
from collections.abc import Callable

import torch
from torch import Tensor

# At most eight shapes, each with its reason.
SHAPES = {
    "one element": (1,),
    "odd everything": (7, 3, 5, 3),
    "one block of 1024": (4, 256),
    "a block plus one": (1, 1025),
    "wide": (3, 2603),
    "narrow rows": (331, 3),
    "empty batch": (0, 5),
    "empty inner dim": (3, 0, 2),
}
# What Triton's interpreter gets through in a second.
SMALL = ("one element", "odd everything", "a block plus one", "empty batch", "empty inner dim")


def _property(what_for: Callable[[Tensor], bool]) -> Callable:
    def decorate(maker: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        maker.what_for = what_for
        return maker

    return decorate


def _nan(size: int | tuple[int, ...], like: Tensor) -> Tensor:
    poison = float("nan") if like.is_floating_point() else torch.iinfo(like.dtype).max
    return torch.full(size if isinstance(size, tuple) else (size,), poison, dtype=like.dtype, device=like.device)


@_property(lambda y: y.is_contiguous() and y.data_ptr() % 16 != 0)
def misaligned(x: Tensor) -> Tensor:
    """Contiguous, but starting one element into a larger buffer."""
    buffer = _nan(x.numel() + 65, x)
    y = buffer[1 : 1 + x.numel()].view(x.shape)
    return y.copy_(x)


@_property(lambda y: not y.is_contiguous() or y.shape[-1] == 1)
def strided(x: Tensor) -> Tensor:
    """Every third element of the last dim, NaN in the gaps."""
    buffer = _nan((*x.shape[:-1], 3 * x.shape[-1] + 2), x)
    y = buffer[..., 1 : 1 + 3 * x.shape[-1] : 3]
    return y.copy_(x)


@_property(lambda y: y.dim() < 2 or not y.is_contiguous() or y.shape[0] == 1)
def row_gaps(x: Tensor) -> Tensor:
    """Rows with NaN between them, as a slice of a wider tensor has: mu, logvar = h.chunk(2, -1)."""
    buffer = _nan((*x.shape[:-1], x.shape[-1] + 5), x)
    y = buffer[..., 3 : 3 + x.shape[-1]]
    return y.copy_(x)


@_property(lambda y: y.dim() < 2 or y.stride(0) == 1 or y.shape[0] == 1)
def transposed(x: Tensor) -> Tensor:
    """The first dim lies innermost."""
    if x.dim() < 2:
        return x.clone()
    return x.transpose(0, -1).contiguous().transpose(0, -1)


@_property(lambda y: y.dim() != 4 or y.is_contiguous(memory_format=torch.channels_last))
def channels_last(x: Tensor) -> Tensor:
    return x.contiguous(memory_format=torch.channels_last) if x.dim() == 4 else x.clone()


@_property(lambda y: y.dim() != 4 or y.stride(1) == 1)
def channels_last_slice(x: Tensor) -> Tensor:
    """Some channels of a channels_last tensor with more of them."""
    if x.dim() != 4:
        return x.clone()
    n, c, h, w = x.shape
    buffer = _nan((n, h, w, c + 3), x).permute(0, 3, 1, 2)
    y = buffer[:, 2 : 2 + c]
    return y.copy_(x)


@_property(lambda y: 0 in y.stride() or y.shape[0] == 1)
def expanded(x: Tensor) -> Tensor:
    """The first row in place of each: stride 0. Other values than x."""
    return x[:1].expand(x.shape) if x.shape[0] else x.clone()


@_property(lambda y: y.dim() < 2 or y.shape[0] == 1 or y.stride(0) == 1)
def overlapping(x: Tensor) -> Tensor:
    """A sliding window: each row starts one element after the row before. Other values than x."""
    if x.dim() < 2 or x.numel() == 0:
        return x.clone()
    row = x[0].numel()
    flat = x.reshape(-1)[: row + x.shape[0] - 1].clone()
    if flat.numel() < row + x.shape[0] - 1:
        flat = torch.cat((flat, flat))
    return flat.as_strided(x.shape, (1, *x.stride()[1:]))


MAKERS = (misaligned, strided, row_gaps, transposed, channels_last, channels_last_slice, expanded, overlapping)
WRITABLE = MAKERS[:6]  # those that keep x's values and whose elements lie apart: good for leaves of a gradient check

FUZZ_SIZES = (1, 1, 2, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 32, 33, 63, 65, 127, 129, 257, 1023, 1025)


def fuzz_size(rng: random.Random, most: int = 1025) -> int:
    """A dim: mostly small, often a power of two or one beside it, sometimes 0."""
    if rng.random() < 0.02:
        return 0
    return rng.choice([s for s in FUZZ_SIZES if s <= most])


def fuzz_shape(rng: random.Random, dims: tuple[int, int] = (1, 5), most: int = 6000) -> tuple[int, ...]:
    n, found, left = rng.randint(*dims), [], most
    for _ in range(n):
        found.append(fuzz_size(rng, max(1, left)))
        left //= max(found[-1], 1)
    rng.shuffle(found)
    if found and rng.random() < 0.004:
        found[rng.randrange(n)] = rng.choice((65_535, 65_536, 65_537))  # beyond a grid's second axis
        found = [s if s > 60_000 or s <= 2 else 2 for s in found]
    return tuple(found)
