"""noise_table and noise_sample: classes drawn by an alias table, as the negatives of noise-contrastive losses."""

from typing import Any

import torch
from torch import Generator, Tensor

from pygen import _checks
from pygen.ops._sampler import Sampler
from pygen.reference import noise_sample as reference

_OP = "noise_sample"
MOST_CLASSES = 1 << 30
_MOST_DRAWS = 1 << 31


def noise_table(counts: Tensor, power: float = 0.75) -> Tensor:
    """An alias table of q_c = counts_c^power / sum, from which noise_sample and the losses draw classes.

    Made on the CPU in float64, whatever the dtype of counts, which need not sum to anything: about a second for a
    million classes. A class of count 0 is never drawn, whatever the power. Walker 1977; Vose 1991; the power of Mikolov
    et al. 2013.

    Args:
        counts: [C], how often each class comes, or its weight: finite, >= 0, not all 0; any floating or integer dtype.
        power: 0.75 as in word2vec; 1 draws classes as often as they come, 0 all that do equally often.

    Returns:
        int64 [C, 3] on counts' device: probabilities to stay in a column, in units of 2^-63, aliases of the columns, and the
        bits of log q in float64 (table[:, 2].view(torch.float64)). Integers, so that a module's half() does not round them.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.

    Example:
        >>> table = pygen.functional.noise_table(torch.tensor([2, 1, 1]), power=1.0)
        >>> table.shape, table.dtype
        (torch.Size([3, 3]), torch.int64)
        >>> table[:, 2].view(torch.float64).exp()  # q
        tensor([0.5000, 0.2500, 0.2500], dtype=torch.float64)
    """
    op = "noise_table"
    _checks.check_tensor(op, "counts", counts)
    if counts.is_complex() or counts.dtype == torch.bool:
        raise _checks.fail(op, "counts", "a floating or integer dtype", counts.dtype, kind=TypeError)
    if counts.dim() != 1 or not 1 <= len(counts) <= MOST_CLASSES:
        raise _checks.fail(op, "counts", f"[C], 1 .. {MOST_CLASSES} classes", list(counts.shape))
    if isinstance(power, bool) or not isinstance(power, (int, float)):
        raise _checks.fail(op, "power", "a number", type(power).__name__, kind=TypeError)
    if not 0 <= power <= 16:
        raise _checks.fail(op, "power", "0 .. 16", power)
    weights = counts.detach().to(device="cpu", dtype=torch.float64)
    if not bool((weights.isfinite() & (weights >= 0)).all()) or not bool((weights > 0).any()):
        raise _checks.fail(op, "counts", "finite numbers >= 0, not all 0", "others")
    weights = torch.where(weights > 0, (weights / weights.max()) ** power, 0.0)
    return reference.table(weights / weights.sum()).to(counts.device)


def check_table(op: str, noise: Any) -> None:
    """Refuse what cannot be a table of noise_table. Its numbers are not looked at."""
    _checks.check_tensor(op, "noise", noise)
    if noise.dtype != torch.int64:
        raise _checks.fail(op, "noise", "an int64 table of noise_table", noise.dtype, kind=TypeError)
    if noise.dim() != 2 or noise.shape[1] != 3 or not 1 <= noise.shape[0] <= MOST_CLASSES:
        raise _checks.fail(op, "noise", "a table [C, 3] of noise_table", list(noise.shape))


def noise_sample(
    noise: Tensor,
    size: int | tuple[int, int],
    *,
    seed: int | Tensor | None = None,
    generator: Generator | None = None,
    backend: str | None = None,
) -> Tensor:
    """Draws classes independently, with replacement, from a table of noise_table: two look-ups a draw, however many classes.

    The noise-contrastive losses draw so with num_negatives. Draw k of row n is a function of (seed, n, k) alone, by
    integers alone: the same on every backend, bit for bit, whatever the number of rows, draws and threads.

    Args:
        noise: [C, 3], a table of noise_table. One that is not may give any numbers.
        size: (rows, draws of a row), or an int: draws of one row, below 2^31 in all.
        seed: an int, or a 0-dim int64 tensor on noise's device.
        generator: on noise's device, draws the seed. Without both the seed comes from torch's default generator.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        int64 of that size.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> noise = pygen.functional.noise_table(torch.tensor([100, 10, 1]))
        >>> pygen.functional.noise_sample(noise, (8, 5), seed=0).shape
        torch.Size([8, 5])
    """
    check_table(_OP, noise)
    rows, count = _size(size)
    drawn = _sampler(noise, (rows, count), seed, generator, backend)
    return drawn if isinstance(size, tuple) else drawn[0]


def _size(size: Any) -> tuple[int, int]:
    sizes = size if isinstance(size, tuple) else (1, size)
    if torch._C._get_tracing_state():  # whose shapes are tensors
        sizes = tuple(int(s) if isinstance(s, Tensor) and not s.dim() else s for s in sizes)
    if len(sizes) != 2 or not all(isinstance(s, (int, torch.SymInt)) and not isinstance(s, bool) for s in sizes):
        raise _checks.fail(_OP, "size", "an int or two in a tuple", repr(size), kind=TypeError)
    if min(sizes) < 0 or sizes[0] * sizes[1] >= _MOST_DRAWS:
        raise _checks.fail(_OP, "size", "0 .. 2^31 - 1 draws", repr(size))
    return sizes


_sampler = Sampler(
    _OP,
    "SymInt rows, SymInt count",
    lambda noise, rows, count: torch.empty((rows, count), dtype=torch.int64, device=noise.device),
)
