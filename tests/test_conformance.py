"""What every op must do, over all rows of registry.py: values, gradients, layouts, empty tensors, repeatability."""

import layouts
import pytest
import torch
from layouts import MAKERS
from registry import OPS, each_op, each_sample, gradients, layout_sample, leaves, skip_if_slow
from support import (
    DTYPES,
    OWN_EPS,
    TARGETS,
    Target,
    assert_accurate,
    assert_same,
    check_form,
    dtype_name,
    has_kernel,
    instruction_set,
    isas,
    threads,
)

from pygen import functional

# Made of sample_dot; or what comes out has no gradient. Each has tests in the file of its name.
WITHOUT_ROWS = {
    *("gradient_penalty", "crf_decode", "crf_marginals", "crf_sample", "rbm_gibbs"),
    *("bernoulli_sample", "categorical_sample", "logistic_mixture_sample", "noise_sample", "noise_table"),
    "code_statistics",
    *("negative_sampling_loss", "sampled_softmax_loss"),  # kinds of nce_loss, which has samples of them
}

pytestmark = pytest.mark.usefixtures("poisoned")
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
each_maker = pytest.mark.parametrize("maker", MAKERS, ids=lambda m: m.__name__)


def check_against_truth(op, tensors, options, backend, *, wanted=None, only=None, relay=lambda w: w):
    """Values and all gradients of one call by the accuracy rule; returns the outputs and the gradients."""
    dtype = next(iter(tensors.values())).dtype
    own_eps = op.double_eps if dtype == torch.float64 else OWN_EPS
    names = [k for k in tensors if k in (op.differentiable if wanted is None else wanted)]
    marked, inputs = leaves(op, tensors, names)
    ours = op.run(marked, options, backend)
    grads = gradients(ours, inputs, only=only, relay=relay)
    truths = []
    for double in (True, False):
        marked, inputs = leaves(op, {k: t.contiguous() for k, t in tensors.items()}, names)
        outputs = op.truth(marked, options, double=double)
        # The weights that ours were given, in the dtype of its outputs.
        truths.append((outputs, gradients(outputs, inputs, only=only)))
    (ref, ref_grads), (base, base_grads) = truths
    for name, o, r, b in zip(op.outputs, ours, ref, base, strict=True):
        out = op.output_dtype(name, dtype)
        assert_accurate(o, r, b.to(out), what=f"{op} {name}", dtype=out, own_eps=own_eps)
    for name, g, r, b in zip(names, grads, ref_grads, base_grads, strict=True):
        if r is None:
            assert g is None or not g.any(), f"{op} grad_{name}: expected none, got {g}"
            continue
        assert g is not None, f"{op} grad_{name}: none came"
        # The leaf is narrow: autograd has rounded r and b to its dtype, which the rule's 4 eps cover.
        assert_accurate(g, r.double(), b, what=f"{op} grad_{name}", dtype=dtype, own_eps=own_eps)
    return ours, grads


@each_sample
@each_dtype
def test_values_and_gradients_are_accurate(op, sample, dtype, target):
    skip_if_slow(target, sample)
    check_against_truth(op, sample.cast(dtype, target.device), sample.options, target.backend)


@each_sample
@each_maker
def test_layouts_do_not_change_values_or_gradients(op, sample, maker, target):
    if target.backend in ("reference", "triton") and sample.name not in ("odd everything", "narrow rows"):
        pytest.skip("these two have every layout, and broadcasting")
    tensors = layout_sample(op, sample, maker, torch.float32, target.device)
    ours, grads = check_against_truth(op, tensors, sample.options, target.backend)
    plain, inputs = leaves(op, {k: t.contiguous() for k, t in tensors.items()})
    outputs = op.run(plain, sample.options, target.backend)
    for name, a, b in zip(op.outputs, ours, outputs, strict=True):
        if name in op.elementwise and target.backend != "reference":  # vectorised PyTorch rounds its tails otherwise
            assert_same(a, b, what=name)
    for a, b in zip(grads, gradients(outputs, inputs), strict=True):
        check_form(a, b, b.dtype, what="gradient")


@each_op
@pytest.mark.parametrize("target", [t for t in TARGETS if t.slow], ids=str)
def test_values_and_gradients_under_the_interpreter_quickly(op, target):
    sample = op.sample("odd everything")
    check_against_truth(op, sample.cast(torch.float32, target.device), sample.options, target.backend)


@each_op
@pytest.mark.parametrize("maker", (layouts.channels_last, layouts.misaligned, layouts.strided, layouts.transposed))
@pytest.mark.parametrize("relay", MAKERS[:7], ids=lambda m: m.__name__)
def test_upstream_gradients_in_any_layout(op, maker, relay, target):
    if target.slow and maker is not layouts.misaligned:
        pytest.skip("one input layout is enough for Triton's interpreter")
    sample = op.sample("odd everything")
    tensors = layout_sample(op, sample, maker, torch.float32, target.device)
    marked, inputs = leaves(op, tensors)
    expected = gradients(op.run(marked, sample.options, target.backend), inputs)
    laid = (lambda w: relay(w) if w.dim() else w) if relay is not layouts.expanded else (lambda w: w)
    got = gradients(op.run(marked, sample.options, target.backend), inputs, relay=laid)
    for name, a, b in zip((n for n in op.differentiable if n in tensors), got, expected, strict=True):
        assert_same(a, b, what=name)


@each_op
def test_upstream_gradients_of_stride_zero(op, target):
    """What .sum() sends, and an expanded weight."""
    for sample in op.samples():
        if target.slow and sample.name not in ("odd everything", "narrow rows", "eps"):
            continue
        marked, inputs = leaves(op, sample.cast(torch.float32, target.device))
        outputs = op.run(marked, sample.options, target.backend)
        for sent in (1.0, -0.75):
            zeros = [torch.full((), sent, dtype=o.dtype, device=target.device).expand(o.shape) for o in outputs]
            ones = [w.contiguous() for w in zeros]
            both = [torch.autograd.grad(outputs, inputs, w, retain_graph=True) for w in (zeros, ones)]
            for i, (a, b) in enumerate(zip(*both, strict=True)):
                assert_same(a, b, what=f"{sample.name}: gradient {i}")
        summed = torch.autograd.grad(sum(o.sum() for o in outputs), inputs, retain_graph=True)
        dense = torch.autograd.grad(outputs, inputs, [torch.ones_like(o) for o in outputs])
        for i, (a, b) in enumerate(zip(summed, dense, strict=True)):
            assert_same(a, b, what=f"{sample.name}: gradient {i} of .sum()")


@each_op
def test_the_mean_over_no_samples_teaches_parameters_nothing(op, target):
    """It is NaN, as torch's; but a rank or a bucket without samples must not make NaN of the weights."""
    for sample in op.samples():
        if not sample.name.startswith("empty batch") or sample.options.get("reduction") != "sum":
            continue
        marked, inputs = leaves(op, sample.cast(torch.float32, target.device))
        options = {name: value for name, value in sample.options.items() if name != "reduction"}
        outputs = op.run(marked, options, target.backend)
        for name, g in zip((n for n in op.differentiable if n in marked), gradients(outputs, inputs), strict=True):
            assert_same(g, torch.zeros_like(g), what=f"{sample.name}: grad_{name}")


@each_op
def test_inputs_are_never_written(op, target):
    for sample in op.samples():
        if target.slow and not sample.small:
            continue
        for maker in (layouts.misaligned, layouts.strided, layouts.channels_last):
            if target.slow and maker is not layouts.strided:
                continue
            tensors = layout_sample(op, sample, maker, torch.float32, target.device)
            before = {k: (t.clone(), t._version) for k, t in tensors.items()}
            marked, inputs = leaves(op, tensors)
            weights = []
            outputs = op.run(marked, sample.options, target.backend)
            gradients(outputs, inputs, relay=lambda w, kept=weights: kept.append((w, w.clone())) or w)
            for k, t in tensors.items():
                assert_same(t, before[k][0], what=k)
                assert t._version == before[k][1]
            for w, copy in weights:
                assert_same(w, copy, what="upstream gradient")


def _fingerprint(op, sample, target, dtype):
    marked, inputs = leaves(op, sample.cast(dtype, target.device))
    outputs = op.run(marked, sample.options, target.backend)
    return [*(o.detach() for o in outputs), *gradients(outputs, inputs)]


@each_sample
@pytest.mark.parametrize("dtype", (torch.float32, torch.bfloat16), ids=dtype_name)
def test_results_repeat_at_any_thread_count(op, sample, dtype, target):
    if target.slow:
        pytest.skip("the interpreter runs programs one after the other")
    first = _fingerprint(op, sample, target, dtype)
    for count in (1, 2, 3):
        with threads(count):
            for a, b in zip(_fingerprint(op, sample, target, dtype), first, strict=True):
                assert_same(a, b, what=f"{count} threads")


@each_op
def test_a_sample_does_not_depend_on_its_batch(op, target):
    """Terms that are not summed over the batch, of the first samples and of all: equal bits."""
    if not op.elementwise:
        pytest.skip("every output is a sum")
    sample = op.sample("odd everything")
    tensors = sample.cast(torch.float32, target.device)
    first = {k: t[:2].contiguous() if op.batched is None or k in op.batched else t for k, t in tensors.items()}
    runs = [op.run(t, sample.options, target.backend) for t in (first, tensors)]
    for name, part, whole in zip(op.outputs, *runs, strict=True):
        if name in op.elementwise and target.backend != "reference":  # vectorised PyTorch rounds its tails otherwise
            assert_same(part, whole[:2], what=name)


@each_op
@pytest.mark.parametrize("isa", isas())
def test_each_instruction_set_is_accurate(op, isa):
    if not has_kernel(op.name, Target("cpu", "cpu")):
        pytest.skip("no C++ kernel yet")
    with instruction_set(isa):
        for sample in op.samples():
            for dtype in DTYPES:
                check_against_truth(op, sample.cast(dtype), sample.options, "cpu")


@each_op
def test_layout_of_outputs(op, target):
    """channels_last iff the input is, and is not also plainly contiguous; else contiguous."""
    sample = op.sample("odd everything")
    if next(iter(sample.tensors.values())).dim() != 4:
        pytest.skip("no image among its samples")
    for dtype in (torch.float32, torch.bfloat16):
        contiguous = op.run(sample.cast(dtype, target.device), sample.options, target.backend)
        last = op.run(
            layout_sample(op, sample, layouts.channels_last, dtype, target.device), sample.options, target.backend
        )
        odd = op.run(
            layout_sample(op, sample, layouts.transposed, dtype, target.device), sample.options, target.backend
        )
        for a, b, c in zip(contiguous, last, odd, strict=True):
            assert a.is_contiguous() and c.is_contiguous()
            if a.dim() == 4:
                assert b.is_contiguous(memory_format=torch.channels_last) and not b.is_contiguous()


@each_op
def test_every_option_changes_the_result(op, target):
    sample = op.sample("odd everything")
    tensors = sample.cast(torch.float32, target.device)
    for option, (one, other) in op.options.items():
        results = [op.run(tensors, {**sample.options, option: value}, target.backend) for value in (one, other)]
        assert any(a.shape != b.shape or not torch.equal(a, b) for a, b in zip(*results, strict=True)), option


def test_every_public_function_has_a_row():
    without = {name for name in functional.__all__ if name.islower()} - {op.name for op in OPS}
    assert without == WITHOUT_ROWS, "add tests/rows/<op>.py"


def test_the_backends_of_this_machine_are_tested():
    assert {t.backend for t in TARGETS} >= {"reference", "cpu"}
