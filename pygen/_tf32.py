"""Whether float32 may be multiplied in TF32: torch's own switches decide, for the kernels as for cuDNN and cuBLAS."""

import torch
from torch import Tensor


def allowed(t: Tensor) -> bool:
    """In convolutions: torch.backends.cudnn.allow_tf32 or its successor conv.fp32_precision, which speaks for both."""
    return t.dtype is torch.float32 and t.is_cuda and torch.backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]


def allowed_in_products(t: Tensor) -> bool:
    """In matrix products: set_float32_matmul_precision, cuda.matmul.allow_tf32 or its successor, which speaks for all."""
    return t.dtype is torch.float32 and t.is_cuda and torch.backends.cuda.matmul.fp32_precision == "tf32"
