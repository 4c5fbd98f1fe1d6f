"""The ways into the linear-chain CRF: what forward keeps, backends, layouts, compiled regions, the module."""

import math

import layouts
import pytest
import torch
from registry import OPS, leaves
from rows.crf import ROWS
from support import assert_accurate, assert_same, fast_targets
from test_crf import NLL, on, small, without_tags

import pygen
from pygen.functional import crf_decode, crf_log_partition, crf_marginals, crf_nll
from pygen.nn import LinearChainCRF

pytestmark = pytest.mark.usefixtures("poisoned")


@fast_targets
def test_what_forward_keeps_spares_only_work(target):
    """Under saved-tensor hooks nothing is kept; the gradients are the same, bit for bit, and twice the same."""
    given = on(target, small(), torch.float32)
    marked, inputs = leaves(NLL, given)
    nll = crf_nll(**marked, backend=target.backend)
    first = torch.autograd.grad(nll, inputs, retain_graph=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda x: x, lambda x: x):
        spared = crf_nll(**marked, backend=target.backend)
    for other in (torch.autograd.grad(nll, inputs), torch.autograd.grad(spared, inputs)):
        for a, b in zip(first, other, strict=True):
            assert_same(a, b)


@fast_targets
def test_backward_runs_on_the_backend_of_forward(target):
    """Whatever is asked for by then: what forward has kept is that backend's own."""
    marked, inputs = leaves(NLL, on(target, small(), torch.float32))
    expected = torch.autograd.grad(crf_nll(**marked, backend=target.backend), inputs)
    with pygen.use_backend(target.backend):
        nll = crf_nll(**marked)
    other = next(name for name in ("reference", "cpu", "triton") if name != target.backend)
    auto = crf_nll(**marked)
    plain = torch.autograd.grad(crf_nll(**marked), inputs)
    with pygen.use_backend(other):
        for loss, truth in ((nll, expected), (auto, plain)):
            for a, b in zip(torch.autograd.grad(loss, inputs), truth, strict=True):
                assert_same(a, b)


def test_more_tags_than_kernels_take_run_on_the_reference():
    e, a = torch.randn(2, 3, 257), torch.randn(257, 257)
    assert_same(crf_log_partition(e, a), crf_log_partition(e, a, backend="reference"))
    assert "257 tags, its kernels take up to 256" in pygen.explain("crf_log_partition", e, a).how
    assert not pygen.explain("crf_log_partition", e[..., 1:], a).how
    with pytest.raises(
        RuntimeError, match=r"crf_decode: backend 'cpu' cannot run: 257 tags, its kernels take up to 256"
    ):
        crf_decode(e, a, backend="cpu")
    with pygen.use_backend("cpu"), pytest.raises(RuntimeError, match=r"crf_nll: backend 'cpu' cannot run: 257 tags"):
        crf_nll(e, torch.zeros(2, 3, dtype=torch.int64), a)
    e, a = e[..., 1:].contiguous().requires_grad_(), a[1:, 1:].contiguous()
    z = crf_log_partition(e, a, backend="cpu")
    ref = crf_log_partition(e.double(), a.double(), backend="reference")
    assert_accurate(z, ref, crf_log_partition(e, a, backend="reference"))


@pytest.mark.parametrize("where", ("emissions", "transitions", "start", "end"))
def test_nan_is_never_made_a_number(target, where):
    """As sums of logarithms would, whose logarithm reads bits; and tags are tags all the same, on every backend."""
    for every in (False, True):
        t = on(target, small(), torch.float32)
        t[where][(...,) if every else (0,) * t[where].dim()] = math.nan
        marked, inputs = leaves(NLL, t)
        nll = crf_nll(**marked, reduction="none", backend=target.backend)
        hit = (t["lengths"] > (where == "transitions")).cpu()
        hit[1:] &= every or where != "emissions"
        assert torch.equal(nll.isnan().cpu(), hit)
        grads = torch.autograd.grad(nll.sum(), inputs)
        assert torch.equal(grads[0].isnan().flatten(1).any(1).cpu(), hit) and grads[1].isnan().any()
        tags, _ = crf_decode(**without_tags(t), backend=target.backend)
        assert ((tags < 3) & ((tags >= 0) == (torch.arange(4) < t["lengths"].cpu().unsqueeze(1)).to(tags.device))).all()


@fast_targets
def test_emissions_in_any_layout(target):
    t = on(target, without_tags(small()), torch.float32)
    expected = crf_decode(**t, backend=target.backend), crf_marginals(**t, backend=target.backend)
    for maker in layouts.WRITABLE:
        laid = {**t, "emissions": maker(t["emissions"])}
        for a, b in zip(crf_decode(**laid, backend=target.backend), expected[0], strict=True):
            assert_same(a, b)
        assert_same(crf_marginals(**laid, backend=target.backend), expected[1])


@pytest.mark.slow
def test_decode_and_marginals_compile():
    t = {k: v.float() if v.is_floating_point() else v for k, v in without_tags(small()).items()}

    @torch.compile(backend="aot_eager", fullgraph=True)
    def both(**t):
        return *crf_decode(**t), crf_marginals(**t)

    for a, b in zip(both(**t), (*crf_decode(**t), crf_marginals(**t)), strict=True):
        assert_same(a, b)


# The module


def test_module_takes_masks_and_checkpoints_of_pytorch_crf():
    t = {k: v.float() if v.is_floating_point() else v for k, v in small().items()}
    module = LinearChainCRF(3, reduction="sum")
    assert {k: tuple(v.shape) for k, v in module.state_dict().items()} == {
        "start_transitions": (3,),
        "end_transitions": (3,),
        "transitions": (3, 3),
    }
    assert all(0 < p.abs().max() <= 0.1 for p in module.parameters())
    module.load_state_dict(
        {"start_transitions": t["start"], "end_transitions": t["end"], "transitions": t["transitions"]}
    )
    expected = crf_nll(**t, reduction="sum")
    mask = torch.arange(4) < t["lengths"].unsqueeze(1)
    for given in ({"lengths": t["lengths"]}, {"mask": mask}, {"mask": mask.byte()}):
        assert_same(module(t["emissions"], t["tags"], **given).detach(), expected)
        for a, b in zip(module.decode(t["emissions"], **given), crf_decode(**without_tags(t)), strict=True):
            assert_same(a, b)
        assert_same(module.marginals(t["emissions"], **given).detach(), crf_marginals(**without_tags(t)))


@pytest.mark.parametrize(
    ("make", "error", "match"),
    [
        (lambda e, y, m: LinearChainCRF(0), ValueError, "num_tags: expected at least 1, got 0"),
        (lambda e, y, m: LinearChainCRF(2.0), TypeError, "num_tags: expected an int, got float"),
        (lambda e, y, m: LinearChainCRF(3, batch_first=False), ValueError, "batch_first: expected True"),
        (lambda e, y, m: LinearChainCRF(3, reduction="mean"), ValueError, "reduction: expected"),
        (
            lambda e, y, m: LinearChainCRF(3)(e, y, m),
            TypeError,
            r"lengths: .* \(a mask goes to mask=\), got torch.bool",
        ),
        (lambda e, y, m: LinearChainCRF(3)(e, y, mask=m.float()), TypeError, "mask: expected .* got torch.float32"),
        (lambda e, y, m: LinearChainCRF(3)(e, y, mask=m[:, :2]), ValueError, r"mask: expected shape \[2, 4\]"),
        (lambda e, y, m: LinearChainCRF(3).decode([1.0], mask=m), TypeError, "emissions: expected a .* got list"),
        (
            lambda e, y, m: LinearChainCRF(3)(e[0], y, mask=m),
            ValueError,
            r"emissions: expected \[N, T, K\], got \[4, 3\]",
        ),
        (
            lambda e, y, m: LinearChainCRF(3)(e, y, y[:, 0], mask=m),
            ValueError,
            "mask: expected at most one of lengths and mask",
        ),
        (lambda e, y, m: LinearChainCRF(3).decode(e, mask=m), ValueError, "mask: .* got a hole in row 1"),
    ],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_module_refuses(make, error, match):
    e, y = torch.zeros(2, 4, 3), torch.zeros(2, 4, dtype=torch.int64)
    mask = torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0]], dtype=torch.bool)
    with pytest.raises(error, match=f"LinearChainCRF: {match}"):
        make(e, y, mask)


def test_rows_are_of_this_file():
    assert [op.name for op in OPS if op in ROWS] == ["crf_log_partition", "crf_nll"]


def test_module_makes_a_wrong_length_of_a_hole_where_it_does_not_look():
    """In a compiled region, and on a GPU."""
    e, mask = torch.zeros(3, 4, 2), torch.tensor([[1, 1, 0, 0], [1, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
    fast = torch.compile(lambda e, mask: LinearChainCRF._lengths(None, e, None, mask), backend="eager", fullgraph=True)
    assert fast(e, mask).tolist() == [2, -1, 0]
