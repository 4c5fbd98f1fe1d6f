"""Philox4x32-10 and Box-Muller once more, in NumPy and from the papers: what every backend's noise is compared with."""

import numpy as np

KNOWN_ANSWERS = {  # of the authors' Random123: (counter, key) -> words
    "zeros": ((0, 0, 0, 0), (0, 0), "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
    "ones": ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, "408f276d 41c83b0e a20bc7c6 6d5451fd"),
    "pi": (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
}


def philox(counter: tuple, key: tuple[int, int]) -> np.ndarray:
    """Words [..., 4] of four counters that broadcast."""
    low = np.uint64(0xFFFFFFFF)
    c = [np.asarray(x, np.uint64) for x in np.broadcast_arrays(*[np.asarray(x, np.uint64) for x in counter])]
    k = [np.uint64(key[0]), np.uint64(key[1])]
    for _ in range(10):
        p0, p1 = c[0] * np.uint64(0xD2511F53), c[2] * np.uint64(0xCD9E8D57)
        c = [(p1 >> np.uint64(32)) ^ c[1] ^ k[0], p1 & low, (p0 >> np.uint64(32)) ^ c[3] ^ k[1], p0 & low]
        k = [(k[0] + np.uint64(0x9E3779B9)) & low, (k[1] + np.uint64(0xBB67AE85)) & low]
    return np.stack(c, -1)


def words(seed: int, first: int, quads: int, sample: int = 0, domain: int = 0) -> np.ndarray:
    """[quads, 4], of quads first, first + 1, ..."""
    seed %= 2**64
    q = np.arange(quads, dtype=np.uint64) + np.uint64(first)
    counter = (q & np.uint64(0xFFFFFFFF), q >> np.uint64(32), sample, domain)
    return philox(counter, (seed & 0xFFFFFFFF, seed >> 32))


def uniform(word: np.ndarray) -> np.ndarray:
    """float32 in (0, 1]."""
    return word.astype(np.uint32).astype(np.float32) * np.float32(2.0**-32) + np.float32(2.0**-33)


def box_muller(word0: np.ndarray, word1: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Two float64 normals. The angle's zeros are exact: whole quarter turns are taken off before pi comes in."""
    u0, u1 = uniform(word0).astype(np.float64), uniform(word1).astype(np.float64)
    quarter = np.rint(4 * u1)
    angle = 2 * np.pi * (u1 - quarter / 4)
    turn = quarter.astype(np.int64) % 4
    cos = np.choose(turn, [np.cos(angle), -np.sin(angle), -np.cos(angle), np.sin(angle)])
    sin = np.choose(turn, [np.sin(angle), np.cos(angle), -np.sin(angle), -np.cos(angle)])
    radius = np.sqrt(-2 * np.log(u0))
    return radius * cos, radius * sin


def normals(seed: int, first: int, quads: int, sample: int = 0, domain: int = 0) -> np.ndarray:
    """float64 [4 * quads]."""
    w = words(seed, first, quads, sample, domain)
    z = [*box_muller(w[:, 0], w[:, 1]), *box_muller(w[:, 2], w[:, 3])]
    return np.stack(z, -1).reshape(-1)


def edge_words() -> np.ndarray:
    """Both ends, the bounds of the eighths of a turn and of log's range reduction, and where float32(word) rounds."""
    bounds = [k << 29 for k in range(9)] + [0xB504F333, 0x5A82799A, 1 << 24, 1 << 25, (1 << 24) + 1, 0x7FFFFFFF]
    near = {w + d for w in bounds for d in (-300, -129, -128, -127, -65, -2, -1, 0, 1, 2, 64, 127, 128, 129, 257)}
    return np.array(sorted(w for w in near if 0 <= w < 2**32), dtype=np.uint32)
