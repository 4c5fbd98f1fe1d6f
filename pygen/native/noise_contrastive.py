"""Launchers of the C++ and the CUDA C++ kernels of noise_contrastive. CUDA: not yet run on a GPU."""

import torch
from torch import Tensor

from pygen.native._arguments import DTYPE_NAMES, on_gpu, target
from pygen.ops._reduction import reduced

_MOST_SORTED = 1 << 32


def _address(t: Tensor | None) -> int | None:
    return None if t is None else t.data_ptr()


def _rows(t: Tensor) -> tuple[int, int]:
    """(address, stride of rows), of rows whose numbers lie side by side."""
    return t.data_ptr(), t.stride(0)


def rows(
    input: Tensor,  # [N, D]; the numbers of a row side by side, as of weight
    weight: Tensor,  # [C, D]
    bias: Tensor | None,  # [C], contiguous
    classes: tuple[Tensor, Tensor],  # target [N] and negatives [N, K], or [K] with a shift; contiguous
    log_noise: Tensor | None,  # [C], float64
    log_count: float,
    softmax: bool,
    hits: bool,
    shift: Tensor | None,  # [K], contiguous: what is added to the products
    scores: Tensor,  # [N, K], contiguous, in the dtype computed in: products, or nothing yet; slopes take their place
    slopes: Tensor,  # [N], written: the targets'
    reduction: str,
    grad: bool,
) -> tuple[Tensor, Tensor | None]:
    """The loss and the gradient of input [N, D] (with a shift, what the targets give), in the dtype computed in."""
    compiled, where = target(weight)
    gpu = on_gpu((compiled, where))
    nll = slopes.new_empty(len(slopes) if gpu or reduction == "none" else ())
    made = torch.empty(input.shape, dtype=slopes.dtype, device=input.device) if grad else None
    sizes = (*scores.shape, input.shape[1])
    noise = None if log_noise is None else (log_noise.data_ptr(), log_noise.stride(0))
    written = tuple(_address(t) for t in (scores, slopes, nll, made))
    given = (classes[0].data_ptr(), classes[1].data_ptr()), _address(shift), written
    options = DTYPE_NAMES[input.dtype], softmax, hits, sizes
    more = (len(weight),) if gpu else (len(weight), reduction)
    compiled.noise_contrastive_rows(
        *options, (_rows(input), _rows(weight)), _address(bias), noise, log_count, *given, *more, *where
    )
    return reduced(nll, reduction) if gpu else nll, made


def order(
    given: Tensor,  # [M] classes, contiguous
    most: int,  # C
) -> tuple[Tensor, Tensor]:
    """The classes sorted and which entries they are; equal ones stay in their order."""
    compiled, where = target(given)
    if on_gpu((compiled, where)) or max(len(given), most) >= _MOST_SORTED:
        return torch.sort(given, stable=True)
    classes, entries = torch.empty_like(given), torch.empty_like(given)
    compiled.noise_contrastive_order(len(given), most, given.data_ptr(), classes.data_ptr(), entries.data_ptr())
    return classes, entries


def sums(
    sorted_classes: Tensor,  # [M]
    entries: Tensor,  # [M], of order()
    place: Tensor | None,  # [M], the rows of out; None: the classes
    scale: Tensor,  # [M], by entry, in the dtype computed in
    bias_scale: Tensor | None,  # [M], what the bias gets; None: scale
    head: Tensor,  # [N, D], vectors of the first N entries; rows as of rows()
    tail: Tensor,  # [R, D], of the others, as many to each
    out: Tensor,  # [.., D], contiguous: rows of classes that come are written
    bias: Tensor | None,  # [..], contiguous, as out
) -> None:
    """out[c] = the sum over the entries of class c of their scale times their vector."""
    compiled, where = target(out)
    per = (len(entries) - len(head)) // max(1, len(tail))
    sizes = (len(entries), len(head), max(1, per), out.shape[1])
    more = ()
    if on_gpu((compiled, where)):
        ends = torch.searchsorted(sorted_classes, sorted_classes, right=True)
        more = (ends.data_ptr(), len(out))
    compiled.noise_contrastive_sums(
        DTYPE_NAMES[out.dtype], head.dtype != out.dtype, sizes, (sorted_classes.data_ptr(), entries.data_ptr()),
        _address(place), (scale.data_ptr(), _address(bias_scale)), (_rows(head), _rows(tail)),
        (out.data_ptr(), _address(bias)), *more, *where,
    )  # fmt: skip
