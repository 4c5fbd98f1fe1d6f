"""What only a GPU can show of gan_loss: sums over blocks that run at once, graphs, streams, sizes past 2^31."""

import gan_made
import pytest
import registry  # noqa: F401 (before its rows, which import it)
import torch
from support import DTYPES, assert_same, compute_dtype, dtype_name
from test_gan_loss import cases, flat, loss_of

import pygen
from pygen import _dispatch
from pygen._gan_terms import KINDS
from pygen.functional import discriminator_loss, generator_loss

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
READY = [name for name in ("cuda", "triton") if pygen.backends()[name] is None]
each_backend = pytest.mark.parametrize("backend", READY or ["cuda"])
three_kinds = pytest.mark.parametrize("kind", ["nonsaturating", "hinge", "relativistic_average"])


def logits(*shapes, dtype=torch.float32):
    return [(torch.randn(s, device="cuda") * 3).to(dtype).requires_grad_() for s in shapes]


@each_backend
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize(("player", "kind", "smoothing"), list(cases()))
def test_gpu_gan_loss_is_accurate(player, kind, smoothing, dtype, backend):
    """A list from one logit to several waves of blocks; value and gradients against float64."""
    real, fake = (logits((1,), (64, 1, 30, 30), (3_000_001,), dtype=dtype) for _ in range(2))
    for reduction in ("mean", "none"):
        results = []
        for wide, name in ((dtype, backend), (torch.float64, "reference")):
            sides = [[t.detach().to(wide).requires_grad_() for t in side] for side in (real, fake)]
            got = loss_of(player, kind, smoothing, *sides, reduction=reduction, backend=name)
            values = [v for item in flat(got) for v in flat(item)]
            upstream = [torch.full_like(v, -0.75) for v in values]
            results.append((values, torch.autograd.grad(values, [*sides[0], *sides[1]], upstream, allow_unused=True)))
        for got, expected in zip(*(r[0] for r in results), strict=True):
            assert got.dtype == compute_dtype(dtype)
            torch.testing.assert_close(got.double(), expected, rtol=3e-6, atol=1e-5)
        for got, expected in zip(*(r[1] for r in results), strict=True):
            assert (got is None) == (expected is None)
            if got is not None:
                eps = torch.finfo(dtype).eps
                tiny = torch.finfo(dtype).tiny * eps  # a mean's gradient lies among float16's subnormals
                largest = expected.abs().max().item()
                torch.testing.assert_close(got.double(), expected, rtol=2 * eps + 3e-6, atol=2e-6 * largest + tiny)


@each_backend
@pytest.mark.parametrize("dtype", DTYPES, ids=dtype_name)
@pytest.mark.parametrize(("player", "kind", "smoothing"), list(cases()))
def test_gpu_gan_loss_gradients_made_in_forward(player, kind, smoothing, dtype, backend):
    gan_made.check_same_as_backward_alone(backend, "cuda", player, kind, smoothing, dtype)
    launcher = _dispatch.launcher("gan_loss", "gan_loss", backend, torch.empty(0, device="cuda"))
    gan_made.check_of_one_nothing_is_moved(launcher, "cuda", player, kind, smoothing, dtype)


@each_backend
@three_kinds
def test_gpu_gan_loss_repeats_bit_for_bit(kind, backend):
    """Whichever block comes last adds up in the same order; a thousand launches find every one of them."""
    real, fake = logits((700_001,), (300_007,))
    loss = discriminator_loss(real=real, fake=fake, kind=kind, backend=backend)
    grads = torch.autograd.grad(loss, (real, fake))
    for _ in range(1000):
        again = discriminator_loss(real=real, fake=fake, kind=kind, backend=backend)
        assert_same(again, loss, what="loss")
    for a, b in zip(torch.autograd.grad(again, (real, fake)), grads, strict=True):
        assert_same(a, b, what="gradient")


@each_backend
@three_kinds
@pytest.mark.parametrize("size", [64, 3_000_001], ids=str)
def test_gpu_gan_loss_graph_replays(kind, size, backend):
    """Replayed on new logits and a new upstream gradient, which is read from device memory."""
    real, fake = logits((size,), (size,))
    upstream = torch.ones((), device="cuda")

    def step():
        loss, stats = discriminator_loss(real=real, fake=fake, kind=kind, return_stats=True, backend=backend)
        return loss, *stats, *torch.autograd.grad(loss, (real, fake), upstream)

    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        step()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = step()
    for factor in (1.0, -2.5, 0.0):
        with torch.no_grad():
            real.normal_(), fake.normal_()
            upstream.fill_(factor)
        graph.replay()
        for got, expected in zip(captured, step(), strict=True):
            assert_same(got, expected, what=f"upstream {factor}")


@each_backend
def test_gpu_gan_loss_runs_on_the_current_stream(backend):
    """A producer that is late: a kernel on another stream would read what was there before."""
    real, fake = (t.detach() for t in logits((500_000,), (500_000,)))
    expected = discriminator_loss(real=real + 3, fake=fake, backend=backend)
    original, side = real.clone(), torch.cuda.Stream()
    for _ in range(5):
        real.copy_(original)
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            torch.cuda._sleep(20_000_000)
            real.add_(3)
            loss = discriminator_loss(real=real, fake=fake, backend=backend)
        torch.cuda.synchronize()
        assert_same(loss, expected, what="loss")


@each_backend
def test_gpu_gan_losses_on_two_streams_do_not_meet(backend):
    """Each call counts its own blocks."""
    inputs = [[t.detach() for t in logits((400_003,), (400_003,))] for _ in range(2)]
    expected = [discriminator_loss(real=r, fake=f, backend=backend) for r, f in inputs]
    streams = [torch.cuda.Stream(), torch.cuda.Stream()]
    torch.cuda.synchronize()
    results: list[list[torch.Tensor]] = [[], []]
    for _ in range(200):
        for stream, (r, f), seen in zip(streams, inputs, results, strict=True):
            with torch.cuda.stream(stream):
                seen.append(discriminator_loss(real=r, fake=f, backend=backend))
    torch.cuda.synchronize()
    for seen, value in zip(results, expected, strict=True):
        assert all(torch.equal(s, value) for s in seen)


@each_backend
@pytest.mark.parametrize("kind", KINDS)
def test_gpu_gan_loss_never_waits_for_the_device(kind, backend):
    real, fake = logits((2, 1, 30, 30), (2, 1, 30, 30))

    def step():
        loss, stats = discriminator_loss(real=[real], fake=[fake], kind=kind, return_stats=True, backend=backend)
        (loss + stats.real_mean).backward()
        other = generator_loss(fake=fake, real=real if "relativistic" in kind else None, kind=kind, backend=backend)
        other.backward()

    step()
    torch.cuda.set_sync_debug_mode("error")
    try:
        step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


@pytest.mark.slow
@each_backend
def test_gpu_gan_loss_past_two_to_the_31(backend):
    """The last logit of 2^31 + 9 counts, and gets its gradient."""
    size = (1 << 31) + 9
    if torch.cuda.mem_get_info()[0] < 5 * 2 * size:
        pytest.skip("needs 22 GB of GPU memory")
    real = torch.full((size,), 2.0, dtype=torch.bfloat16, device="cuda")
    real[-1] = -512.0
    real.requires_grad_()
    fake = torch.full((5,), -2.0, dtype=torch.bfloat16, device="cuda")
    loss = discriminator_loss(real=real, fake=fake, kind="hinge", reduction="sum", backend=backend)
    assert loss.item() == 513.0
    (grad,) = torch.autograd.grad(loss, real)
    assert grad[-1].item() == -1.0 and not grad[:-1].any()
