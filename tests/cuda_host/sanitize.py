"""Runs the CUDA kernels on the host under sanitizers: python tests/cuda_host/sanitize.py [address,undefined] [thread] [stem ...]

Starts itself again with the sanitizer's runtime loaded first. Tensors come from malloc, so address finds what lies beside them;
thread finds shared memory read without a barrier, and, in a second turn, blocks that touch what other blocks write. Exits
non-zero with the sanitizer's report.
"""

import os
import sys
from functools import partial
from pathlib import Path

from sanitize_contrast import exercise_noise_contrastive, exercise_noise_sample  # noqa: F401
from sanitize_sampling import (  # noqa: F401
    exercise_autoregressive_inverse,
    exercise_sampling,
    exercise_sampling_cluster,
    exercise_sampling_dense,
    exercise_sampling_scales,
)

ROOT = Path(__file__).resolve().parent.parent.parent
TEAMS = "3"  # that take turns at blocks: threads_host.h
FLAGS = ["-fno-sanitize-recover=all", "-g1", "-fno-omit-frame-pointer"]


def stems() -> list[str]:
    import host_cuda

    own = (
        name.removeprefix("exercise_") for name in globals() if name.startswith("exercise_") and name != "exercise_row"
    )
    return [*own, *(launcher.__name__.rpartition(".")[2] for launcher in host_cuda.LAUNCHERS)]


def again(sanitizers: str, names: list[str]) -> bool:
    import host_cuda
    import sanitizers as shared

    module = host_cuda.build(f"-fsanitize={sanitizers}", *FLAGS)  # here: the compilers do not bear the preload
    command = [sys.executable, __file__, *names]
    teams = ("1", TEAMS) if sanitizers == "thread" else ("1",)
    return all(
        [
            shared.watch(sanitizers, command, module, ROOT, OMP_NUM_THREADS="1", PYGEN_HOST_TEAMS=several)
            for several in teams
        ]
    )


def exercise_gan_loss(native) -> None:
    """Lists beyond a block and beyond a launch, every form and way of comparing, with statistics and as terms."""
    import torch

    shapes = ((4100,), (3, 5), (0, 2), (1,), (2,))
    for dtype, kind, smoothing in (
        (torch.float32, "nonsaturating", 0.0), (torch.bfloat16, "minimax", 0.1), (torch.float16, "hinge", 0.0),
        (torch.float64, "least_squares", 0.2), (torch.float32, "relativistic", 0.0),
        (torch.bfloat16, "relativistic_average", 0.0),
    ):  # fmt: skip
        real, fake = ([torch.zeros(s, dtype=dtype) for s in shapes] for _ in range(2))
        for reduction in ("sum", "none"):
            options = (kind, "discriminator", smoothing, 1.0, reduction)
            *losses, stats = native.forward(real, fake, *options, True)
            reused = None
            if kind == "relativistic_average":
                *losses, reused = *losses, stats
                losses.pop()
            native.backward(losses, real, fake, reused, *options, (True,) * 10)


def exercise_gated_activation(launcher) -> None:
    """Channels beside pixels and pixels beside channels, with conditions of both shapes, in groups, of odd sizes."""
    import torch

    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for layout in (torch.contiguous_format, torch.channels_last):
            input = torch.zeros(2, 36, 7, 5, dtype=dtype).contiguous(memory_format=layout)
            for cond in (None, torch.zeros(2, 36, dtype=dtype), torch.zeros_like(input)):
                output = launcher.forward(input, cond, 3)
                launcher.backward(output, input, cond, 3, (True, True), None if cond is None else input.flip(0))
        input = torch.zeros(70, 6, dtype=dtype)
        launcher.backward(launcher.forward(input, input, 1), input, input, 1, (True, True))


def exercise_sample_dot(launcher) -> None:
    """Several rows a block and several blocks a row, in step with 128 bits and not, with and without a second tensor."""
    import layouts
    import torch

    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for shape in ((70, 10), (2, 8193), (2, 3, 5, 4), (3, 9)):
            x = torch.zeros(shape, dtype=dtype)
            for part in (x, layouts.misaligned(x), x.flatten(1)[:, 1:], x.flatten(1)[:, ::2]):
                launcher.forward(part, part)
                launcher.backward(launcher.forward(part, None), part)


def exercise_reparameterize_kl(launcher) -> None:
    """Rows of one block and of several, innermost and not, where 128 bits lie together and where they do not."""
    import layouts
    import torch

    seed = torch.tensor(11)
    shapes = [(2, 3000), (70, 10), (3, 5, 4, 2)]
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        for shape in shapes:
            for lay in (torch.clone, layouts.misaligned, lambda t: t.transpose(1, -1).contiguous().transpose(1, -1)):
                mu, logvar = lay(torch.zeros(shape, dtype=dtype)), lay(torch.zeros(shape, dtype=dtype))
                prior = torch.zeros(shape[-1:], dtype=dtype)
                for reduction in ("none", "batchmean"):
                    inputs, options = (mu, logvar, prior, prior, None, seed), (2, 0.1, reduction)
                    z, kl = launcher.forward(*inputs, *options, True)
                    launcher.backward(z, kl, *inputs, *options, (True,) * 4)


def exercise_masked_conv2d(launcher) -> None:
    """Tiles that are full and not, colour groups, images read in place and copied, tensor cores and multiply-adds."""
    import torch

    from pygen import _tf32

    for dtype, tf32 in ((torch.float32, False), (torch.float32, True), (torch.bfloat16, False), (torch.float64, False)):
        _tf32.allowed = lambda t, tf32=tf32: tf32
        for layout in (torch.contiguous_format, torch.channels_last):
            for ins, outs, groups in ((16, 72, 1), (6, 9, 3)):
                x, grad = (torch.zeros(2, c, 9, 8, dtype=dtype).contiguous(memory_format=layout) for c in (ins, outs))
                weight, mask = torch.zeros(outs, ins, 3, 3, dtype=dtype), (tuple(range(4)), groups, False, 1)
                beside = torch.zeros(grad.numel() + 1, dtype=dtype)[1:].view(2, 9, 8, outs).permute(0, 3, 1, 2)
                for add in (None, grad, beside):  # the last allows no 16 bytes at once
                    launcher.forward(x, weight, weight[:, 0, 0, 0], *mask, add)
                launcher.grad_input(grad, weight, *mask)
                launcher.grad_weight(grad, x, (3, 3), *mask, True)


def exercise_gated_masked_conv2d(launcher) -> None:
    """Pairs that fill a tile and not, by whole units and one by one, in groups, by either engine; each form of cond."""
    import torch

    from pygen import _tf32

    for capability, dtype, tf32 in (
        ("8", torch.float32, False), ("8", torch.float32, True), ("8", torch.bfloat16, False), ("9", torch.bfloat16, False)
    ):  # fmt: skip
        os.environ["PYGEN_HOST_CAPABILITY"] = capability
        _tf32.allowed = lambda t, tf32=tf32: tf32
        for layout in (torch.contiguous_format, torch.channels_last):
            for ins, outs, groups in ((40, 144, 1), (40, 80, 1), (6, 18, 3)):
                x, add = (torch.zeros(2, c, 9, 8, dtype=dtype).contiguous(memory_format=layout) for c in (ins, outs))
                weight, mask = torch.zeros(outs, ins, 1, 3, dtype=dtype), ((0,), groups, False, 1)
                beside = torch.zeros(add.numel() + 1, dtype=dtype)[1:].view(2, 9, 8, outs).permute(0, 3, 1, 2)
                side, mix = torch.zeros(2, 70, 9, 8, dtype=dtype), torch.zeros(outs, 70, 1, 1, dtype=dtype)
                for cond in (add, beside, add[:, :, 0, 0], None):  # the second allows no 16 bytes at once
                    sides = (side, mix) if cond is add else (None, None)
                    launcher.forward(x, weight, weight[:, 0, 0, 0], None if cond is None else add, cond, *mask, *sides)
    del os.environ["PYGEN_HOST_CAPABILITY"]


def exercise_wgmma(launcher) -> None:
    """Hopper's product: runs of pixels for all taps and for each, groups, several tiles a block, small ones and large."""
    import torch

    from pygen import _tf32

    os.environ["PYGEN_HOST_CAPABILITY"] = "9"
    _tf32.allowed = lambda t: True
    for dtype, size, groups in (
        (torch.bfloat16, (9, 17), 1), (torch.float16, (3, 5), 3), (torch.float32, (9, 17), 1), (torch.bfloat16, (300, 3), 1)
    ):  # fmt: skip
        ins, outs = 36 * groups, 40 * groups
        x, grad = (torch.zeros(1, c, *size, dtype=dtype) for c in (ins, outs))
        weight, mask = torch.zeros(outs, ins, 3, 3, dtype=dtype), (tuple(range(4)), groups, False, 1)
        for add in (None, grad):
            launcher.forward(x, weight, weight[:, 0, 0, 0], *mask, add)
        launcher.grad_input(grad, weight, *mask)
        launcher.grad_weight(grad, x, (3, 3), *mask, True)
    del os.environ["PYGEN_HOST_CAPABILITY"]


def exercise_masked_linear(launcher) -> None:
    """Tiles that are full and not, in order and not, read in place and copied; stairs with and without NaN on them."""
    import torch

    from pygen import _tf32

    for dtype, tf32 in ((torch.float32, False), (torch.float32, True), (torch.bfloat16, False), (torch.float64, False)):
        _tf32.allowed_in_products = lambda t, tf32=tf32: tf32
        for ins, outs, step in ((48, 136, 5), (37, 66, 1)):
            degrees = (tuple(i * step % ins for i in range(ins)), tuple(o * step % ins for o in range(outs)), False)
            x, grad, weight = (torch.zeros(s, dtype=dtype) for s in ((9, ins), (9, outs), (outs, ins)))
            for value in (0.0, torch.nan):
                x[1, ins // 2] = grad[1, outs // 2] = value
                launcher.forward(x, weight, weight[:, 0], *degrees)
                launcher.grad_input(grad, weight, *degrees)
                launcher.grad_weight(grad, x, *degrees, True)


def exercise_bernoulli_sample(launcher) -> None:
    """Quads that images end in, in each layout and dtype."""
    import torch

    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        for shape in ((3, 3, 5, 7), (70, 3), (5,)):
            logits = torch.zeros(shape, dtype=dtype)
            last = logits.contiguous(memory_format=torch.channels_last) if len(shape) == 4 else logits[..., ::2]
            for given in (logits, last):
                launcher.forward(given, torch.tensor(5), 1.0)


def exercise_categorical_sample(launcher) -> None:
    """Levels that one warp takes and several share, side by side and not, of whole blocks and not."""
    import torch

    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        for levels in (2, 17, 33, 129, 300):
            logits = torch.zeros(2, 3 * levels, 37, dtype=dtype)
            for given in (logits, logits.mT.contiguous().mT):
                launcher.forward(given, torch.tensor(5), 3, 1.0)


def exercise_logistic_mixture_sample(launcher) -> None:
    """Grey and colours, of components that a batch divides and not, in both layouts."""
    import torch

    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        for channels, components in ((1, 4), (1, 7), (3, 1), (3, 10)):
            params = torch.zeros(2, (3 if channels == 1 else 10) * components, 9, 8, dtype=dtype)
            for given in (params, params.contiguous(memory_format=torch.channels_last)):
                launcher.forward(given, torch.tensor(5), channels, 256, -7.0, 1.0)


def exercise_crf(launcher) -> None:
    """The rows of the generic tests; samples of few and many tags, of steps that fill a warp and not, of ends and none."""
    import torch

    exercise_row("crf")
    for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
        for n, steps, tags, samples in ((1, 1, 1, 1), (3, 33, 5, 3), (2, 4, 65, 5), (2, 3, 129, 1)):
            scores, lengths = torch.zeros(tags, tags, dtype=dtype), torch.arange(n).clamp(max=steps)
            for ends, given in ((None, None), (scores[0], lengths)):
                emissions = torch.zeros(n, steps, tags, dtype=dtype)
                launcher.sample(emissions, scores, ends, ends, given, torch.tensor(5), samples)


def exercise_logistic_mixture_nll(launcher) -> None:
    """More components than warps, pixel by pixel in memory: gradients take the place of parameters read a second time."""
    import torch

    from pygen.functional import logistic_mixture_nll

    exercise_row("logistic_mixture_nll")
    for channels, each in ((1, 3), (3, 10)):
        x = torch.zeros(2, channels, 5, 7, dtype=torch.uint8)
        for dtype in (torch.float32, torch.bfloat16):
            params = torch.zeros(2, 20 * each, 5, 7, dtype=dtype).contiguous(memory_format=torch.channels_last)
            logistic_mixture_nll(params.requires_grad_(), x, backend="cpu").backward()


def exercise_row(name: str) -> None:
    """The samples of the generic tests, forward and backward, each dtype; and what else the row has registered."""
    import registry
    import torch

    ops = [op for op in (*registry.OPS, *registry.SAMPLERS) if op.name == name or op.name.startswith(f"{name}_")]
    assert ops, f"{name}: neither exercise_{name} nor a row of the generic tests"
    for op in ops:
        for sample in [*op.samples(), *(op.more_samples or list)()]:
            if not sample.small or sample.name == "batch 65536":
                continue
            for dtype in (torch.float32, torch.bfloat16, torch.float16, torch.float64):
                marked, inputs = registry.leaves(op, sample.cast(dtype))
                registry.gradients(op.run(marked, sample.options, "cpu"), inputs)
                for function, given in op.registered(sample, dtype):
                    function(*given)


def exercise(module: Path, *names: str) -> None:
    import host_cuda
    import torch

    from pygen.native import _sampling_cluster, _sampling_dense_cuda, _sampling_scales

    compiled = host_cuda.load(module)
    torch.set_num_threads(1)
    each = {launcher.__name__.rpartition(".")[2]: launcher for launcher in host_cuda.LAUNCHERS}
    each |= {"sampling": compiled, "sampling_dense": _sampling_dense_cuda, "wgmma": host_cuda.masked_conv2d}
    each["sampling_cluster"] = partial(_sampling_cluster.draw, compiled, 0, 0)
    each["sampling_scales"] = partial(_sampling_scales.draw, compiled, 0, 0)
    for launcher in (*host_cuda.LAUNCHERS, _sampling_dense_cuda):
        launcher.target = lambda t: (compiled, (0, 0))
    for name in names or each:
        own = globals().get(f"exercise_{name}")
        if own is None:
            exercise_row(name)
        else:
            own(each[name])
        print(f"{name}: no fault", flush=True)


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
    from sanitizers import CHILD, command_line

    if CHILD in os.environ:
        exercise(Path(os.environ[CHILD]), *sys.argv[1:])
    else:
        asked, only = command_line(__doc__, "stem", stems)
        sys.exit(not all([again(each, only) for each in asked]))
