"""The rows of reparameterize_kl and gaussian_kl."""

import math
import random
from functools import lru_cache

import numpy as np
import torch
from layouts import SHAPES, fuzz_shape
from registry import ErrorInput, Op, Sample
from torch import Tensor

from pygen import nn as pnn
from pygen.functional import gaussian_kl, reparameterize_kl
from pygen.reference import noise

TENSORS = ("mu", "logvar", "prior_mu", "prior_logvar")


def gaussians(shape: tuple[int, ...], *others: tuple[int, ...], seed: int = 0) -> dict[str, Tensor]:
    """mu of `shape`, logvar of the same or the first of `others`, then the prior's two."""
    g = torch.Generator().manual_seed(seed)
    shapes = dict(zip(TENSORS, (shape, *(others or (shape,))), strict=False))
    return {
        name: torch.randn(s, generator=g, dtype=torch.float64) * 1.3
        if name.endswith("mu")
        else torch.rand(s, generator=g, dtype=torch.float64) * 5 - 3.5
        for name, s in shapes.items()
    }


def eps_of(shape: tuple[int, ...]) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(9), dtype=torch.float64)


@lru_cache(maxsize=64)
def noise_of(shape: tuple[int, ...], seed: int, num_samples: int | None) -> Tensor:
    return noise.normal(shape, torch.tensor(seed), num_samples, 0, torch.float64)


def kl_composite(t: dict[str, Tensor], options: dict) -> Tensor:
    """As people write it."""
    mu, logvar = t["mu"], t["logvar"]
    if "prior_mu" in t:
        pm, plv = t["prior_mu"], t["prior_logvar"]
        each = 0.5 * (plv - logvar + (logvar.exp() + (mu - pm) ** 2) / plv.exp() - 1)
    else:
        each = -0.5 * (1 + logvar - mu**2 - logvar.exp())
    each = each.expand(torch.broadcast_shapes(each.shape, mu.shape))
    if lam := options.get("free_bits"):
        each = torch.where(each > lam, each, torch.full_like(each, lam))  # clamp, but for the tie: no gradient there
    reduction = options.get("reduction", "batchmean")
    if reduction == "none":
        return each.reshape(len(mu), -1).sum(1) if each.numel() else each.new_zeros(len(mu)) + each.sum()
    return each.sum() / len(mu) if reduction == "batchmean" else each.sum()


def noise_for(t: dict[str, Tensor], options: dict) -> Tensor:
    return noise_of(tuple(t["mu"].shape), options["seed"], options.get("num_samples"))


def composite(t: dict[str, Tensor], options: dict) -> tuple[Tensor, Tensor]:
    mu, eps = t["mu"], t.get("eps")
    if eps is None:
        eps = noise_for(t, options).to(mu.dtype)
    return mu + torch.exp(t["logvar"] / 2) * eps, kl_composite(t, options)


def samples() -> list[Sample]:
    full = {name: gaussians(shape) for name, shape in SHAPES.items()}
    odd = SHAPES["odd everything"]
    return [
        Sample("one element", full["one element"]),
        Sample("odd everything", gaussians(odd, odd, odd, odd)),
        Sample("one block of 1024", full["one block of 1024"], {"num_samples": 3, "reduction": "none"}, small=False),
        Sample("a block plus one", full["a block plus one"], {"reduction": "sum"}),
        Sample("wide", full["wide"], {"free_bits": 0.25, "reduction": "none"}, small=False),
        Sample("narrow rows", gaussians((331, 3), (1,), (3,), (331, 1)), {"free_bits": 0.5}),
        Sample("empty batch", full["empty batch"], {"reduction": "sum"}),
        Sample("empty inner dim", full["empty inner dim"], {"reduction": "none"}),
        Sample("eps", gaussians((5, 33), (33,)) | {"eps": eps_of((2, 5, 33))}, {"num_samples": 2, "reduction": "none"}),
    ]


def registered(sample: Sample, dtype: torch.dtype) -> list:
    t = sample.cast(dtype)
    tensors = [t.get(name) for name in TENSORS]
    leaves = [None if x is None else x.clone().requires_grad_() for x in tensors]
    eps, k = t.get("eps"), sample.options.get("num_samples")
    seed = None if eps is not None else torch.tensor(-77)
    free_bits, reduction = sample.options.get("free_bits", 0.0), sample.options.get("reduction", "batchmean")
    mu, wide = t["mu"], torch.promote_types(dtype, torch.float32)
    grad_z = torch.randn(mu.shape if k is None else (k, *mu.shape)).to(dtype)
    grad_kl = torch.ones(mu.shape[:1] if reduction == "none" else (), dtype=wide)
    options = (k, free_bits, reduction)
    needs = [x is not None for x in tensors]
    ops = torch.ops.pygen
    return [
        (ops.reparameterize_kl.default, (*leaves, eps, seed, *options, "auto")),
        (ops.reparameterize_kl_backward.default, (grad_z, grad_kl, *tensors, eps, seed, *options, needs, "auto")),
    ]


def kl_registered(sample: Sample, dtype: torch.dtype) -> list:
    t = sample.cast(dtype)
    tensors = [t.get(name) for name in TENSORS]
    leaves = [None if x is None else x.clone().requires_grad_() for x in tensors]
    reduction = sample.options.get("reduction", "batchmean")
    wide = torch.promote_types(dtype, torch.float32)
    grad_kl = torch.ones(t["mu"].shape[:1] if reduction == "none" else (), dtype=wide)
    needs = [x is not None for x in tensors]
    ops = torch.ops.pygen
    return [
        (ops.gaussian_kl.default, (*leaves, reduction, "auto")),
        (ops.gaussian_kl_backward.default, (grad_kl, *tensors, reduction, needs, "auto")),
    ]


def common_errors() -> list[ErrorInput]:
    """Of both functions."""
    x, y = torch.zeros(3, 4), torch.zeros(3, 4)

    def error(
        name: str, kind: type[Exception], match: str, tensors: dict | None = None, **options: object
    ) -> ErrorInput:
        return ErrorInput(name, {"mu": x, "logvar": y} | (tensors or {}), options, kind, match)

    return [
        error("mu array", TypeError, r"mu: expected a torch.Tensor, got ndarray", {"mu": np.zeros((3, 4))}),
        error("mu None", TypeError, r"mu: expected a torch.Tensor, got NoneType", {"mu": None}),
        error("logvar list", TypeError, r"logvar: expected a torch.Tensor, got list", {"logvar": [1.0]}),
        error("mu int", TypeError, r"mu: expected float64, .* got torch.int64", {"mu": x.long(), "logvar": y.long()}),
        error("mu complex", TypeError, r"mu: expected float64, .* got torch.complex64", {"mu": x.cfloat()}),
        error("mu sparse", TypeError, r"mu: expected a strided .* got torch.sparse_coo", {"mu": x.to_sparse()}),
        error("mu 0-dim", ValueError, r"mu: expected at least one dim", {"mu": x[0, 0], "logvar": y[0, 0]}),
        error("logvar dtype", TypeError, r"logvar: expected torch.float32, the dtype of mu, got torch.float64",
              {"logvar": y.double()}),
        error("logvar half", TypeError, r"logvar: expected torch.float32, the dtype of mu", {"logvar": y.half()}),
        error("logvar device", ValueError, r"logvar: expected a tensor on cpu, where mu is, got meta",
              {"logvar": y.to("meta")}),
        error("logvar shape", ValueError, r"logvar: expected a shape that broadcasts to \[3, 4\].* got \[4, 3\]",
              {"logvar": y.view(4, 3)}),
        error("logvar larger", ValueError, r"logvar: expected a shape that broadcasts to \[4\].* got \[3, 4\]",
              {"mu": x[0]}),
        error("mu broadcast", ValueError, r"logvar: expected a shape that broadcasts to \[3, 1\]", {"mu": x[:, :1]}),
        error("prior_mu alone", ValueError, r"prior_logvar: expected a tensor, since prior_mu is given", {"prior_mu": x}),
        error("prior_logvar alone", ValueError, r"prior_mu: expected a tensor, since prior_logvar is given",
              {"prior_logvar": x}),
        error("prior_logvar shape", ValueError, r"prior_logvar: expected a shape that broadcasts",
              {"prior_mu": x, "prior_logvar": x[:2]}),
        error("prior_mu dtype", TypeError, r"prior_mu: expected torch.float32",
              {"prior_mu": x.bfloat16(), "prior_logvar": x}),
        error("prior_mu number", TypeError, r"prior_mu: expected a torch.Tensor, got float",
              {"prior_mu": 0.0, "prior_logvar": x}),
        error("reduction mean", ValueError, r"reduction: expected 'batchmean', 'none' or 'sum', got 'mean' \(a mean over",
              reduction="mean"),
        error("reduction None", ValueError, r"reduction: expected .* got None", reduction=None),
        error("reduction array", ValueError, r"reduction: expected .* got array", reduction=np.zeros(3)),
        error("reduction other", ValueError, r"reduction: expected .* got 'avg'", reduction="avg"),
        error("backend name", ValueError, r"backend: expected one of reference, .*cpu, triton, cuda or None, got 'gpu'",
              backend="gpu"),
        error("backend cuda", RuntimeError, r"backend 'cuda' cannot run: it runs on CUDA tensors, these are on cpu",
              backend="cuda"),
    ]  # fmt: skip


def errors() -> list[ErrorInput]:
    x, y = torch.zeros(3, 4), torch.zeros(3, 4)

    def error(name: str, kind: type[Exception], match: str, eps: object = None, **options: object) -> ErrorInput:
        tensors = {"mu": x, "logvar": y} if eps is None else {"mu": x, "logvar": y, "eps": eps}
        return ErrorInput(name, tensors, options, kind, match)

    generator = torch.Generator()
    return [
        *common_errors(),
        error("K zero", ValueError, r"num_samples: expected 1 <= num_samples < 2\^32, got 0", num_samples=0),
        error("K negative", ValueError, r"num_samples: expected 1 <= num_samples < 2\^32, got -3", num_samples=-3),
        error("K float", TypeError, r"num_samples: expected an int or None, got float", num_samples=2.0),
        error("K bool", TypeError, r"num_samples: expected an int or None, got bool", num_samples=True),
        error("free_bits negative", ValueError, r"free_bits: expected 0 <= free_bits < inf, got -0.5", free_bits=-0.5),
        error("free_bits nan", ValueError, r"free_bits: expected 0 <= free_bits < inf, got nan", free_bits=math.nan),
        error("free_bits inf", ValueError, r"free_bits: expected 0 <= free_bits < inf, got inf", free_bits=math.inf),
        error("free_bits beyond float", ValueError, r"free_bits: expected 0 <= free_bits < inf, got 1000", free_bits=10**400),
        error("free_bits text", TypeError, r"free_bits: expected a number of nats, got str", free_bits="1"),
        error("free_bits bool", TypeError, r"free_bits: expected a number of nats, got bool", free_bits=True),
        error("free_bits tensor", TypeError, r"free_bits: expected a number of nats, got Tensor",
              free_bits=torch.tensor(0.5)),
        error("eps shape", ValueError, r"eps: expected z's shape \[3, 4\], got \[4\]", eps=x[0]),
        error("eps without K", ValueError, r"eps: expected z's shape \[2, 3, 4\], got \[3, 4\]", eps=x, num_samples=2),
        error("eps dtype", TypeError, r"eps: expected torch.float32, the dtype of mu", eps=x.double()),
        error("eps requires grad", ValueError, r"eps: expected noise that does not require grad",
              eps=torch.zeros(3, 4, requires_grad=True)),
        error("eps array", TypeError, r"eps: expected a torch.Tensor, got ndarray", eps=np.zeros((3, 4))),
        error("eps and seed", ValueError, r"seed: expected at most one of eps, seed and generator", eps=x, seed=1),
        error("eps and generator", ValueError, r"generator: expected at most one of", eps=x, generator=generator),
        error("seed and generator", ValueError, r"generator: expected at most one of", seed=1, generator=generator),
        error("seed float", TypeError, r"seed: expected an int or a 0-dim int64 tensor, got float", seed=1.0),
        error("seed bool", TypeError, r"seed: expected an int or a 0-dim int64 tensor, got bool", seed=True),
        error("seed too large", ValueError, r"seed: expected -2\^63 <= seed < 2\^63, got 9223372036854775808", seed=2**63),
        error("seed int32", TypeError, r"seed: expected an int or a 0-dim int64 tensor, got torch.int32 \[\]",
              seed=torch.tensor(1, dtype=torch.int32)),
        error("seed 1-dim", TypeError, r"seed: expected an int or a 0-dim int64 tensor, got torch.int64 \[1\]",
              seed=torch.tensor([1])),
        error("generator int", TypeError, r"generator: expected a torch.Generator, got int", generator=5),
    ]  # fmt: skip


def _broadcast(rng: random.Random, shape: tuple[int, ...]) -> tuple[int, ...]:
    """A shape that broadcasts to `shape`: mostly itself."""
    if rng.random() < 0.6:
        return shape
    cut = tuple(1 if rng.random() < 0.4 else n for n in shape)
    return cut[rng.randint(0, len(cut)) :]


def kl_fuzz(rng: random.Random) -> tuple[dict, dict]:
    mu = fuzz_shape(rng)
    shapes = {"mu": mu, "logvar": _broadcast(rng, mu)}
    if rng.random() < 0.5:
        shapes |= {"prior_mu": _broadcast(rng, mu), "prior_logvar": _broadcast(rng, mu)}
    reductions = ("none", "sum") if mu[0] == 0 else ("none", "sum", "batchmean")  # a mean over no samples is NaN
    return shapes, {"reduction": rng.choice(reductions)}


def fuzz(rng: random.Random) -> tuple[dict, dict]:
    shapes, options = kl_fuzz(rng)
    options |= {"num_samples": rng.choice((None, None, 1, 2, 5)), "free_bits": rng.choice((0.0, 0.0, 0.3, 2))}
    if rng.random() < 0.3:
        k = options["num_samples"]
        shapes["eps"] = shapes["mu"] if k is None else (k, *shapes["mu"])
    else:
        options["seed"] = rng.choice((0, 1, -1, rng.randrange(-(2**63), 2**63), -(2**63), 2**63 - 1))
    return shapes, options


def _diagonal_gaussian():
    return pnn.DiagonalGaussian(6, 3, free_bits=0.1, reduction="none"), (torch.randn(4, 6),)


def _reparameterize():
    return pnn.ReparameterizeKL(free_bits=0.2, reduction="sum"), (torch.randn(4, 3), torch.randn(4, 3))


def kl_samples() -> list[Sample]:
    """The same without the options that a KL alone does not have."""
    keep = ("reduction",)
    return [
        Sample(s.name, {k: t for k, t in s.tensors.items() if k in TENSORS},
               {k: v for k, v in s.options.items() if k in keep}, s.small)
        for s in samples()
        if s.name != "eps"
    ]  # fmt: skip


ROWS = [
    Op(
        name="reparameterize_kl",
        outputs=("z", "kl"),
        differentiable=TENSORS,
        call=lambda tensors, options, backend: reparameterize_kl(**tensors, **{"backend": backend} | options),
        composite=composite,
        samples=samples,
        errors=errors,
        low_outputs=frozenset({"z"}),
        elementwise=frozenset({"z"}),
        options={"num_samples": (None, 2), "free_bits": (0.0, 0.5), "reduction": ("batchmean", "sum"), "seed": (1, 2)},
        seeded=True,
        noise=noise_for,
        registered=registered,
        fuzz=fuzz,
        modules={"ReparameterizeKL": _reparameterize, "DiagonalGaussian": _diagonal_gaussian},
    ),
    Op(
        name="gaussian_kl",
        outputs=("kl",),
        differentiable=TENSORS,
        call=lambda tensors, options, backend: (gaussian_kl(**tensors, **{"backend": backend} | options),),
        composite=lambda t, options: (kl_composite(t, options),),
        samples=kl_samples,
        errors=common_errors,
        options={"reduction": ("batchmean", "sum")},
        registered=kl_registered,
        fuzz=kl_fuzz,
    ),
]
