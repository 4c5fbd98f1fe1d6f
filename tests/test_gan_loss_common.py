"""The GAN losses as nearly every GAN calls them: a short way through Python, which must hold all that the long one holds."""

import pytest
import registry  # noqa: F401 (before its rows, which import it)
import torch
from rows.gan_loss import logits
from support import DTYPES, assert_same, dtype_name, instruction_set, isas
from test_gan_loss import cases, loss_of

import pygen
from pygen._gan_terms import KINDS, RELATIVISTIC
from pygen.functional import discriminator_loss, generator_loss

pytestmark = [
    pytest.mark.usefixtures("poisoned"),
    pytest.mark.skipif(not isas(), reason="needs the compiled module"),
]
AVERAGE = "relativistic_average"
PLAYERS = ("discriminator", "generator")


def call(player, kind, real, fake, smoothing=0.0, **options):
    return loss_of(player, kind, smoothing, real, fake, backend="cpu", **options)


def long_way(player, kind, real, fake, smoothing=0.0, **options):
    """The same value by a call that the short way does not take: lists of one."""
    real = None if real is None else [real]
    if player == "discriminator":
        return discriminator_loss(
            real=real, fake=[fake], kind=kind, label_smoothing=smoothing, backend="cpu", **options
        )
    real = real if kind in RELATIVISTIC else None
    return generator_loss(fake=[fake], real=real, kind=kind, backend="cpu", **options)


def is_short(loss):
    return loss.grad_fn.name() == "_CommonGanLossBackward"


def pair(dtype=torch.float64, shape=(3, 5), fake_shape=(7,), grad=True):
    return [t.to(dtype).requires_grad_(grad) for t in logits(shape, fake_shape).values()]


def gradients(loss, inputs, upstream=None, **options):
    return torch.autograd.grad(loss, inputs, upstream, allow_unused=True, **options)


def same(got, expected):
    assert len(got) == len(expected)
    for a, b in zip(got, expected, strict=True):
        assert (a is None) == (b is None)
        if a is not None:
            assert_same(a, b)


@pytest.mark.parametrize(("player", "kind", "smoothing"), [c for c in cases() if c.values[1] != "relativistic"])
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize("reduction", ["mean", "sum"])
def test_the_short_way_equals_the_long_one(player, kind, smoothing, dtype, reduction):
    """Bit for bit: the loss with and without a gradient, gradients for upstream ones of 1, of others and of 0."""
    options = {"smoothing": smoothing, "scale": -0.75, "reduction": reduction}
    for isa in isas():
        with instruction_set(isa):
            real, fake = pair(dtype, (5, 7, 73), (2, 11, 3))
            expected = long_way(player, kind, real, fake, **options)
            with torch.no_grad():
                bare = call(player, kind, real, fake, **options)
            assert not bare.requires_grad
            assert_same(bare, expected)
            for upstream in (1.0, -0.3, 0.0):
                weight = torch.full_like(expected, upstream)
                truth = gradients(expected, (real, fake), weight, retain_graph=True)
                loss = call(player, kind, real, fake, **options)
                assert is_short(loss) is not (kind == AVERAGE and dtype.itemsize == 2)
                assert_same(loss, expected)
                same(gradients(loss, (real, fake), weight, retain_graph=True), truth)
                same(gradients(loss, (real, fake), weight), truth)


@pytest.mark.parametrize("kind", [k for k in KINDS if k != "relativistic"])
@pytest.mark.parametrize("player", PLAYERS)
def test_the_short_way_is_differentiable_twice(player, kind):
    real, fake = pair()
    if kind == "hinge":  # away from the points
        real, fake = ((t.detach() * 3).requires_grad_() for t in (real, fake))
    used = [real, fake] if player == "discriminator" or kind == AVERAGE else [fake]

    def f(*inputs):
        return call(player, kind, inputs[0], inputs[-1])

    assert is_short(f(*used))
    assert torch.autograd.gradcheck(f, used)
    assert torch.autograd.gradgradcheck(f, used)


@pytest.mark.parametrize("needs", [(True, False), (False, True)], ids=str)
@pytest.mark.parametrize("kind", ["nonsaturating", AVERAGE])
def test_the_short_way_gives_what_gradients_are_asked_for(kind, needs):
    results = []
    for f in (call, long_way):
        inputs = [t.requires_grad_(n) for t, n in zip(pair(grad=False), needs, strict=True)]
        (f("discriminator", kind, *inputs) * 3).backward()
        results.append([t.grad for t in inputs])
    same(*results)
    assert [g is not None for g in results[0]] == list(needs)


@pytest.mark.parametrize("kind", ["nonsaturating", AVERAGE])
def test_the_short_way_reads_any_upstream_gradient(kind):
    real, fake = pair()
    one = torch.ones((), dtype=torch.float64)
    kinds = {
        "negated": (torch._neg_view(one), -1.0),
        "zero without memory": (torch._efficientzerotensor((), dtype=torch.float64), 0.0),
        "sparse": (one.mul(2).to_sparse(), 2.0),
        "of a stride": (torch.tensor([0.0, 3.0], dtype=torch.float64)[1], 3.0),
    }
    for name, (upstream, factor) in kinds.items():
        loss = call("discriminator", kind, real, fake)
        expected = [factor * g for g in gradients(call("discriminator", kind, real, fake), (real, fake))]
        for a, b in zip(gradients(loss, (real, fake), upstream), expected, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-15, atol=0, msg=name)
    several = torch.randn(4, dtype=torch.float64)
    got = gradients(call("discriminator", kind, real, fake), (real, fake), several, is_grads_batched=True)
    for i in range(4):
        each = gradients(call("discriminator", kind, real, fake), (real, fake), several[i])
        for a, b in zip(got, each, strict=True):
            torch.testing.assert_close(a[i], b, rtol=1e-12, atol=1e-15)


def test_the_short_way_notices_changed_logits():
    real, fake = pair()
    loss = call("discriminator", "nonsaturating", real, fake)
    with torch.no_grad():
        real.zero_()
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        gradients(loss, (real, fake))


def test_the_short_way_leaves_saved_tensors_to_hooks():
    """Under them forward makes no gradients: they are there to spare memory."""
    real, fake = pair()
    expected = gradients(call("discriminator", "nonsaturating", real, fake), (real, fake))
    packed = []
    with torch.autograd.graph.saved_tensors_hooks(lambda t: packed.append(t) or len(packed) - 1, lambda i: packed[i]):
        loss = call("discriminator", "nonsaturating", real, fake)
    assert not is_short(loss) and len(packed) >= 2
    same(gradients(loss, (real, fake)), expected)


def _others():
    real, fake = pair(grad=False)
    wide = torch.randn(7, 10, dtype=torch.float64)
    image = torch.randn(2, 3, 4, 5, dtype=torch.float64)

    class Subclass(torch.Tensor):
        pass

    return {
        "transposed": (torch.randn(5, 3, dtype=torch.float64).t(), fake),
        "every second": (real, wide[:, ::2]),
        "expanded": (real, wide[:1, :1].expand(7, 1)),
        "negated real": (torch._neg_view(real), fake),
        "negated fake": (real, torch._neg_view(fake)),
        "channels_last": (image.contiguous(memory_format=torch.channels_last), fake),
        "a subclass": (real.as_subclass(Subclass), fake),
    }


@pytest.mark.parametrize("name", _others())
def test_other_logits_take_the_long_way(name):
    real, fake = (t.requires_grad_() for t in _others()[name])
    loss = call("discriminator", "nonsaturating", real, fake)
    assert not is_short(loss)
    clones = [t.detach().as_subclass(torch.Tensor).clone(memory_format=torch.contiguous_format) for t in (real, fake)]
    torch.testing.assert_close(
        loss.detach().as_subclass(torch.Tensor), call("discriminator", "nonsaturating", *clones), rtol=1e-13, atol=0
    )


def test_parameters_and_tensors_of_any_shape_take_the_short_way():
    for tensor in (
        torch.nn.Parameter(torch.randn(3)),
        torch.randn((), requires_grad=True),
        torch.randn(2, 1, 3)[:, :1],
    ):
        tensor = tensor if tensor.requires_grad else tensor.contiguous().requires_grad_()
        assert is_short(call("generator", "hinge", None, tensor))
    of_a_storage = torch.randn(9).requires_grad_()[1:]
    assert is_short(call("generator", "hinge", None, of_a_storage))


def test_what_listens_to_torch_is_asked():
    """A dispatch mode, a function mode, torch.func, forward mode, autocast and another chosen backend all see the call."""
    from torch.overrides import TorchFunctionMode
    from torch.utils._python_dispatch import TorchDispatchMode

    real, fake = pair(grad=False)
    seen = []

    class Dispatched(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    class Called(TorchFunctionMode):
        def __torch_function__(self, func, types, args=(), kwargs=None):
            seen.append(str(func))
            return func(*args, **(kwargs or {}))

    for mode in (Dispatched, Called):
        seen.clear()
        with mode():
            call("discriminator", "hinge", real, fake)
        assert any("gan_loss" in name for name in seen), mode
    of_real = torch.func.grad(lambda r: discriminator_loss(real=r, fake=fake))(real)
    tangent = torch.func.jvp(lambda r: discriminator_loss(real=r, fake=fake), (real,), (torch.ones_like(real),))[1]
    real.requires_grad_()
    (expected,) = gradients(call("discriminator", "nonsaturating", real, fake), (real,))
    torch.testing.assert_close(of_real, expected, rtol=1e-12, atol=1e-15)
    torch.testing.assert_close(tangent, expected.sum(), rtol=1e-12, atol=1e-15)
    with pygen.use_backend("reference"):
        assert not is_short(discriminator_loss(real=real, fake=fake))
        assert is_short(call("discriminator", "nonsaturating", real, fake))
    with torch.autocast("cpu", torch.bfloat16):
        assert_same(call("discriminator", "nonsaturating", real, fake), discriminator_loss(real=real, fake=fake))
        mixed = discriminator_loss(real=real.float(), fake=fake)
        assert mixed.dtype == torch.float64 and not is_short(mixed)


@pytest.mark.parametrize(
    ("change", "kind", "argument"),
    [
        ({"scale": True}, TypeError, "scale"),
        ({"scale": "1"}, TypeError, "scale"),
        ({"scale": float("nan")}, ValueError, "scale"),
        ({"scale": torch.ones(1)}, TypeError, "scale"),
        ({"label_smoothing": False}, TypeError, "label_smoothing"),
        ({"label_smoothing": 0.5}, ValueError, "label_smoothing"),
        ({"kind": ["hinge"]}, ValueError, "kind"),
        ({"kind": "vanilla"}, ValueError, "kind"),
        ({"reduction": "batchmean"}, ValueError, "reduction"),
        ({"backend": "gpu"}, ValueError, "backend"),
        ({"fake": torch.ones(3)}, TypeError, "fake"),
        ({"fake": torch.ones(3, dtype=torch.int64), "real": torch.ones(3, dtype=torch.int64)}, TypeError, "real"),
        ({"fake": torch.ones(0, dtype=torch.float64)}, ValueError, "fake"),
        ({"fake": [1.0]}, TypeError, "fake"),
        ({"real": None}, TypeError, "real"),
        ({"fake": torch.ones(3, dtype=torch.float64).to_sparse()}, TypeError, "fake"),
        ({"fake": torch.ones(3, dtype=torch.float64, device="meta")}, ValueError, "fake"),
    ],
    ids=str,
)
def test_the_short_way_lets_nothing_pass(change, kind, argument):
    """Also where the same options, but for their type, were good a moment ago."""
    real, fake = pair(grad=False)
    good = {"real": real, "fake": fake, "kind": "nonsaturating", "label_smoothing": 0.0, "scale": 1.0}
    discriminator_loss(**good)
    with pytest.raises(kind, match=f"discriminator_loss: {argument}"):
        discriminator_loss(**{**good, **change})


def test_the_short_way_lets_no_wrong_player_nor_device_pass():
    real, fake = pair()
    with pytest.raises(ValueError, match="generator_loss: real: expected None"):
        generator_loss(fake=fake, real=real)
    with pytest.raises(ValueError, match="generator_loss: real: expected the real logits"):
        generator_loss(fake=fake, kind=AVERAGE)
    token = pygen._dispatch._requested.set("cuda")  # as in use_backend, where there is a GPU
    try:
        with pytest.raises(RuntimeError, match=r"backend 'cuda' cannot run: .* these are on meta"):
            generator_loss(fake=fake.detach().to("meta"))
    finally:
        pygen._dispatch._requested.reset(token)


def test_the_short_way_takes_ints_and_keeps_scales_apart():
    _, fake = pair()
    at_one = generator_loss(fake=fake, scale=1)
    assert is_short(at_one)
    for scale in (2, 0.5, 2.0, -1):
        loss = generator_loss(fake=fake, scale=scale)
        assert is_short(loss)
        torch.testing.assert_close(loss, scale * at_one, rtol=1e-14, atol=0)


def test_the_short_way_needs_no_table_of_torch(monkeypatch):
    """A torch without DLPack's table, or tensors that it does not describe: the long way gives the same."""
    from pygen.ops import _gan_common

    real, fake = pair()
    expected = call("discriminator", "nonsaturating", real, fake)
    plan = _gan_common._plan("discriminator_loss", "nonsaturating", 0.0, 1.0, "mean")
    monkeypatch.setattr(_gan_common, "_plan", lambda *options: plan._replace(are_plain=lambda *tensors: False))
    other = call("discriminator", "nonsaturating", real, fake)
    assert is_short(expected) and not is_short(other)
    assert_same(expected, other)
