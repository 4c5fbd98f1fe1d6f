"""gan_loss's CUDA C++ kernels executed on the host: what the rows of test_cuda_host.py cannot know."""

import gan_made
import host_cuda
import pytest
import registry  # noqa: F401 (before its rows, which import it)
import torch
from layouts import misaligned
from rows.gan_loss import logits
from support import DTYPES, assert_accurate, assert_same, compute_dtype, dtype_name
from test_gan_loss import cases, flat, loss_of

from pygen._gan_terms import KINDS, RELATIVISTIC
from pygen.functional import discriminator_loss
from pygen.native import gan_loss as native

pytestmark = host_cuda.MARKS
KERNEL, TRUTH = "cpu", "reference"  # the first one's launcher is sent to the CUDA kernels
TILE = 2048  # float32 logits of a block's turn
TURNS = 6 * TILE  # beyond, threads take several turns


def members(dtype, shapes):
    """Lists of real and of fake logits, requiring grad."""
    each = [logits(real, fake, seed=i) for i, (real, fake) in enumerate(shapes)]
    return [[m[n].to(dtype).requires_grad_() for m in each] for n in ("real", "fake")]


def check(player, kind, smoothing, real, fake, dtype, **options):
    """Values and gradients, with an upstream gradient of mixed signs, by the rule of support.py; returns the values."""
    results = []
    for backend, wide in ((KERNEL, None), (TRUTH, torch.float64), (TRUTH, compute_dtype(dtype))):
        sides = [[t.detach().to(wide or dtype).requires_grad_() for t in side] for side in (real, fake)]
        got = loss_of(player, kind, smoothing, *sides, backend=backend, **options)
        values = [v for item in flat(got) for v in flat(item)]
        upstream = [torch.linspace(-1, 2, v.numel(), dtype=v.dtype).reshape(v.shape) for v in values]
        grads = torch.autograd.grad(values, [*sides[0], *sides[1]], upstream, allow_unused=True)
        results.append((values, grads))
    for ours, ref, base in zip(*(r[0] for r in results), strict=True):
        assert_accurate(ours.detach(), ref.detach(), base.detach(), dtype=compute_dtype(dtype))
    for ours, ref, base in zip(*(r[1] for r in results), strict=True):
        assert (ours is None) == (ref is None)
        if ref is not None:
            assert_accurate(ours, ref, base.to(dtype), dtype=dtype)
    return results[0][0]


@pytest.mark.parametrize(("player", "kind", "smoothing"), list(cases()))
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_cuda_host_gan_loss_gradients_made_in_forward(player, kind, smoothing, dtype):
    gan_made.check_same_as_backward_alone(KERNEL, "cpu", player, kind, smoothing, dtype)
    gan_made.check_of_one_nothing_is_moved(native, "cpu", player, kind, smoothing, dtype)


CASES = [
    pytest.param(*case.values, dtype, id=f"{case.id}-{dtype_name(dtype)}")
    for case in cases()
    for dtype in DTYPES
    if dtype == torch.float32 or case.id in ("D-nonsaturating", "D-minimax-smoothed", "G-relativistic_average")
]


@pytest.mark.parametrize(("player", "kind", "smoothing", "dtype"), CASES)
def test_cuda_host_gan_loss_of_a_list(player, kind, smoothing, dtype):
    """Members below, on and above one block, in one launch; both reductions and the terms."""
    shapes = [((TILE,), (TILE,)), ((3, 5), (3, 5)), ((1, 1, 7, 9), (1, 1, 7, 9))]
    if kind != "relativistic":
        shapes[1] = ((TILE + 1,), (3, 5))
    real, fake = members(dtype, shapes)
    for reduction in ("mean", "none"):
        check(player, kind, smoothing, real, fake, dtype, reduction=reduction, scale=-1.5)


@pytest.mark.parametrize("kind", ["nonsaturating", "hinge", "relativistic", "relativistic_average"])
@pytest.mark.parametrize("size", [3 * TILE - 1, TURNS + 5], ids=str)
def test_cuda_host_gan_loss_of_many_blocks_and_turns(kind, size):
    """The block that comes last adds up the others; statistics come from the same pass."""
    real, fake = members(torch.float32, [((size,), (size if kind == "relativistic" else 4 * TILE + 3,))])
    check("discriminator", kind, 0.0, real, fake, torch.float32)
    (r,), (f,) = real, fake
    options = {"kind": kind, "reduction": "sum", "return_stats": True}
    loss, stats = discriminator_loss(real=r, fake=f, backend=KERNEL, **options)
    _, expected = discriminator_loss(real=r.double(), fake=f.double(), backend=TRUTH, **options)
    for a, b in zip(stats, expected, strict=True):
        torch.testing.assert_close(a.double(), b, rtol=1e-6, atol=1e-7)
    again = discriminator_loss(real=r, fake=f, backend=KERNEL, kind=kind, reduction="sum")
    assert_same(again, loss, what="the same sums without statistics")


@pytest.mark.parametrize("kind", ["hinge", "relativistic", "relativistic_average"])
def test_cuda_host_gan_loss_of_more_members_than_a_launch_takes(kind):
    """On the host a launch takes 8 segments, on a GPU 48."""
    real, fake = members(torch.float32, [((5 + i,), (5 + i,)) for i in range(9)])
    for reduction in ("sum", "none"):
        check("discriminator", kind, 0.0, real, fake, torch.float32, reduction=reduction)
    _, stats = discriminator_loss(real=real, fake=fake, kind=kind, return_stats=True, backend=KERNEL)
    _, expected = discriminator_loss(real=real, fake=fake, kind=kind, return_stats=True, backend=TRUTH)
    for a, b in zip(stats, expected, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize("kind", KINDS)
def test_cuda_host_gan_loss_of_nothing_and_beside_nothing(kind):
    empty, full = torch.zeros(0, 3, requires_grad=True), torch.randn(4, requires_grad=True)
    loss, stats = discriminator_loss(
        real=empty, fake=empty, kind=kind, reduction="sum", return_stats=True, backend=KERNEL
    )
    assert loss.item() == 0 and all(s.isnan() for s in stats)
    assert torch.autograd.grad(loss, empty)[0].shape == (0, 3)
    lists = {"real": [empty, full, empty], "fake": [empty, full.detach(), empty]}
    both = [discriminator_loss(**lists, kind=kind, reduction="sum", backend=b) for b in (KERNEL, TRUTH)]
    torch.testing.assert_close(*both)
    torch.testing.assert_close(*[torch.autograd.grad(loss, full)[0] for loss in both])


@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
def test_cuda_host_gan_loss_of_misaligned_logits_and_terms_that_nothing_uses(dtype):
    for kind in ("nonsaturating", "relativistic", "relativistic_average"):
        real, fake = (
            [misaligned(t.detach()).requires_grad_() for t in side] for side in members(dtype, [((77,),) * 2])
        )
        check("discriminator", kind, 0.0, real, fake, dtype, reduction="none")
    with torch.no_grad():
        fake[0][3] = torch.nan
    terms = discriminator_loss(real=real[0], fake=fake[0], reduction="none", backend=KERNEL)
    grads = torch.autograd.grad(terms[0].sum(), (real[0], fake[0]))
    assert grads[0].any() and not grads[1].any()


def test_cuda_host_gan_loss_passes_nan_and_infinity_on():
    values = torch.tensor([torch.inf, -torch.inf, torch.nan])
    for kind in ("nonsaturating", "hinge", "minimax"):
        smoothing = 0.1 if kind == "minimax" else 0.0  # of real alone: fakes go through the same kernel without
        real, fake = discriminator_loss(
            real=values, fake=values, kind=kind, label_smoothing=smoothing, reduction="none", backend=KERNEL
        )
        assert fake[0] == torch.inf and fake[1] == 0 and fake[2].isnan()
        assert real[1] == torch.inf and real[2].isnan() and real[0] == (torch.inf if smoothing else 0)


@pytest.mark.parametrize("kind", sorted(RELATIVISTIC))
def test_cuda_host_gan_loss_of_pairs_in_different_layouts(kind):
    real = torch.randn(2, 3, 4, 5).to(memory_format=torch.channels_last).requires_grad_()
    fake = torch.randn(2, 3, 4, 5, requires_grad=True)
    results = []
    for backend in (KERNEL, TRUTH):
        terms = flat(discriminator_loss(real=real, fake=fake, kind=kind, reduction="none", backend=backend))
        grads = torch.autograd.grad(terms, (real, fake), [t.detach().clone() for t in terms])
        results.append([*terms, *grads])
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b)
        assert a.stride() == b.stride()


def test_cuda_host_gan_loss_refuses_logits_whose_memory_was_freed():
    real, fake = torch.randn(7), torch.randn(7)
    fake.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="without memory"):
        discriminator_loss(real=real, fake=fake, backend=KERNEL)


def test_cuda_host_one_block_is_last_when_all_end_at_once(tmp_path):
    done = host_cuda.run_program("last_block_threads", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
