"""Gradients of a backward kernel: through the differentiable composite of its formula, to any order."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor


def composite_gradients(
    formula: Callable[..., Sequence[Tensor | None]],
    tensors: Sequence[Tensor | None],
    needs: Sequence[bool],
    grad_outputs: Sequence[Tensor | None],
) -> tuple[Tensor | None, ...]:
    """d <grad_outputs, formula(*tensors)> / d tensors, None where needs is False.

    The formula sees views of the tensors: they may depend on each other (logvar computed from mu, say), and the partial
    derivative stops at the view, while third order still reaches the tensor itself.
    """
    create_graph = torch.is_grad_enabled()
    with torch.enable_grad():
        views = [t.view_as(t) if t is not None and n else t for t, n in zip(tensors, needs, strict=True)]
        outputs = [o for o in formula(*views) if o is not None]
        pairs = [(o, g) for o, g in zip(outputs, grad_outputs, strict=True) if g is not None and o.requires_grad]
        wanted = [v for v, n in zip(views, needs, strict=True) if n]
        if not pairs:
            return (None,) * len(tensors)
        grads = iter(
            torch.autograd.grad(
                [o for o, _ in pairs], wanted, [g for _, g in pairs], create_graph=create_graph, allow_unused=True
            )
        )
    return tuple(next(grads) if n else None for n in needs)
