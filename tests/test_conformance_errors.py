"""What every op must refuse, with one text on real and on fake tensors, and what is as before afterwards."""

import pytest
import torch
from registry import each_error, each_op, on_floating
from support import SEED, assert_same, fast_targets
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import pygen


def call(op, tensors, options):
    given = dict(options)
    return op.call(dict(tensors), given, given.pop("backend", None))


def text_of(op, error, tensors):
    with pytest.raises(error.error, match=error.match) as raised:
        call(op, tensors, error.options)
    assert type(raised.value) is error.error, f"{type(raised.value).__name__}, expected {error.error.__name__}"
    return str(raised.value)


@each_error
def test_bad_arguments_are_refused_by_name_on_real_and_fake_tensors(op, error):
    """Before anything is drawn or launched; the next call works and is the same as ever."""
    valid = op.sample("odd everything")
    tensors = valid.cast(torch.float32)
    expected = op.run(tensors, valid.options)
    state = torch.get_rng_state()
    generators = [v for v in error.options.values() if isinstance(v, torch.Generator)]
    states = [g.get_state() for g in generators]

    text = text_of(op, error, error.tensors)
    assert (text.startswith(f"{op.name}: ") and "expected" in text) or error.error is RuntimeError

    assert torch.equal(torch.get_rng_state(), state), "a seed was drawn"
    assert all(torch.equal(g.get_state(), s) for g, s in zip(generators, states, strict=True))
    for a, b in zip(op.run(tensors, valid.options), expected, strict=True):
        assert_same(a, b)

    # A mode that intercepts torch functions takes the other way into the op.
    with torch.device("cpu"):
        assert text_of(op, error, error.tensors) == text
    assert torch.equal(torch.get_rng_state(), state), "a seed was drawn under a function mode"

    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        fake = {k: mode.from_tensor(t) if isinstance(t, Tensor) else t for k, t in error.tensors.items()}
        if not any(isinstance(v, Tensor) for v in error.options.values()):
            assert text_of(op, error, fake) == text


@each_op
@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors")
def test_nested_tensors_are_refused(op):
    """Those of torch.strided layout too, which have no shape, and more memory than elements."""
    sample = op.sample("odd everything")
    tensors = sample.cast(torch.float32)
    for name in op.differentiable:
        if name in tensors and tensors[name].dim():
            nested = torch.nested.nested_tensor([tensors[name][0], tensors[name][0]])
            with pytest.raises(TypeError, match=f"^{op}: {name}.*: expected a strided .* got a nested tensor"):
                op.run({**tensors, name: nested}, sample.options)


@each_error
def test_bad_arguments_are_refused_where_gradients_are_recorded(op, error):
    """The same refusals on the way that records gradients."""
    tensors = {
        k: t.detach().clone().requires_grad_() if isinstance(t, Tensor) and t.is_floating_point() and k != "eps" else t
        for k, t in error.tensors.items()
    }
    text_of(op, error, tensors)


@each_op
def test_different_dtypes_are_refused_outside_autocast_and_made_one_inside(op):
    """Autocast promotes to the widest (losses), or casts to its own dtype (layers)."""
    sample = op.sample("odd everything")
    names = [k for k in sample.tensors if k in op.differentiable]
    tensors = sample.cast(torch.float32)
    if sum(t.is_floating_point() for t in tensors.values()) == 1:
        pytest.skip("one floating argument")
    for narrow in names:
        mixed = {**tensors, narrow: tensors[narrow].bfloat16()}
        with pytest.raises(TypeError, match=rf"^{op}: "):
            op.run(mixed, sample.options)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            got = op.run(mixed, sample.options)
        made_one = on_floating(lambda t: t.bfloat16() if op.autocast == "cast" else t.float(), mixed)
        for a, b in zip(got, op.run(made_one, sample.options), strict=True):
            assert_same(a, b)
        # Another device's autocast is none of ours.
        with torch.autocast("cuda", dtype=torch.bfloat16, enabled=torch.cuda.is_available()), pytest.raises(TypeError):
            op.run(mixed, sample.options)


@each_op
@fast_targets
def test_backward_runs_outside_the_autocast_region_in_the_dtypes_of_forward(op, target):
    sample = op.sample("odd everything")
    names = [k for k in sample.tensors if k in op.differentiable]
    results = []
    for inside in (True, False):
        tensors = sample.cast(torch.float32, target.device)
        inputs = [tensors[k].to(torch.bfloat16 if k == names[0] else torch.float32).requires_grad_() for k in names]
        given = {**tensors, **dict(zip(names, inputs, strict=True))}
        with torch.autocast(target.device, dtype=torch.bfloat16):
            outputs = op.run(given, sample.options, target.backend)
            if inside:
                results.append(torch.autograd.grad([o.float().sum() for o in outputs], inputs))
        if not inside:
            results.append(torch.autograd.grad([o.float().sum() for o in outputs], inputs))
    for t, a, b in zip(inputs, *results, strict=True):
        assert a.dtype == t.dtype
        assert_same(a, b)


@each_op
def test_a_backend_that_is_not_there_says_why(op):
    sample = op.sample("odd everything")
    tensors = sample.cast(torch.float32)
    for name, reason in pygen.backends().items():
        if reason is None:
            continue
        with pytest.raises(RuntimeError, match=f"{op}: backend '{name}' cannot run: "):
            op.run(tensors, sample.options, name)
        with pytest.raises(RuntimeError, match=f"use_backend: backend '{name}' cannot run: "), pygen.use_backend(name):
            raise AssertionError("entered")


@each_op
def test_fake_tensors_give_the_form_of_the_result(op):
    """Shape, dtype and strides without data: torch.compile plans by them."""
    for sample in op.samples():
        tensors = sample.cast(torch.float32)
        for channels_last in (False, True):
            if channels_last:
                tensors = {
                    k: t.to(memory_format=torch.channels_last) if t.dim() == 4 else t for k, t in tensors.items()
                }
            real = op.run(tensors, sample.options)
            with FakeTensorMode() as mode:
                options = {k: v for k, v in sample.options.items()}
                fake = op.run({k: mode.from_tensor(t) for k, t in tensors.items()}, options)
            for a, b in zip(real, fake, strict=True):
                assert a.shape == b.shape and a.dtype == b.dtype and a.device == b.device
                assert a.stride() == b.stride() or a.numel() == 0, sample.name


@each_op
def test_meta_tensors_give_the_form_of_the_result(op):
    for sample in op.samples():
        tensors = sample.cast(torch.float32)
        real = op.run(tensors, sample.options)
        meta = op.run({k: t.to("meta") for k, t in tensors.items()}, sample.options)
        for a, b in zip(real, meta, strict=True):
            assert b.device.type == "meta" and a.shape == b.shape and a.dtype == b.dtype


@each_op
def test_seeded_ops_draw_from_the_default_generator_exactly_once(op):
    if not op.seeded:
        state = torch.get_rng_state()
        sample = op.sample("odd everything")
        op.run(sample.cast(torch.float32), sample.options)
        assert torch.equal(torch.get_rng_state(), state), "an op without noise must not touch the generator"
        pytest.skip("draws no noise")
    sample = op.sample("odd everything")
    tensors = sample.cast(torch.float32)
    states = []
    for t in (tensors, {k: v[:1] if v.shape[0] > 1 else v for k, v in tensors.items()}):
        torch.manual_seed(1)
        op.call(t, sample.options, None)
        states.append(torch.get_rng_state())
    assert torch.equal(*states), "the generator advances by the same amount whatever the size"
    torch.manual_seed(1)
    before = torch.get_rng_state()
    op.call(tensors, {**sample.options, "seed": SEED}, None)
    assert torch.equal(torch.get_rng_state(), before), "with seed= nothing is drawn"
