"""VQ-VAE as people write it in plain PyTorch: distances of all pairs, argmin, embedding, moving averages by one-hot products."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(channels, channels, 3, padding=1), nn.ReLU(), nn.Conv2d(channels, channels, 1)
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + self.layers(x)


class Quantizer(nn.Module):
    def __init__(self, num_codes: int, dim: int, beta: float, decay: float | None, epsilon: float = 1e-5) -> None:
        super().__init__()
        self.beta, self.decay, self.epsilon = beta, decay, epsilon
        codebook = torch.empty(num_codes, dim).uniform_(-1 / num_codes, 1 / num_codes)
        if decay is None:
            self.codebook = nn.Parameter(codebook)
        else:
            self.register_buffer("codebook", codebook)
            self.register_buffer("cluster_sizes", torch.ones(num_codes))
            self.register_buffer("cluster_sums", codebook.clone())

    def forward(self, z: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        rows = z.permute(0, 2, 3, 1).reshape(-1, z.shape[1])
        codebook = self.codebook.clone() if self.decay is not None else self.codebook
        distances = rows.square().sum(1, keepdim=True) + codebook.square().sum(1) - 2 * rows @ codebook.t()
        indices = distances.argmin(1)
        codes = codebook[indices].view(z.shape[0], *z.shape[2:], z.shape[1]).permute(0, 3, 1, 2)
        loss = self.beta * F.mse_loss(z, codes.detach())
        if self.decay is None:
            loss = loss + F.mse_loss(codes, z.detach())
        elif self.training:
            with torch.no_grad():
                chosen = F.one_hot(indices, len(codebook)).to(z.dtype)
                self.cluster_sizes.lerp_(chosen.sum(0), 1 - self.decay)
                self.cluster_sums.lerp_(chosen.t() @ rows, 1 - self.decay)
                n = self.cluster_sizes.sum()
                sizes = n * (self.cluster_sizes + self.epsilon) / (n + len(codebook) * self.epsilon)
                self.codebook.copy_(self.cluster_sums / sizes.unsqueeze(1))
        return z + (codes - z).detach(), indices.view(z.shape[0], *z.shape[2:]), loss


class VQVAE(nn.Module):
    """Images of levels [N, C, H, W]: see pygen.models.VQVAE."""

    def __init__(
        self, image_shape, *, num_codes=512, code_dim=64, hidden_channels=128, num_halvings=2, num_residual=2,
        num_levels=256, beta=0.25, decay=0.99,
    ) -> None:  # fmt: skip
        super().__init__()
        self.num_levels, width, channels = num_levels, hidden_channels, image_shape[0]
        down, up = [], []
        for i in range(num_halvings):
            down += [nn.Conv2d(width if i else channels, width, 4, stride=2, padding=1), nn.ReLU()]
            outs = width if i + 1 < num_halvings else channels
            up += [nn.ReLU(), nn.ConvTranspose2d(width, outs, 4, stride=2, padding=1)]
        middle = [Residual(width) for _ in range(num_residual)]
        down += [nn.Conv2d(width, width, 3, padding=1), *middle, nn.ReLU(), nn.Conv2d(width, code_dim, 1)]
        self.encoder = nn.Sequential(*down)
        self.quantizer = Quantizer(num_codes, code_dim, beta, decay)
        middle = [Residual(width) for _ in range(num_residual)]
        self.decoder = nn.Sequential(nn.Conv2d(code_dim, width, 3, padding=1), *middle, *up)

    def _scaled(self, x: Tensor) -> Tensor:
        return 2 * x.to(self.quantizer.codebook.dtype) / (self.num_levels - 1) - 1

    def loss(self, x: Tensor) -> Tensor:
        scaled = self._scaled(x)
        quantized, _, loss = self.quantizer(self.encoder(scaled))
        return F.mse_loss(self.decoder(quantized), scaled) + loss

    @torch.no_grad()
    def encode(self, x: Tensor) -> Tensor:
        z = self.encoder(self._scaled(x))
        return torch.cdist(z.permute(0, 2, 3, 1), self.quantizer.codebook).argmin(-1)

    @torch.no_grad()
    def decode(self, indices: Tensor) -> Tensor:
        scaled = self.decoder(self.quantizer.codebook[indices].permute(0, 3, 1, 2))
        levels = ((scaled + 1) / 2 * (self.num_levels - 1)).round().clamp(0, self.num_levels - 1)
        return levels.to(torch.uint8 if self.num_levels <= 256 else torch.int64)
