"""What autograd asks of every op: any subset of gradients, any order, twice, through hooks, checkpoints and transforms."""

import itertools

import layouts
import pytest
import torch
from registry import each_op, each_sample, gradients, leaves, skip_if_slow, tiny
from support import assert_accurate, assert_same, fast_targets, mixed_weights, no_leak
from torch.utils.checkpoint import checkpoint

import pygen

pytestmark = pytest.mark.usefixtures("poisoned")


def subsets(names):
    return itertools.chain.from_iterable(itertools.combinations(names, n) for n in range(len(names) + 1))


@each_op
def test_every_subset_of_requires_grad(op, target):
    """Asking for fewer gradients changes none of the others, and no output requires grad without need."""
    sample = op.sample("odd everything")
    tensors = sample.cast(torch.float32, target.device)
    marked, inputs = leaves(op, tensors)
    names = [k for k in tensors if k in op.differentiable]
    expected = dict(zip(names, gradients(op.run(marked, sample.options, target.backend), inputs), strict=True))
    for wanted in subsets(list(expected)):
        if target.slow and 1 < len(wanted) < len(expected) - 1:
            continue  # Triton's interpreter: none, each alone, all but each, all
        marked, inputs = leaves(op, tensors, wanted)
        outputs = op.run(marked, sample.options, target.backend)
        if not wanted:
            assert not any(o.requires_grad for o in outputs)
            continue
        for name, g in zip([k for k in names if k in wanted], gradients(outputs, inputs), strict=True):
            assert_same(g, expected[name], what=f"{name} of {wanted}")


@each_op
def test_outputs_used_alone_or_together(op, target):
    """The gradient of all outputs is the sum of the gradients of each, and an unused output poisons nothing."""
    sample = op.sample("odd everything")
    tensors = sample.cast(torch.float64, target.device)
    marked, inputs = leaves(op, tensors)
    outputs = op.run(marked, sample.options, target.backend)
    together = gradients(outputs, inputs, retain_graph=True)
    parts = [gradients(op.run(marked, sample.options, target.backend), inputs, only=(i,)) for i in range(len(outputs))]
    for j, whole in enumerate(together):
        each = [p[j] for p in parts if p[j] is not None]
        torch.testing.assert_close(sum(each), whole, rtol=1e-12, atol=1e-12)
    # And each alone equals that of the composite.
    marked, inputs = leaves(op, {k: t.cpu() for k, t in tensors.items()})
    truth = op.truth(marked, sample.options)
    for i in range(len(outputs)):
        for got, ref in zip(parts[i], gradients(truth, inputs, only=(i,), retain_graph=True), strict=True):
            if ref is None:
                assert got is None or not got.any()
            else:
                assert_accurate(got, ref, ref, what=f"output {i}", own_eps=op.double_eps)


@each_op
def test_second_backward_is_equal(op, target):
    sample = op.sample("odd everything")
    marked, inputs = leaves(op, sample.cast(torch.float32, target.device))
    outputs = op.run(marked, sample.options, target.backend)
    first = gradients(outputs, inputs, retain_graph=True)
    for a, b in zip(first, gradients(outputs, inputs), strict=True):
        assert_same(a, b)
    with pytest.raises(RuntimeError, match=r"second time|freed"):
        gradients(outputs, inputs)


@each_op
def test_backward_runs_on_the_backend_of_forward(op):
    """Whatever is asked for by then, and a backward that shall be differentiated again as well."""
    sample = op.sample("odd everything")
    marked, inputs = leaves(op, sample.cast(torch.float32))
    for twice in (False, True):
        expected = gradients(op.run(marked, sample.options), inputs, create_graph=twice)
        outputs = op.run(marked, sample.options)
        with pygen.use_backend("reference"):
            for a, b in zip(gradients(outputs, inputs, create_graph=twice), expected, strict=True):
                assert_same(a, b)


@each_op
def test_inputs_changed_in_place_are_noticed(op, target):
    sample = op.sample("odd everything")
    for changed in set(op.differentiable) - op.unsaved:
        marked, inputs = leaves(op, sample.cast(torch.float32, target.device))
        copies = {k: t.clone() for k, t in marked.items()}
        outputs = op.run(copies, sample.options, target.backend)
        with torch.no_grad():
            copies[changed].add_(1)
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            gradients(outputs, inputs)


@each_op
@pytest.mark.parametrize("other", ("smaller", "half"))
def test_inputs_replaced_after_forward_are_noticed(op, target, other):
    """What backward would read is not what the call was checked for."""
    sample = op.sample("odd everything")
    for changed in set(op.differentiable) - op.unsaved:
        marked, inputs = leaves(op, sample.cast(torch.float32, target.device))
        expected = gradients(op.run(marked, sample.options, target.backend), inputs)
        for twice in (False, True):
            outputs = op.run(marked, sample.options, target.backend)
            whole = marked[changed].data
            marked[changed].data = whole.half() if other == "half" else whole.flatten()[: whole.numel() // 2].clone()
            with pytest.raises(RuntimeError, match="replaced after the forward pass"):
                if len(inputs) > 1:
                    gradients(outputs, inputs, create_graph=twice)
                else:  # a leaf of another dtype is no longer the graph's: torch.autograd.grad of it alone runs nothing
                    gradients_of(outputs, [], create_graph=twice)
            marked[changed].data = whole
        again = gradients(op.run(marked, sample.options, target.backend), inputs)
        for a, b in zip(expected, again, strict=True):
            assert_same(a, b)


@each_op
def test_what_hooks_of_saved_tensors_return_is_checked(op, target):
    sample = op.sample("odd everything")
    marked, inputs = leaves(op, sample.cast(torch.float32, target.device))
    with torch.autograd.graph.saved_tensors_hooks(lambda t: t, lambda t: t.to("meta")):
        outputs = op.run(marked, sample.options, target.backend)
    with pytest.raises(
        RuntimeError, match=rf"replaced after the forward pass.* on {target.device}(:0)?, got .* on meta"
    ):
        gradients(outputs, inputs)


@each_op
def test_outputs_may_be_changed_in_place(op, target):
    sample = op.sample("odd everything")
    marked, inputs = leaves(op, sample.cast(torch.float32, target.device))
    expected = gradients(op.run(marked, sample.options, target.backend), inputs)
    outputs = [o * 1 for o in op.run(marked, sample.options, target.backend)]
    direct = op.run(marked, sample.options, target.backend)
    changed = [o if name in op.kept else o.mul_(1) for name, o in zip(op.outputs, direct, strict=True)]
    for a, b, c in zip(expected, gradients(outputs, inputs), gradients(changed, inputs), strict=True):
        assert_same(a, b)
        assert_same(a, c)
    for i, name in enumerate(op.outputs):
        if name in op.kept:
            outputs = op.run(marked, sample.options, target.backend)
            outputs[i].mul_(1)
            with pytest.raises(RuntimeError, match="modified by an inplace operation"):
                gradients(outputs, inputs)


@each_sample
def test_backward_keeps_the_inputs_and_the_seed_only(op, sample, target):
    skip_if_slow(target, sample)
    marked, _ = leaves(op, sample.cast(torch.float32, target.device))
    kept = {}

    def pack(t):
        kept[t.untyped_storage().data_ptr()] = t.untyped_storage().nbytes()
        return t

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        outputs = op.run(marked, sample.options, target.backend)
    if target.backend == "reference":
        return  # also goes through the op's own Function, but nothing is promised of it
    given = {t.untyped_storage().data_ptr(): t.untyped_storage().nbytes() for t in marked.values()}
    named = zip(op.outputs, (o.untyped_storage() for o in outputs), strict=True)
    results = {name: o.data_ptr() for name, o in named if o.nbytes()}
    promised = {where for name, where in results.items() if name in op.kept}
    extra = sum(n for where, n in kept.items() if where not in given and where not in promised)
    assert extra <= op.saved_extra + 8 * op.seeded, f"{extra} bytes beside the inputs"
    assert not (set(results.values()) - promised) & kept.keys()


@each_op
def test_saved_tensor_hooks_may_move_what_is_saved(op, target):
    """As save_on_cpu does: what comes back lies elsewhere."""
    sample = op.sample("odd everything")
    marked, inputs = leaves(op, sample.cast(torch.float32, target.device))
    expected = gradients(op.run(marked, sample.options, target.backend), inputs)

    def unpack(t):
        return (layouts.misaligned(t) if t.is_floating_point() else t).to(target.device)

    with torch.autograd.graph.saved_tensors_hooks(lambda t: t.detach().cpu().clone(), unpack):
        outputs = op.run(marked, sample.options, target.backend)
    for a, b in zip(expected, gradients(outputs, inputs), strict=True):
        assert_same(a, b)


@each_op
def test_gradcheck(op, target):
    if op.surrogate:
        pytest.skip("its gradients are not its derivatives")
    marked, inputs, options = tiny(op, target.device)
    names = [k for k in marked if k in op.differentiable]

    def call(*values):
        return op.run({**marked, **dict(zip(names, values, strict=True))}, options, target.backend)

    torch.autograd.gradcheck(call, inputs, nondet_tol=0.0, fast_mode=target.slow)


@each_op
def test_gradgradcheck(op, target):
    if op.surrogate:
        pytest.skip("its gradients are not its derivatives")
    if target.slow:
        pytest.skip("second order is the composite's, as on the other backends; its first order is checked")
    marked, inputs, options = tiny(op, target.device)
    names = [k for k in marked if k in op.differentiable]

    def call(*values):
        return op.run({**marked, **dict(zip(names, values, strict=True))}, options, target.backend)

    torch.autograd.gradgradcheck(call, inputs, nondet_tol=0.0)


@each_op
@fast_targets
def test_third_order_equals_the_composite(op, target):
    def weighted(t):
        return (t * mixed_weights(t.shape, t.dtype, t.device.type)).sum()

    def third(run):
        marked, inputs, options = tiny(op, target.device)
        total = sum(weighted(o.sin()) for o in run(marked, options))
        for _ in range(2):
            grads = torch.autograd.grad(total, inputs, create_graph=True)
            total = sum(weighted(g) for g in grads)
        return [g.cpu() for g in torch.autograd.grad(total, inputs)]

    got = third(lambda t, o: op.run(t, o, target.backend))
    for a, b in zip(got, third(lambda t, o: op.truth(t, o)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12 * b.abs().max().item())


@each_op
def test_a_gradient_penalty_reaches_the_inputs(op, target):
    """create_graph through a function of the inputs: grad_mu depends on mu, logvar and what they were made of."""
    marked, inputs, options = tiny(op, target.device)
    weight = torch.full((), 0.7, dtype=torch.float64, device=target.device, requires_grad=True)

    def penalty(run):
        made = {k: t * weight if k in op.differentiable else t for k, t in marked.items()}
        outputs = run(made, options)
        through = [made[k] for k in op.differentiable if k in made]
        grads = torch.autograd.grad(sum((o**2).sum() for o in outputs), through, create_graph=True)
        return torch.autograd.grad(sum((g**2).sum() for g in grads), [weight, *inputs])

    ours = penalty(lambda t, o: op.run(t, o, target.backend))
    if target.device == "cpu":
        for a, b in zip(ours, penalty(lambda t, o: op.truth(t, o)), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@each_op
@pytest.mark.parametrize("use_reentrant", (True, False))
def test_checkpoint_recomputes_the_same(op, target, use_reentrant):
    """Also where the noise comes from torch's generator, which checkpoint restores."""
    sample = op.sample("odd everything")
    marked, inputs = leaves(op, sample.cast(torch.float32, target.device))
    names = list(marked)

    def call(*values):
        outputs = op.call(dict(zip(names, values, strict=True)), sample.options, target.backend)
        return tuple(o.sin() for o in outputs)

    torch.manual_seed(3)
    plain = call(*marked.values())
    expected = gradients(plain, inputs)
    torch.manual_seed(3)
    outputs = checkpoint(call, *marked.values(), use_reentrant=use_reentrant)
    for a, b in zip(plain, outputs, strict=True):
        assert_same(a, b)
    torch.rand(5)  # the generator moves on between forward and backward
    for a, b in zip(expected, gradients_of(outputs, inputs), strict=True):
        assert_same(a, b)


def gradients_of(outputs, inputs, **options):
    """By .backward(): a reentrant checkpoint does not support torch.autograd.grad."""
    for t in inputs:
        t.grad = None
    torch.autograd.backward(outputs, [mixed_weights(o.shape, o.dtype, o.device.type) for o in outputs], **options)
    return [t.grad for t in inputs]


@each_op
def test_forward_without_backward_leaks_nothing(op, target):
    """After the first call, whose plans are kept for the next."""
    sample = op.sample("odd everything")

    def call():
        marked, inputs = leaves(op, sample.cast(torch.float32, target.device))
        op.run(marked, sample.options, target.backend)
        gradients(op.run(marked, sample.options, target.backend), inputs)

    call()
    with no_leak():
        for _ in range(3):
            call()
