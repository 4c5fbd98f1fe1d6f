"""The row of rbm_free_energy, of levels; and that of real numbers, which is differentiated too: test_rbm.py runs it."""

import itertools
import random

import numpy as np
import torch
import torch.nn.functional as F
from layouts import fuzz_size
from registry import ErrorInput, Op, Sample
from sampler_checks import ROUNDING, fuzz_options
from support import compute_dtype
from torch import Tensor

from pygen import nn as pnn
from pygen.functional import rbm_free_energy, rbm_gibbs
from pygen.reference import rbm as reference

PARAMETERS = ("weight", "visible_bias", "hidden_bias")


def levels(n: int, visible: int, dtype: torch.dtype = torch.uint8) -> Tensor:
    g = torch.Generator().manual_seed(7)
    return torch.randint(0, 2, (n, visible), generator=g).to(dtype)


def soft(n: int, visible: int) -> Tensor:
    """Chances, the ends among them."""
    g = torch.Generator().manual_seed(9)
    return (torch.rand((n, visible), generator=g, dtype=torch.float64) * 1.5 - 0.25).clamp(0, 1)


def tensors(n: int, visible: int, hidden: int, v: Tensor | None = None) -> dict[str, Tensor]:
    g = torch.Generator().manual_seed(5)
    shapes = ((hidden, visible), (visible,), (hidden,))
    made = {k: 0.5 * torch.randn(s, generator=g, dtype=torch.float64) for k, s in zip(PARAMETERS, shapes, strict=True)}
    return {**made, "v": levels(n, visible) if v is None else v}


def given(n, visible, hidden, target, dtype=torch.float32, v=None, scale=1.0) -> dict[str, Tensor]:
    t = tensors(n, visible, hidden, v)
    t = {k: scale * x if k in PARAMETERS else x for k, x in t.items()}
    return {k: x.to(target.device, dtype if x.is_floating_point() else None) for k, x in t.items()}


def states(units: int) -> Tensor:
    """Every one of a layer."""
    return torch.tensor(list(itertools.product((0, 1), repeat=units)), dtype=torch.uint8).view(-1, units)


def composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor]:
    """As people write it, but for F.softplus, which gives up the exponential at 20."""
    weight, b, c = (t[k] for k in PARAMETERS)
    v, reduction = t["v"].to(weight.dtype), options.get("reduction", "batchmean")
    a = F.linear(v, weight, c)
    energy = -(v @ b) - torch.logaddexp(a, torch.zeros((), dtype=a.dtype)).sum(1)
    energy = energy + 0 * sum(t[k].sum() for k in PARAMETERS) if not weight.numel() or not len(v) else energy
    return (energy if reduction == "none" else energy.sum() / len(v) if reduction == "batchmean" else energy.sum(),)


def samples() -> list[Sample]:
    return [
        Sample("one element", tensors(1, 1, 1)),
        Sample("odd everything", tensors(5, 7, 3, levels(5, 7, torch.int64)), {"reduction": "none"}),
        Sample("several blocks", tensors(157, 7, 37), {"reduction": "none"}, small=False),
        Sample("a tile and one more", tensors(13, 3, 65)),
        Sample("empty batch", tensors(0, 5, 3), {"reduction": "sum"}),
        Sample("no visible units", tensors(3, 0, 2), {"reduction": "none"}),
        Sample("no hidden units", tensors(3, 4, 0), {"reduction": "none"}),
    ]


def soft_samples() -> list[Sample]:
    return [
        Sample("odd everything", tensors(5, 7, 3, soft(5, 7)), {"reduction": "none"}),
        Sample("narrow rows", tensors(67, 3, 2, soft(67, 3)), {"reduction": "sum"}),
        Sample("a tile and one more", tensors(13, 10, 65, soft(13, 10))),
        Sample("empty batch", tensors(0, 5, 3, soft(0, 5)), {"reduction": "sum"}),
    ]


def more_samples() -> list[Sample]:
    """A large batch, and strides that say little."""
    turned = {k: t.transpose(0, -1).contiguous().transpose(0, -1) for k, t in tensors(7, 5, 3).items()}
    named = {"batch 65536": tensors(65536, 1, 1), "transposed": turned}
    return [Sample(name, t, {}) for name, t in named.items()]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    t = {k: v.clone().requires_grad_(v.is_floating_point()) for k, v in sample.cast(dtype).items()}
    given = (t["v"], *(t[k] for k in PARAMETERS))
    wide = torch.promote_types(dtype, torch.float32)
    n, hidden = len(t["v"]), len(t["weight"])
    grad = torch.linspace(0.5, 1.5, max(1, n), dtype=wide)[:n].requires_grad_()
    units = F.linear(t["v"].to(wide), t["weight"].to(wide), t["hidden_bias"].to(wide)).sigmoid().detach()
    needs = [t["v"].is_floating_point(), True, True, True]
    ops = torch.ops.pygen
    return [
        (ops.rbm_free_energy.default, (*given, sample.options.get("reduction", "batchmean"), True, "auto")),
        (ops.rbm_free_energy_backward.default, (grad, *given, units.view(n, hidden), "none", needs, "auto")),
        (ops.rbm_gibbs.default, (*given, 2, 1.0, None, torch.tensor(3), "auto")),
    ]


def errors() -> list[ErrorInput]:
    valid = {k: t.float() if k in PARAMETERS else t.long() for k, t in tensors(4, 5, 3).items()}
    weight, b, c, v = (valid[k] for k in (*PARAMETERS, "v"))

    def error(name: str, kind: type[Exception], match: str, given: dict | None = None, **options: object) -> ErrorInput:
        return ErrorInput(name, valid | (given or {}), options, kind, match)

    allowed = r"v: expected torch.float32, the dtype of weight, or torch.bool, torch.uint8 or torch.int64, got "
    return [
        error("weight array", TypeError, r"weight: expected a torch.Tensor, got ndarray", {"weight": np.zeros((3, 5))}),
        error("weight int", TypeError, r"weight: expected float64, .* got torch.int64", {"weight": weight.long()}),
        error("weight sparse", TypeError, r"weight: expected a strided", {"weight": weight.to_sparse()}),
        error("weight dims", ValueError, r"weight: expected two dims \[H, D\], got \[5\]", {"weight": weight[0]}),
        error("v None", TypeError, r"v: expected a torch.Tensor, got NoneType", {"v": None}),
        error("v int32", TypeError, allowed + "torch.int32", {"v": v.int()}),
        error("v float64", TypeError, allowed + "torch.float64", {"v": v.double()}),
        error("v device", ValueError, r"v: expected a tensor on cpu, where weight is, got meta", {"v": v.to("meta")}),
        error("v dims", ValueError, r"v: expected the shape \[N, 5\], of weight \[3, 5\], got \[5\]", {"v": v[0]}),
        error("v size", ValueError, r"v: expected the shape \[N, 5\], .* got \[4, 4\]", {"v": v[:, 1:]}),
        error("visible_bias None", TypeError, r"visible_bias: expected a torch.Tensor, got NoneType", {"visible_bias": None}),
        error("visible_bias size", ValueError, r"visible_bias: expected the shape \[5\], of weight \[3, 5\], got \[3\]",
              {"visible_bias": c}),
        error("hidden_bias float64", TypeError, r"hidden_bias: expected torch.float32, the dtype of weight, got torch.float64",
              {"hidden_bias": c.double()}),
        error("hidden_bias device", ValueError, r"hidden_bias: expected a tensor on cpu, .* got meta",
              {"hidden_bias": c.to("meta")}),
        error("hidden_bias size", ValueError, r"hidden_bias: expected the shape \[3\], .* got \[5\]", {"hidden_bias": b}),
        error("reduction mean", ValueError, r"reduction: expected 'batchmean', 'none' or 'sum', got 'mean' \(", reduction="mean"),
        error("reduction None", ValueError, r"reduction: expected .* got None", reduction=None),
        error("backend name", ValueError, r"backend: expected one of .* got 'gpu'", backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run", backend="cuda"),
    ]  # fmt: skip


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    n, visible = fuzz_size(rng, 257), fuzz_size(rng, 65)
    hidden = fuzz_size(rng, max(1, min(257, 60000 // max(1, n * visible))))
    reductions = ("none", "sum") if n == 0 else ("none", "sum", "batchmean")  # a mean over no samples is NaN
    shapes = zip(PARAMETERS, ((hidden, visible), (visible,), (hidden,)), strict=True)
    return {**dict(shapes), "v": (n, visible)}, {"reduction": rng.choice(reductions)}


def _module():
    return pnn.RBMFreeEnergy(5, 3, reduction="none"), (levels(4, 5),)


def call(t: dict[str, Tensor], options: dict, backend: str | None) -> tuple[Tensor]:
    return (rbm_free_energy(**t, **{"backend": backend} | options),)


def call_gibbs(t: dict[str, Tensor], options: dict, backend: str | None) -> tuple[Tensor, Tensor]:
    mask = t.get("known_mask")  # drawn as integers; a view keeps its strides
    if isinstance(mask, Tensor):
        t = t | {"known_mask": mask.view(torch.bool) if mask.dtype == torch.uint8 else mask.bool()}
    return rbm_gibbs(**t, **{"backend": backend, "return_hidden": True} | options)


def composite_gibbs(t: dict[str, Tensor], options: dict) -> tuple[Tensor, Tensor]:
    mask = t["known_mask"].bool() if "known_mask" in t else None
    given = (options.get("steps", 1), options.get("temperature", 1.0), mask, torch.tensor(options["seed"]))
    return reference.gibbs(t["v"], *(t[k] for k in PARAMETERS), *given)


def judge_gibbs(t: dict[str, Tensor], options: dict, v: Tensor, h: Tensor) -> None:
    """The last visible units given the hidden ones, and of one step those given v: chances in float64 against their numbers."""
    w, b, c = (t[k].cpu().double() for k in PARAMETERS)
    steps, temperature = options.get("steps", 1), options.get("temperature", 1.0)
    wide = compute_dtype(t["weight"].dtype)
    halves = [(2 * steps - 1, h, v, w.t(), b)] + ([(0, t["v"], h, w, c)] if steps == 1 else [])
    for half, x, drawn, matrix, bias in halves:
        x, drawn = x.cpu().double(), drawn.cpu()
        a, size = F.linear(x, matrix, bias), F.linear(x.abs(), matrix.abs(), bias.abs())
        p = (a / temperature).sigmoid().nan_to_num(0)
        off = ROUNDING[wide] + 4 * torch.finfo(wide).eps * (p * (1 - p) * size / temperature).nan_to_num(0, 0, 0)
        u = reference.uniforms(*p.shape, half, torch.tensor(options["seed"])).double()
        wrong = ((drawn == 1) != (u <= p)) & ((u - p).abs() > off) | (drawn != 0) & (drawn != 1)
        if half and "known_mask" in t:
            known = t["known_mask"].bool().cpu()
            wrong = torch.where(known, drawn != t["v"].cpu(), wrong)
        assert not wrong.any(), (
            f"half step {half}: {wrong.sum()} of {wrong.numel()}, first {wrong.nonzero()[0].tolist()}"
        )


def fuzz_gibbs(rng: random.Random) -> tuple[dict, dict]:
    shapes, _ = fuzz(rng)
    if rng.random() < 0.3:
        shapes["known_mask"] = shapes["v"]
    return shapes, {"steps": rng.choice((1, 1, 2, 3))} | fuzz_options(rng)


ROWS = [
    Op(
        name="rbm_free_energy",
        outputs=("energy",),
        differentiable=PARAMETERS,
        call=call,
        composite=composite,
        samples=samples,
        errors=errors,
        options={"reduction": ("batchmean", "sum")},
        batched=frozenset({"v"}),
        registered=registered,
        more_samples=more_samples,
        fuzz=fuzz,
        modules={"RBMFreeEnergy": _module},
        integers={"v": 2},
        saved_extra=8 * 157 * 37,  # the hidden units' chances
    ),
    Op(
        name="rbm_gibbs",
        outputs=("v", "h"),
        differentiable=(),
        call=call_gibbs,
        composite=composite_gibbs,
        samples=lambda: [Sample(s.name, s.tensors, {"steps": 2}) for s in samples()],
        errors=list,
        options={"steps": (1, 2), "temperature": (0.5, 2.0)},
        seeded=True,
        fuzz=fuzz_gibbs,
        integers={"v": 2, "known_mask": 2},
        finite=frozenset({"weight"}),  # as the op asks
        judge=judge_gibbs,
    ),
]

SOFT = Op(
    name="rbm_free_energy",
    outputs=("energy",),
    differentiable=(*PARAMETERS, "v"),
    call=call,
    composite=composite,
    samples=soft_samples,
    errors=lambda: [],
    options={"reduction": ("batchmean", "sum")},
    batched=frozenset({"v"}),
    registered=registered,
    fuzz=fuzz,
    finite=frozenset({"v"}),  # of infinities in v and weight, sums of the composite and of kernels may differ in sign
    saved_extra=8 * 67 * 3,
)
