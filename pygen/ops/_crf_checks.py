"""What the crf functions refuse."""

from typing import Any

import torch
from torch import Tensor

from pygen import _checks
from pygen.native._arguments import without_memory


def floating_arguments(op: str, emissions: Any, transitions: Any, start: Any, end: Any) -> tuple[Any, ...]:
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


def check_indices(op: str, name: str, t: Any, letters: str, shape: torch.Size, emissions: Tensor) -> None:
    _checks.check_tensor(op, name, t)
    if t.dtype != torch.int64:
        raise _checks.fail(op, name, "torch.int64", t.dtype, kind=TypeError)
    if t.device != emissions.device:
        raise _checks.fail(op, name, f"a tensor on {emissions.device}, where emissions is", t.device)
    if t.shape != shape:
        expected = f"{letters} = {list(shape)}, of emissions {list(emissions.shape)}"
        raise _checks.fail(op, name, expected, list(t.shape))


def check_lengths(op: str, lengths: Any, emissions: Tensor) -> None:
    if lengths is not None:
        check_indices(op, "lengths", lengths, "[N]", emissions.shape[:1], emissions)


def check_values(op, emissions, transitions, start, end, tags, lengths) -> None:
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
        inside = tags.where(torch.arange(steps, device="cpu") < lengths.unsqueeze(1), 0)
        least, most = (int(v) for v in inside.aminmax())
    if least < 0 or most >= k:
        raise _checks.fail(op, "tags", f"tags 0 .. {k - 1}", f"{least} .. {most}")
