"""The vector-quantised auto-encoder (van den Oord et al., "Neural Discrete Representation Learning", 2017)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pygen._checks import check_size, check_tensor, fail
from pygen.functional import vector_quantize
from pygen.nn import VectorQuantizer

from ._arguments import check_int
from ._checkpoint import Recorded
from ._levels import check_level_range, check_levels, scale_levels


class _Residual(nn.Module):
    """x + conv1x1(relu(conv3x3(relu(x))))"""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class VQVAE(Recorded):
    """An autoencoder that turns an image into a smaller image of integer codes, over which a pixel model can be trained.

    Convolutions, `pygen.nn.VectorQuantizer` as `quantizer`, and their mirror image. Images are levels 0 .. num_levels -
    1, uint8 or int64, [N, C, H, W]. The loss is the mean squared error of the pixels, scaled to -1 .. 1, plus the
    quantizer's, a mean over elements each, as in the paper's own code; it is no likelihood. A prior over the codes,
    levels [N, 1, h, w] of encode(x).unsqueeze(1), is any pixel model with num_levels = num_codes: it draws codes, and
    `decode` turns them into images. Van den Oord et al. 2017.

    Args:
        image_shape: (C, H, W), H and W multiples of 2^num_halvings.
        num_codes: K.
        code_dim: D.
        hidden_channels: of all layers between.
        num_halvings: convolutions of stride 2, each halving both sides; h = H / 2^num_halvings.
        num_residual: residual blocks on either side.
        num_levels: of a pixel.
        beta, decay, restart_threshold: of the quantizer; decay=None learns the codebook by gradient.

    Example:
        >>> model = pygen.models.VQVAE((3, 8, 8), num_codes=16, code_dim=4, hidden_channels=8)
        >>> x = torch.randint(256, (2, 3, 8, 8))
        >>> model.loss(x).backward()
        >>> codes = model.encode(x)
        >>> codes.shape, model.decode(codes).shape
        (torch.Size([2, 2, 2]), torch.Size([2, 3, 8, 8]))
    """

    def __init__(
        self,
        image_shape: Sequence[int],
        *,
        num_codes: int = 512,
        code_dim: int = 64,
        hidden_channels: int = 128,
        num_halvings: int = 2,
        num_residual: int = 2,
        num_levels: int = 256,
        beta: float = 0.25,
        decay: float | None = 0.99,
        restart_threshold: float | None = None,
    ) -> None:
        super().__init__()
        shape = tuple(image_shape)
        if len(shape) != 3:
            raise fail("VQVAE", "image_shape", "(C, H, W)", shape)
        sizes = {"hidden_channels": hidden_channels, "num_halvings": num_halvings}
        for name, value in (sizes | dict(zip(("channels", "height", "width"), shape, strict=True))).items():
            check_size("VQVAE", name, value)
        check_int("VQVAE", "num_residual", num_residual, at_least=0)
        if isinstance(num_levels, bool) or not isinstance(num_levels, int) or num_levels < 2:
            raise fail("VQVAE", "num_levels", "an int >= 2", num_levels)
        step = 2**num_halvings
        if shape[1] % step or shape[2] % step:
            raise fail("VQVAE", "image_shape", f"height and width that {step} divides, of num_halvings", shape)
        self.image_shape, self.num_levels = shape, num_levels
        self.codes_shape = shape[1] // step, shape[2] // step
        blocks = [[_Residual(hidden_channels) for _ in range(num_residual)] for _ in range(2)]
        down: list[nn.Module] = []
        up: list[nn.Module] = []
        for i in range(num_halvings):
            down += [nn.Conv2d(hidden_channels if i else shape[0], hidden_channels, 4, stride=2, padding=1), nn.ReLU()]
            outs = hidden_channels if i + 1 < num_halvings else shape[0]
            up += [nn.ReLU(), nn.ConvTranspose2d(hidden_channels, outs, 4, stride=2, padding=1)]
        self.encoder = nn.Sequential(
            *down,
            nn.Conv2d(hidden_channels, hidden_channels, 3, padding=1),
            *blocks[0],
            nn.ReLU(),
            nn.Conv2d(hidden_channels, code_dim, 1),
        )
        self.quantizer = VectorQuantizer(
            num_codes, code_dim, beta=beta, decay=decay, restart_threshold=restart_threshold
        )
        self.decoder = nn.Sequential(nn.Conv2d(code_dim, hidden_channels, 3, padding=1), *blocks[1], *up)

    def _scaled(self, x: Tensor) -> Tensor:
        check_levels("VQVAE", x, self.num_levels, self.image_shape)
        return scale_levels(x, self.num_levels, self.quantizer.codebook.dtype)

    def _levels(self, scaled: Tensor) -> Tensor:
        levels = ((scaled + 1) * ((self.num_levels - 1) / 2)).round().clamp(0, self.num_levels - 1)
        return levels.to(torch.uint8 if self.num_levels <= 256 else torch.int64)

    def loss(self, x: Tensor, cond: None = None) -> Tensor:
        """Mean squared error of the scaled pixels plus the quantizer's loss, 0-dim. In training mode it moves the averages."""
        if cond is not None:
            raise fail("VQVAE", "cond", "None: this model is unconditional", type(cond).__name__)
        scaled = self._scaled(x)
        quantized, _, loss = self.quantizer(self.encoder(scaled))
        return F.mse_loss(self.decoder(quantized), scaled) + loss

    def forward(self, x: Tensor, cond: None = None) -> Tensor:
        """`loss`, under the name that wrappers such as DistributedDataParallel call."""
        return self.loss(x, cond)

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        """The codes of images [N, C, H, W]: int64 [N, h, w]. Moves no averages."""
        z = self.encoder(self._scaled(x))
        return vector_quantize(z, self.quantizer.codebook)[1]

    @torch.no_grad()
    def decode(self, indices: Tensor) -> Tensor:
        """Images of codes [N, h, w], int64 or uint8: levels [N, C, H, W], uint8 (int64 with more than 256 levels)."""
        check_tensor("VQVAE", "indices", indices)
        if indices.dtype not in (torch.int64, torch.uint8) or tuple(indices.shape[1:]) != self.codes_shape:
            shape = f"codes [N, {self.codes_shape[0]}, {self.codes_shape[1]}] as torch.int64 or torch.uint8"
            raise fail("VQVAE", "indices", shape, f"{list(indices.shape)} of {indices.dtype}")
        check_level_range("VQVAE", "indices", indices, self.quantizer.num_codes)
        return self._levels(self.decoder(self.quantizer.lookup(indices.long())))

    def reconstruct(self, x: Tensor) -> Tensor:
        """decode(encode(x))"""
        return self.decode(self.encode(x))

    def extra_repr(self) -> str:
        options: dict[str, Any] = {"num_levels": self.num_levels}
        return ", ".join([str(self.image_shape), *(f"{key}={value}" for key, value in options.items())])
