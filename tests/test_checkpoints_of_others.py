"""docs/checkpoints.md: weights of other code give its numbers here. The networks are plain functions of such a state_dict."""

import math
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


def test_pixel_cnn_of_plain_layers() -> None:
    """Trained on numbers in [0, 1], masks kept as buffers; strict, though it knows of no image size."""
    g = torch.Generator().manual_seed(5)
    sizes = [(8, 1, 7)] + 2 * [(4, 8, 1), (4, 4, 3), (8, 4, 1)] + [(8, 8, 1), (6, 8, 1)]
    state: State = {}
    for i, (out, channels, k) in enumerate(sizes):
        state[f"{i}.weight"] = torch.randn((out, channels, k, k), generator=g, dtype=torch.float64) / k
        state[f"{i}.bias"] = torch.randn(out, generator=g, dtype=torch.float64)
        mask = torch.ones(k * k, dtype=torch.float64)
        mask[k * k // 2 + (i > 0) :] = 0
        state[f"{i}.mask"] = mask.view(k, k)

    def conv(i: int, x: Tensor) -> Tensor:
        weight = state[f"{i}.weight"] * state[f"{i}.mask"]
        return F.conv2d(x, weight, state[f"{i}.bias"], padding=weight.shape[3] // 2)

    x = torch.randint(6, (3, 1, 6, 5), generator=g)
    h = conv(0, x.double() / 5)
    for i in (1, 4):
        h = h + conv(i + 2, conv(i + 1, conv(i, h.relu()).relu()).relu())
    logits = conv(8, conv(7, h.relu()).relu())
    model = example("A PixelCNN of your own")["from_pixel_cnn"](state)
    torch.testing.assert_close(model.logits(x)[:, 0], logits, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(model.loss(x), F.cross_entropy(logits, x[:, 0], reduction="sum") / 3)


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


def knots(raw: Tensor) -> Tensor:
    """[..., K + 1] in +-5: widths or heights as zuko has them."""
    sizes = (raw / (1 + (2 * raw / math.log(1e-3)).abs())).softmax(-1)
    return 10 * F.pad(sizes.cumsum(-1), (1, 0)) - 5


def test_splines_of_another_parametrisation() -> None:
    """The paper's equation 4 in the bin that searchsorted finds, its inverse, beyond the bound, and gradients."""
    names = example("zuko's splines")
    g, K = torch.Generator().manual_seed(3), 5
    x = 3 * torch.randn((20, 4), generator=g, dtype=torch.float64)
    x[0, :3] = torch.tensor((5.0, -5.0, 5.5))
    x.requires_grad_()
    params = (2 * torch.randn((20, 4, 3 * K - 1), generator=g, dtype=torch.float64)).requires_grad_()
    lefts, bottoms, raw = knots(params[..., :K]), knots(params[..., K : 2 * K]), params[..., 2 * K :]
    slopes = F.pad(raw / (1 + (raw / math.log(1e-3)).abs()), (1, 1)).exp()
    bins = torch.searchsorted(lefts.detach(), x.detach().unsqueeze(2)).clamp(1, K) - 1

    def at(t: Tensor, step: int = 0) -> Tensor:
        return t.gather(2, bins + step)[..., 0]

    width, height = at(lefts, 1) - at(lefts), at(bottoms, 1) - at(bottoms)
    t, s, d0, d1 = (x - at(lefts)) / width, height / width, at(slopes), at(slopes, 1)
    below = s + (d0 + d1 - 2 * s) * t * (1 - t)
    derivative = s.square() * (d1 * t.square() + 2 * s * t * (1 - t) + d0 * (1 - t).square()) / below.square()
    inside = x.abs() <= 5
    expected = torch.where(inside, at(bottoms) + height * (s * t.square() + d0 * t * (1 - t)) / below, x)
    log_det = torch.where(inside, derivative.abs().log(), 0).sum(1)
    y, ours = names["rational_quadratic_spline"](x, names["from_zuko"](params), **names["options"])
    torch.testing.assert_close(y, expected, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(ours, log_det, rtol=1e-11, atol=1e-11)
    again, _ = names["rational_quadratic_spline"](y, names["from_zuko"](params), inverse=True, **names["options"])
    torch.testing.assert_close(again, x, rtol=1e-9, atol=1e-9)
    weights = torch.randn((20, 4), generator=g, dtype=torch.float64)
    weights[0] = 0  # log_det has no derivative at the ends of the bound
    plain = torch.autograd.grad((expected * weights).sum() + log_det[1:].sum(), (x, params))
    got = torch.autograd.grad((y * weights).sum() + ours[1:].sum(), (x, params))
    torch.testing.assert_close(got, plain, rtol=1e-9, atol=1e-9)


def test_quantizers_and_heads_whose_keys_differ() -> None:
    """The table's rows: of lucidrains' moving averages a step of training, of a classifier's weights their loss."""
    g = torch.Generator().manual_seed(4)
    embed, sums, sizes = (torch.rand((1, 6, *rest), generator=g, dtype=torch.float64) for rest in ((3,), (3,), ()))
    quantizer = pnn.VectorQuantizer(6, 3, beta=1.0, decay=0.8).double()
    quantizer.load_state_dict({"codebook": embed[0], "cluster_sizes": sizes[0], "cluster_sums": sums[0]})
    z = torch.rand((2, 7, 3), generator=g, dtype=torch.float64)
    indices = torch.cdist(z, embed).argmin(2)
    chosen = F.one_hot(indices.flatten(), 6).double()
    quantized, ours, loss = quantizer(z.movedim(-1, 1))
    assert torch.equal(ours, indices)
    torch.testing.assert_close(quantized.movedim(1, -1), embed[0, indices], rtol=0, atol=0)
    torch.testing.assert_close(loss, F.mse_loss(embed[0, indices], z))
    sizes = torch.lerp(sizes, chosen.sum(0), 0.2)
    sums = torch.lerp(sums, chosen.t() @ z.flatten(0, 1), 0.2)
    smoothed = (sizes + 1e-5) / (sizes.sum() + 6 * 1e-5) * sizes.sum()
    torch.testing.assert_close(quantizer.codebook, (sums / smoothed.unsqueeze(2))[0], rtol=1e-12, atol=1e-12)

    W, x, target = torch.randn((3, 5), generator=g), torch.randn((8, 3), generator=g), torch.arange(8) % 5
    head = pnn.AMSoftmax(3, 5, scale=64.0, margin=0.0, angular_margin=math.radians(28.6))
    head.load_state_dict({"weight": W.t()})
    cosines = F.normalize(x) @ F.normalize(W, dim=0)
    angles = cosines.clamp(-1 + 1e-7, 1 - 1e-7).acos()
    margin = math.radians(28.6)
    wider = torch.where(angles <= math.pi - margin, (angles + margin).cos(), cosines - margin * math.sin(margin))
    logits = 64 * torch.where(F.one_hot(target, 5).bool(), wider, cosines)
    torch.testing.assert_close(head(x, target), F.cross_entropy(logits, target))


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
