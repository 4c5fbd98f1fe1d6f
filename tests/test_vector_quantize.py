"""What is vector_quantize's own: the index and its bound, ties, NaN, gradients in closed form, statistics, the module."""

import copy

import layouts
import pytest
import torch
from registry import OPS
from support import (
    DTYPES,
    FAST_TARGETS,
    assert_same,
    compute_dtype,
    dtype_name,
    instruction_set,
    isas,
    threads,
)

from pygen import nn as pnn
from pygen.functional import code_statistics, vector_quantize
from pygen.reference import vector_quantize as reference

pytestmark = pytest.mark.usefixtures("poisoned")
ROW = next(op for op in OPS if op.name == "vector_quantize")
each_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
SHAPES = {"one position": (1, 1), "no tile is whole": (3, 13, 5, 7), "rows": (70, 67), "a line": (2, 16, 33)}


def integers(shape, codes, dtype=torch.float32, most=3, seed=5):
    """Whose scores are exact, with ties."""
    g = torch.Generator().manual_seed(seed)
    draw = lambda *size: torch.randint(-most, most + 1, size, generator=g).to(dtype)  # noqa: E731
    return draw(*shape), draw(codes, shape[1])


def first_nearest(z, e):
    """The lowest index of the least distance, of exact numbers."""
    apart = (reference.rows_of(z).double().unsqueeze(1) - e.double()).square().sum(2)
    nearest = (apart == apart.amin(1, keepdim=True)).long()
    return nearest.argmax(1).reshape(z.shape[:1] + z.shape[2:]), apart


def on(target, *tensors):
    return [t.to(target.device) for t in tensors]


@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
@each_dtype
def test_of_equal_distances_the_lowest_index(shape, dtype, target):
    if target.slow and dtype not in (torch.float32, torch.bfloat16):
        pytest.skip("enough for Triton's interpreter")
    for codes in (1, 2, 12, 13, 150):
        if target.slow and codes in (2, 13):
            continue
        z, e = integers(shape, codes, dtype, most=2)
        expected, _ = first_nearest(z, e)
        got = vector_quantize(*on(target, z, e), backend=target.backend)
        assert_same(got[1].cpu(), expected, what=f"{codes} codes")
        assert_same(got[0].cpu(), reference.codes_of(e, expected).contiguous(), what="quantized")


@pytest.mark.parametrize("isa", isas())
def test_ties_on_each_instruction_set(isa):
    with instruction_set(isa):
        for dtype in DTYPES:
            z, e = integers((5, 9, 11), 29, dtype)
            for layout in (layouts.strided, layouts.transposed, layouts.misaligned):
                _, got, _ = vector_quantize(layout(z), layout(e), backend="cpu")
                assert_same(got, first_nearest(z, e)[0])


@each_dtype
def test_the_code_lies_within_the_bound_of_the_nearest(dtype, target):
    """In float64 it is the nearest; codes far from the origin cost digits, as the page says."""
    if target.slow and dtype != torch.float16:
        pytest.skip("enough for Triton's interpreter")
    g = torch.Generator().manual_seed(3)
    for offset in (0, 30):
        z = (torch.randn((2, 24, 50 if target.slow else 300), generator=g, dtype=torch.float64) + offset).to(dtype)
        e = (torch.randn((90, 24), generator=g, dtype=torch.float64) + offset).to(dtype)
        _, got, _ = vector_quantize(*on(target, z, e), backend=target.backend)
        nearest, apart = first_nearest(z, e)
        chosen = apart.gather(1, got.cpu().reshape(-1, 1)).squeeze(1)
        lengths, longest = reference.rows_of(z).double().norm(dim=1), e.double().norm(dim=1).amax()
        eps = torch.finfo(compute_dtype(dtype)).eps
        allowed = 4 * (24 + 4) * eps * (lengths * longest + longest**2)
        if target.backend == "cpu":  # of differences
            allowed = 2 * (24 + 4) * eps * apart.amin(1)
        assert (chosen - apart.amin(1) <= allowed).all()
        if dtype == torch.float64:
            assert_same(got.cpu(), nearest)


@pytest.mark.parametrize("target", FAST_TARGETS, ids=str)
def test_indices_and_sums_do_not_depend_on_threads(target):
    """Of ties by rounding too: 2,000 positions at equal distances of codes but for the last bits."""
    g = torch.Generator().manual_seed(8)
    z = torch.randn((4, 40, 500), generator=g)
    e = torch.randn((1, 40), generator=g).expand(257, 40) * (1 + 1e-6 * torch.randn((257, 1), generator=g))
    z, e = on(target, z, e)
    results = []
    for count in (1, 2, 3):
        with threads(count):
            a, b = z.clone().requires_grad_(), e.clone().requires_grad_()
            q, indices, loss = vector_quantize(a, b, backend=target.backend)
            grads = torch.autograd.grad((q * z).sum() + loss, (a, b))
            results.append((indices, loss, *grads, *code_statistics(z, indices, 257, backend=target.backend)))
    for other in results[1:]:
        for x, y in zip(other, results[0], strict=True):
            assert_same(x, y)


def test_the_distances_of_one_sample_do_not_depend_on_threads():
    """Long sums, which torch splits by threads; about every other one then has another last bit."""
    g = torch.Generator().manual_seed(9)
    inputs, e = [torch.randn((1, 1, 100_001), generator=g) for _ in range(8)], torch.tensor([[-1.0], [1.0]])
    losses = []
    for count in (1, 2, 3):
        with threads(count):
            losses.append([vector_quantize(z, e, reduction="none", backend="cpu")[2].item() for z in inputs])
    assert losses[0] == losses[1] == losses[2]


def test_what_is_not_finite(target):
    """Such a position gets code 0 and shows in the loss; such a code is never the nearest."""
    nan, inf = float("nan"), float("inf")
    z = torch.tensor([[1.0, 0], [nan, 0], [inf, 0], [-inf, inf], [1, 2]])
    e = torch.tensor([[0.0, 5], [nan, 0], [1, inf], [-1e30, 1e30], [1, 1], [1, 0]])
    quantized, indices, loss = vector_quantize(*on(target, z, e), reduction="none", backend=target.backend)
    assert indices.tolist() == [5, 0, 0, 0, 4]
    assert_same(quantized.cpu(), e[indices.cpu()])
    assert loss.isfinite().tolist() == [True, False, False, False, True]
    only = torch.tensor([[nan, 0.0], [inf, 1]])
    quantized, indices, loss = vector_quantize(*on(target, z[:1], only), backend=target.backend)
    assert indices.tolist() == [0] and quantized.isnan().any() and loss.isnan()


def test_codes_that_are_not_finite_hide_no_other(target):
    """Before it and after it, in each of the lanes and threads that compare codes."""
    z, e = integers((2, 5, 40), 150, torch.float32)
    numbers = torch.arange(150)
    e[numbers % 3 == 0, 1] = torch.tensor([float("nan"), float("inf")]).repeat(25)
    rest = numbers[numbers % 3 != 0]
    expected = rest[first_nearest(z, e[rest])[0]]
    assert_same(vector_quantize(*on(target, z, e), backend=target.backend)[1].cpu(), expected)


@pytest.mark.parametrize("shape", [(3, 5, 4, 6), (8, 7)], ids=str)
def test_gradients_in_closed_form(shape, target):
    z, e = on(target, *integers(shape, 6))
    z.requires_grad_(), e.requires_grad_()
    quantized, indices, loss = vector_quantize(z, e, beta=0.5, reduction="sum", backend=target.backend)
    assert not indices.requires_grad
    above = torch.arange(quantized.numel(), device=target.device).view(shape) % 5 - 2.0
    grad_z, grad_e = torch.autograd.grad((quantized * above).sum() + 2 * loss, (z, e))
    assert_same(grad_z, above + 2 * (z - quantized).detach())
    rows = reference.rows_of((quantized - z).detach())
    expected = torch.zeros_like(e).index_add(0, indices.reshape(-1), 4 * rows)
    assert_same(grad_e, expected)
    assert torch.autograd.grad(vector_quantize(z, e, backend=target.backend)[0].sum(), e, allow_unused=True) == (None,)


def test_a_frozen_side_gets_no_gradient(target):
    z, e = on(target, *integers((3, 5, 4), 6))
    assert not vector_quantize(z, e.requires_grad_(), backend=target.backend)[0].requires_grad
    quantized, _, loss = vector_quantize(z.requires_grad_(), e.detach(), backend=target.backend)
    assert quantized.requires_grad and loss.requires_grad


@pytest.mark.parametrize("shape", [(3, 18, 5, 6), (300, 7), (0, 4, 2), (2, 0, 3)], ids=str)
def test_statistics(shape, target):
    if target.slow and shape[0] == 300:
        pytest.skip("enough for Triton's interpreter")
    z, _ = integers(shape, 1)
    g = torch.Generator().manual_seed(4)
    indices = torch.randint(9, shape[:1] + shape[2:], generator=g).clamp(0, 6)  # code 6 often, 7 and 8 never
    for layout in (torch.clone, layouts.channels_last, layouts.strided, layouts.transposed):
        given, where = on(target, layout(z), layout(indices) if layout is not layouts.channels_last else indices)
        counts, sums = code_statistics(given.requires_grad_(), where, 9, backend=target.backend)
        assert not sums.requires_grad
        assert_same(counts.cpu(), torch.bincount(indices.reshape(-1), minlength=9))
        expected = torch.zeros(9, shape[1]).index_add(0, indices.reshape(-1), reference.rows_of(z))
        assert_same(sums.cpu(), expected)


def test_many_positions_of_one_code_lose_no_digits(target):
    z = torch.full((2, 3, 700 if target.slow else 9000), 0.1).to(target.device)
    indices = torch.zeros(2, z.shape[2], dtype=torch.int64, device=target.device)
    _, sums = code_statistics(z, indices, 2, backend=target.backend)
    expected = z[0, 0, 0].double() * indices.numel()
    torch.testing.assert_close(sums[0].double(), expected.expand(3), rtol=1e-6, atol=0)


@pytest.mark.parametrize(
    ("change", "kind", "match"),
    [
        ({"indices": torch.zeros(4, 2)}, TypeError, r"indices: expected codes as torch.int64, got torch.float32"),
        ({"indices": torch.zeros(4, 3, dtype=torch.int64)}, ValueError, r"indices: expected \[4, 2\], .* got \[4, 3\]"),
        ({"indices": torch.full((4, 2), 5)}, ValueError, r"indices: expected codes 0 .. 4, got 5 .. 5"),
        ({"indices": torch.full((4, 2), -1)}, ValueError, r"indices: expected codes 0 .. 4, got -1 .. -1"),
        ({"indices": torch.zeros(4, 2, dtype=torch.int64, device="meta")}, ValueError, r"indices: expected a tensor on cpu"),
        ({"input": torch.zeros(4)}, ValueError, r"input: expected at least two dims"),
        ({"input": torch.zeros(4, 3, 2).int()}, TypeError, r"input: expected float64, .* got torch.int32"),
        ({"num_codes": 0}, ValueError, r"num_codes: expected 1 .. 1073741824, got 0"),
        ({"num_codes": 5.0}, TypeError, r"num_codes: expected an int, got float"),
        ({"backend": "gpu"}, ValueError, r"backend: expected one of"),
    ],
)  # fmt: skip
def test_statistics_refuse(change, kind, match):
    given = {"input": torch.zeros(4, 3, 2), "indices": torch.zeros(4, 2, dtype=torch.int64), "num_codes": 5}
    with pytest.raises(kind, match="code_statistics: " + match):
        code_statistics(**given | change)


def test_statistics_under_transforms_and_compile():
    z, indices = torch.randn(4, 3, 2), torch.randint(5, (4, 2))
    assert not torch.func.grad(lambda t: code_statistics(t, indices, 5)[1].sum())(z).any()
    mapped = torch.func.vmap(lambda t, i: code_statistics(t, i, 5))(
        torch.stack((z, -z)), torch.stack((indices, indices))
    )
    for each, t in zip(zip(*mapped, strict=True), (z, -z), strict=True):
        for a, b in zip(each, code_statistics(t, indices, 5), strict=True):
            assert_same(a, b)
    compiled = torch.compile(lambda t, i: code_statistics(t, i, 5), fullgraph=True, backend="aot_eager")
    for a, b in zip(compiled(z, indices), code_statistics(z, indices, 5), strict=True):
        assert_same(a, b)


def moving(**options):
    torch.manual_seed(1)
    return pnn.VectorQuantizer(4, 2, decay=0.9, **options)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_moving_averages_by_hand(dtype):
    module = moving(epsilon=0.5, dtype=dtype)
    accurate = {"rtol": 8 * torch.finfo(dtype).eps, "atol": 8 * torch.finfo(dtype).eps}
    assert not list(module.parameters()) and set(module.state_dict()) == {"codebook", "cluster_sizes", "cluster_sums"}
    sizes, sums = torch.ones(4, dtype=torch.float64), module.codebook.to(torch.float64, copy=True)
    g = torch.Generator().manual_seed(2)
    for _ in range(3):
        z = torch.randn((3, 2, 5), generator=g, dtype=dtype).requires_grad_()
        before = module.codebook.clone()
        quantized, indices, loss = module(z)
        assert_same(quantized.detach(), reference.codes_of(before, indices).contiguous())
        (grad,) = torch.autograd.grad(loss, z)  # of the codes that were looked up, which have moved since
        torch.testing.assert_close(grad, 2 * 0.25 * (z - quantized).detach() / z.numel())
        torch.testing.assert_close(loss.detach(), 0.25 * (z - quantized).detach().square().mean())
        counts = torch.bincount(indices.reshape(-1), minlength=4)
        sizes = 0.9 * sizes + 0.1 * counts.double()
        of_codes = torch.zeros(4, 2, dtype=torch.float64).index_add(
            0, indices.reshape(-1), reference.rows_of(z.detach()).double()
        )
        sums = 0.9 * sums + 0.1 * of_codes
        smoothed = sizes.sum() * (sizes + 0.5) / (sizes.sum() + 4 * 0.5)
        torch.testing.assert_close(module.cluster_sizes.double(), sizes, **accurate)
        torch.testing.assert_close(module.codebook.double(), sums / smoothed.unsqueeze(1), **accurate)
    kept = copy.deepcopy(module.state_dict())
    module.eval()(z)
    module.train()(z[:0])
    for name, t in module.state_dict().items():
        assert_same(t, kept[name], what=f"{name}, though nothing was trained")
    other = moving(dtype=dtype)
    other.load_state_dict(kept)
    assert_same(other.eval()(z)[1], module.eval()(z)[1])


def test_dead_codes_are_put_on_positions():
    module = moving(restart_threshold=0.95)
    module.codebook.copy_(torch.tensor([[0.0, 0], [9, 9], [1, 1], [8, -9]]))
    module.cluster_sums.copy_(module.codebook)
    z = torch.tensor([[0.1, 0], [1, 1], [0, 0.2], [1.1, 1]])
    torch.manual_seed(3)
    module(z)
    torch.manual_seed(3)
    drawn = z[torch.randint(4, (4,))]
    assert_same(module.codebook[1::2], drawn[1::2])
    assert_same(module.cluster_sizes[1::2], torch.full((2,), 0.95))
    assert (module.cluster_sizes[::2] > 1).all()
    torch.testing.assert_close(module.cluster_sums[1::2], drawn[1::2] * 0.95)


def test_module_learns_by_gradient_and_looks_up():
    torch.manual_seed(0)
    module = pnn.VectorQuantizer(8, 3)
    z = torch.randn(4, 3, 5, 5)
    losses = []
    for _ in range(20):
        loss = module(z)[2]
        with torch.no_grad():
            module.codebook -= 2 * torch.autograd.grad(loss, module.codebook)[0]
        losses.append(loss.item())
    assert losses[-1] < 0.6 * losses[0]
    assert_same(module.eval().lookup(module(z)[1]).contiguous(), module(z)[0].detach())
    counts = torch.tensor([5, 0, 5, 0])
    torch.testing.assert_close(module.perplexity(counts), torch.tensor(2.0))


@pytest.mark.parametrize(
    ("options", "match"),
    [
        ({"decay": 1.0}, r"decay: expected None or 0 < decay < 1, got 1.0"),
        ({"decay": "0.9"}, r"decay: expected None or 0 < decay < 1, got '0.9'"),
        ({"beta": -0.25}, r"beta: expected a number >= 0, got -0.25"),
        ({"codebook_weight": -1.0}, r"codebook_weight: expected None or a number >= 0, got -1.0"),
        ({"decay": 0.9, "codebook_weight": 1.0}, r"codebook_weight: expected None or 0 beside a decay, got 1.0"),
        ({"decay": 0.9, "epsilon": 0.0}, r"epsilon: expected a number > 0, got 0.0"),
        ({"restart_threshold": 1.0}, r"restart_threshold: expected None, or a number > 0 beside a decay, got 1.0"),
        ({"decay": 0.9, "restart_threshold": -1.0}, r"restart_threshold: expected .* got -1.0"),
        ({"num_codes": 0}, r"num_codes: expected an int >= 1, got 0"),
        ({"dim": 2.5}, r"dim: expected an int >= 1, got 2.5"),
    ],
)
def test_module_refuses(options, match):
    with pytest.raises(ValueError, match="VectorQuantizer: " + match):
        pnn.VectorQuantizer(**{"num_codes": 4, "dim": 2} | options)


def test_autocast_keeps_the_codebook_wide():
    z, e = torch.randn(3, 4, 5).bfloat16(), torch.randn(6, 4)
    with torch.autocast("cpu", torch.bfloat16):
        quantized, indices, _ = vector_quantize(z, e)
    assert quantized.dtype == torch.float32
    assert_same(indices, vector_quantize(z.float(), e)[1])


@pytest.mark.slow
def test_moving_averages_compiled_by_inductor_keep_the_codes_for_backward():
    """A clone of the buffer, which Inductor removes, would leave backward the moved codes."""
    torch._dynamo.reset()
    plain = moving()
    fast = torch.compile(copy.deepcopy(plain), fullgraph=True)
    z, grads = torch.randn(3, 2, 5), []
    for module in (plain, fast):
        leaf = z.clone().requires_grad_()
        grads.append(torch.autograd.grad(module(leaf)[2], leaf)[0])
    assert_same(grads[1], grads[0])
    assert_same(fast.codebook, plain.codebook)
