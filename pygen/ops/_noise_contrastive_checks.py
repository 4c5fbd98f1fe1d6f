"""What noise-contrastive losses ask of their arguments."""

from typing import Any

import torch
from torch import Tensor

from pygen import _checks, _dispatch
from pygen.ops.noise_sample import MOST_CLASSES, check_table


def check(op: str, input: Any, weight: Any, bias: Any, target: Any) -> None:
    for name, t, dims in (("input", input, "[N, D]"), ("weight", weight, "[C, D]")):
        _checks.check_tensor(op, name, t)
        _checks.check_floating(op, name, t)
        if t.dim() != 2:
            raise _checks.fail(op, name, dims, list(t.shape))
    _checks.check_like(op, "weight", weight, "input", input)
    if weight.shape[1] != input.shape[1]:
        raise _checks.fail(op, "weight", f"[C, {input.shape[1]}], of input {list(input.shape)}", list(weight.shape))
    if not 1 <= weight.shape[0] <= MOST_CLASSES:
        raise _checks.fail(op, "weight", f"1 .. {MOST_CLASSES} classes", list(weight.shape))
    if bias is not None:
        _checks.check_tensor(op, "bias", bias)
        _checks.check_like(op, "bias", bias, "input", input)
        if bias.shape != weight.shape[:1]:
            raise _checks.fail(op, "bias", f"[{weight.shape[0]}], of weight {list(weight.shape)}", list(bias.shape))
    _check_classes(op, "target", target, input)
    if target.shape != input.shape[:1]:
        raise _checks.fail(op, "target", f"[{input.shape[0]}], of input {list(input.shape)}", list(target.shape))


def _check_classes(op: str, name: str, t: Any, input: Tensor) -> None:
    _checks.check_tensor(op, name, t)
    if t.dtype != torch.int64:
        raise _checks.fail(op, name, "classes as torch.int64", t.dtype, kind=TypeError)
    if t.device != input.device:
        raise _checks.fail(op, name, f"a tensor on {input.device}, where input is", t.device)


def check_negatives(op: str, negatives: Any, input: Tensor) -> None:
    _check_classes(op, "negatives", negatives, input)
    fits = negatives.dim() == 1 or (negatives.dim() == 2 and negatives.shape[0] == input.shape[0])
    if not fits or negatives.shape[-1] < 1:
        expected = f"[{input.shape[0]}, K], of input {list(input.shape)}, or [K], K at least 1"
        raise _checks.fail(op, "negatives", expected, list(negatives.shape))


def check_noise(op: str, kind: str, noise: Any, weight: Tensor) -> None:
    if noise is None and kind == "negative_sampling":
        return
    _checks.check_tensor(op, "noise", noise)
    if noise.is_floating_point():
        if noise.shape != weight.shape[:1]:
            raise _checks.fail(
                op, "noise", f"log q, [{weight.shape[0]}], of weight {list(weight.shape)}", list(noise.shape)
            )
        if noise.requires_grad:
            raise _checks.fail(op, "noise", "log q without a gradient (use detach)", "requires_grad=True")
        if _are_probabilities(noise):
            raise _checks.fail(op, "noise", "log q", "probabilities (q.log())")
    else:
        check_table(op, noise)
        if noise.shape[0] != weight.shape[0]:
            raise _checks.fail(
                op, "noise", f"{weight.shape[0]} classes, as weight", f"{noise.shape[0]} in {list(noise.shape)}"
            )
    if noise.device != weight.device:
        raise _checks.fail(op, "noise", f"a tensor on {weight.device}, where weight is", noise.device)


def _are_probabilities(noise: Tensor) -> bool:
    """Where that can be read for free: none below 0, as of two log q there always is, and a sum of 1."""
    if not _dispatch.is_plain(noise) or not noise.is_cpu or not noise.data_ptr():
        return False
    if float(noise[0]) < 0:  # no pass over a large table
        return False
    return float(noise.min()) >= 0 and abs(float(noise.sum(dtype=torch.float64)) - 1) < 1e-3


def check_draws(op: str, noise: Any, num_negatives: Any) -> None:
    if num_negatives is None:
        raise _checks.fail(op, "negatives", "a tensor, or num_negatives to draw them", "neither")
    if isinstance(num_negatives, bool) or not isinstance(num_negatives, (int, torch.SymInt)):
        raise _checks.fail(op, "num_negatives", "an int", type(num_negatives).__name__, kind=TypeError)
    if num_negatives < 1:
        raise _checks.fail(op, "num_negatives", "at least 1", num_negatives)
    if not isinstance(noise, Tensor) or noise.is_floating_point():
        got = noise.dtype if isinstance(noise, Tensor) else type(noise).__name__
        raise _checks.fail(op, "noise", "a table of noise_table, to draw by", got, kind=TypeError)
