"""Noise-contrastive losses on a GPU: real sizes, repeatability, sparse gradients, graphs that draw afresh."""

import pytest
import torch
from registry import OPS
from rows.noise_contrastive import LOSSES, tensors
from support import TARGETS, assert_same, dtype_name
from test_conformance import check_against_truth

from pygen.functional import nce_loss, noise_sample, noise_table

DEVICE = "cuda"
pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
OP = next(op for op in OPS if op.name == "nce_loss")
each_backend = pytest.mark.parametrize("backend", [t.backend for t in TARGETS if t.device == "cuda"])
each_way = pytest.mark.parametrize("shared", (False, True), ids=("own", "shared"))


def given(n: int, features: int, classes: int, count: int, dtype: torch.dtype, *, shared: bool = False) -> dict:
    """Scores of the order of 1."""
    t = tensors(n, features, classes, count, shared=shared)
    t["input"] = t["input"] / features**0.5
    return {k: v.to(DEVICE, dtype if v.is_floating_point() else None) for k, v in t.items()}


def gradients(t: dict, backend: str, **options) -> list[torch.Tensor]:
    """The loss and its gradients, dense."""
    leaves = {k: v.detach().requires_grad_() for k, v in t.items() if v.is_floating_point()}
    (loss,) = OP.call(t | leaves, options, backend)
    return [loss.detach(), *(g.to_dense() for g in torch.autograd.grad(loss, list(leaves.values())))]


@each_backend
@each_way
@pytest.mark.parametrize("kind", LOSSES)
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=dtype_name)
def test_gpu_contrast_is_accurate_at_real_size(kind, dtype, shared, backend):
    t = given(700, 200, 3001, 65, dtype, shared=shared)
    if dtype == torch.float32:  # the order of a long sum costs more than the rule allows: of eighths it costs nothing
        t |= {k: t[k].mul(8).round().div(8) for k in ("input", "weight", "bias")}
    check_against_truth(OP, t, {"kind": kind, "reduction": "none"}, backend)


@each_backend
@each_way
@pytest.mark.parametrize("sparse", (False, True), ids=("dense", "sparse"))
def test_gpu_contrast_repeats_bit_for_bit(sparse, shared, backend):
    """Of few classes, whose gradients are sums of thousands; a sparse gradient has the dense one's bits."""
    t = given(3000, 100, 50, 33, torch.float32, shared=shared)
    first = gradients(t, backend)
    for _ in range(20):
        for a, b in zip(gradients(t, backend, sparse=sparse), first, strict=True):
            assert_same(a, b)


@each_backend
def test_gpu_contrast_gives_classes_that_came_a_sparse_gradient(backend):
    t = given(64, 40, 100_000, 5, torch.bfloat16)
    weight = t["weight"].requires_grad_()
    (loss,) = OP.call(t, {"sparse": True}, backend)
    (grad,) = torch.autograd.grad(loss, [weight])
    came = torch.cat((t["target"], t["negatives"].flatten())).unique()
    assert grad.is_sparse and grad.is_coalesced() and grad.dtype == torch.bfloat16
    assert_same(grad.indices()[0], came)


@each_backend
@each_way
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=dtype_name)
def test_gpu_contrast_in_a_graph_draws_afresh_and_waits_for_nothing(dtype, shared, backend):
    t, seed = given(64, 100, 1000, 1, dtype), torch.tensor(0, device=DEVICE)
    x, w = (t[k].requires_grad_() for k in ("input", "weight"))
    table = noise_table(torch.arange(1.0, 1001)).to(DEVICE)

    def step(seed):
        options = {"num_negatives": 33, "shared": shared, "seed": seed, "backend": backend}
        loss = nce_loss(x, w, t["target"], noise=table, **options)
        return [loss.detach(), *torch.autograd.grad(loss, [x, w])]

    step(seed)  # Triton compiles at the first call
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step(seed)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step(seed)
    seen = []
    for value in (7, 8, 7):
        seed.fill_(value)
        graph.replay()
        for a, b in zip(captured, step(value), strict=True):
            assert_same(a, b)
        seen.append(captured[0].clone())
    assert not torch.equal(seen[0], seen[1]) and torch.equal(seen[0], seen[2])


@each_backend
def test_gpu_contrast_of_a_graph_without_a_seed_draws_its_own(backend):
    t = given(16, 8, 100, 1, torch.float32)
    table = noise_table(torch.ones(100)).to(DEVICE)

    def loss():
        return nce_loss(t["input"], t["weight"], t["target"], noise=table, num_negatives=5, backend=backend)

    loss()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = loss()
    graph.replay()
    first = captured.clone()
    graph.replay()
    assert not torch.equal(first, captured)


@each_backend
def test_gpu_noise_sample_draws_what_a_cpu_draws(backend):
    table = noise_table(torch.rand(50_001, generator=torch.Generator().manual_seed(2)))
    expected = noise_sample(table, (300, 1001), seed=-5, backend="reference")
    assert_same(noise_sample(table.to(DEVICE), (300, 1001), seed=-5, backend=backend).cpu(), expected)


@each_backend
def test_gpu_contrast_of_classes_that_are_none_is_nan_there(backend):
    t = given(6, 20, 50, 9, torch.float32)
    good = OP.call(t, {"reduction": "none"}, backend)[0]
    t["target"][1], t["negatives"][4, 3] = 50, -1
    bad = OP.call(t, {"reduction": "none"}, backend)[0]
    hurt = torch.tensor([False, True, False, False, True, False], device=DEVICE)
    assert_same(bad.isnan(), hurt)
    assert_same(bad[~hurt], good[~hurt])
