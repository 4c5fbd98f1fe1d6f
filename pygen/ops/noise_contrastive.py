"""Noise-contrastive losses: negative sampling, NCE and sampled softmax, one class among many by a few sampled others."""

import torch
from torch import Generator, Tensor

from pygen import _checks, _dispatch
from pygen.ops import _noise_contrastive_common as _common
from pygen.ops._likelihood import check_level_values
from pygen.ops._noise_contrastive_autograd import OPS, call
from pygen.ops._noise_contrastive_checks import check, check_draws, check_negatives, check_noise
from pygen.ops.noise_sample import noise_sample


def negative_sampling_loss(
    input: Tensor,
    weight: Tensor,
    target: Tensor,
    negatives: Tensor | None = None,
    *,
    bias: Tensor | None = None,
    noise: Tensor | None = None,
    num_negatives: int | None = None,
    shared: bool = False,
    remove_accidental_hits: bool = True,
    sparse: bool = False,
    seed: int | Tensor | None = None,
    generator: Generator | None = None,
    reduction: str = "batchmean",
    backend: str | None = None,
) -> Tensor:
    """word2vec's loss of a class and a few drawn ones, in nats: trains embeddings, not probabilities.

    softplus(-s_target) + sum_k softplus(s_k), s_c = <input, weight_c> + bias_c. Without NCE's correction the scores
    tend to log p(c | input) - log(K q(c)). Mikolov et al. 2013, "Distributed Representations of Words and Phrases and
    their Compositionality", equation 4; as in word2vec and gensim a negative that is the target is passed over.

    Args:
        noise: a table of noise_table, where num_negatives asks to draw; else None.
        remove_accidental_hits: True as in word2vec.
        input, weight, target, negatives, bias, num_negatives, shared, sparse, seed, generator, reduction, backend: as in
            nce_loss, and so are the result, the errors and what is differentiable.

    Example:
        >>> contexts, weight = torch.randn(8, 16), torch.randn(1000, 16)
        >>> target, negatives = torch.randint(1000, (8,)), torch.randint(1000, (8, 5))
        >>> pygen.functional.negative_sampling_loss(contexts, weight, target, negatives).shape
        torch.Size([])
        >>> noise = pygen.functional.noise_table(torch.ones(1000))  # or let the loss draw them
        >>> pygen.functional.negative_sampling_loss(contexts, weight, target, noise=noise, num_negatives=5).shape
        torch.Size([])
    """
    options = (noise, num_negatives, shared, remove_accidental_hits, sparse, seed, generator, reduction, backend)
    return _loss("negative_sampling", input, weight, target, negatives, bias, *options)


def nce_loss(
    input: Tensor,
    weight: Tensor,
    target: Tensor,
    negatives: Tensor | None = None,
    *,
    noise: Tensor,
    bias: Tensor | None = None,
    num_negatives: int | None = None,
    shared: bool = False,
    remove_accidental_hits: bool = False,
    sparse: bool = False,
    seed: int | Tensor | None = None,
    generator: Generator | None = None,
    reduction: str = "batchmean",
    backend: str | None = None,
) -> Tensor:
    """Noise-contrastive estimation, in nats: trains a classifier of very many classes from a few drawn ones at each step.

    softplus(-d_target) + sum_k softplus(d_k), d_c = s_c - log(K q(c)), s_c = <input, weight_c> + bias_c: it learns to
    tell a class of the data from K drawn by the noise distribution q, and at the optimum the scores s are normalised
    log probabilities. Both classes are corrected, and a negative that is the target counts, or the estimate would not
    be consistent. Gutmann and Hyvarinen 2012; Mnih and Teh 2012.

    Differentiable to any order in input, weight and bias (first order under torch.compile); torch.func transforms run
    the reference composition. Gradients of classes are summed in a fixed order, also where one comes often: equal from
    run to run.

    Args:
        input: [N, D], float64, float32, bfloat16 or float16, computed in float32 (float64): contexts' vectors. Any strides.
        weight: [C, D], one row for each class, like input.
        target: [N], int64, 0 .. C - 1. A wrong class raises on a CPU; on a GPU, where a check would have to synchronise, it
            makes the loss NaN. Samples of several true classes: repeat their input.
        negatives: [N, K], int64, each sample's own, or [K] for all of them, which makes the scores one matrix product. None:
            drawn by `noise`, num_negatives of them.
        noise: the noise distribution q: a table of noise_table, or log q itself, [C], floating, where negatives are given
            (float64 is taken as it is). It gets no gradient. log q(c) = -inf is a class that noise never gives.
        bias: [C], like input; None: 0.
        num_negatives: K, at least 1.
        shared: whether one draw of K serves all samples. Of negatives that are given their shape says it.
        remove_accidental_hits: whether negatives that are their sample's target are left out.
        sparse: whether weight's gradient comes as a coalesced sparse tensor, as of nn.Embedding(sparse=True): for tables too
            large to be filled with zeros at each step. Not under torch.compile; a gradient that is itself differentiated
            (create_graph=True) comes dense. On a GPU its size needs a synchronisation.
        seed, generator: where the draws come from, as in noise_sample; at most one, and only with num_negatives.
        reduction: "none" gives [N]; "sum" the total; "batchmean" the total over N.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        float32 (float64 for float64), [N] or 0-dim.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.
        NotImplementedError: sparse=True where a call is traced.

    Example:
        >>> contexts, weight = torch.randn(8, 16), torch.randn(1000, 16)
        >>> target = torch.randint(1000, (8,))
        >>> noise = pygen.functional.noise_table(torch.ones(1000))  # here all classes are as frequent
        >>> pygen.functional.nce_loss(contexts, weight, target, noise=noise, num_negatives=5).shape
        torch.Size([])
    """
    options = (noise, num_negatives, shared, remove_accidental_hits, sparse, seed, generator, reduction, backend)
    return _loss("nce", input, weight, target, negatives, bias, *options)


def sampled_softmax_loss(
    input: Tensor,
    weight: Tensor,
    target: Tensor,
    negatives: Tensor | None = None,
    *,
    noise: Tensor,
    bias: Tensor | None = None,
    num_negatives: int | None = None,
    shared: bool = False,
    remove_accidental_hits: bool = True,
    sparse: bool = False,
    seed: int | Tensor | None = None,
    generator: Generator | None = None,
    reduction: str = "batchmean",
    backend: str | None = None,
) -> Tensor:
    """The cross entropy of a class among itself and K drawn ones, in nats: trains a softmax over very many classes cheaply.

    The logits are d_c = s_c - log(K q(c)), as in nce_loss. It approaches the softmax over all classes as K grows:
    correction and removed hits are what makes it unbiased in the limit. For training: evaluate with F.cross_entropy
    over all classes. Jean et al. 2015, "On Using Very Large Target Vocabulary for Neural Machine Translation"; Bengio
    and Senecal 2008.

    Args:
        remove_accidental_hits: True: a negative that is the target would be the target's own rival.
        input, weight, target, negatives, noise, bias, num_negatives, shared, sparse, seed, generator, reduction, backend: as
            in nce_loss, and so are the result, the errors and what is differentiable. log q of a target is finite.

    Example:
        >>> contexts, weight = torch.randn(8, 16), torch.randn(1000, 16)
        >>> target = torch.randint(1000, (8,))
        >>> noise = pygen.functional.noise_table(torch.ones(1000))  # here all classes are as frequent
        >>> options = {"noise": noise, "num_negatives": 5, "shared": True}
        >>> pygen.functional.sampled_softmax_loss(contexts, weight, target, **options).shape
        torch.Size([])
    """
    options = (noise, num_negatives, shared, remove_accidental_hits, sparse, seed, generator, reduction, backend)
    return _loss("sampled_softmax", input, weight, target, negatives, bias, *options)


def _loss(
    kind, input, weight, target, negatives, bias, noise, num_negatives, shared, hits, sparse, seed, generator, reduction,
    backend,
):  # fmt: skip
    op = OPS[kind]
    if shared is False and sparse.__class__ is bool and num_negatives is seed is generator is None:
        loss = _common.loss(op, kind, input, weight, bias, target, negatives, noise, hits, reduction, backend)
        if loss is not None:
            return loss
    if _checks.autocast_enabled():
        input, weight, bias = _checks.promote_under_autocast(input, weight, bias)
    check(op, input, weight, bias, target)
    if negatives is None:
        check_draws(op, noise, num_negatives)
    check_noise(op, kind, noise, weight)
    for name, value in (("shared", shared), ("remove_accidental_hits", hits), ("sparse", sparse)):
        if not isinstance(value, bool):
            raise _checks.fail(op, name, "a bool", type(value).__name__, kind=TypeError)
    _checks.check_reduction(op, reduction)
    name = _dispatch.requested(op, backend)
    if negatives is None:
        if not torch.compiler.is_compiling():  # there the op itself asks, at run time
            _dispatch.resolve(op, name, input.device.type)
        if _dispatch.is_plain(target):  # before a generator moves on
            check_level_values(op, target, len(weight), "target", "classes")
        size = num_negatives if shared else (input.shape[0], num_negatives)
        negatives = noise_sample(noise, size, seed=seed, generator=generator, backend=backend)
    else:
        check_negatives(op, negatives, input)
        given = {"num_negatives": num_negatives, "seed": seed, "generator": generator, "shared": shared or None}
        for option, value in given.items():
            if value is not None:
                raise _checks.fail(op, option, "none where negatives are given", value)
    law = None if kind == "negative_sampling" else noise
    if num_negatives is not None and not shared:
        loss = _common.loss(op, kind, input, weight, bias, target, negatives, law, hits, reduction, backend)
        if loss is not None:
            return loss
    return call(op, sparse, name, input, weight, bias, target, negatives, law, kind, hits, reduction)
