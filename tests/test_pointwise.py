"""nn.PointwiseConv2d, the 1x1 convolutions of the pixel models: values, gradients of both orders, and when it is a product."""

import layouts
import pytest
import torch
import torch.nn.functional as F
from support import DTYPES, assert_accurate, assert_same, dtype_name, instruction_set, isas
from torch import nn

from pygen import models
from pygen.nn._pointwise import PointwiseConv2d
from pygen.ops import _pointwise

pytestmark = pytest.mark.usefixtures("poisoned")
SHAPES = [(1, 5, 3, 7), (3, 1, 4, 4), (2, 6, 1, 1), (4, 16, 9, 8), (0, 5, 2, 2), (3, 17, 5, 6)]


def make(shape, dtype=torch.float32, outs=None):
    torch.manual_seed(3)
    outs = outs or (19 if shape[1] == 17 else 7)  # many channels go by the C++ kernel where there is AVX-512
    layer = PointwiseConv2d(shape[1], outs).to(dtype)
    return layer, torch.randn(shape).to(dtype), torch.randn(shape[0], outs, *shape[2:]).to(dtype)


def conv(x, layer, wide):
    """Output and gradients of torch's own convolution."""
    leaves = [t.detach().to(wide).requires_grad_() for t in (x, layer.weight, layer.bias)]
    return F.conv2d(*leaves), leaves


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_pointwise_values_and_gradients_are_accurate(shape, dtype):
    layer, x, grad = make(shape, dtype)
    x.requires_grad_()
    out = layer(x)
    ours = (out, *torch.autograd.grad(out, (x, layer.weight, layer.bias), grad))
    truths = []
    for wide in (torch.float64, torch.float32):
        out, leaves = conv(x, layer, wide)
        truths.append((out, *torch.autograd.grad(out, leaves, grad.to(wide))))
    for what, a, ref, base in zip(("output", "input", "weight", "bias"), ours, *truths, strict=True):
        assert_accurate(a.contiguous(), ref.contiguous(), base.to(dtype).contiguous(), dtype=dtype, what=what)


@pytest.mark.parametrize("maker", layouts.MAKERS, ids=lambda m: m.__name__)
def test_pointwise_takes_every_layout(maker):
    layer, x, grad = make((4, 6, 9, 8))
    x = maker(x).requires_grad_()
    out, leaves = conv(x, layer, torch.float32)
    ours = torch.autograd.grad(layer(x), (x, layer.weight, layer.bias), maker(grad))
    theirs = torch.autograd.grad(out, leaves, maker(grad))
    torch.testing.assert_close(layer(x), out)
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)


def test_pointwise_is_a_product_where_that_is_faster_and_else_a_convolution(monkeypatch):
    called = []
    monkeypatch.setattr(nn.Conv2d, "_conv_forward", lambda self, *args: called.append(args) or F.conv2d(*args))
    layer, x, _ = make((2, 6, 5, 4))
    layer(x)
    layer.double()(x.double())
    layer.float()
    assert not called
    layer(x.contiguous(memory_format=torch.channels_last))
    layer.bfloat16()(x.bfloat16())
    layer.float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(x).dtype is torch.bfloat16
    layer(x[:0])
    torch.func.vmap(layer)(x.unsqueeze(0))
    assert len(called) == 5
    with pytest.raises(RuntimeError, match="expected input"):  # torch's own words
        layer(x[:, :5])


def test_pointwise_is_differentiable_to_the_second_order():
    layer, x, _ = make((2, 3, 2, 3), torch.float64, outs=2)
    given = (x.requires_grad_(), layer.weight, layer.bias)

    def run(x, weight, bias):
        return torch.func.functional_call(layer, {"weight": weight, "bias": bias}, (x,))

    assert torch.autograd.gradcheck(run, given) and torch.autograd.gradgradcheck(run, given)


def test_pointwise_changed_in_place_costs_no_copy():
    """What it returns is no view, which autograd would copy; each subset of gradients."""
    layer, x, grad = make((2, 6, 5, 4))
    out = layer(x)
    assert not out._is_view()
    for wanted in ((True, False, False), (False, True, False), (False, False, True)):
        for t, need in zip((x, layer.weight, layer.bias), wanted, strict=True):
            t.requires_grad_(need)
        leaves = [t for t in (x, layer.weight, layer.bias) if t.requires_grad]
        (ours,) = torch.autograd.grad(layer(x).relu_(), leaves, grad)
        (theirs,) = torch.autograd.grad(F.conv2d(x, layer.weight, layer.bias).relu(), leaves, grad)
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_pointwise_nan_stays_in_its_pixel():
    layer, x, _ = make((2, 6, 5, 4))
    clean = layer(x)
    x[1, 3, 2, 1] = torch.nan
    out = layer(x)
    assert out[1, :, 2, 1].isnan().all() and out.isnan().sum() == 7
    assert_same(out[~out.isnan()], clean[~out.isnan()])


def test_pointwise_layers_of_the_models_are_these():
    for model, count in ((models.PixelCNN(num_blocks=2), 6), (models.GatedPixelCNN(num_blocks=2), 8)):
        plain = [m for m in model.modules() if isinstance(m, nn.Conv2d) and m.kernel_size == (1, 1)]
        assert sum(isinstance(m, PointwiseConv2d) for m in plain) == len(plain) == count


@pytest.mark.parametrize("layout", (torch.contiguous_format, torch.channels_last), ids=("NCHW", "NHWC"))
def test_pointwise_compiled_is_an_op_for_contiguous_images(layout):
    layer, x, grad = make((2, 6, 5, 4))
    x = x.contiguous(memory_format=layout)
    graphs = []
    torch._dynamo.reset()
    compiled = torch.compile(layer, backend=lambda graph, _: graphs.append(graph) or graph.forward, fullgraph=True)
    results = []
    for call in (compiled, layer):
        leaf = x.clone().requires_grad_()
        out = call(leaf)
        results.append((out, *torch.autograd.grad(out, (leaf, layer.weight, layer.bias), grad)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
    called = {str(node.target) for graph in graphs for node in graph.graph.nodes if node.op == "call_function"}
    assert any("pointwise_conv2d" in name for name in called) == (layout is torch.contiguous_format)


@pytest.mark.parametrize(
    "wanted", [(True, True, True), (True, False, False), (False, True, False), (False, False, True)], ids=str
)
def test_pointwise_op_passes_opcheck(wanted):
    layer, x, _ = make((2, 3, 4, 5))
    given = [t.detach().requires_grad_(w) for t, w in zip((x, layer.weight, layer.bias), wanted, strict=True)]
    torch.library.opcheck(torch.ops.pygen.pointwise_conv2d.default, tuple(given))


def test_pointwise_step_through_inductor():
    layer, x, grad = make((2, 6, 5, 4))
    torch._dynamo.reset()
    results = []
    for call in (torch.compile(layer, fullgraph=True), layer):
        leaf = x.clone().requires_grad_()
        out = call(leaf.relu()) * 2
        results.append((out, *torch.autograd.grad(out, (leaf, layer.weight, layer.bias), grad)))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("isa", isas())
def test_pointwise_of_many_channels_is_our_kernels_with_avx512(isa, monkeypatch):
    """Forward and first order; the second order is of the composition and agrees with torch's convolution."""
    layer, x, grad = make((3, 17, 5, 6))
    called = []
    for name in ("forward", "grad_input", "grad_weight"):
        kernel = getattr(_pointwise.native, name)
        monkeypatch.setattr(_pointwise.native, name, lambda *a, k=kernel, n=name: called.append(n) or k(*a))
    leaves = (x.requires_grad_(), layer.weight, layer.bias)
    with instruction_set(isa):
        torch.autograd.grad(layer(x), leaves, grad)
        assert called == (["forward", "grad_input", "grad_weight"] if isa == "avx512" else [])
        orders = []
        for out in (layer(x), F.conv2d(*leaves)):
            first = torch.autograd.grad(out, leaves, grad, create_graph=True)
            orders.append((*first, *torch.autograd.grad(sum(g.square().sum() for g in first), leaves[:2])))
    for ours, theirs in zip(*orders, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("channels", (6, 17), ids=("products", "kernel"))
def test_pointwise_takes_what_autograd_may_send(channels):
    """Batches of gradients, zeros without memory, sparse ones; each as torch's convolution has it."""
    layer, x, grad = make((3, channels, 5, 6))
    leaves = (x.requires_grad_(), layer.weight, layer.bias)
    out = layer(x), layer(x)
    with torch.autocast("cpu", torch.bfloat16):  # backward runs in the dtypes of forward
        inside = torch.autograd.grad(out[0], leaves, grad)
    for one, other in zip(inside, torch.autograd.grad(out[1], leaves, grad), strict=True):
        assert_same(one, other)
    several = torch.stack((grad, -2 * grad))
    sent = [
        (several, several, True),
        (torch._efficientzerotensor(grad.shape), grad * 0, False),
        (grad.to_sparse(), grad, False),
    ]
    for ours, theirs, batched in sent:
        a = torch.autograd.grad(layer(x), leaves, ours, is_grads_batched=batched)
        b = torch.autograd.grad(F.conv2d(*leaves), leaves, theirs, is_grads_batched=batched)
        for one, other in zip(a, b, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_pointwise_refuses_what_was_replaced_before_backward():
    layer, x, grad = make((3, 17, 5, 6))
    out = layer(x.requires_grad_())
    x.data = x.data[:1]
    with pytest.raises(RuntimeError, match=r"replaced after the forward pass: expected \[3, 17, 5, 6\]"):
        out.backward(grad)


def test_pointwise_reads_a_parametrized_weight_once():
    """Spectral norm in training mode makes a step of its power iteration at each reading."""
    layer, x, _ = make((2, 6, 5, 4))
    read = []

    class Counted(nn.Module):
        def forward(self, weight):
            read.append(1)
            return weight * 2

    nn.utils.parametrize.register_parametrization(layer, "weight", Counted())
    for given in (x, x.contiguous(memory_format=torch.channels_last)):
        read.clear()
        layer(given)
        assert len(read) == 1
