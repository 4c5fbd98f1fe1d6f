"""vector_quantize: the nearest code of each position, straight-through, and its losses; code_statistics: what each code got."""

from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen.ops._vector_quantize import OP, fast_apply, launch, launch_statistics
from pygen.reference import vector_quantize as reference

_MOST_CODES = 1 << 30
_REDUCTIONS = ("mean", "none", "sum")


def vector_quantize(
    input: Tensor,
    codebook: Tensor,
    *,
    beta: float = 0.25,
    codebook_weight: float = 1.0,
    reduction: str = "mean",
    backend: str | None = None,
) -> tuple[Tensor, Tensor, Tensor]:
    """Replaces each position's vector by its nearest code, with losses that pull the two together: a VQ-VAE's bottleneck.

    loss = codebook_weight ||sg(z) - e||^2 + beta ||z - sg(e)||^2, the codebook's term and the commitment, z a
    position's vector, e its code and sg a stop of the gradient. The gradient of quantized goes to input unchanged
    (straight through), none of it to the codebook. van den Oord et al. 2017, "Neural Discrete Representation Learning",
    equation 3; Razavi et al. 2019, VQ-VAE-2.

    A code with a NaN or an infinity is never the nearest; a position with one, or where no other code is left, gets
    code 0, and makes the loss not finite.

    Differentiable to any order (first order under torch.compile), with sg constant in every order; as with any
    straight-through estimator, finite differences do not match; torch.func transforms run the reference composition.
    The codebook's gradient is summed code by code in one order, whatever the threads and the grid.

    Distances are Euclidean, in float32 (float64), and never stored. C++ sums squared differences: the distance of the
    code that is found is the least but for 2 (D + 4) eps of itself. The other backends take the largest <z, e> - |e|^2
    / 2, which cancels: up to 4 (D + 4) eps (|z| |e| + |e|^2) further, e the longest code. Where these numbers are
    exact, as of small integers, it is the lowest index of the nearest. The loss is of differences everywhere.

    Args:
        input: [N, D, ...], float64, float32, bfloat16 or float16. Any strides; channels_last and contiguous are equally fast.
        codebook: [K, D], like input.
        beta: the weight of the commitment, >= 0; 0.25 in the paper.
        codebook_weight: the weight of the codebook's term, >= 0; 0 for a codebook that moving averages keep.
        reduction: "mean" over all elements, as is the custom here; "sum"; "none" sums over each sample, [N].
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        quantized, input's shape and dtype, channels_last iff input is, the codes bit for bit; their indices [N, ...], int64, of
        equal ones the lowest; the loss, float32 (float64 for float64), [N] or 0-dim.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> z, codebook = torch.randn(2, 4, 8, 8), torch.randn(16, 4)  # 16 codes of 4 numbers
        >>> quantized, indices, loss = pygen.functional.vector_quantize(z, codebook)
        >>> quantized.shape, indices.shape, loss.shape
        (torch.Size([2, 4, 8, 8]), torch.Size([2, 8, 8]), torch.Size([]))
    """
    if _checks.autocast_enabled():
        input, codebook = _checks.promote_under_autocast(input, codebook)
    _check(input, codebook)
    check_reduction(OP, reduction)
    options = (_weight("beta", beta), _weight("codebook_weight", codebook_weight), reduction)
    name = _dispatch.requested(OP, backend)
    if not _dispatch.is_plain(input, codebook):
        if _dispatch.under_transform(OP, name, input.device.type):
            return reference.compose(input, codebook, *options)
        return torch.ops.pygen.vector_quantize(input, codebook, *options, name)
    name = _dispatch.resolve(OP, name, input.device.type)  # backward's too, whatever is asked for by then
    if torch.is_grad_enabled() and (input.requires_grad or codebook.requires_grad):
        return fast_apply(False, input, codebook, *options, name)
    return launch(input, codebook, *options, name)


def code_statistics(
    input: Tensor, indices: Tensor, num_codes: int, *, backend: str | None = None
) -> tuple[Tensor, Tensor]:
    """How many positions each code got and the sum of their vectors: what a codebook kept by moving averages needs.

    Not differentiable. Summed in one order, whatever the threads and the grid, by the kernel of the codebook's
    gradient.

    Args:
        input: [N, D, ...], float64, float32, bfloat16 or float16. Any strides.
        indices: [N, ...], int64, 0 .. num_codes - 1, of vector_quantize. A wrong one raises on a CPU; on a GPU, where a
            check would have to synchronise, it is left out.
        num_codes: K.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        counts [K], int64; sums [K, D], float32 (float64 for float64).

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> z, codebook = torch.randn(2, 4, 8, 8), torch.randn(16, 4)
        >>> _, indices, _ = pygen.functional.vector_quantize(z, codebook)
        >>> counts, sums = pygen.functional.code_statistics(z, indices, 16)
        >>> counts.shape, sums.shape, counts.sum().item()
        (torch.Size([16]), torch.Size([16, 4]), 128)
    """
    op = "code_statistics"
    _check_input(op, input)
    _checks.check_tensor(op, "indices", indices)
    if indices.dtype != torch.int64:
        raise _checks.fail(op, "indices", "codes as torch.int64", indices.dtype, kind=TypeError)
    if indices.device != input.device:
        raise _checks.fail(op, "indices", f"a tensor on {input.device}, where input is", indices.device)
    shape = input.shape[:1] + input.shape[2:]
    if indices.shape != shape:
        raise _checks.fail(op, "indices", f"{list(shape)}, of input {list(input.shape)}", list(indices.shape))
    if isinstance(num_codes, bool) or not isinstance(num_codes, (int, torch.SymInt)):
        raise _checks.fail(op, "num_codes", "an int", type(num_codes).__name__, kind=TypeError)
    if not 1 <= num_codes <= _MOST_CODES:
        raise _checks.fail(op, "num_codes", f"1 .. {_MOST_CODES}", num_codes)
    name = _dispatch.requested(op, backend)
    if not _dispatch.is_plain(input, indices):
        _dispatch.ask(op, name, input.device.type)
        return torch.ops.pygen.code_statistics(input, indices, num_codes, name)
    with torch.no_grad():
        return launch_statistics(input, indices, num_codes, name)


def check_reduction(op: str, reduction: Any) -> None:
    if not isinstance(reduction, str) or reduction not in _REDUCTIONS:
        raise _checks.fail(op, "reduction", "'mean', 'none' or 'sum'", repr(reduction))


def _weight(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise _checks.fail(OP, name, "a number", type(value).__name__, kind=TypeError)
    if not 0 <= value <= 1e6:
        raise _checks.fail(OP, name, "a number >= 0 and <= 1e+06", value)
    return float(value)


def _check_input(op: str, input: Any) -> None:
    _checks.check_tensor(op, "input", input)
    _checks.check_floating(op, "input", input)
    if input.dim() < 2:
        raise _checks.fail(op, "input", "at least two dims [N, D, ...]", list(input.shape))


def _check(input: Any, codebook: Any) -> None:
    _check_input(OP, input)
    _checks.check_tensor(OP, "codebook", codebook)
    _checks.check_floating(OP, "codebook", codebook)
    _checks.check_like(OP, "codebook", codebook, "input", input)
    if codebook.dim() != 2 or codebook.shape[1] != input.shape[1]:
        shape = f"[K, {input.shape[1]}], of input {list(input.shape)}"
        last = input.dim() > 2 and codebook.dim() == 2 and codebook.shape[1] == input.shape[-1]
        hint = " (an input's features are in dim 1: input.movedim(-1, 1))" if last else ""
        raise _checks.fail(OP, "codebook", shape, f"{list(codebook.shape)}{hint}")
    if not 1 <= codebook.shape[0] <= _MOST_CODES:
        raise _checks.fail(OP, "codebook", f"1 .. {_MOST_CODES} codes", list(codebook.shape))
