"""crf: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import crf

from ._common import DTYPES, Cases


def launch(n: int, steps: int, tags: int, dtype, *, given=True):
    """given: with start, end, tags and lengths."""
    e, a = torch.zeros(n, steps, tags, dtype=dtype), torch.zeros(tags, tags, dtype=dtype)
    ends = (a[0], a[0]) if given else (None, None)
    labels, lengths = torch.zeros(n, steps, dtype=torch.int64), torch.full((n,), steps)
    rest = (labels, lengths) if given else (None, None)
    nll, kept = crf.forward_and_keep(e, a, *ends, *rest, "batchmean")
    crf.forward(e, a, *ends, *rest, "none")
    crf.backward(nll, e, a, *ends, *rest, "batchmean", (True, True, given, given), kept)
    crf.backward(torch.ones(n, dtype=nll.dtype), e, a, *ends, *rest, "none", (True, False, False, False), None)
    crf.decode(e, a, *ends, rest[1])
    for samples in (1, 100):
        crf.sample(e, a, *ends, rest[1], torch.tensor(1), samples)


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        yield f"{name} K=64", lambda d=dtype: launch(64, 512, 64, d)
    for tags in (1, 8, 20):
        yield f"K={tags}", lambda k=tags: launch(64, 32, k, torch.float32)
    yield "log Z alone", lambda: launch(64, 32, 9, torch.float32, given=False)
