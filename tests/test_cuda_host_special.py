"""What CUDA C++ takes from a GPU's special units where results are rounded to 16 bits. On the host these err as much as
they are taken to on a GPU (csrc/common/special.h)."""

import host_cuda
import pytest
import torch
from special_checks import (
    check_gate,
    check_gate_of_float32,
    check_gaussian,
    check_losses_of_confident_logits,
    check_noise,
)
from support import dtype_name

pytestmark = host_cuda.MARKS
BACKEND = "cpu"  # whose launcher the fixture sends to the CUDA kernels
narrow = pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16), ids=dtype_name)


@narrow
def test_the_gate_is_rounded_as_if_it_were_exact(dtype):
    check_gate(dtype, BACKEND, "cpu")


def test_the_gate_of_float32_keeps_its_digits():
    check_gate_of_float32(BACKEND, "cpu")


def test_losses_of_confident_logits_keep_their_digits():
    check_losses_of_confident_logits(BACKEND, "cpu")


@narrow
def test_noise_is_rounded_as_if_it_were_exact(dtype):
    check_noise(dtype, BACKEND, "cpu")


@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=dtype_name)
def test_deviations_and_kl_keep_their_digits(dtype):
    check_gaussian(dtype, BACKEND, "cpu")
