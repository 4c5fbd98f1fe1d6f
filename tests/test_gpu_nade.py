"""What only a GPU can show of NADE: real sizes, and samples of every dtype."""

import pytest
import torch
from registry import OPS
from rows.nade_nll import tensors
from sampling_check import check_made_samples
from support import assert_same
from test_conformance import check_against_truth
from test_nade import options, twins

import pygen
from pygen.models import NADE
from pygen.reference.models import NADE as PlainNADE

OP = next(op for op in OPS if op.name == "nade_nll")
BACKENDS = [name for name in ("triton", "cuda") if torch.cuda.is_available() and pygen.backends()[name] is None]
pytestmark = pytest.mark.skipif(not BACKENDS, reason="needs an NVIDIA GPU and its kernels")
of_cuda = pytest.mark.skipif("cuda" not in BACKENDS, reason="needs the compiled CUDA module")


@pytest.mark.parametrize("backend", BACKENDS)
def test_gpu_nade_nll_at_real_size_and_the_same_twice(backend):
    t = {k: (0.1 * v).float() if v.is_floating_point() else v for k, v in tensors(70, 784, 500).items()}
    t = {k: v.cuda() for k, v in t.items()}
    first, again = (check_against_truth(OP, t, {"reduction": "none"}, backend) for _ in range(2))
    for a, b in zip((*first[0], *first[1]), (*again[0], *again[1]), strict=True):
        assert_same(a, b)


@of_cuda
@pytest.mark.parametrize("name", ("plain", "orders", "several-vectors"))
def test_gpu_nade_draws_the_naive_engines_samples_in_float64(name):
    _, model = twins(name)
    for n in (1, 17, 300):
        for args in options(model, n):
            on_gpu = {k: v.cuda() if isinstance(v, torch.Tensor) else v for k, v in args.items()}
            drawn = [model.cuda().sample(n, seed=3, engine=engine, **on_gpu) for engine in ("naive", "cached", "cuda")]
            assert torch.equal(drawn[2], drawn[0]) and torch.equal(drawn[1], drawn[0])


@of_cuda
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=str)
def test_gpu_nade_draws_what_the_noise_selects_at_real_size(dtype):
    torch.manual_seed(0)
    truth, base, model = PlainNADE(784, 500).double(), PlainNADE(784, 500).to(dtype), NADE(784, 500).to(dtype)
    for other in (base, model):
        other.load_state_dict(truth.state_dict())
    samples = model.cuda().sample(64, seed=3, engine="cuda").cpu()
    verdict = check_made_samples(samples, truth, base, seed=3)
    assert verdict.wrong == 0 and verdict.undecided < verdict.positions / 2, verdict


@of_cuda
@pytest.mark.parametrize("hidden", (3067, 3068, 3069, 3072, 3073))
def test_gpu_nade_of_as_many_units_as_memory_that_nobody_asks_for(hidden):
    """48 KiB are those of 3,068 units in float64; what is beyond must be asked for."""
    torch.manual_seed(0)
    model = NADE(3, hidden).double().cuda()
    assert torch.equal(model.sample(4, seed=1, engine="cuda"), model.sample(4, seed=1, engine="naive"))
