"""The short way of calls without gradients, of contiguous tensors on a CPU and negatives of each sample's own.

The long way asks torch some twenty things, which for a thousand samples takes as long as their losses.
"""

from typing import Any

import torch
from torch import Tensor

from pygen import _backends, _checks, _dispatch
from pygen.ops._noise_contrastive import logarithm
from pygen.reference._likelihood import compute_dtype


def loss(
    op: str,
    kind: str,
    input: Any,
    weight: Any,
    bias: Any,
    target: Any,
    negatives: Any,
    law: Any,
    hits: Any,
    reduction: Any,
    backend: Any,
) -> Tensor | None:
    """None where the call needs the long way, which says what is wrong where something is."""
    if (
        torch.compiler.is_compiling()
        or hits.__class__ is not bool
        or reduction.__class__ is not str
        or reduction not in _checks.REDUCTIONS
        or (backend is not None and (backend.__class__ is not str or backend != "cpu"))
        or (law is None) != (kind == "negative_sampling")
        or _checks.autocast_enabled()
    ):
        return None
    cpu = _backends.compiled_or_none("_cpu")
    if cpu is None or not _dispatch.nothing_intercepts():
        return None
    samples = cpu.noise_contrastive_samples(input, weight, bias, target, negatives, law)
    if (
        samples is None
        or (law is not None and law.requires_grad)
        or (
            torch.is_grad_enabled()
            and (input.requires_grad or weight.requires_grad or (bias is not None and bias.requires_grad))
        )
        or (backend is None and _dispatch.resolve(op, _dispatch.AUTO, "cpu") != "cpu")
    ):
        return None
    out = torch.empty(samples if reduction == "none" else (), dtype=compute_dtype(input.dtype), device="cpu")
    options = kind == "sampled_softmax", hits, logarithm(negatives.shape[1]), reduction == "batchmean"
    done = cpu.noise_contrastive_plain(
        input, weight, bias, target, negatives, law, *options, torch.get_num_threads(), out
    )
    return out if done else None
