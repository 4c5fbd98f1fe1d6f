"""Launcher of the C++ and the CUDA C++ kernels of nade_nll. CUDA: not yet run on a GPU."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen.native._arguments import DTYPE_NAMES, strided, target
from pygen.reference import nade_nll as reference
from pygen.reference.bernoulli_nll import targets


def _wide(*tensors: Tensor) -> tuple[Tensor, ...]:
    """Contiguous, in the dtype that is computed in."""
    made = tuple(t.to(torch.promote_types(t.dtype, torch.float32)).contiguous() for t in tensors)
    for t in made:
        strided(t)  # raises where there is nothing to read
    return made


def _addresses(*tensors: Tensor) -> tuple[int, ...]:
    return tuple(t.data_ptr() for t in tensors)


def forward(
    input: Tensor,  # [N, D]
    weight: Tensor,  # [D, H]
    hidden_bias: Tensor,  # [H]
    output_weight: Tensor,  # [D, H]
    output_bias: Tensor,  # [D]
) -> Tensor:
    """The logits [N, D]."""
    compiled, where = target(weight)
    w, c, v, b = _wide(weight, hidden_bias, output_weight, output_bias)
    x = targets(input, w.dtype).contiguous()
    logits = torch.empty(x.shape, dtype=x.dtype, device=x.device)
    compiled.nade_nll_forward(
        DTYPE_NAMES[x.dtype], (*x.shape, w.shape[1]), x.data_ptr(), _addresses(w, c, v), b.data_ptr(),
        logits.data_ptr(), *where,
    )  # fmt: skip
    return logits


def backward(
    grad_logits: Tensor,  # [N, D]
    input: Tensor,  # [N, D]
    weight: Tensor,  # [D, H]
    hidden_bias: Tensor,  # [H]
    output_weight: Tensor,  # [D, H]
    needs: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of input, weight, hidden_bias, output_weight and output_bias, None where they are not needed."""
    compiled, where = target(weight)
    w, c, v, g = _wide(weight, hidden_bias, output_weight, grad_logits)
    x = targets(input, w.dtype).contiguous()
    grads: tuple[Tensor | None, ...] = (None,) * 3
    if any(needs[1:4]):
        made = torch.empty_like(w), torch.empty_like(c), torch.empty_like(v)
        compiled.nade_nll_backward(
            DTYPE_NAMES[x.dtype], (*x.shape, w.shape[1]), x.data_ptr(), _addresses(w, c, v), g.data_ptr(),
            _addresses(*made), *where,
        )  # fmt: skip
        grads = tuple(t.to(weight.dtype) if n else None for t, n in zip(made, needs[1:4], strict=True))
    grad_input = reference.grad_input(g, input, weight, hidden_bias, output_weight) if needs[0] else None
    return grad_input, *grads, g.sum(0).to(weight.dtype) if needs[4] else None
