"""Layers whose weights another kernel could take, without calling them."""

import torch.nn.functional as F
from torch import Tensor, nn


def hooked(*layers: nn.Module) -> bool:
    """Whether calling one of them does more than its class says: torch.nn.utils.prune makes the weight in a hook."""
    return any(layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer) for layer in layers)


def at_each_pixel(layer: nn.Linear, images: Tensor) -> Tensor:  # without a bias; [N, C, H, W]
    if hooked(layer):
        return layer(images.movedim(1, -1)).movedim(-1, 1)
    return F.conv2d(images, layer.weight[:, :, None, None])
