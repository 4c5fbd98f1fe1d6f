"""Convolutions that are causal because they are shifted: kernels without a dead tap, padded above and to the left."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from pygen.functional import masked_conv2d
from pygen.nn._layers import hooked


class ShiftedConv2d(nn.Conv2d):
    """Output (y, x) reads input (stride y + dy + i, stride x + dx + j) with weight [i, j], where offset = (dy, dx).

    The weight has the kernel's own shape; of stride 1 it is computed as a masked convolution around the centre.
    """

    def __init__(
        self, ins: int, outs: int, kernel_size: tuple[int, int], offset: tuple[int, int], stride: int = 1
    ) -> None:
        super().__init__(ins, outs, kernel_size, stride)
        self.offset = offset
        (above, below), (left, right) = (
            (-first, first + size - 1) for first, size in zip(offset, kernel_size, strict=True)
        )
        self._pad_input = (left, right, above, below)
        reach = max(above, below), max(left, right)
        self._pad_weight = (reach[1] - left, reach[1] - right, reach[0] - above, reach[0] - below)
        rows, columns = range(offset[0], below + 1), range(offset[1], right + 1)
        self._taps = tuple(
            tuple(dy in rows and dx in columns for dx in range(-reach[1], reach[1] + 1))
            for dy in range(-reach[0], reach[0] + 1)
        )

    def forward(self, input: Tensor) -> Tensor:  # [N, Cin, H, W] -> [N, Cout, ceil(H / stride), ceil(W / stride)]
        if self.stride != (1, 1):
            return F.conv2d(F.pad(input, self._pad_input), self.weight, self.bias, self.stride)
        return masked_conv2d(input, F.pad(self.weight, self._pad_weight), self.bias, mask_type=self._taps)


def down(ins: int, outs: int, stride: int = 1) -> ShiftedConv2d:
    """2x3: the row of its pixel and the one above, a column to either side."""
    return ShiftedConv2d(ins, outs, (2, 3), (-1, -1), stride)


def down_right(ins: int, outs: int, stride: int = 1) -> ShiftedConv2d:
    """2x2: its pixel and those to the left, above, and above to the left."""
    return ShiftedConv2d(ins, outs, (2, 2), (-1, -1), stride)


def grow(channels: int, columns: int) -> nn.ConvTranspose2d:
    """To twice the rows and columns: 2x3 as in `down`, or 2x2."""
    margin = (0, columns - 2)
    return nn.ConvTranspose2d(channels, channels, (2, columns), 2, padding=margin, output_padding=margin)


@torch.no_grad()
def initialise_from(model: nn.Module, run: Callable[[], object], scale_of: Callable[[str], float]) -> None:
    """Data-dependent initialisation: in one `run` each convolution's weight and bias are set so that its outputs have mean 0 and
    standard deviation scale_of(its name) in every channel. Constant outputs keep their weight."""

    def rescale(name: str, layer: nn.Conv2d | nn.ConvTranspose2d, output: Tensor) -> Tensor:
        deviation, mean = torch.std_mean(output.float(), (0, 2, 3), correction=0)
        factor = torch.where(deviation > 1e-5 * mean.abs(), scale_of(name) / deviation, 1.0).to(output.dtype)
        shape = (1, -1, 1, 1) if isinstance(layer, nn.ConvTranspose2d) else (-1, 1, 1, 1)
        held = getattr(layer, "parametrizations", None)
        weight = layer.weight if held is None else held["weight"].original0  # of a normalised one the lengths
        weight.mul_(factor.view(shape))
        shift = mean.to(output.dtype)
        assert layer.bias is not None
        layer.bias.sub_(shift).mul_(factor)
        return (output - shift[:, None, None]) * factor[:, None, None]

    convolutions = (nn.Conv2d, nn.ConvTranspose2d)
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, convolutions)}
    hooks = [
        layer.register_forward_hook(lambda layer, _, output, name=name: rescale(name, layer, output))
        for name, layer in layers.items()
    ]
    try:
        run()
    finally:
        for hook in hooks:
            hook.remove()


def normalised(layer: Callable[..., nn.Module], *args: object, weight_norm: bool, **kwargs: object) -> nn.Module:
    """The layer, its weight as length times direction of each output (Salimans, Kingma, 2016), if so wished."""
    made = layer(*args, **kwargs)
    outs = 1 if isinstance(made, nn.ConvTranspose2d) else 0
    return parametrizations.weight_norm(made, dim=outs) if weight_norm else made


_WEIGHT_NORM = getattr(parametrizations, "_WeightNorm", None)


def weight_of(layer: nn.Module) -> Tensor:
    """layer.weight; a `normalised` layer's without the calls around its parametrization, which take longer than a small weight's
    norm. A large model has hundreds of them."""
    held = layer._modules.get("parametrizations")
    steps = None if held is None else held._modules.get("weight")
    if steps is not None and list(steps._modules) == ["0"]:
        norm = steps._modules["0"]
        if norm is not None and type(norm) is _WEIGHT_NORM and not hooked(steps, norm):
            return norm.forward(steps._parameters["original0"], steps._parameters["original1"])
    return cast(Tensor, layer.weight)
