"""Whether a GPU's special units keep the bounds that csrc/common/special.h takes to be theirs."""

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

import pygen

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
READY = [name for name in ("cuda", "triton") if pygen.backends()[name] is None]
each_backend = pytest.mark.parametrize("backend", READY or ["cuda"])
narrow = pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16), ids=dtype_name)


@each_backend
@narrow
def test_gpu_gate_is_rounded_as_if_it_were_exact(dtype, backend):
    check_gate(dtype, backend, "cuda")


@each_backend
def test_gpu_gate_of_float32_keeps_its_digits(backend):
    check_gate_of_float32(backend, "cuda")


@each_backend
def test_gpu_losses_of_confident_logits_keep_their_digits(backend):
    check_losses_of_confident_logits(backend, "cuda")


@each_backend
@narrow
def test_gpu_noise_is_rounded_as_if_it_were_exact(dtype, backend):
    check_noise(dtype, backend, "cuda")


@each_backend
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16, torch.float16), ids=dtype_name)
def test_gpu_deviations_and_kl_keep_their_digits(dtype, backend):
    check_gaussian(dtype, backend, "cuda")
