"""The CUDA C++ kernel of crf_sample, executed on the host."""

import host_cuda
import pytest
import test_crf_sample
import torch
from support import DTYPES, Target, assert_same, dtype_name
from test_crf_sample import SEED, SHAPES, check, given

from pygen.functional import crf_sample
from pygen.native import crf as native

pytestmark = host_cuda.MARKS
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels


class Host(Target):
    slow = True  # a warp's lanes one after the other


TARGET = Host(BACKEND, "cpu")


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_cuda_host_crf_sample_inverts_the_distribution_functions(dtype):
    for n, steps, k, samples in list(SHAPES.values())[: None if dtype == torch.float32 else 2]:
        for wide in (1.0, 15.0):
            t = given(n, steps, k, dtype=dtype, wide=wide, ends=k % 2 == 0)
            tags = crf_sample(**t, num_samples=samples, seed=SEED, backend=BACKEND)
            check(t, tags)


# Tags on both sides of what a warp's lanes hold once, twice, four and eight times.
@pytest.mark.parametrize("k", (32, 33, 64, 65, 129))
def test_cuda_host_crf_sample_of_any_number_of_tags(k):
    for wide in (1.0, 200.0):
        t = given(2, 4, k, wide=wide)
        expected = crf_sample(**t, num_samples=3, seed=SEED, backend="reference")
        assert_same(crf_sample(**t, num_samples=3, seed=SEED, backend=BACKEND), expected)


@pytest.mark.parametrize("steps", (31, 32, 33, 65))
def test_cuda_host_crf_sample_of_any_number_of_steps(steps):
    t = given(9, steps, 3)
    expected = crf_sample(**t, num_samples=2, seed=SEED, backend="reference")
    assert_same(crf_sample(**t, num_samples=2, seed=SEED, backend=BACKEND), expected)


def test_cuda_host_crf_sample_draws_do_not_depend_on_what_they_need_not():
    test_crf_sample.test_emissions_in_any_layout(TARGET)
    test_crf_sample.test_below_the_check_a_wrong_length_is_no_tags(TARGET)
    test_crf_sample.test_nothing_to_draw(TARGET)


def test_cuda_host_crf_sample_of_what_cannot_come_and_is_no_number():
    test_crf_sample.test_what_cannot_come_is_never_drawn(TARGET, torch.float32)
    test_crf_sample.test_a_path_that_is_worth_nothing_until_its_last_step(TARGET)
    for where in ("emissions", "transitions", "start", "end"):
        test_crf_sample.test_where_nothing_can_come_or_is_no_number_tags_are_tags(TARGET, where)


def test_cuda_host_crf_sample_device_is_guarded(monkeypatch):
    host_cuda.run_native_on(monkeypatch, (7, 0))
    with pytest.raises(RuntimeError, match=r"cudaSetDevice: invalid device ordinal"):
        native.sample(torch.zeros(1, 2, 3), torch.zeros(3, 3), None, None, None, torch.tensor(1), 1)
