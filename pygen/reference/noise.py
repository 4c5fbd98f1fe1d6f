"""Counter-based noise in plain PyTorch: a pure function of (seed, logical index, sample, domain).

Philox4x32-10 (Salmon, Moraes, Dror, Shaw, SC'11) and Box-Muller (1958). Words live in int64 tensors.
"""

import math

import torch
from torch import Tensor

_MASK = 0xFFFFFFFF


def _multiply(x: Tensor, m: int) -> tuple[Tensor, Tensor]:
    """High and low 32 bits of x * m; the product may not fit int64, so the high half is made of 16-bit halves."""
    high = (m * (x >> 16) + (m * (x & 0xFFFF) >> 16)) >> 16
    return high, (m * x) & _MASK


def philox4x32_10(counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[Tensor, Tensor]) -> tuple[Tensor, ...]:
    """Four words in [0, 2^32) for each counter; the operands broadcast."""
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(10):
        high0, low0 = _multiply(c0, 0xD2511F53)
        high1, low1 = _multiply(c2, 0xCD9E8D57)
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + 0x9E3779B9) & _MASK, (k1 + 0xBB67AE85) & _MASK
    return c0, c1, c2, c3


def words(numel: int, seed: Tensor, num_samples: int, domain: int) -> Tensor:
    """Words of the logical indices 0 .. 4 * ceil(numel / 4) - 1: [num_samples, quads, 4], int64."""
    quad = torch.arange((numel + 3) // 4, device=seed.device)
    sample = torch.arange(num_samples, device=seed.device).unsqueeze(1)
    zero = torch.zeros_like(quad + sample)
    counter = (zero + (quad & _MASK), zero + (quad >> 32), zero + sample, zero + domain)
    return torch.stack(philox4x32_10(counter, (seed & _MASK, (seed >> 32) & _MASK)), dim=-1)


def uniform(word: Tensor) -> Tensor:
    """float32 in (0, 1]; the product is exact, so there is one rounding after the conversion's."""
    return word.to(torch.float32) * 2.0**-32 + 2.0**-33


_QUADS_AT_ONCE = 1 << 18  # Philox works in a dozen int64 tensors


def uniforms(n: int, draws: int, seed: Tensor, domain: int, high: int = 0, samples: int = 1) -> Tensor:
    """float32 in (0, 1], [samples n, draws]: number j of row k n + i is word j % 4 of counter (j // 4, high + k, i, domain)."""
    quads = (draws + 3) // 4
    quad = torch.arange(quads, device=seed.device)
    key = (seed & _MASK, (seed >> 32) & _MASK)
    rows = []
    for some in torch.arange(samples * n, device=seed.device).split(max(1, _QUADS_AT_ONCE // max(1, quads))):
        sample, image = (some // max(1, n)).unsqueeze(1), (some % max(1, n)).unsqueeze(1)
        zero = torch.zeros(len(some), quads, dtype=torch.int64, device=seed.device)
        counter = (zero + (quad & _MASK), zero + (quad >> 32) + high + sample, zero + image, zero + domain)
        rows.append(uniform(torch.stack(philox4x32_10(counter, key), dim=-1)).flatten(1)[:, :draws])
    return torch.cat(rows)


def box_muller(u0: Tensor, u1: Tensor) -> tuple[Tensor, Tensor]:
    """Two float64 normals from float32 uniforms; the quadrant is taken off u1 exactly, so zeros stay zeros."""
    u0, u1 = u0.double(), u1.double()
    radius = torch.sqrt(-2.0 * torch.log(u0))
    quarter = torch.round(4.0 * u1)
    angle = (u1 - 0.25 * quarter) * (2.0 * math.pi)
    sine, cosine = torch.sin(angle), torch.cos(angle)
    quadrant = quarter.long() % 4
    odd = quadrant % 2 == 1
    cos_t = torch.where(odd, sine, cosine) * torch.where((quadrant == 1) | (quadrant == 2), -1.0, 1.0)
    sin_t = torch.where(odd, cosine, sine) * torch.where(quadrant >= 2, -1.0, 1.0)
    return radius * cos_t, radius * sin_t


def normal(shape: tuple[int, ...], seed: Tensor, num_samples: int | None, domain: int, dtype: torch.dtype) -> Tensor:
    """Standard normals of `shape`, or [num_samples, *shape], rounded once from float64 to dtype.

    Args:
        shape: logical shape; element j in row-major order uses word j % 4 of quad j // 4.
        seed: 0-dim int64 tensor; all 64 bits count.
    """
    numel = math.prod(shape)
    w = words(numel, seed, num_samples or 1, domain)
    z0, z1 = box_muller(uniform(w[..., 0]), uniform(w[..., 1]))
    z2, z3 = box_muller(uniform(w[..., 2]), uniform(w[..., 3]))
    flat = torch.stack((z0, z1, z2, z3), dim=-1).flatten(1)[:, :numel].to(dtype)
    return flat.reshape(shape if num_samples is None else (num_samples, *shape))
