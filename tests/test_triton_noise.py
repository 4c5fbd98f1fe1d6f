"""Noise as Triton kernels draw it: the words of Philox, and normals within 6 ulp of the float64 formula."""

import itertools

import numpy as np
import pytest
import torch
from support import SEED

from pygen.reference import noise

triton = pytest.importorskip("triton")
tl = pytest.importorskip("triton.language")
from pygen.kernels import _philox  # noqa: E402

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
MOST_ULP = 6.0


@triton.jit
def words_kernel(
    seed_ptr, out_ptr, first_ptr, sample, DOMAIN: tl.constexpr, LIBRARY: tl.constexpr, QUADS: tl.constexpr
):
    quad = tl.load(first_ptr) + tl.arange(0, QUADS).to(tl.int64)
    seed = tl.load(seed_ptr)
    if LIBRARY:
        low = quad.to(tl.uint32)
        k = (tl.zeros((QUADS,), tl.int64) + sample).to(tl.uint32)
        word0, word1, word2, word3 = tl.philox(
            seed, low, (quad >> 32).to(tl.uint32), k, tl.full((QUADS,), DOMAIN, tl.uint32)
        )
    else:
        word0, word1, word2, word3 = _philox.words(seed, quad, sample, DOMAIN)
    words = tl.interleave(tl.interleave(word0, word2), tl.interleave(word1, word3))
    tl.store(out_ptr + tl.arange(0, 4 * QUADS), words.to(tl.int64))


@triton.jit
def box_muller_kernel(word0_ptr, word1_ptr, z0_ptr, z1_ptr, n, WIDE: tl.constexpr, BLOCK: tl.constexpr):
    offs = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = offs < n
    word0 = tl.load(word0_ptr + offs, mask=mask, other=0).to(tl.uint32)
    word1 = tl.load(word1_ptr + offs, mask=mask, other=0).to(tl.uint32)
    z0, z1 = _philox.box_muller(word0, word1, WIDE)
    tl.store(z0_ptr + offs, z0, mask=mask)
    tl.store(z1_ptr + offs, z1, mask=mask)


def philox_numpy(counter: list[np.ndarray], seed: int) -> np.ndarray:
    """[n, 4] words, in plain 64-bit integers."""
    c = [x.astype(np.uint64) for x in counter]
    key = [np.uint64(seed & 0xFFFFFFFF), np.uint64(seed >> 32 & 0xFFFFFFFF)]
    low = np.uint64(0xFFFFFFFF)
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [p1 >> np.uint64(32) ^ c[1] ^ key[0], p1 & low, p0 >> np.uint64(32) ^ c[3] ^ key[1], p0 & low]
        key = [(key[0] + np.uint64(0x9E3779B9)) & low, (key[1] + np.uint64(0xBB67AE85)) & low]
    return np.stack(c, axis=-1)


def signed(x: int) -> int:
    return x - 2**64 if x >= 2**63 else x


def device_words(seed: int, first: int, sample: int, domain: int, quads: int, library: bool = False) -> torch.Tensor:
    out = torch.full((quads, 4), -1, dtype=torch.int64, device=DEVICE)
    seed_t, first_t = (torch.tensor(signed(x % 2**64), device=DEVICE) for x in (seed, first))
    words_kernel[(1,)](seed_t, out, first_t, sample, domain, library, quads)
    return out.cpu()


@pytest.mark.parametrize(
    ("counter", "key", "expected"),
    [  # the known answers of the authors' Random123
        ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            (0xA4093822, 0x299F31D0),
            "d16cfe09 94fdcceb 5001e420 24126ea1",
        ),
    ],
)
@pytest.mark.parametrize("library", [False, True], ids=["ours", "tl.philox"])
def test_triton_noise_known_words(counter, key, expected, library):
    quad, sample, domain = counter[0] | counter[1] << 32, counter[2], counter[3]
    words = device_words(key[0] | key[1] << 32, quad, sample, domain, 1, library)
    assert " ".join(f"{w:08x}" for w in words[0].tolist()) == expected


@pytest.mark.parametrize("seed", [0, 1, -1, SEED, 2**63 - 1, -(2**63), 1 << 32], ids=hex)
@pytest.mark.parametrize("first", [0, 2**32 - 3, 2**40 + 7], ids=hex)
def test_triton_noise_words_equal_numpy(seed, first):
    quads = 16
    words = device_words(seed, first, 3, 0, quads)
    q = np.arange(first, first + quads, dtype=np.uint64)
    counter = [q & np.uint64(0xFFFFFFFF), q >> np.uint64(32), np.full_like(q, 3), np.zeros_like(q)]
    assert words.tolist() == philox_numpy(counter, seed % 2**64).tolist()


def edge_words() -> list[int]:
    """Both ends, the quadrant bounds of u = (w + 1/2) / 2^32 and their halves, and where float32(w) rounds up."""
    bounds = [k << 29 for k in range(9)]
    near = {w + d for w in bounds for d in (-300, -129, -128, -65, -1, 0, 1, 64, 127, 128, 129, 257)}
    return sorted(w for w in near | {0xB504F333, 0xB504F334, 0x5A82799A} if 0 <= w < 2**32)


def normals(word0: torch.Tensor, word1: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    n, block = len(word0), 4096
    z = [torch.full((n,), torch.nan, dtype=dtype, device=DEVICE) for _ in range(2)]
    wide = tl.float64 if dtype == torch.float64 else tl.float32
    box_muller_kernel[(-(-n // block),)](word0.to(DEVICE), word1.to(DEVICE), *z, n, wide, block)
    return z[0].cpu(), z[1].cpu()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_triton_noise_normals_within_6_ulp(dtype):
    edges = torch.tensor(list(itertools.product(edge_words(), repeat=2)))
    random = torch.randint(2**32, (200_000, 2), generator=torch.Generator().manual_seed(0))
    word0, word1 = torch.cat((edges, random)).t().contiguous()
    expected = noise.box_muller(noise.uniform(word0), noise.uniform(word1))
    for z, ref in zip(normals(word0, word1, dtype), expected, strict=True):
        assert z.isfinite().all()
        rounded = ref.to(dtype).abs().clamp(min=torch.finfo(dtype).tiny)  # a radius of 0 gives zeros
        ulp = torch.nextafter(rounded, torch.tensor(torch.inf, dtype=dtype)).double() - rounded.double()
        worst = ((z.double() - ref).abs() / ulp).max().item()
        assert worst <= MOST_ULP, f"{worst} ulp"
