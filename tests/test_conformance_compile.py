"""Every op under torch.compile, torch.export, opcheck and torch.jit.trace. Shapes are small: compiling is what takes the time."""

from collections.abc import Iterator

import pytest
import torch
import torch._dynamo.testing
from registry import OPS, Op, Sample, each_op, gradients, leaves, on_floating, tiny
from support import DTYPES, SEED, assert_same, dtype_name
from torch import Tensor

OPCHECKS = ("test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic")


@pytest.fixture(autouse=True)
def _fresh_compiler():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(op: Op, sample: Sample, names: list[str], seed: int | None, **options):
    def call(*values):
        given = {**sample.options} if seed is None or not op.seeded else {**sample.options, "seed": seed}
        return op.call(dict(zip(names, values, strict=True)), given, None)

    return call, torch.compile(call, fullgraph=True, **options)


def check_compiled(op: Op, sample: Sample, **options) -> None:
    """Forward and all gradients equal eager's, with the noise of the default generator; the region has no graph break."""
    marked, inputs = leaves(op, sample.cast(torch.float32))
    call, fast = compiled(op, sample, list(marked), None, **options)
    results = []
    for run in (call, fast, fast):
        torch.manual_seed(5)
        outputs = run(*marked.values())
        results.append([*outputs, *gradients(outputs, inputs)])
        state = torch.get_rng_state()
    for other in results[1:]:
        for a, b in zip(other, results[0], strict=True):
            assert_same(a, b)
            assert a.stride() == b.stride() or a.numel() == 0
    # The generator has moved on, so the next call has other noise; both ways move it alike.
    torch.manual_seed(5)
    call(*marked.values())
    assert torch.equal(state, torch.get_rng_state())
    if op.seeded and "eps" not in marked and outputs[0].numel():
        first = fast(*marked.values())[0]
        assert not torch.equal(first, fast(*marked.values())[0]), "two calls drew equal noise"


@each_op
def test_compiled_graph_equals_eager(op):
    check_compiled(op, op.sample("odd everything"), backend="aot_eager")


@pytest.mark.slow
@pytest.mark.parametrize("dynamic", (False, True))
@pytest.mark.parametrize(
    ("op", "sample"), [pytest.param(op, s, id=f"{op}-{s.name}") for op in OPS for s in op.samples()]
)
def test_inductor_equals_eager(op, sample, dynamic):
    if dynamic and sample.name not in ("odd everything", "one block of 1024", "eps"):
        pytest.skip("dynamic shapes: a few samples")
    check_compiled(op, sample, backend="inductor", dynamic=dynamic)


@each_op
def test_many_batch_sizes_recompile_twice_at_most(op):
    batched = op.batched is not None
    sample = op.sample("odd everything" if batched else "a block plus one")
    tensors = sample.cast(torch.float32)
    names = list(tensors)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    call, fast = compiled(op, sample, names, SEED, backend=counter, dynamic=True)
    for n in (*range(2, 21), 64):
        if batched:
            sized = {k: t[:1].expand(n, *t.shape[1:]) if k in op.batched else t for k, t in tensors.items()}
        else:
            sized = {k: t[:, :37].expand(n, -1) for k, t in tensors.items()}
        marked, inputs = leaves(op, {k: t.clone(memory_format=torch.contiguous_format) for k, t in sized.items()})
        outputs, expected = fast(*marked.values()), call(*marked.values())
        for a, b in zip(outputs, expected, strict=True):
            assert_same(a, b)
        for a, b in zip(gradients(outputs, inputs), gradients(expected, inputs), strict=True):
            assert_same(a, b)
    assert counter.frame_count <= 3, f"{counter.frame_count} compilations for 20 batch sizes"


@each_op
def test_second_order_through_a_compiled_region_is_pytorchs_own_error(op):
    """Not a silent zero: torch.compile supports first order only, and says so."""
    marked, inputs, options = tiny(op)
    sample = Sample("tiny", marked, options)
    _, fast = compiled(op, sample, list(marked), SEED, backend="aot_eager")
    outputs = fast(*marked.values())
    grads = torch.autograd.grad(sum((o**2).sum() for o in outputs), inputs, create_graph=True)
    with pytest.raises(
        RuntimeError, match=r"torch.compile with aot_autograd does not currently support double backward"
    ):
        torch.autograd.grad(sum((g**2).sum() for g in grads), inputs)


@each_op
def test_no_graph_break_and_no_guard_on_the_backend(op):
    """A backend chosen by context is asked for at run time: the compiled region is not compiled anew."""
    import pygen

    sample = op.sample("odd everything")
    tensors = sample.cast(torch.float32)
    counter = torch._dynamo.testing.CompileCounterWithBackend("aot_eager")
    _, fast = compiled(op, sample, list(tensors), SEED, backend=counter)
    plain = fast(*tensors.values())
    with pygen.use_backend("reference"):
        other = fast(*tensors.values())
        expected = op.run(tensors, sample.options)
    assert counter.frame_count == 1
    for name, a, b, c in zip(op.outputs, plain, other, expected, strict=True):
        assert_same(b, c, what=f"{name} under use_backend")
        torch.testing.assert_close(a, b)


@each_op
def test_func_transforms_inside_a_compiled_region(op):
    """As in eager mode they take the reference: the op alone has no rules that a compiler could follow."""
    marked, _, options = tiny(op)
    options = {**({"seed": SEED} if op.seeded else {}), **options}
    tensors = {k: t.detach() for k, t in marked.items()}
    names = [k for k in tensors if k in op.differentiable]
    values = [tensors[k] for k in names]

    def call(*given):
        return op.call({**tensors, **dict(zip(names, given, strict=True))}, options, None)

    def mapped(*given):
        return torch.func.vmap(call, in_dims=-1)(*given)

    def slopes(*given):
        scalar = lambda *v: sum((o**2).sum() for o in call(*v) if o.is_floating_point())  # noqa: E731
        return torch.func.grad(scalar, argnums=tuple(range(len(given))))(*given)

    for function, given in ((mapped, [torch.stack((v, v * 0.5), -1) for v in values]), (slopes, values)):
        fast = torch.compile(function, backend="eager", fullgraph=True)
        for a, b in zip(fast(*given), function(*given), strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


@each_op
def test_refusals_come_out_of_a_compiled_region(op):
    sample = op.sample("odd everything")
    tensors = sample.cast(torch.float32)
    first, *others = op.differentiable
    mixed = {**tensors, first: tensors[first].double() if others else tensors[first].cfloat()}

    @torch.compile(backend="eager", fullgraph=True)
    def fast(*values):
        return op.run(dict(zip(tensors, values, strict=True)), sample.options)

    with pytest.raises(Exception, match=rf"{op}: .*expected (torch\.)?float64"):
        fast(*mixed.values())


@each_op
def test_export_holds_the_op(op):
    sample = op.sample("odd everything")
    tensors = sample.cast(torch.float32)
    names = list(tensors)

    class Model(torch.nn.Module):
        def forward(self, *values: Tensor):
            return op.run(dict(zip(names, values, strict=True)), sample.options)

    batch = torch.export.Dim("batch", min=2)
    batched = set(names) if op.batched is None else op.batched
    shapes = tuple({0: batch} if name in batched else None for name in names)
    program = torch.export.export(Model(), tuple(tensors.values()), dynamic_shapes=(shapes,))
    assert any("pygen" in str(node.target) for node in program.graph.nodes), "the op was taken apart"
    for given in (tensors, {k: t[:3] if k in batched else t for k, t in tensors.items()}):
        for a, b in zip(program.module()(*given.values()), Model()(*given.values()), strict=True):
            assert_same(a, b)


def _opcheck_samples(op: Op) -> Iterator[Sample]:
    """Those of the row, a batch of 65536, and strides that say little."""
    yield from op.samples()
    if op.more_samples is not None:
        yield from op.more_samples()
        return
    named = op.sample("one element")
    big = {k: t.reshape(-1)[:1].expand(65536).contiguous() for k, t in named.tensors.items()}
    yield Sample("batch 65536", big, named.options)
    odd = op.sample("odd everything")
    yield Sample("N1HW", {k: _ambiguous(t[:, :1]) for k, t in odd.tensors.items()}, odd.options)
    yield Sample("NC11", {k: _ambiguous(t[..., :1, :1]) for k, t in odd.tensors.items()}, odd.options)
    last = {k: t.to(memory_format=torch.channels_last) for k, t in odd.tensors.items()}
    yield Sample("channels_last", last, odd.options)
    turned = {k: t.transpose(0, 3).contiguous().transpose(0, 3) for k, t in odd.tensors.items()}
    yield Sample("transposed", turned, odd.options)


def _opcheck_cases():
    """At least 20 an op. The ops of its backward, and those that keep something for it, are traced once for each set of options,
    numbers aside, in one sample that has something: their composites of second order take seconds."""
    for op in OPS:
        named = {sample.name for sample in op.samples()}
        samples = list(_opcheck_samples(op))
        for sample in samples:
            traced = min(
                (s for s in samples if _choices(s) == _choices(sample) and _size(s)), key=_numbers_first, default=None
            )
            for dtype in (torch.float32, torch.bfloat16) if sample.name in named else (torch.float32,):
                mark = () if sample.name == "odd everything" and dtype == torch.float32 else pytest.mark.slow
                whole = dtype == torch.float32 and sample is traced
                yield pytest.param(op, sample, dtype, whole, id=f"{op}-{sample.name}-{dtype_name(dtype)}", marks=mark)


def _size(sample: Sample) -> int:
    """Elements; 0 where a tensor has none."""
    sizes = [t.numel() for t in sample.tensors.values()]
    return sum(sizes) if all(sizes) else 0


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _choices(sample: Sample) -> dict:
    """The options that are not numbers."""
    return {name: value for name, value in sample.options.items() if not _is_number(value)}


def _numbers_first(sample: Sample) -> tuple[int, int]:
    """The sample that gives the most numbers, of these the smallest."""
    return -sum(map(_is_number, sample.options.values())), _size(sample)


def _ambiguous(t: Tensor) -> Tensor:
    """Dims of size 1 with the strides of a channels_last tensor, which is_contiguous says nothing of."""
    return t.contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(("op", "sample", "dtype", "whole"), list(_opcheck_cases()))
def test_opcheck(op, sample, dtype, whole):
    cases = op.registered(sample, dtype)
    assert cases, f"{op} gives no arguments for opcheck"
    for function, args in cases:
        inner = any(part in str(function) for part in ("_backward", "_keep"))
        checks = OPCHECKS[:3] if inner and not whole else OPCHECKS
        result = torch.library.opcheck(function, args, test_utils=checks, raise_exception=True)
        assert set(result) == set(checks) and set(result.values()) == {"SUCCESS"}


@each_op
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_the_registered_op_equals_the_public_function(op, dtype):
    """Both doors give the same: the fast one and torch.ops.pygen."""
    for sample in op.samples():
        tensors = sample.cast(dtype)
        direct = op.run(tensors, sample.options)
        with torch.device("cpu"):  # a torch function mode: the call goes through the dispatcher
            through = op.run(tensors, sample.options)
        for a, b in zip(direct, through, strict=True):
            assert_same(a, b)
        marked, inputs = leaves(op, tensors)
        with torch.device("cpu"):
            outputs = op.run(marked, sample.options)
        for a, b in zip(gradients(outputs, inputs), gradients(op.run(marked, sample.options), inputs), strict=True):
            assert_same(a, b)


@each_op
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_tracing_by_jit_keeps_the_op(op):
    sample = op.sample("odd everything")
    tensors = sample.cast(torch.float32)
    names = list(tensors)

    def call(*values):
        return op.run(dict(zip(names, values, strict=True)), sample.options)

    traced = torch.jit.trace(call, tuple(tensors.values()), check_trace=False)
    other = on_floating(lambda t: t * 0.5, tensors)
    for a, b in zip(traced(*other.values()), call(*other.values()), strict=True):
        assert_same(a, b)
