"""pixel_lstm: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import pixel_lstm

from ._common import DTYPES, Cases


def launch(shape: tuple[int, ...], direction: str, taps: int, dtype):
    x = torch.zeros(shape, dtype=dtype)
    weight = torch.zeros(shape[1], shape[1] // 4, taps, dtype=dtype)
    pixel_lstm.forward(x, weight, direction, 1, False)
    h, kept = pixel_lstm.forward(x, weight, direction, 1, True)
    pixel_lstm.backward(h, weight, h, kept, direction, 1, (True, False))


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        yield f"{name} LSTM right", lambda d=dtype: launch((8, 512, 32, 32), "right", 2, d)
    yield "LSTM left, few units", lambda: launch((8, 64, 9, 9), "left", 2, torch.float32)
    yield "LSTM down", lambda: launch((8, 512, 32, 32), "down", 3, torch.float32)
