"""Whether float32 convolutions may multiply in TF32: torch's own switch decides, for the kernels as for cuDNN."""

import torch
from torch import Tensor


def allowed(t: Tensor) -> bool:
    """torch.backends.cudnn.allow_tf32 or its successor conv.fp32_precision, which speaks for both."""
    return t.dtype is torch.float32 and t.is_cuda and torch.backends.cudnn.conv.fp32_precision == "tf32"  # type: ignore[attr-defined]
