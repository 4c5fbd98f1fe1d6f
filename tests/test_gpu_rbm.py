"""Restricted Boltzmann machines on a GPU: real sizes, repeatability, graphs, no waits. Generic tests run the rest."""

import pytest
import torch
from registry import OPS
from rows.rbm import PARAMETERS, tensors
from support import TARGETS, assert_same
from test_conformance import check_against_truth

from pygen.functional import rbm_free_energy, rbm_gibbs

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU")
OP = next(op for op in OPS if op.name == "rbm_free_energy")
each_backend = pytest.mark.parametrize("backend", [t.backend for t in TARGETS if t.device == "cuda"])


def given(n, visible, hidden, dtype):
    t = {k: 0.1 * v if k in PARAMETERS else v for k, v in tensors(n, visible, hidden).items()}
    return {k: v.to("cuda", dtype if v.is_floating_point() else None) for k, v in t.items()}


@each_backend
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16))
def test_gpu_rbm_at_real_size_and_the_same_twice(backend, dtype):
    t = given(512, 784, 1024, dtype)
    check_against_truth(OP, t, {"reduction": "none"}, backend)
    runs = [rbm_gibbs(**t, steps=3, seed=1, return_hidden=True, backend=backend) for _ in range(2)]
    for a, b in zip(*runs, strict=True):
        assert_same(a, b)
    assert_same(rbm_gibbs(**t | {"v": t["v"][:100]}, steps=3, seed=1, backend=backend), runs[0][0][:100])


@each_backend
def test_gpu_rbm_in_a_graph_draws_afresh_and_waits_for_nothing(backend):
    t = given(64, 100, 70, torch.float32)
    seed = torch.tensor(0, device="cuda")

    def step():
        return rbm_gibbs(**t, steps=2, seed=seed, backend=backend), rbm_free_energy(**t, backend=backend)

    with torch.no_grad():
        step()
        torch.cuda.synchronize()
        torch.cuda.set_sync_debug_mode("error")
        try:
            step()
        finally:
            torch.cuda.set_sync_debug_mode("default")
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            drawn, _ = step()
    for value in (1, 2):
        seed.fill_(value)
        graph.replay()
        assert_same(drawn, rbm_gibbs(**t, steps=2, seed=value, backend=backend))
