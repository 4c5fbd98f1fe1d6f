"""docs/checkpoints.md: weights of other code give its numbers here. The networks are plain functions of such a state_dict."""

import re
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from pygen import nn as pnn

PAGE = (Path(__file__).resolve().parent.parent / "docs" / "checkpoints.md").read_text()
State = dict[str, Tensor]


def example(heading: str) -> dict:
    """What the page's program under that heading defines."""
    (program,) = re.findall(rf"^## {re.escape(heading)}\n.*?^```python\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)
    names: dict = {}
    exec(compile(program, f"docs/checkpoints.md: {heading}", "exec"), names)
    return names


def pixel_cnn_pp_shapes(channels: int, width: int, resnets: int, outs: int) -> dict[str, tuple[int, ...]]:
    """Of the directions of its normalised weights."""
    shapes = {
        "u_init.conv": (width, channels + 1, 2, 3),
        "ul_init.0.conv": (width, channels + 1, 1, 3),
        "ul_init.1.conv": (width, channels + 1, 2, 1),
        "nin_out.lin_a": (outs, width),
    }
    for stack, kernel, sides in (("u", (2, 3), (0, 1)), ("ul", (2, 2), (1, 2))):
        for way, skips in zip(("up", "down"), sides, strict=True):
            for scale in range(3):
                for i in range(resnets + (way == "down" and scale > 0)):
                    at = f"{way}_layers.{scale}.{stack}_stream.{i}"
                    shapes[f"{at}.conv_input.conv"] = (width, 2 * width, *kernel)
                    shapes[f"{at}.conv_out.conv"] = (2 * width, 2 * width, *kernel)
                    if skips:
                        shapes[f"{at}.nin_skip.lin_a"] = (width, 2 * skips * width)
        for i in range(2):
            shapes[f"downsize_{stack}_stream.{i}.conv"] = (width, width, *kernel)
            shapes[f"upsize_{stack}_stream.{i}.deconv"] = (width, width, *kernel)
    return shapes


def pixel_cnn_pp_state(channels: int, width: int, resnets: int, outs: int) -> State:
    g = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in pixel_cnn_pp_shapes(channels, width, resnets, outs).items():
        state[f"{name}.weight_v"] = torch.randn(shape, generator=g, dtype=torch.float64)
        state[f"{name}.weight_g"] = torch.rand((shape[0], *[1] * (len(shape) - 1)), generator=g, dtype=torch.float64)
        state[f"{name}.bias"] = torch.randn(shape[1 if "deconv" in name else 0], generator=g, dtype=torch.float64)
    return state


def pixel_cnn_pp(state: State, x: Tensor) -> Tensor:
    """The mixtures' parameters [N, P, H, W] of numbers x in [-1, 1]: https://arxiv.org/abs/1701.05517, shifted as in its code."""
    resnets = len({key for key in state if re.match(r"up_layers\.0\.u_stream\.\d+\.conv_out\.conv\.bias", key)})

    def weight(name: str) -> tuple[Tensor, Tensor]:
        return torch._weight_norm(state[f"{name}.weight_v"], state[f"{name}.weight_g"], 0), state[f"{name}.bias"]

    def conv(name: str, x: Tensor, stack: str, stride: int = 1) -> Tensor:
        w, b = weight(name)
        sides = (w.shape[3] // 2, w.shape[3] // 2) if stack == "u" else (w.shape[3] - 1, 0)
        return F.conv2d(F.pad(x, (*sides, w.shape[2] - 1, 0)), w, b, stride)

    def linear(name: str, x: Tensor) -> Tensor:
        w, b = weight(name)
        return F.linear(x.movedim(1, -1), w, b).movedim(-1, 1)

    def elu(x: Tensor) -> Tensor:
        return F.elu(torch.cat((x, -x), 1))

    def resnet(at: str, x: Tensor, side: Tensor | None, stack: str) -> Tensor:
        y = conv(f"{at}.conv_input.conv", elu(x), stack)
        if side is not None:
            y = y + linear(f"{at}.nin_skip.lin_a", elu(side))
        a, b = conv(f"{at}.conv_out.conv", elu(y), stack).chunk(2, 1)
        return x + a * b.sigmoid()

    def grow(name: str, x: Tensor, stack: str) -> Tensor:
        height, width = 2 * x.shape[2], 2 * x.shape[3]
        first = int(stack == "u")
        return F.conv_transpose2d(x, *weight(name), 2, output_padding=1)[:, :, :height, first : first + width]

    def down(x: Tensor) -> Tensor:
        return F.pad(x, (0, 0, 1, -1))

    x = torch.cat((x, torch.ones_like(x[:, :1])), 1)
    u = down(conv("u_init.conv", x, "u"))
    ul = down(conv("ul_init.0.conv", x, "u")) + F.pad(conv("ul_init.1.conv", x, "ul"), (1, -1))
    passed = [(u, ul)]
    for scale in range(3):
        if scale:
            u = conv(f"downsize_u_stream.{scale - 1}.conv", u, "u", 2)
            ul = conv(f"downsize_ul_stream.{scale - 1}.conv", ul, "ul", 2)
            passed.append((u, ul))
        for i in range(resnets):
            u = resnet(f"up_layers.{scale}.u_stream.{i}", u, None, "u")
            ul = resnet(f"up_layers.{scale}.ul_stream.{i}", ul, u, "ul")
            passed.append((u, ul))
    u, ul = passed.pop()
    for scale in range(3):
        if scale:
            u = grow(f"upsize_u_stream.{scale - 1}.deconv", u, "u")
            ul = grow(f"upsize_ul_stream.{scale - 1}.deconv", ul, "ul")
        for i in range(resnets + (scale > 0)):
            old_u, old_ul = passed.pop()
            u = resnet(f"down_layers.{scale}.u_stream.{i}", u, old_u, "u")
            ul = resnet(f"down_layers.{scale}.ul_stream.{i}", ul, torch.cat((u, old_ul), 1), "ul")
    return linear("nin_out.lin_a", F.elu(ul))


@pytest.mark.parametrize(("channels", "outs"), [(3, 20), (1, 6)])
def test_pixel_cnn_pp_of_another_layout(channels: int, outs: int) -> None:
    state = pixel_cnn_pp_state(channels, 4, 2, outs)
    x = torch.randint(256, (2, channels, 8, 12), generator=torch.Generator().manual_seed(1))
    expected = pixel_cnn_pp(state, 2 * x.double() / 255 - 1)
    convert = example("PixelCNN++")["from_pixel_cnn_pp"]
    kept = {key: value.clone() for key, value in state.items()}
    for given in (state, {f"module.{key}": value for key, value in state.items()}):
        model = convert(given).eval()
        assert model.num_mixtures == 2
        torch.testing.assert_close(model.mixture_params(x), expected, rtol=1e-12, atol=1e-12)
    assert all(torch.equal(kept[key], state[key]) for key in state)


def test_codebook_of_moving_averages_of_another_layout() -> None:
    """As Sonnet's: codes are columns, features lie last; a step of training too."""
    names = example("A codebook of moving averages")
    quantizer, old = names["quantizer"].double(), {key: value.double() for key, value in names["old"].items()}
    z = torch.randn((2, 4, 4, 64), dtype=torch.float64)
    rows, codes = z.reshape(-1, 64), old["embed"].t()
    indices = torch.cdist(rows, codes).argmin(1)
    quantized, ours, loss = quantizer(z.movedim(-1, 1))
    assert torch.equal(ours.flatten(), indices)
    torch.testing.assert_close(quantized.movedim(1, -1), codes[indices].view(2, 4, 4, 64))
    torch.testing.assert_close(loss, F.mse_loss(rows, codes[indices]))
    chosen = F.one_hot(indices, 512).double()
    sizes = 0.99 * old["cluster_size"] + (1 - 0.99) * chosen.sum(0)
    sums = 0.99 * old["embed_avg"] + (1 - 0.99) * rows.t() @ chosen
    smoothed = sizes.sum() * (sizes + 1e-5) / (sizes.sum() + 512 * 1e-5)
    torch.testing.assert_close(quantizer.cluster_sizes, sizes)
    torch.testing.assert_close(quantizer.codebook, (sums / smoothed).t())


def test_masked_linear_layers_of_another_made() -> None:
    """Of 3 numbers an input, all first ones before all second ones."""
    degrees, hidden, k = (2, 0, 1, 3), (0, 2, 1, 0, 2), 3
    layers = [
        pnn.MaskedLinear(degrees, hidden, strict=False),
        torch.nn.ReLU(),
        pnn.MaskedLinear(hidden, degrees * k, strict=True),
    ]
    g = torch.Generator().manual_seed(2)
    state, masks = {}, [
        torch.tensor(hidden)[:, None] >= torch.tensor(degrees),
        torch.tensor(degrees).repeat(k)[:, None] > torch.tensor(hidden),
    ]  # fmt: skip
    for name, mask in zip(("0", "2"), masks, strict=True):
        state |= {f"{name}.weight": torch.randn(mask.shape, generator=g), f"{name}.bias": torch.zeros(len(mask))}
        state[f"{name}.mask"] = mask.float()
    net = torch.nn.Sequential(*layers)
    net.load_state_dict(state)
    x = torch.randn((6, 4), generator=g)
    expected = F.linear(F.linear(x, state["0.weight"] * masks[0]).relu(), state["2.weight"] * masks[1])
    torch.testing.assert_close(net(x), expected)
