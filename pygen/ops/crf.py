"""The linear-chain conditional random field: log Z, the loss, the likeliest tags, the chance of each tag."""

from types import ModuleType
from typing import Any

import torch
from torch import Tensor

from pygen import _backends, _checks, _dispatch
from pygen.native._arguments import without_memory
from pygen.ops import _library
from pygen.ops._saved import save, saved
from pygen.ops._second_order import composite_gradients
from pygen.reference import crf as reference


def crf_log_partition(
    emissions: Tensor,
    transitions: Tensor,
    start: Tensor | None = None,
    end: Tensor | None = None,
    *,
    lengths: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """log Z of a linear chain, in nats: the logarithm of the sum of e^score over all K^L taggings of each sequence.

    The score of tags y is start[y_0] + sum_t emissions[t, y_t] + sum_t transitions[y_(t-1), y_t] + end[y_last]. Scores of -inf
    are what cannot come; where nothing can, log Z = -inf with gradient 0. Differentiable to any order in the floating arguments
    (first order under torch.compile, which runs the forward pass twice); torch.func transforms run the reference composition.
    Lafferty, McCallum and Pereira 2001, "Conditional Random Fields"; Rabiner 1989 for the recursion and its scaling.

    Args:
        emissions: [N, T, K], float64, float32, bfloat16 or float16; computed in float32 (float64). Any strides. More tags than
            256 (Triton: 64) run on the reference.
        transitions: [K, K], the score of going from tag i to tag j at [i, j]. Where some of them, or of end, lie further than 40
            (400) apart, or one is infinite, kernels sum logarithms, which is slower and as accurate.
        start: [K], None: zeros.
        end: [K], of the last tag within the length; None: zeros.
        lengths: [N], int64, 0 .. T; None: T. What lies past it is not read; of length 0 log Z = 0. A wrong length raises on a
            CPU; on a GPU, where to look would be to wait, it makes the result NaN.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        [N], float32 (float64 for float64).

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.
    """
    op = "crf_log_partition"
    floating = _floating(op, emissions, transitions, start, end)
    _check_lengths(op, lengths, floating[0])
    return _nll(op, floating, None, lengths, "none", backend)


def crf_nll(
    emissions: Tensor,
    tags: Tensor,
    transitions: Tensor,
    start: Tensor | None = None,
    end: Tensor | None = None,
    *,
    lengths: Tensor | None = None,
    reduction: str = "batchmean",
    backend: str | None = None,
) -> Tensor:
    """The negative log-likelihood, in nats, of tags in a linear chain: log Z less the score of the tags, from one pass.

    See crf_log_partition for the score, the arguments not named here, and how far it differentiates. Tags that cannot come, of
    score -inf, have a loss of +inf.

    Args:
        tags: [N, T], int64, 0 .. K-1; past the length anything. A wrong tag raises on a CPU; on a GPU it makes the loss NaN.
        reduction: "none" gives [N], the sum over each sequence; "sum" the total; "batchmean" the total over N.

    Returns:
        float32 (float64 for float64), [N] or 0-dim.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.
    """
    op = "crf_nll"
    floating = _floating(op, emissions, transitions, start, end)
    _check_indices(op, "tags", tags, "[N, T]", floating[0].shape[:2], floating[0])
    _check_lengths(op, lengths, floating[0])
    _checks.check_reduction(op, reduction)
    return _nll(op, floating, tags, lengths, reduction, backend)


def crf_marginals(
    emissions: Tensor,
    transitions: Tensor,
    start: Tensor | None = None,
    end: Tensor | None = None,
    *,
    lengths: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """The chance of each tag at each step given the emissions: the gradient of log Z, [N, T, K] in the dtype of emissions.

    Each row sums to 1; past a sequence's length, and where nothing can come, it is 0. Arguments as of crf_log_partition.
    Differentiable (by the reference's composition, not under torch.compile).

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.
    """
    op = "crf_marginals"
    floating = _floating(op, emissions, transitions, start, end)
    _check_lengths(op, lengths, floating[0])
    name = _dispatch.requested(op, backend)
    ones = floating[0].new_ones(floating[0].shape[:1], dtype=torch.promote_types(floating[0].dtype, torch.float32))
    needs = (True, False, False, False)
    if not _dispatch.is_plain(*floating, lengths):
        if _dispatch.under_transform(op, name, floating[0].device.type):
            e, a, s, f = floating
            return reference.backward(ones, e, a, s, f, None, lengths, "none", needs)[0]
        return torch.ops.pygen.crf_nll_backward(ones, *floating, None, lengths, "none", needs, name)[0]
    _check_values(op, *floating, None, lengths)
    _launcher(op, name, floating[0])
    return _CrfBackward.apply(_launch_backward, ones, *floating, None, lengths, "none", needs, None, name)[0]


def crf_decode(
    emissions: Tensor,
    transitions: Tensor,
    start: Tensor | None = None,
    end: Tensor | None = None,
    *,
    lengths: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The likeliest tags of each sequence and their score (Viterbi). Not differentiable.

    Of equally good tags the lowest is taken, at the last step first and then step by step towards the first one: the same on
    every backend, bit for bit. Arguments as of crf_log_partition.

    Returns:
        tags [N, T], int64, -1 past a sequence's length; their scores [N], float32 (float64 for float64), -inf where nothing can
        come.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.
    """
    op = "crf_decode"
    floating = _floating(op, emissions, transitions, start, end)
    _check_lengths(op, lengths, floating[0])
    name = _dispatch.requested(op, backend)
    if not _dispatch.is_plain(*floating, lengths):
        if _dispatch.under_transform(op, name, floating[0].device.type):
            raise NotImplementedError(f"{op}: has no rules for torch.func transforms or forward mode")
        return torch.ops.pygen.crf_decode(*floating, lengths, name)
    with torch.no_grad():
        return _launch_decode(*floating, lengths, name, op)


def how(backend: str, emissions: Tensor, *rest: object, **options: object) -> str:
    """For pygen.explain."""
    return _too_many(backend, emissions) or ""


def _too_many(backend: str, emissions: Tensor) -> str | None:
    """Why that backend leaves the call to the reference."""
    if backend == "reference":
        return None
    most, tags = _backends.load_launcher("crf", backend).MOST_TAGS, emissions.shape[2]
    return f"{tags} tags, its kernels take up to {most}: the reference runs" if tags > most else None


def _floating(op: str, emissions: Any, transitions: Any, start: Any, end: Any) -> tuple[Any, ...]:
    """Checked, and of one dtype."""
    if _checks.autocast_enabled():
        emissions, transitions, start, end = _checks.promote_under_autocast(emissions, transitions, start, end)
    _checks.check_tensor(op, "emissions", emissions)
    _checks.check_floating(op, "emissions", emissions)
    if emissions.dim() != 3 or emissions.shape[2] < 1:
        raise _checks.fail(op, "emissions", "[N, T, K] with at least one tag", list(emissions.shape))
    k = emissions.shape[2]
    for name, t, shape in (("transitions", transitions, [k, k]), ("start", start, [k]), ("end", end, [k])):
        if t is None and name != "transitions":
            continue
        _checks.check_tensor(op, name, t)
        _checks.check_like(op, name, t, "emissions", emissions)
        if list(t.shape) != shape:
            raise _checks.fail(op, name, f"shape {shape}, of emissions {list(emissions.shape)}", list(t.shape))
    return emissions, transitions, start, end


def _check_indices(op: str, name: str, t: Any, letters: str, shape: torch.Size, emissions: Tensor) -> None:
    _checks.check_tensor(op, name, t)
    if t.dtype != torch.int64:
        raise _checks.fail(op, name, "torch.int64", t.dtype, kind=TypeError)
    if t.device != emissions.device:
        raise _checks.fail(op, name, f"a tensor on {emissions.device}, where emissions is", t.device)
    if t.shape != shape:
        expected = f"{letters} = {list(shape)}, of emissions {list(emissions.shape)}"
        raise _checks.fail(op, name, expected, list(t.shape))


def _check_lengths(op: str, lengths: Any, emissions: Tensor) -> None:
    if lengths is not None:
        _check_indices(op, "lengths", lengths, "[N]", emissions.shape[:1], emissions)


def _check_values(op, emissions, transitions, start, end, tags, lengths) -> None:
    """Refuse wrong lengths and tags where they can be read for free."""
    n, steps, k = emissions.shape
    if not emissions.is_cpu or n == 0:
        return
    for t in (tags, lengths):
        if t is not None and t.numel() and not t.data_ptr():
            raise without_memory(t)
    if lengths is not None:
        least, most = (int(v) for v in lengths.aminmax())
        if least < 0 or most > steps:
            raise _checks.fail(op, "lengths", f"0 .. {steps}", f"{least} .. {most}")
    if tags is None or steps == 0:
        return
    least, most = (int(v) for v in tags.aminmax())
    if (least < 0 or most >= k) and lengths is not None:  # past the lengths anything may stand
        inside = tags.where(torch.arange(steps) < lengths.unsqueeze(1), 0)
        least, most = (int(v) for v in inside.aminmax())
    if least < 0 or most >= k:
        raise _checks.fail(op, "tags", f"tags 0 .. {k - 1}", f"{least} .. {most}")


def _launcher(op: str, backend: str, emissions: Tensor) -> ModuleType:
    launcher = _dispatch.launcher(op, "crf", backend, emissions)
    if launcher is reference or emissions.shape[2] <= launcher.MOST_TAGS:
        return launcher
    asked = backend if backend != _dispatch.AUTO else _dispatch.requested(op, None)
    if asked == _dispatch.AUTO:
        return reference
    reason = f"{emissions.shape[2]} tags, its kernels take up to {launcher.MOST_TAGS}"
    raise RuntimeError(f"{op}: backend {asked!r} cannot run: {reason}")


def _nll(op, floating, tags, lengths, reduction, backend) -> Tensor:
    name = _dispatch.requested(op, backend)
    emissions = floating[0]
    args = (*floating, tags, lengths, reduction)
    if not _dispatch.is_plain(*floating, tags, lengths):
        if _dispatch.under_transform(op, name, emissions.device.type):
            return reference.forward(*args)
        return torch.ops.pygen.crf_nll(*args, name)
    launcher = _launcher(op, name, emissions)
    _check_values(op, *floating, tags, lengths)
    if torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in floating):
        return _fast_apply(launcher, *args, name)
    return launcher.forward(*args)


def _launch(*args_and_backend):
    *args, backend = args_and_backend
    op = "crf_log_partition" if args[4] is None else "crf_nll"
    launcher = _launcher(op, backend, args[0])
    _check_values(op, *args[:-1])
    return launcher.forward(*args)


def _launch_backward(*args_and_backend):
    *args, kept, backend = args_and_backend
    launcher = _launcher("crf_nll", backend, args[1])
    given = args if launcher is reference else (*args, kept)
    return [g for g in launcher.backward(*given) if g is not None]


def _launch_decode(emissions, transitions, start, end, lengths, backend, op="crf_decode"):
    launcher = _launcher(op, backend, emissions)
    _check_values(op, emissions, transitions, start, end, None, lengths)
    return launcher.decode(emissions, transitions, start, end, lengths)


def _fake(emissions, transitions, start, end, tags, lengths, reduction, backend):
    shape = emissions.shape[:1] if reduction == "none" else ()
    return torch.empty(shape, dtype=torch.promote_types(emissions.dtype, torch.float32), device=emissions.device)


def _fake_backward(grad, emissions, transitions, start, end, tags, lengths, reduction, needs, backend):
    like = (emissions, transitions, start, end)
    made = [
        torch.empty_like(emissions),
        *(None if t is None else torch.empty(t.shape, dtype=t.dtype, device=t.device) for t in like[1:]),
    ]
    return [t for t, need in zip(made, needs, strict=True) if need]


def _fake_decode(emissions, transitions, start, end, lengths, backend):
    wide = torch.promote_types(emissions.dtype, torch.float32)
    tags = torch.empty(emissions.shape[:2], dtype=torch.int64, device=emissions.device)
    return tags, torch.empty(emissions.shape[:1], dtype=wide, device=emissions.device)


class _Crf(torch.autograd.Function):
    """With a launcher: the fast door. Without: the op below autograd."""

    @staticmethod
    def forward(ctx, launcher, emissions, transitions, start, end, tags, lengths, reduction, backend):
        ctx.set_materialize_grads(False)
        args = (emissions, transitions, start, end, tags, lengths)
        ctx.launcher, ctx.reduction, ctx.backend = launcher, reduction, backend
        kept = None
        if launcher is None:
            nll = _below(*args, reduction, backend)
        elif launcher is reference or _dispatch.saved_tensor_hooks_active():  # who spares memory wants it anew
            nll = launcher.forward(*args, reduction)
        else:
            nll, kept = launcher.forward_and_keep(*args, reduction)
        save(ctx, *args, kept)
        return nll

    @staticmethod
    def backward(ctx, grad):
        nothing = (None,) * 4
        if grad is None:
            return None, *nothing, *nothing
        *given, kept = saved(ctx)  # also where they go unused: what was changed must raise
        needs = ctx.needs_input_grad[1:5]
        args = (_dispatch.readable(grad), *given, ctx.reduction, needs)
        if _dispatch.transformed(grad):
            return None, *reference.backward(*args), *nothing
        if ctx.launcher is None:
            grads = torch.ops.pygen.crf_nll_backward(*args, ctx.backend)
        elif torch.is_grad_enabled():
            grads = _CrfBackward.apply(_launch_backward, *args, kept, ctx.backend)
        else:
            grads = _launch_backward(*args, kept, ctx.backend)
        made = iter(grads)
        return None, *(next(made) if need else None for need in needs), *nothing


class _CrfBackward(torch.autograd.Function):
    """What `call` computes forward, the composite of its formula backward."""

    @staticmethod
    def forward(ctx, call, grad, emissions, transitions, start, end, tags, lengths, reduction, needs, *rest):
        ctx.set_materialize_grads(False)
        save(ctx, grad, emissions, transitions, start, end, tags, lengths)
        ctx.reduction, ctx.needs, ctx.others = reduction, needs, len(rest)
        return tuple(call(grad, emissions, transitions, start, end, tags, lengths, reduction, needs, *rest))

    @staticmethod
    def backward(ctx, *grad_grads):
        *given, tags, lengths = saved(ctx)

        def formula(*tensors):
            return reference.backward(*tensors, tags, lengths, ctx.reduction, ctx.needs)

        grads = composite_gradients(formula, given, ctx.needs_input_grad[1:6], grad_grads)
        return None, *grads, *(None,) * (4 + ctx.others)


_fast_apply = _library.fast_apply(_Crf)

_TENSORS = "Tensor emissions, Tensor transitions, Tensor? start, Tensor? end"

_below = _library.register(
    f"crf_nll({_TENSORS}, Tensor? tags, Tensor? lengths, str reduction, str backend) -> Tensor",
    _launch,
    _fake,
    lambda *args: _Crf.apply(None, *args),
)
_below_backward = _library.register(
    f"crf_nll_backward(Tensor grad, {_TENSORS}, Tensor? tags, Tensor? lengths, str reduction, bool[] needs, str backend)"
    " -> Tensor[]",
    lambda *args: _launch_backward(*args[:-1], None, args[-1]),
    _fake_backward,
    lambda *args: list(_CrfBackward.apply(_below_backward, *args)),
)
_below_decode = _library.register(
    f"crf_decode({_TENSORS}, Tensor? lengths, str backend) -> (Tensor, Tensor)",
    _launch_decode,
    _fake_decode,
    lambda *args: _below_decode(*args),
)
