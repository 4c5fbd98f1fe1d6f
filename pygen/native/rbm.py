"""Launcher of the C++ and the CUDA C++ kernels of restricted Boltzmann machines. CUDA: not yet run on a GPU."""

import torch
from torch import Tensor

from pygen import _tf32
from pygen._degrees import dense_plan
from pygen.native._arguments import DTYPE_NAMES, Where, on_gpu, strided, target
from pygen.reference._likelihood import compute_dtype
from pygen.reference.bernoulli_nll import targets

_ALIGNED = 16  # bytes: the start of each row that a CUDA kernel copies


def _check(*tensors: Tensor | None) -> None:
    """Raises where there is nothing to read."""
    for t in tensors:
        if t is not None:
            strided(t)


def _addresses(tensors: list[Tensor]) -> tuple[int, ...]:
    return tuple(t.data_ptr() for t in tensors)


def _given(v: Tensor, weight: Tensor, *biases: Tensor) -> tuple[tuple, list[Tensor]]:
    """(dtype, sizes, weight) and the other tensors as the C++ kernels take them, which the caller keeps alive."""
    wide = compute_dtype(weight.dtype)
    tensors = [t if t.dtype == wide and t.is_contiguous() else targets(t, wide).contiguous() for t in (v, *biases)]
    return (DTYPE_NAMES[weight.dtype], (*v.shape, weight.shape[0]), strided(weight)), tensors


def _rows(n: int, size: int, like: Tensor) -> Tensor:
    """[n, size] whose rows begin at whole 16 bytes."""
    per = _ALIGNED // like.element_size()
    return like.new_empty((n, -(-size // per) * per))[:, :size]


def _as_rows(t: Tensor) -> Tensor:
    """t itself where it is such rows, else a copy."""
    (n, size), step = t.shape, t.element_size()
    pitched = t.stride(0) >= size and t.stride(0) * step % _ALIGNED == 0
    if (size <= 1 or t.stride(1) == 1) and pitched and strided(t)[0] % _ALIGNED == 0:
        return t
    return _rows(n, size, t).copy_(t)


class _Layer:
    """One layer given the other as the CUDA kernels take it; it keeps the memory that they read."""

    def __init__(
        self,
        weight: Tensor,  # [targets, sources], by any strides
        bias: Tensor,  # [targets]
    ) -> None:
        self.weight, self.bias = _as_rows(weight), bias.contiguous()
        self.plan = dense_plan(weight.shape[1], len(weight))
        self.live = self.plan.addresses(weight.device, True)[2]
        self.numbers = DTYPE_NAMES[weight.dtype], _tf32.allowed_in_products(weight)

    def of(
        self,
        x: Tensor,  # [N, sources], rows
    ) -> tuple:
        """The kernels' first argument."""
        targets_, sources = self.weight.shape
        pair, bias = (self.weight.data_ptr(), self.weight.stride(0)), self.bias.data_ptr()
        return (*self.numbers, (len(x), targets_, sources), (x.data_ptr(), x.stride(0)), pair, bias, self.live)


def forward(
    v: Tensor,  # [N, D]: bool, uint8, int64 or weight's dtype
    weight: Tensor,  # [H, D]
    visible_bias: Tensor,  # [D]
    hidden_bias: Tensor,  # [H]
    keep: bool,
) -> tuple[Tensor, Tensor]:
    """The free energies [N] and, where `keep`, the hidden units' chances [N, H], else [0]: float32 (float64 for float64)."""
    _check(v, weight, visible_bias, hidden_bias)
    where, wide = target(weight), compute_dtype(weight.dtype)
    units = torch.empty((v.shape[0], weight.shape[0]) if keep else 0, dtype=wide, device=v.device)
    kept = units.data_ptr() if units.numel() else None
    if on_gpu(where):
        return _forward_on_gpu(where, v, weight, visible_bias, hidden_bias, kept), units
    given, tensors = _given(v, weight, visible_bias, hidden_bias)
    energy = torch.empty(v.shape[0], dtype=wide, device=v.device)
    where[0].rbm_free_energy(*given, _addresses(tensors), energy.data_ptr(), kept, *where[1])
    return energy, units


def _forward_on_gpu(
    where: Where, v: Tensor, weight: Tensor, visible_bias: Tensor, hidden_bias: Tensor, units: int | None
) -> Tensor:
    compiled, there = where
    x, wide = targets(v, weight.dtype), compute_dtype(weight.dtype)
    layer, rows = _Layer(weight, hidden_bias), _as_rows(x)
    partial = torch.empty((compiled.rbm_tiles(len(weight)), len(v)), dtype=wide, device=v.device)
    compiled.rbm_free_energy(layer.of(rows), partial.data_ptr(), units, *there)
    return -(x.to(wide) * visible_bias.to(wide)).sum(1) - partial.sum(0)


def gibbs(
    v: Tensor,  # [N, D]: bool, uint8, int64 or weight's dtype
    weight: Tensor,  # [H, D]
    visible_bias: Tensor,  # [D]
    hidden_bias: Tensor,  # [H]
    steps: int,  # at least 1
    temperature: float,
    known_mask: Tensor | None,  # [N, D], bool
    seed: Tensor,  # 0-dim, int64
) -> tuple[Tensor, Tensor]:
    """v after `steps` full steps and the h it was drawn from, both in v's dtype."""
    _check(v, weight, visible_bias, hidden_bias, known_mask)
    where = target(weight)
    known = None if known_mask is None else known_mask.contiguous()
    mask = None if known is None else known.data_ptr()
    options = steps, 1 / temperature, seed, mask
    if on_gpu(where):
        state, units = _gibbs_on_gpu(where, v, weight, visible_bias, hidden_bias, *options)
        return state.to(v.dtype).contiguous(), units.to(v.dtype).contiguous()
    given, tensors = _given(v, weight, visible_bias, hidden_bias)
    state = torch.empty(v.shape, dtype=torch.uint8, device=v.device)
    units = torch.empty((len(v), len(weight)), dtype=torch.uint8, device=v.device)
    steps, inverse, seed, mask = options
    drawn = state.data_ptr(), units.data_ptr()
    where[0].rbm_gibbs(*given, _addresses(tensors), steps, inverse, int(seed), mask, *drawn, *where[1])
    if v.dtype != torch.uint8:
        state, units = state.to(v.dtype), units.to(v.dtype)
    return state if known is None else torch.where(known, v, state), units


def _gibbs_on_gpu(
    where: Where,
    v: Tensor,
    weight: Tensor,
    visible_bias: Tensor,
    hidden_bias: Tensor,
    steps: int,
    inverse: float,
    seed: Tensor,
    mask: int | None,
) -> tuple[Tensor, Tensor]:
    """In weight's dtype: what a half step draws, the next one multiplies."""
    compiled, there = where
    given = state = _as_rows(targets(v, weight.dtype))
    drawn, h = _rows(*v.shape, given), _rows(len(v), len(weight), given)
    hidden, visible = _Layer(weight, hidden_bias), _Layer(weight.t(), visible_bias)
    if given.stride(0) != drawn.stride(0):
        given = state = _rows(*v.shape, given).copy_(given)
    for step in range(steps):
        to = h.data_ptr(), h.data_ptr(), h.stride(0), None
        compiled.rbm_gibbs(hidden.of(state), inverse, 2 * step, seed.data_ptr(), *to, *there)
        to = drawn.data_ptr(), given.data_ptr(), drawn.stride(0), mask
        compiled.rbm_gibbs(visible.of(h), inverse, 2 * step + 1, seed.data_ptr(), *to, *there)
        state = drawn
    return drawn, h
