"""The linear-chain conditional random field: log Z, the loss, the likeliest tags, the chance of each tag."""

from functools import partial

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen.ops._crf import CrfBackward, launch_backward, launch_decode, launcher_of, loss, too_many
from pygen.ops._crf_checks import check_indices, check_lengths, check_values, floating_arguments
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
    """log Z of a linear chain, in nats: the logarithm of the sum of e^score over all taggings of each sequence.

    The normaliser of a linear-chain CRF, which gives each step of a sequence one of K tags, as in named-entity
    recognition; crf_nll is its loss. Of T steps there are K^T taggings. The score of tags y is start[y_0] + sum_t
    emissions[t, y_t] + sum_t transitions[y_(t-1), y_t] + end[y_last]. Tags and transitions of score -inf are
    impossible; where every tagging is, log Z = -inf with gradient 0. Lafferty, McCallum and Pereira 2001, "Conditional
    Random Fields"; Rabiner 1989 for the recursion and its scaling.

    Differentiable to any order in the floating arguments (first order under torch.compile, which runs the forward pass
    twice); torch.func transforms run the reference composition.

    Args:
        emissions: [N, T, K], float64, float32, bfloat16 or float16; computed in float32 (float64). Any strides. More tags than
            256 (Triton: 64) run on the reference.
        transitions: [K, K], the score of going from tag i to tag j at [i, j]. Where some of them, or of end, lie further than 40
            (400) apart, or one is infinite, kernels sum logarithms, which is slower and as accurate.
        start: [K], None: zeros.
        end: [K], of the last tag within the length; None: zeros.
        lengths: [N], int64, 0 .. T; None: T. What lies past it is not read; of length 0 log Z = 0. A wrong length raises on a
            CPU; on a GPU, where a check would have to synchronise, it makes the result NaN.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        [N], float32 (float64 for float64).

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> emissions, transitions = torch.randn(2, 7, 5), torch.randn(5, 5)  # 2 sequences of 7 steps, 5 tags
        >>> pygen.functional.crf_log_partition(emissions, transitions).shape
        torch.Size([2])
    """
    op = "crf_log_partition"
    floating = floating_arguments(op, emissions, transitions, start, end)
    check_lengths(op, lengths, floating[0])
    return loss(op, floating, None, lengths, "none", backend)


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
    """The negative log-likelihood, in nats, of tags in a linear-chain CRF, its training loss: log Z less the tags' score.

    In one pass. See crf_log_partition for the score, the arguments not named here, and how far it differentiates.
    Impossible tags (score -inf) have a loss of +inf.

    Args:
        tags: [N, T], int64, 0 .. K-1; past the length anything. A wrong tag raises on a CPU; on a GPU it makes the loss NaN.
        reduction: "none" gives [N], the sum over each sequence; "sum" the total; "batchmean" the total over N.

    Returns:
        float32 (float64 for float64), [N] or 0-dim.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> emissions, transitions = torch.randn(2, 7, 5), torch.randn(5, 5)  # 2 sequences of 7 steps, 5 tags
        >>> tags, lengths = torch.randint(5, (2, 7)), torch.tensor([7, 4])
        >>> pygen.functional.crf_nll(emissions, tags, transitions, lengths=lengths).shape
        torch.Size([])
        >>> pygen.functional.crf_nll(emissions, tags, transitions, lengths=lengths, reduction="none").shape
        torch.Size([2])
    """
    op = "crf_nll"
    floating = floating_arguments(op, emissions, transitions, start, end)
    check_indices(op, "tags", tags, "[N, T]", floating[0].shape[:2], floating[0])
    check_lengths(op, lengths, floating[0])
    _checks.check_reduction(op, reduction)
    return loss(op, floating, tags, lengths, reduction, backend)


def crf_marginals(
    emissions: Tensor,
    transitions: Tensor,
    start: Tensor | None = None,
    end: Tensor | None = None,
    *,
    lengths: Tensor | None = None,
    backend: str | None = None,
) -> Tensor:
    """The probability of each tag at each step of a linear-chain CRF given the emissions: the gradient of log Z.

    Each row sums to 1; past a sequence's length, and where no tagging is possible, it is 0. Arguments as in
    crf_log_partition. Differentiable (by the reference's composition, not under torch.compile).

    Returns:
        [N, T, K] in the dtype of emissions.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> emissions, transitions = torch.randn(2, 7, 5), torch.randn(5, 5)  # 2 sequences of 7 steps, 5 tags
        >>> marginals = pygen.functional.crf_marginals(emissions, transitions)
        >>> marginals.shape
        torch.Size([2, 7, 5])
        >>> torch.allclose(marginals.sum(2), torch.ones(2, 7))
        True
    """
    op = "crf_marginals"
    floating = floating_arguments(op, emissions, transitions, start, end)
    check_lengths(op, lengths, floating[0])
    name = _dispatch.requested(op, backend)
    ones = floating[0].new_ones(floating[0].shape[:1], dtype=torch.promote_types(floating[0].dtype, torch.float32))
    needs = (True, False, False, False)
    if not _dispatch.is_plain(*floating, lengths):
        if _dispatch.under_transform(op, name, floating[0].device.type):
            e, a, s, f = floating
            return reference.backward(ones, e, a, s, f, None, lengths, "none", needs)[0]
        return torch.ops.pygen.crf_nll_backward(ones, *floating, None, lengths, "none", needs, name)[0]
    check_values(op, *floating, None, lengths)
    call = partial(launch_backward, launcher_of(op, name, floating[0]))
    return CrfBackward.apply(call, ones, *floating, None, lengths, "none", needs, None)[0]


def crf_decode(
    emissions: Tensor,
    transitions: Tensor,
    start: Tensor | None = None,
    end: Tensor | None = None,
    *,
    lengths: Tensor | None = None,
    backend: str | None = None,
) -> tuple[Tensor, Tensor]:
    """The likeliest tags of each sequence in a linear-chain CRF, and their score (Viterbi). Not differentiable.

    Of equally good tags the lowest is taken, at the last step first and then step by step towards the first one: the
    same on every backend, bit for bit, unless a score is NaN: then the tags are arbitrary. Arguments as in
    crf_log_partition.

    Returns:
        tags [N, T], int64, -1 past a sequence's length; their scores [N], float32 (float64 for float64), -inf where nothing can
        come.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> emissions, transitions = torch.randn(2, 7, 5), torch.randn(5, 5)  # 2 sequences of 7 steps, 5 tags
        >>> tags, scores = pygen.functional.crf_decode(emissions, transitions, lengths=torch.tensor([7, 4]))
        >>> tags.shape, scores.shape
        (torch.Size([2, 7]), torch.Size([2]))
        >>> tags[1, 4:]
        tensor([-1, -1, -1])
    """
    op = "crf_decode"
    floating = floating_arguments(op, emissions, transitions, start, end)
    check_lengths(op, lengths, floating[0])
    name = _dispatch.requested(op, backend)
    if not _dispatch.is_plain(*floating, lengths):
        _dispatch.ask(op, name, floating[0].device.type)
        return torch.ops.pygen.crf_decode(*floating, lengths, name)
    with torch.no_grad():
        return launch_decode(*floating, lengths, name, op)


def how(backend: str, emissions: Tensor, *rest: object, **options: object) -> str:
    """For pygen.explain."""
    return too_many(backend, emissions) or ""
