"""The rows of crf_log_partition and crf_nll. What crf_marginals and crf_decode do is in tests/test_crf.py."""

import random
from collections.abc import Mapping

import torch
from layouts import fuzz_size
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen import nn as pnn
from pygen.functional import crf_log_partition, crf_nll


def tensors(
    n: int, steps: int, k: int, *, ends: bool = True, lengths: bool = True, wide: float = 1.0
) -> dict[str, Tensor]:
    """wide: of the transitions; 15 makes kernels sum logarithms, but of float64."""
    g = torch.Generator().manual_seed(3)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=g, dtype=torch.float64)

    given = {"emissions": normal(n, steps, k), "tags": torch.randint(k, (n, steps), generator=g)}
    given["transitions"] = wide * normal(k, k)
    if ends:
        given |= {"start": normal(k), "end": normal(k)}
    if lengths:
        given["lengths"] = (steps - torch.arange(n) * 3 % (steps + 1)).clamp(0, steps)
    return given


def log_z(t: dict[str, Tensor]) -> Tensor:
    """The recursion in logarithms, as it is usually written."""
    e, a = t["emissions"], t["transitions"]
    n, steps, k = e.shape
    lengths = t.get("lengths", torch.full((n,), steps))
    state = t.get("start", e.new_zeros(k)) + (e[:, 0] if steps else e.new_zeros(n, k))
    for step in range(1, steps):
        following = (state.unsqueeze(2) + a).logsumexp(1) + e[:, step]
        state = torch.where((step < lengths).unsqueeze(1), following, state)
    return torch.where(lengths > 0, (state + t.get("end", e.new_zeros(k))).logsumexp(1), 0.0)


def score(t: dict[str, Tensor]) -> Tensor:
    e, a, tags = (t[name] for name in ("emissions", "transitions", "tags"))
    n, steps, k = e.shape
    total = e.new_zeros(n)
    lengths = t.get("lengths", torch.full((n,), steps))
    for step in range(steps):
        y = tags[:, step]
        one = e[:, step].gather(1, y.unsqueeze(1)).squeeze(1)
        one = one + (a[tags[:, step - 1], y] if step else t.get("start", e.new_zeros(k))[y])
        one = one + torch.where(step + 1 == lengths, t.get("end", e.new_zeros(k))[y], 0.0)
        total = total + torch.where(step < lengths, one, 0.0)
    return total


def _log_partition_composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor]:
    return (log_z(t),)


def _nll_composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor]:
    nll, reduction = log_z(t) - score(t), options.get("reduction", "batchmean")
    return (nll if reduction == "none" else nll.sum() / len(nll) if reduction == "batchmean" else nll.sum(),)


def _nll_samples() -> list[Sample]:
    return [
        Sample("one element", tensors(1, 1, 2)),
        Sample("odd everything", tensors(5, 4, 3), {"reduction": "none"}),
        Sample("a block plus one", tensors(17, 3, 7, ends=False, lengths=False), {"reduction": "sum"}),
        Sample("by logarithms", tensors(5, 4, 5, wide=15.0)),
        Sample("many tags", tensors(2, 4, 70), {"reduction": "none"}, small=False),
        Sample("empty batch", tensors(0, 3, 4), {"reduction": "sum"}),
        Sample("no steps", tensors(3, 0, 2), {"reduction": "none"}),
        Sample("tiny", tensors(2, 3, 2)),
    ]


def _log_partition_samples() -> list[Sample]:
    names = ("one element", "odd everything", "by logarithms", "tiny")
    return [
        Sample(s.name, {k: t for k, t in s.tensors.items() if k != "tags"}) for s in _nll_samples() if s.name in names
    ]


def _more_samples() -> list[Sample]:
    big = tensors(1, 1, 2, lengths=False)
    batch = {k: t.expand(65536, *t.shape[1:]).contiguous() if k in ("emissions", "tags") else t for k, t in big.items()}
    odd = tensors(3, 4, 3)
    turned = {**odd, "emissions": odd["emissions"].transpose(0, 2).contiguous().transpose(0, 2)}
    return [Sample("batch 65536", batch), Sample("transposed", turned)]


def _registered(sample: Sample, dtype: torch.dtype) -> list:
    t = sample.cast(dtype)
    floating = [t[k].clone().requires_grad_() if k in t else None for k in ("emissions", "transitions", "start", "end")]
    reduction = sample.options.get("reduction", "batchmean") if "tags" in t else "none"
    rest = (t.get("tags"), t.get("lengths"), reduction)
    shape = floating[0].shape[:1] if reduction == "none" else ()
    grad = torch.ones(shape, dtype=torch.promote_types(dtype, torch.float32)).requires_grad_()
    needs = [x is not None for x in floating]
    ops = torch.ops.pygen
    return [
        (ops.crf_nll.default, (*floating, *rest, "auto")),
        (ops.crf_nll_backward.default, (grad, *floating, *rest, needs, "auto")),
        (ops.crf_decode.default, (*floating, t.get("lengths"), "auto")),
    ]


def _errors(nll: bool) -> list[ErrorInput]:
    given = {k: t.float() if t.is_floating_point() else t for k, t in tensors(2, 4, 3).items() if nll or k != "tags"}
    e, a, lengths = given["emissions"], given["transitions"], given["lengths"]

    def error(name: str, kind: type[Exception], match: str, other: dict | None = None, **options: object) -> ErrorInput:
        return ErrorInput(name, given | (other or {}), options, kind, match)

    common = [
        error("emissions list", TypeError, r"emissions: expected a torch.Tensor, got list", {"emissions": [1.0]}),
        error("emissions int", TypeError, r"emissions: expected float64, .* got torch.int64", {"emissions": e.long()}),
        error("emissions sparse", TypeError, r"emissions: expected a strided", {"emissions": e.to_sparse()}),
        error("emissions dims", ValueError, r"emissions: expected \[N, T, K\] .* got \[4, 3\]", {"emissions": e[0]}),
        error("no tags", ValueError, r"emissions: expected .* at least one tag, got \[2, 4, 0\]", {"emissions": e[..., :0]}),
        error("transitions None", TypeError, r"transitions: expected a torch.Tensor, got NoneType", {"transitions": None}),
        error("transitions shape", ValueError, r"transitions: expected shape \[3, 3\], of emissions \[2, 4, 3\], got \[2, 3\]",
              {"transitions": a[:2]}),
        error("transitions dtype", TypeError, r"transitions: expected torch.float32, the dtype of emissions, got torch.float64",
              {"transitions": a.double()}),
        error("start shape", ValueError, r"start: expected shape \[3\], of emissions .* got \[1, 3\]", {"start": a[:1]}),
        error("end device", ValueError, r"end: expected a tensor on cpu, where emissions is, got meta", {"end": a[0].to("meta")}),
        error("lengths int32", TypeError, r"lengths: expected torch.int64, got torch.int32", {"lengths": lengths.int()}),
        error("lengths shape", ValueError, r"lengths: expected \[N\] = \[2\], of emissions .* got \[2, 1\]",
              {"lengths": lengths[:, None]}),
        error("lengths list", TypeError, r"lengths: expected a torch.Tensor, got list", {"lengths": [4, 4]}),
        error("backend name", ValueError, r"backend: expected one of .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run", backend="cuda"),
    ]  # fmt: skip
    if not nll:
        return common
    tags = given["tags"]
    return [
        *common,
        error("tags None", TypeError, r"tags: expected a torch.Tensor, got NoneType", {"tags": None}),
        error("tags uint8", TypeError, r"tags: expected torch.int64, got torch.uint8", {"tags": tags.byte()}),
        error("tags shape", ValueError, r"tags: expected \[N, T\] = \[2, 4\], of emissions \[2, 4, 3\], got \[4, 2\]",
              {"tags": tags.t()}),
        error("tags device", ValueError, r"tags: expected a tensor on cpu, where emissions is", {"tags": tags.to("meta")}),
        error("reduction mean", ValueError, r"reduction: expected 'batchmean', 'none' or 'sum', got 'mean' \(", reduction="mean"),
        error("reduction None", ValueError, r"reduction: expected .* got None", reduction=None),
    ]  # fmt: skip


def draw_shapes(rng: random.Random) -> dict[str, tuple[int, ...]]:
    k = rng.choice((2, 3, 5, 7, 8, 9, 16, 17, 33, 65))  # of one tag all gradients are 0, and any rounding is too much
    n, steps = fuzz_size(rng, 40), fuzz_size(rng, max(1, 3000 // k**2 // 10 + 4))
    shapes = {"emissions": (n, steps, k), "transitions": (k, k)}
    if rng.random() < 0.7:
        shapes |= {"start": (k,), "end": (k,)}
    if rng.random() < 0.7:
        shapes["lengths"] = (n,)
    return shapes


def _fuzz(rng: random.Random, nll: bool) -> tuple[dict, dict]:
    shapes = draw_shapes(rng)
    n = shapes["emissions"][0]
    reductions = ("none", "sum") if n == 0 else ("none", "sum", "batchmean")
    if not nll:
        return shapes, {}
    return shapes | {"tags": shapes["emissions"][:2]}, {"reduction": rng.choice(reductions)}


def _num_tags(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return max(1, shapes["emissions"][2])


def _num_lengths(shapes: Mapping[str, tuple[int, ...]]) -> int:
    return shapes["emissions"][1] + 1


def _module():
    t = tensors(4, 5, 3)
    module = pnn.LinearChainCRF(3, reduction="none")
    return module, (t["emissions"].float(), t["tags"], t["lengths"])


def _row(nll: bool) -> Op:
    function = crf_nll if nll else crf_log_partition
    floating = ("emissions", "transitions", "start", "end")
    return Op(
        name=function.__name__,
        outputs=("nll",) if nll else ("log_z",),
        differentiable=floating,
        call=lambda t, options, backend: (function(**t, **{"backend": backend} | options),),
        composite=_nll_composite if nll else _log_partition_composite,
        samples=_nll_samples if nll else _log_partition_samples,
        errors=lambda: _errors(nll),
        elementwise=frozenset() if nll else frozenset({"log_z"}),
        options={"reduction": ("batchmean", "sum")} if nll else {},
        batched=frozenset({"emissions", "tags", "lengths"}),
        registered=_registered,
        more_samples=_more_samples if nll else list,
        fuzz=lambda rng: _fuzz(rng, nll),
        modules={"LinearChainCRF": _module} if nll else {},
        finite=frozenset(floating),  # the composite takes infinities from each other; tests/test_crf.py has them
        integers={"tags": _num_tags, "lengths": _num_lengths} if nll else {"lengths": _num_lengths},
        bytes=False,
        double_eps=64.0,  # of float64 the recursion itself is the truth, and its logarithms of 50 are rounded
    )


ROWS = [_row(False), _row(True)]
