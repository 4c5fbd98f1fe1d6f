"""The masked layer of MADE in plain PyTorch (Germain et al. 2015, equations 13 and 14).

    output[n, o] = bias[o] + sum over live i of weight[o, i] input[n, i],   live: out_degree[o] > (strict) or >= in_degree[i]

`stairs` computes one product per distinct degree over the live inputs alone; `where` one product with dead weights replaced
by 0, which is right wherever the input is finite. Computed in float32 (float64 for float64), rounded once.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def live_mask(in_degrees: Sequence[int], out_degrees: Sequence[int], strict: bool, device: torch.device) -> Tensor:
    """bool [out, in]"""
    ins = torch.tensor(in_degrees, dtype=torch.int64, device=device)
    outs = torch.tensor(out_degrees, dtype=torch.int64, device=device).unsqueeze(1)
    return outs > ins if strict else outs >= ins


def stairs(
    input: Tensor,  # [..., in]
    weight: Tensor,  # [out, in]
    bias: Tensor | None,  # [out]
    in_degrees: Sequence[int],
    out_degrees: Sequence[int],
    strict: bool,
) -> Tensor:
    """[..., out]"""
    wide = torch.promote_types(input.dtype, torch.float32)
    x, w = input.to(wide), weight.to(wide)
    columns: list[Tensor] = []
    order: list[int] = []
    for degree in sorted(set(out_degrees)):
        outs = [o for o, d in enumerate(out_degrees) if d == degree]
        ins = [i for i, d in enumerate(in_degrees) if (d < degree if strict else d <= degree)]
        columns.append(x[..., ins] @ w[outs][:, ins].transpose(0, 1))
        order += outs
    where = sorted(range(len(order)), key=order.__getitem__)
    out = torch.cat(columns, dim=-1)[..., where] if columns else x.new_zeros((*x.shape[:-1], 0))
    return (out if bias is None else out + bias.to(wide)).to(input.dtype)


def where(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    in_degrees: Sequence[int],
    out_degrees: Sequence[int],
    strict: bool,
) -> Tensor:
    """`stairs` for finite inputs."""
    wide = torch.promote_types(input.dtype, torch.float32)
    live = live_mask(in_degrees, out_degrees, strict, weight.device)
    w = torch.where(live, weight.to(wide), 0.0)
    return torch.nn.functional.linear(input.to(wide), w, None if bias is None else bias.to(wide)).to(input.dtype)
