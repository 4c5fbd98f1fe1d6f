"""The main job, `pygen demo`: the same work done with plain PyTorch and with pygen, side by side.

One file per job; a new one is added to `JOBS`. It is a function of `Setting` that returns a `JobResult`.
"""

from __future__ import annotations

from collections.abc import Callable

from . import gan_digits, pixelcnn_digits, sampling_digits, vae_digits
from ._report import JobResult, Setting

JOBS: dict[str, Callable[[Setting], JobResult]] = {
    "vae_digits": vae_digits.run,
    "pixelcnn_digits": pixelcnn_digits.run,
    "gan_digits": gan_digits.run,
    "sampling_digits": sampling_digits.run,
}
