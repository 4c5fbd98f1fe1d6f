"""Classes drawn by an alias table (Walker 1977; Vose 1991), in plain PyTorch, and how such a table is made.

A table has C columns, each of weight 1 / C, which belongs to class c with the chance keep_c and to alias_c with the rest. It is
int64 [C, 3]: keep_c in units of 2^-63, alias_c, and the bits of log q_c in float64, where q_c is the probability of class c.
Integers all: a module's half() does not round them, and draws are the same on every backend, bit for bit.

Draw k of row n takes the four words of the Philox counter (k low, k high, n, domain): the first two say the column, c = floor(C
(w0 2^32 + w1) / 2^64), the others whether it is kept, (w2 2^31 + w3 / 2) < keep_c.
"""

import torch
from torch import Tensor

from pygen.reference import noise as philox

NOISE_DOMAIN = 7
_ONE = 1 << 63
_AT_ONCE = 1 << 18  # Philox works in a dozen int64 tensors


def table(
    probabilities: Tensor,  # [C], float64 on the CPU, of sum 1
) -> Tensor:
    """The alias table, [C, 3] int64."""
    count = len(probabilities)
    rest = (probabilities * count).tolist()
    keep, alias = [_ONE - 1] * count, list(range(count))
    low = [c for c, r in enumerate(rest) if r < 1]
    high = [c for c, r in enumerate(rest) if r >= 1]
    while low and high:
        small, large = low.pop(), high[-1]
        keep[small], alias[small] = int(rest[small] * _ONE), large
        rest[large] -= 1 - rest[small]
        if rest[large] < 1:
            low.append(high.pop())
    # Rounding may leave some that should be full: most are all but 1, but a class of probability 0 must never come.
    likeliest = int(probabilities.argmax())
    for c in low:
        keep[c], alias[c] = min(int(rest[c] * _ONE), _ONE - 1), likeliest
    bits = probabilities.log().view(torch.int64)
    return torch.stack((torch.tensor(keep, device="cpu"), torch.tensor(alias, device="cpu"), bits), 1)


def forward(
    noise: Tensor,  # [C, 3], int64
    seed: Tensor,  # 0-dim int64
    rows: int,
    count: int,
) -> Tensor:
    """Classes, int64 [rows, count]."""
    quad = torch.arange(count, device=seed.device)
    key = (seed & 0xFFFFFFFF, (seed >> 32) & 0xFFFFFFFF)
    drawn = []
    for some in torch.arange(rows, device=seed.device).split(max(1, _AT_ONCE // max(1, count))):
        zero = torch.zeros(len(some), count, dtype=torch.int64, device=seed.device)
        counter = (zero + (quad & 0xFFFFFFFF), zero + (quad >> 32), zero + some.unsqueeze(1), zero + NOISE_DOMAIN)
        w0, w1, w2, w3 = philox.philox4x32_10(counter, key)
        column = (w0 * len(noise) + (w1 * len(noise) >> 32)) >> 32
        keep, alias, _ = noise[column].unbind(2)
        drawn.append(torch.where((w2 << 31) + (w3 >> 1) < keep, column, alias))
    return torch.cat(drawn)
