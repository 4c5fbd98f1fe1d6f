"""The CUDA C++ kernels of crf, executed on the host."""

import math

import host_cuda
import layouts
import pytest
import test_crf_calls
import torch
from registry import layout_sample, leaves
from rows.crf import ROWS, tensors
from support import DTYPES, Target, assert_same, dtype_name
from test_conformance import check_against_truth

from pygen.functional import crf_decode, crf_log_partition, crf_marginals, crf_nll
from pygen.native import crf as native
from pygen.reference import crf as reference

pytestmark = host_cuda.MARKS
NLL = ROWS[1]
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)


@pytest.mark.parametrize("sample", NLL.samples(), ids=lambda s: s.name)
@each_dtype
def test_cuda_host_crf_values_and_gradients_are_accurate(sample, dtype):
    check_against_truth(NLL, sample.cast(dtype), sample.options, BACKEND)


# Tags on both sides of what one, two, four and eight warps take side by side.
@pytest.mark.parametrize("k", (31, 32, 33, 64, 65, 128, 129))
def test_cuda_host_crf_of_any_number_of_tags(k):
    for wide in (1.0, 15.0):
        t = tensors(2, 4, k, wide=wide)
        given = {name: v.float() if v.is_floating_point() else v for name, v in t.items()}
        check_against_truth(NLL, given, {"reduction": "none"}, BACKEND)
        floating = {name: v for name, v in given.items() if name != "tags"}
        for a, b in zip(
            crf_decode(**floating, backend=BACKEND), crf_decode(**floating, backend="reference"), strict=True
        ):
            assert_same(a, b)
    check_against_truth(NLL, tensors(1, 3, k), {"reduction": "none"}, BACKEND)


@pytest.mark.parametrize("steps", (33, 66))
def test_cuda_host_crf_of_more_steps_than_a_tile(steps):
    for wide in (1.0, 15.0):
        t = {k: v.float() if v.is_floating_point() else v for k, v in tensors(3, steps, 5, wide=wide).items()}
        check_against_truth(NLL, t, {}, BACKEND)


def test_cuda_host_crf_takes_every_layout():
    sample = NLL.sample("odd everything")
    for maker in layouts.MAKERS:
        check_against_truth(NLL, layout_sample(NLL, sample, maker, torch.bfloat16, "cpu"), sample.options, BACKEND)


@pytest.mark.parametrize("where", ("emissions", "transitions", "start", "end"))
def test_cuda_host_crf_of_impossible_sequences(where):
    t = {k: v.float() if v.is_floating_point() else v for k, v in tensors(5, 4, 3).items()}
    if where == "emissions":
        t[where][0, 2] = -math.inf
    else:
        t[where].fill_(-math.inf)
    dead = {"emissions": [0], "transitions": [0, 2, 4]}.get(where, [0, 1, 2, 4])
    marked, inputs = leaves(NLL, t)
    assert (crf_nll(**marked, reduction="none", backend=BACKEND)[dead] == math.inf).all()
    marked.pop("tags")
    z = crf_log_partition(**marked, backend=BACKEND)
    assert (z[dead] == -math.inf).all() and z.isfinite().sum() == 5 - len(dead)
    assert not any(g.any() for g in torch.autograd.grad(z[dead].sum(), inputs))
    best = crf_decode(**marked, backend=BACKEND)
    for a, b in zip(best, crf_decode(**marked, backend="reference"), strict=True):
        assert_same(a, b)


@pytest.mark.parametrize("where", ("transitions", "end"))
def test_cuda_host_crf_never_makes_a_number_of_nan(where):
    test_crf_calls.test_nan_is_never_made_a_number(Target("cpu", "cpu"), where)


def test_cuda_host_crf_wrong_lengths_and_tags_are_nan():
    t = {k: v.float() if v.is_floating_point() else v for k, v in tensors(5, 4, 3).items()}
    t["lengths"][0], t["tags"][2, 1] = 5, 3
    given = [t[k] for k in ("emissions", "transitions", "start", "end", "tags", "lengths")]
    nll = native.forward(*given, "none")
    assert nll.isnan().tolist() == [True, False, True, False, False]
    grads = native.backward(torch.ones(5), *given, "none", (True,) * 4, None)
    assert grads[0].isnan().flatten(1).any(1).tolist() == [True, False, True, False, False]
    assert all(g.isnan().any() for g in grads[1:])
    assert native.decode(*given[:4], t["lengths"])[1].isnan().tolist() == [True, *[False] * 4]


def test_cuda_host_crf_marginals_and_equal_paths():
    t = {k: v.float() if v.is_floating_point() else v for k, v in tensors(3, 5, 4).items() if k != "tags"}
    torch.testing.assert_close(crf_marginals(**t, backend=BACKEND), crf_marginals(**t, backend="reference"))
    flat = [torch.zeros(2, 6, 40), torch.zeros(40, 40), None, None]
    for a, b in zip(native.decode(*flat, None), reference.decode(*flat, None), strict=True):
        assert_same(a, b)


def test_cuda_host_crf_device_is_guarded(monkeypatch):
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        native.forward(torch.zeros(1, 2, 3), torch.zeros(3, 3), None, None, None, None, "none")
