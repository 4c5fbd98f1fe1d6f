"""Launcher of the C++ and the CUDA C++ kernels of am_softmax. CUDA: not yet run on a GPU."""

import torch
from torch import Tensor

from pygen.native._arguments import DTYPE_NAMES, on_gpu, target


def rows(
    products: Tensor,  # [n, C] float32 or float64, contiguous, overwritten
    row_scale: Tensor,  # [n], like all numbers here of the products' dtype
    column_scale: Tensor,  # [C]
    classes: Tensor,  # [n], int64, the targets
    shift: float,
    upstream: Tensor | None,  # [n]; None: no gradients
    dtype: torch.dtype,  # of the gradients; on a CPU that of the products
) -> tuple[Tensor, Tensor | None]:
    """The losses [n] and the gradients of the products [n, C], which may take their place."""
    compiled, where = target(products)
    count, numbers = products.shape
    nll = products.new_empty(count)
    grads = None
    if upstream is not None:
        grads = products if dtype == products.dtype else torch.empty_like(products, dtype=dtype)
    given = (products.data_ptr(), row_scale.data_ptr(), column_scale.data_ptr(), classes.data_ptr(), shift)
    wide, above = products.dtype == torch.float64, None if upstream is None else upstream.data_ptr()
    if on_gpu((compiled, where)):
        written = None if grads is None else grads.data_ptr()
        compiled.am_softmax_rows(
            wide, DTYPE_NAMES[dtype], count, numbers, *given, above, nll.data_ptr(), written, *where
        )
    else:
        compiled.am_softmax_rows(wide, count, numbers, *given, above, nll.data_ptr(), *where)
    return nll, grads


def across(
    grad: Tensor,  # [n, D] float32 or float64, contiguous, overwritten
    t: Tensor,  # [n, D], contiguous; on a CPU in grad's dtype
    norm: Tensor,  # [n], of grad's dtype
    least: float,
    factor: Tensor | None,  # 0-dim, of grad's dtype
) -> Tensor:
    """factor (grad - t <t, grad> / norm^2), row by row, where the norm is beyond `least`; in t's dtype."""
    compiled, where = target(grad)
    sizes = grad.shape[0], grad.shape[1]
    given = grad.data_ptr(), t.data_ptr(), norm.data_ptr(), least, None if factor is None else factor.data_ptr()
    if on_gpu((compiled, where)):
        result = torch.empty_like(t)
        compiled.am_softmax_across(DTYPE_NAMES[t.dtype], *sizes, *given, result.data_ptr(), *where)
        return result
    compiled.am_softmax_across(grad.dtype == torch.float64, *sizes, *given, *where)
    return grad
