"""noise_contrastive: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import noise_contrastive

from ._common import DTYPES, Cases


def launch(n: int, features: int, count: int, dtype, *, softmax=False, shared=False, given=True, grad=True):
    """given: a bias, a correction and hits that are left out."""
    wide = torch.promote_types(dtype, torch.float32)
    x, w = torch.zeros(n, features, dtype=dtype), torch.zeros(100, features, dtype=dtype)
    target, scores = torch.zeros(n, dtype=torch.int64), torch.zeros(n, count, dtype=wide)
    negatives = torch.zeros((count,) if shared else (n, count), dtype=torch.int64)
    bias, log_noise = (w[:, 0].contiguous(), torch.zeros(100, dtype=torch.float64)) if given else (None, None)
    shift, slopes = (scores[0] if shared else None), torch.zeros(n, dtype=wide)
    noise_contrastive.rows(
        x, w, bias, (target, negatives), log_noise, 1.0, softmax, given, shift, scores, slopes, "none", grad
    )
    vectors = (x.to(wide), scores.new_zeros(count, features)) if shared else (x, x)
    entries = torch.cat((target, negatives.flatten()))
    scale = torch.zeros(len(entries), dtype=wide)
    noise_contrastive.sums(*torch.sort(entries), None, scale, None, *vectors, w.clone(), bias)


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        for softmax in (False, True):
            for shared in (False, True):
                kind = f"{'softmax' if softmax else 'NCE'}{', shared' if shared else ''}"
                options = {"softmax": softmax, "shared": shared}
                yield f"{name} {kind}", lambda d=dtype, o=options: launch(64, 128, 64, d, **o)
    yield (
        "few negatives, the loss alone",
        lambda: launch(64, 300, 5, torch.float32, given=False, grad=False),
    )
