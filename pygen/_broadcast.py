"""The gradient of broadcasting, summed in an order that does not depend on the number of threads."""

import torch
from torch import Tensor

_CHUNK = 1024


def _total(flat: Tensor) -> Tensor:
    """Sum of a vector through chunks of fixed size: torch splits one long sum by threads, but not many short ones."""
    while flat.numel() > _CHUNK:
        whole = flat.numel() // _CHUNK * _CHUNK
        parts = flat[:whole].view(-1, _CHUNK).sum(1)
        flat = parts if whole == flat.numel() else torch.cat((parts, flat[whole:].sum().unsqueeze(0)))
    return flat.sum()


def sum_to(full: Tensor, like: Tensor) -> Tensor:
    """`full` [*shape] summed to like's shape (which broadcasts to `shape`) and cast to its dtype; contiguous."""
    if full.shape == like.shape:
        return full if full.dtype == like.dtype else full.to(like.dtype)
    if like.numel() == 1:
        return _total(full.reshape(-1)).to(like.dtype).reshape(like.shape)
    lead = full.dim() - like.dim()
    dims = [i for i, n in enumerate(full.shape) if i < lead or (like.shape[i - lead] == 1 and n != 1)]
    while dims:  # neighbours together: of scattered dims torch adds up number after number, and loses digits
        run = [dims.pop()]
        while dims and dims[-1] == run[-1] - 1:
            run.append(dims.pop())
        full = full.sum(run, keepdim=True)
    return full.reshape(like.shape).to(like.dtype)
