"""The CUDA C++ kernels of nade_nll, executed on the host."""

import dataclasses

import host_cuda
import layouts
import pytest
import torch
from registry import OPS, gradients, layout_sample, leaves
from rows.nade_nll import PARAMETERS, SOFT, tensors
from sampling_check import check_made_samples
from support import DTYPES, assert_same, dtype_name
from test_conformance import check_against_truth
from test_nade import CASES, options, twins

from pygen.models import NADE, _engines
from pygen.models._program import Unsupported
from pygen.native import nade_nll as native

pytestmark = host_cuda.MARKS
OP = next(op for op in OPS if op.name == "nade_nll")
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)


@pytest.mark.parametrize("sample", OP.samples(), ids=lambda s: s.name)
@each_dtype
def test_cuda_host_nade_nll_values_and_gradients_are_accurate(sample, dtype):
    check_against_truth(OP, sample.cast(dtype), sample.options, BACKEND)


def test_cuda_host_nade_nll_of_soft_data():
    sample = SOFT.sample("odd everything")
    check_against_truth(SOFT, sample.cast(torch.float32), sample.options, BACKEND)


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
def test_cuda_host_nade_nll_takes_every_layout(maker):
    sample = OP.sample("odd everything")
    check_against_truth(OP, layout_sample(OP, sample, maker, torch.float32, "cpu"), sample.options, BACKEND)


# (N, D, H): warps of 32 units, four a block; segments of 16 inputs (8 of float64); 4 samples of a warp, 16 of a chunk.
SIZES = {
    "a warp, a segment": (4, 16, 32),
    "one more of each": (5, 17, 33),
    "one less": (3, 15, 31),
    "more than a block of warps": (2, 3, 129),
    "several parts": (66, 9, 3),
    "several chunks of a part": (16 * 17 + 1, 2, 2),
    "the last input begins a segment": (2, 33, 2),
}


@pytest.mark.parametrize("size", SIZES.values(), ids=list(SIZES))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float64), ids=dtype_name)
def test_cuda_host_nade_nll_of_any_size(size, dtype):
    t = {k: v.to(dtype if v.is_floating_point() else None) for k, v in tensors(*size).items()}
    if dtype == torch.float32:
        check_against_truth(OP, t, {}, BACKEND)
        return
    results = []
    for backend in (BACKEND, "reference"):
        marked, inputs = leaves(OP, t)
        nll = OP.run(marked, {}, backend)
        results.append((*nll, *gradients(nll, inputs)))
    for ours, exact in zip(*results, strict=True):
        torch.testing.assert_close(ours, exact, rtol=1e-11, atol=1e-13)


@pytest.mark.parametrize("bad", (torch.nan, torch.inf))
def test_cuda_host_nade_nll_weights_of_inputs_that_are_0_may_be_anything(bad):
    t = {k: v.float() if k in PARAMETERS else v.clone() for k, v in tensors(5, 18, 3).items()}
    t["input"][:, 4] = 0
    expected = native.forward(t["input"], *(t[k] for k in PARAMETERS))
    t["weight"][[4, 17]] = bad
    given = [t[k] for k in PARAMETERS]
    assert_same(native.forward(t["input"], *given), expected)
    grads = native.backward(expected, t["input"], *given[:3], (False, True, True, True, True))
    assert all(grad.isfinite().all() for grad in grads[1:]) and not grads[1][[4, 17]].any()


def test_cuda_host_nade_nll_of_wrong_levels_is_nan():
    t = {k: v.float() if k in PARAMETERS else v.long() for k, v in tensors(3, 4, 2).items()}
    t["input"][1, 2] = 2
    logits = native.forward(t["input"], *(t[k] for k in PARAMETERS))
    assert logits[[0, 2]].isfinite().all() and logits[1, :3].isfinite().all() and logits[1, 3].isnan()


def test_cuda_host_nade_nll_writes_nothing_around_its_results(monkeypatch):
    """Lanes past the last unit, and inputs past the last one, would."""
    written = []
    new = native._Call.new

    def guarded(call, *shape):
        whole = torch.full((torch.Size(shape).numel() + 128,), 7.0, dtype=call.wide)
        written.append(whole)
        return whole[64:-64].view(shape).fill_(torch.nan)

    monkeypatch.setattr(native._Call, "new", guarded)
    t = {k: v.float() if k in PARAMETERS else v for k, v in tensors(5, 3, 7).items()}
    logits = native.forward(t["input"], *(t[k] for k in PARAMETERS))
    native.backward(logits, t["input"], *(t[k] for k in PARAMETERS[:3]), (False, True, True, True, True))
    monkeypatch.setattr(native._Call, "new", new)
    assert len(written) == 5
    for whole in written:
        assert (whole[:64] == 7).all() and (whole[-64:] == 7).all()
        assert whole is written[-1] or whole.isfinite().all()  # the workspace has room for samples that do not come


def test_cuda_host_nade_nll_device_is_guarded(monkeypatch):
    t = {k: v.float() if k in PARAMETERS else v for k, v in tensors(2, 2, 2).items()}
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        native.forward(t["input"], *(t[k] for k in PARAMETERS))
    host_cuda.run_native_on(monkeypatch, (1, 0))
    native.forward(t["input"], *(t[k] for k in PARAMETERS))


# Samples


@pytest.fixture
def engine(monkeypatch):
    """The engine "cuda" takes models of the host."""
    engine = dataclasses.replace(_engines.ENGINES["cuda"], why_not=lambda model: None)
    monkeypatch.setitem(_engines.ENGINES, "cuda", engine)


@pytest.mark.parametrize("name", CASES)
def test_cuda_host_nade_draws_the_naive_engines_samples(engine, name):
    _, model = twins(name)
    for args in options(model, 5):
        expected = model.sample(5, seed=3, engine="naive", **args)
        assert torch.equal(model.sample(5, seed=3, engine="cuda", **args), expected)


@pytest.mark.parametrize("hidden", (127, 129, 600))
def test_cuda_host_nade_of_more_units_than_threads(engine, hidden):
    torch.manual_seed(0)
    model = NADE(3, hidden).double()
    assert torch.equal(model.sample(4, seed=1, engine="cuda"), model.sample(4, seed=1, engine="naive"))


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=dtype_name)
def test_cuda_host_nade_draws_what_the_noise_selects(engine, dtype):
    truth, _ = twins("orders")
    base, model = twins("orders", dtype)
    verdict = check_made_samples(model.sample(64, seed=4, engine="cuda"), truth, base, seed=4)
    assert verdict.wrong == 0 and verdict.undecided < verdict.positions / 2, verdict


def test_cuda_host_nade_of_too_many_units_is_drawn_otherwise(engine, monkeypatch):
    model = NADE(2, 5)
    monkeypatch.setattr(model, "weight", torch.nn.Parameter(torch.zeros(2, 60_000)))
    with pytest.raises(Unsupported, match="60000 hidden units; shared memory has room for"):
        native.draw(model._program(0), torch.zeros(1, 2, dtype=torch.uint8), torch.rand(1, 2), None, None, 1.0)
