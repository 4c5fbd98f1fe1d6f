"""gated_masked_conv2d: what is its own, beside what test_conformance_*.py tests of every op."""

import pytest
import torch
from conv_samples import BACKENDS, KINDS, depends, each_backend, each_kind, make
from registry import OPS, gradients, leaves, tiny
from support import DTYPES, assert_same, dtype_name

from pygen import _backends
from pygen.functional import gated_activation, gated_masked_conv2d, masked_conv2d
from pygen.nn import GatedMaskedConv2d

pytestmark = pytest.mark.usefixtures("poisoned")
OP = next(op for op in OPS if op.name == "gated_masked_conv2d")
NHWC = torch.channels_last
NAN = float("nan")


def make_gated(kind: str, size=(4, 3), dtype=torch.float32, n=1):
    """A call of masked_conv2d with twice the channels, so that halves fit; add and cond for it."""
    x, weight, bias, options = make(kind, size, dtype, n)
    weight, bias = weight.repeat_interleave(2, 0), bias.repeat_interleave(2, 0)
    add, cond = torch.randn(n, len(weight), *size).to(dtype), torch.randn(n, len(weight)).to(dtype)
    return x, weight / 8, bias, add, cond, options


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("layout", (torch.contiguous_format, NHWC), ids=("NCHW", "NHWC"))
@pytest.mark.parametrize("with_add", (False, True), ids=("alone", "add"))
@each_backend
def test_gated_masked_conv2d_is_the_two_ops_one_after_the_other(backend, with_add, layout, dtype):
    """Bit for bit: the sum where nothing is rounded between, and always the gate of what comes out as pre."""
    for kind in KINDS:
        x, weight, bias, add, cond, options = make_gated(kind, dtype=dtype, n=2)
        x, add = x.contiguous(memory_format=layout), add if with_add else None
        pre, out = gated_masked_conv2d(x, weight, bias, add=add, cond=cond, backend=backend, **options)
        alone = masked_conv2d(x, weight, bias, backend=backend, **options)
        rounded_between = backend != "reference" or dtype in (torch.float32, torch.float64)
        if rounded_between or not with_add:
            assert_same(pre, alone + add if with_add else alone)
        gate, groups = "reference" if backend == "composite" else backend, options.get("color_groups", 1)
        assert_same(out, gated_activation(pre, cond, color_groups=groups, backend=gate))


def check_rounding(backend, device="cpu"):
    """256 + 0.5 - 256: bfloat16 has no digit for the half, float32 has."""
    shapes = {(1, 1, 1, 1): 1.0, (2, 1, 1, 1): 256.0, (2,): 0.5, (1, 2, 1, 1): -256.0}
    x, weight, bias, add = (torch.full(shape, value) for shape, value in shapes.items())
    given = [t.to(device, torch.bfloat16) for t in (x, weight, bias, add)]
    pre, _ = gated_masked_conv2d(*given[:3], mask_type="B", add=given[3], backend=backend)
    assert pre.flatten().tolist() == [0.5, 0.5]


def test_gated_masked_conv2d_rounds_once_in_the_reference():
    check_rounding("reference")


def check_nan(kind, backend, device="cpu"):
    """One image for each element that is NaN: it reaches both outputs where a tap joins them, and no other pixel or channel."""
    _, weight, bias, _, _, options = make_gated(kind)
    size, groups = (4, 3), options.get("color_groups", 1)
    live = depends(weight, size, options)  # [2 C, H, W, Cin, H, W]
    halves = live.reshape(groups, 2, -1, *live.shape[1:])
    gated = (halves[:, 0] | halves[:, 1]).flatten(0, 1)
    channels = weight.shape[1]
    count = channels * size[0] * size[1]
    spoilt = torch.ones(count, count).fill_diagonal_(NAN).view(count, channels, *size)
    add, cond = torch.ones(count, len(weight), *size), torch.ones(count, len(weight))
    x, weight, bias, add, cond = (t.to(device) for t in (spoilt, weight, bias, add, cond))
    outputs = gated_masked_conv2d(x, weight, bias, add=add, cond=cond, backend=backend, **options)
    for t, may in zip(outputs, (live, gated), strict=True):
        assert torch.equal(t.isnan().cpu().flatten(1), may.permute(3, 4, 5, 0, 1, 2).reshape(count, -1))


@each_kind
@each_backend
def test_gated_masked_conv2d_nan_reaches_only_what_may_depend_on_it(kind, backend):
    check_nan(kind, backend)


@each_backend
def test_gated_masked_conv2d_dead_weights_reach_nothing(backend):
    """Neither output nor any gradient; their own gradient is exactly 0."""
    x, weight, bias, add, cond, options = make_gated("A of groups", n=2)
    from pygen import _taps

    live = _taps.dense_mask(options["mask_type"], 3, tuple(weight.shape))
    spoilt = torch.where(live, weight, torch.full_like(weight, NAN))
    results = []
    for w in (weight, spoilt):
        given = [t.clone().requires_grad_() for t in (x, w, bias, add, cond)]
        outputs = gated_masked_conv2d(*given[:3], add=given[3], cond=given[4], backend=backend, **options)
        results.append([*outputs, *gradients(outputs, given)])
    for a, b in zip(*results, strict=True):
        assert_same(a, b)
    assert not results[0][3][~live].any()


@each_backend
def test_gated_masked_conv2d_without_add_equals_adding_zero(backend):
    x, weight, bias, add, _, options = make_gated("B", n=2)
    zero = torch.zeros_like(add)
    for a, b in zip(
        gated_masked_conv2d(x, weight, bias, backend=backend, **options),
        gated_masked_conv2d(x, weight, bias, add=zero, cond=zero, backend=backend, **options),
        strict=True,
    ):
        assert_same(a, b)


@pytest.mark.parametrize("order", (1, 2))
def test_gated_masked_conv2d_gradients_of_the_composite(order):
    marked, inputs, options = tiny(OP)
    outputs = [run(marked, options) for run in (lambda t, o: OP.run(t, o, "composite"), OP.truth)]
    grads = [gradients(o, inputs, create_graph=order == 2) for o in outputs]
    if order == 2:
        grads = [gradients([g.sin() for g in first], inputs) for first in grads]
    for a, b in zip(*grads, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.fixture
def launched(monkeypatch):
    """Names of the launchers that run, in order."""
    names = []
    for stem in ("masked_conv2d", "gated_activation", "gated_masked_conv2d"):
        module = _backends.load_launcher(stem, "cpu")
        for name in ("forward", "backward", "grad_input", "grad_weight"):
            if hasattr(module, name) and (stem, name) not in (
                ("masked_conv2d", "forward"),
                ("gated_activation", "forward"),
            ):
                run = getattr(module, name)
                label = f"{stem}.{name}"
                monkeypatch.setattr(module, name, lambda *a, run=run, label=label: names.append(label) or run(*a))
    return names


GATE, INPUT, WEIGHT = "gated_activation.backward", "masked_conv2d.grad_input", "masked_conv2d.grad_weight"


@pytest.mark.skipif("cpu" not in BACKENDS, reason="the C++ kernels are not here")
@pytest.mark.parametrize(
    ("wanted", "used", "expected"),
    [
        (("input", "weight", "bias", "add", "cond"), (0, 1), [GATE, INPUT, WEIGHT]),
        (("input", "weight"), (0,), [INPUT, WEIGHT]),  # nothing through the gate
        (("input",), (1,), [GATE, INPUT]),
        (("bias",), (1,), [GATE, WEIGHT]),
        (("add",), (0, 1), [GATE]),
        (("add",), (0,), []),
        (("cond",), (0, 1), [GATE]),
        (("cond",), (0,), []),
    ],
)
def test_gated_masked_conv2d_computes_only_the_gradients_that_are_needed(wanted, used, expected, launched):
    marked, inputs = leaves(OP, OP.sample("odd everything").cast(torch.float32), wanted)
    outputs = OP.run(marked, {"mask_type": "B"}, "cpu")
    gradients(outputs, inputs, only=used)
    assert launched == ["gated_masked_conv2d.forward", *expected]


def test_gated_masked_conv2d_upstream_gradients_are_never_written():
    """pre's own is added to the gate's; the sum must not land in a tensor of someone else's."""
    marked, inputs = leaves(OP, OP.sample("odd everything").cast(torch.float32), ("add",))
    pre, out = OP.run(marked, {"mask_type": "B"})
    to_pre, to_out = torch.randn_like(pre), torch.randn_like(out)
    copies = to_pre.clone(), to_out.clone()
    (both,) = torch.autograd.grad((pre, out), inputs, (to_pre, to_out), retain_graph=True)
    (through_gate,) = torch.autograd.grad(out, inputs, to_out)
    assert_same(both, through_gate + to_pre)
    assert_same(to_pre, copies[0])
    assert_same(to_out, copies[1])


def test_gated_masked_conv2d_backend_is_that_of_forward():
    """Whatever is chosen when backward runs."""
    import pygen

    marked, inputs = leaves(OP, OP.sample("odd everything").cast(torch.bfloat16))
    options = {"mask_type": "B"}
    expected = gradients(OP.run(marked, options, "cpu"), inputs)
    with pygen.use_backend("cpu"):
        outputs = OP.run(marked, options)
    with pygen.use_backend("reference"):
        got = gradients(outputs, inputs)
    for a, b in zip(got, expected, strict=True):
        assert_same(a, b)


@pytest.mark.skipif("cpu" not in BACKENDS, reason="the C++ kernels are not here")
def test_gated_masked_conv2d_explains_its_convolution():
    import pygen

    x, weight = torch.zeros(2, 16, 4, 8), torch.zeros(32, 16, 3, 3)
    asked = {"mask_type": "B", "cond": torch.zeros(2, 32)}
    same = pygen.explain("masked_conv2d", x, weight, mask_type="B")
    choice = pygen.explain("gated_masked_conv2d", x, weight, **asked)
    assert choice.backend == "cpu" and choice.how == same.how != ""
    assert pygen.explain("gated_masked_conv2d", x, weight, backend="composite", **asked).how == ""


@pytest.mark.parametrize("groups", (1, 3))
def test_gated_layer_mixes_in_the_vertical_stack_by_a_product_of_its_own_or_as_a_side(groups):
    """Not on a CPU: there the product is faster by itself."""
    layer = GatedMaskedConv2d(6, 6, 3, "B", color_groups=groups, cond_channels=2).double()
    v, h, cond = torch.randn(2, 12, 4, 5).double(), torch.randn(2, 6, 4, 5).double(), torch.randn(2, 12).double()
    parameters = [*layer.horizontal.parameters(), *layer.vertical_to_horizontal.parameters()]
    results = []
    for given in ({"add": layer.vertical_to_horizontal(v)}, {"side": (v, layer.vertical_to_horizontal)}):
        outputs = layer.horizontal(h, cond, **given)
        results.append([*outputs, *torch.autograd.grad([o.sin().sum() for o in outputs], parameters)])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)
    out = layer.out(outputs[1]) + h
    other = masked_conv2d(outputs[1], layer.out.weight, layer.out.bias, mask_type="B", color_groups=groups, add=h)
    torch.testing.assert_close(out, other, rtol=1e-12, atol=1e-12)
    elsewhere = layer.to("meta")
    for a in elsewhere(*(t.to("meta") for t in (h, h)), torch.randn(2, 2, device="meta").double()):
        assert a.shape == h.shape and a.device.type == "meta"
