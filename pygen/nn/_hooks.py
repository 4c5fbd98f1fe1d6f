"""Layers whose weights another kernel could take, without calling them."""

from torch import nn


def hooked(*layers: nn.Module) -> bool:
    """Whether calling one of them does more than its class says: torch.nn.utils.prune makes the weight in a hook."""
    return any(layer._forward_hooks or layer._forward_pre_hooks or "forward" in vars(layer) for layer in layers)
