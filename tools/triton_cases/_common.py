"""What the ops' files share."""

from collections.abc import Callable, Iterator

import torch

Cases = Iterator[tuple[str, Callable[[], None]]]  # pairs of a name and a call

DTYPES = {
    "float32": torch.float32,
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float64": torch.float64,
}
