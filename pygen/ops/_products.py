"""Matrix products whose sums come out in the dtype computed in."""

from collections.abc import Iterator

import torch
from torch import Tensor

from pygen._checks import without_autocast
from pygen.native import masked_linear
from pygen.reference._likelihood import compute_dtype

_RUN = 4096  # classes of one product on a CPU: longer sums, and wider ones, leave the caches


def wide_product(
    a: Tensor,  # [m, k]
    b: Tensor,  # [k, n]
    wide: torch.dtype,
) -> Tensor:
    """a b, [m, n], in `wide`: cuBLAS sums 16 bits in float32, and so they come out."""
    with without_autocast(a):
        if a.dtype == wide:
            return torch.mm(a, b)
        return torch.mm(a, b, out_dtype=wide) if a.is_cuda else torch.mm(a.to(wide), b.to(wide))


class Products:
    """The three matrix products of some samples: who multiplies."""

    def products(
        self,
        x: Tensor,  # [n, D]
        w: Tensor,  # [C, D]
    ) -> Tensor:
        """x w^T, [n, C], in the dtype computed in."""
        raise NotImplementedError

    def grad_x(
        self,
        to: Tensor,  # [n, D], written
        grads: Tensor,  # [n, C], of the products
        w: Tensor,  # [C, D]
    ) -> None:
        """to = grads w"""
        raise NotImplementedError

    def grad_w(
        self,
        before: Tensor | None,  # [C, D], may be overwritten
        grads: Tensor,  # [n, C]
        x: Tensor,  # [n, D]
    ) -> Tensor:
        """before + grads^T x, [C, D]"""
        raise NotImplementedError


class _OnCpu(Products):
    """By the C++ kernels, whose sums do not depend on threads or addresses, as those of torch.mm do."""

    @staticmethod
    def _runs(classes: int) -> Iterator[slice]:
        return (slice(start, start + _RUN) for start in range(0, classes, _RUN))

    def products(self, x: Tensor, w: Tensor) -> Tensor:
        out = x.new_empty((len(x), len(w)))
        for run in self._runs(len(w)):
            masked_linear.dense_product(x, w[run], out[:, run])
        return out

    def grad_x(self, to: Tensor, grads: Tensor, w: Tensor) -> None:
        part = to
        for run in self._runs(len(w)):
            masked_linear.dense_product(grads[:, run], w[run].t(), part)
            if part is to:
                part = torch.empty_like(to)
            else:
                to += part

    def grad_w(self, before: Tensor | None, grads: Tensor, x: Tensor) -> Tensor:
        classes, features = grads.shape[1], x.shape[1]
        total = x.new_empty((classes, features)) if before is None else before
        part = total if before is None else x.new_empty((min(_RUN, classes), features))
        for run in self._runs(classes):
            own = total[run]
            if before is None:
                masked_linear.dense_grad_weight(grads[:, run], x, own)
            else:
                own += masked_linear.dense_grad_weight(grads[:, run], x, part[: len(own)])
        return total


class _ByTorch(Products):
    """cuBLAS: 16 bits are summed, and come out, in float32."""

    def products(self, x: Tensor, w: Tensor) -> Tensor:
        return wide_product(x, w.t(), compute_dtype(x.dtype))

    def grad_x(self, to: Tensor, grads: Tensor, w: Tensor) -> None:
        to.copy_(wide_product(grads, w, to.dtype))

    def grad_w(self, before: Tensor | None, grads: Tensor, x: Tensor) -> Tensor:
        wide = compute_dtype(x.dtype)
        if before is None:
            return wide_product(grads.t(), x, wide)
        return before.addmm_(grads.t(), x) if x.dtype == wide else before.add_(wide_product(grads.t(), x, wide))


def products_of(t: Tensor) -> Products:
    """Who multiplies tensors like `t`."""
    return _OnCpu() if masked_linear.has_dense(t) else _ByTorch()


def operands(input: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """What is multiplied: by tensor cores 16 bits as they are."""
    wide = compute_dtype(input.dtype)
    return (input, weight) if input.is_cuda else (input.to(wide), weight.to(wide))
