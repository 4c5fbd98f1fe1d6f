"""Calls of the Triton launchers that together compile every kernel in every configuration. cuda_check.py makes them."""

from collections.abc import Callable, Iterator
from unittest import mock

import torch
from pygen.kernels import (
    _blocks,
    affine_coupling,
    am_softmax,
    bernoulli_nll,
    bernoulli_sample,
    categorical_nll,
    categorical_sample,
    crf,
    gan_loss,
    gated_activation,
    gated_masked_conv2d,
    logistic_mixture_nll,
    logistic_mixture_sample,
    masked_conv2d,
    masked_linear,
    nade_nll,
    noise_contrastive,
    noise_sample,
    pixel_lstm,
    rational_quadratic_spline,
    rbm,
    reparameterize_kl,
    sample_dot,
    vector_quantize,
)
from torch import Tensor

from pygen import _tf32

DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


def _reparameterize_kl(
    mu: Tensor, *, prior=False, eps=False, samples=None, free_bits=0.0, reduction="none", sample=True
):
    given = torch.zeros_like(mu) if eps else None
    seed = torch.tensor(1) if sample and not eps else None
    prior_tensor = torch.zeros_like(mu) if prior else None
    inputs = (mu, torch.zeros_like(mu), prior_tensor, prior_tensor)
    z, kl = reparameterize_kl.forward(*inputs, given, seed, samples, free_bits, reduction, sample)
    needs = (True, True, prior, prior)
    reparameterize_kl.backward(z, kl, *inputs, given, seed, samples, free_bits, reduction, needs)


def _masked_conv2d(n: int, ins: int, outs: int, kernel: tuple[int, int], dtype, *, groups=1, holes=False, tf32=False):
    """Type B, or a pattern with holes; channels_last, but for the first layers as they come."""
    kh, kw = kernel
    taps = tuple(range(0, kh * kw, 2)) if holes else tuple(range(kh // 2 * kw + kw // 2 + (groups == 1)))
    layout = torch.channels_last if ins > 3 else torch.contiguous_format
    x, grad = (torch.zeros(n, c, 28, 28, dtype=dtype).contiguous(memory_format=layout) for c in (ins, outs))
    weight, mask = torch.zeros(outs, ins, kh, kw, dtype=dtype), (taps, groups, False, 1)
    with mock.patch.object(_tf32, "allowed", lambda t: tf32):
        masked_conv2d.forward(x, weight, weight[:, 0, 0, 0], *mask)
        masked_conv2d.grad_input(grad, weight, *mask)
        masked_conv2d.grad_weight(grad, x, kernel, *mask, True)


def _masked_conv2d_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    sizes = {torch.float32: (32, 64), torch.bfloat16: (32, 64, 256), torch.float16: (256,), torch.float64: (64,)}
    for dtype, channels in sizes.items():
        for c in channels:
            yield f"{str(dtype)[6:]} C={c}", lambda d=dtype, c=c: _masked_conv2d(16, c, c, (3, 3), d)
    for dtype in (torch.float32, torch.bfloat16):
        name = str(dtype).removeprefix("torch.")
        yield f"{name} first layer", lambda d=dtype: _masked_conv2d(16, 3, 64, (7, 7), d)
        yield f"{name} RGB", lambda d=dtype: _masked_conv2d(16, 66, 66, (3, 3), d, groups=3)
    yield "bfloat16 pattern", lambda: _masked_conv2d(16, 64, 64, (3, 5), torch.bfloat16, holes=True)
    for c in (32, 64):
        yield f"TF32 C={c}", lambda c=c: _masked_conv2d(16, c, c, (3, 3), torch.float32, tf32=True)


def _gated_masked_conv2d(n: int, channels: int, dtype, *, groups=1, add=True, cond="map", last=True, side=False):
    """Type B of 1 x 3 with everything around it; or a stack's rows above, alone."""
    layout = torch.channels_last if last else torch.contiguous_format
    x, more = (
        torch.zeros(n, c, 28, 28, dtype=dtype).contiguous(memory_format=layout) for c in (channels, 2 * channels)
    )
    kernel, taps = ((1, 3), (0,) if groups > 1 else (0, 1)) if add else ((3, 3), (0, 1, 2))
    weight = torch.zeros(2 * channels, channels, *kernel, dtype=dtype)
    given = {"map": more, "row": more[:, :, 0, 0], "": None}[cond]
    mask = (taps, groups, False, 1)
    sides = (more, torch.zeros(2 * channels, 2 * channels, 1, 1, dtype=dtype)) if side else ()
    added = more if add and not side else None
    gated_masked_conv2d.forward(x, weight, weight[:, 0, 0, 0], added, given, *mask, *sides)


def _gated_masked_conv2d_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        yield f"{name} C=64", lambda d=dtype: _gated_masked_conv2d(16, 64, d)
    for channels in (32, 128):
        yield f"bfloat16 C={channels}", lambda c=channels: _gated_masked_conv2d(16, c, torch.bfloat16, cond="row")
    yield "bfloat16 vertical stack", lambda: _gated_masked_conv2d(16, 64, torch.bfloat16, add=False, cond="")
    yield "float32 RGB", lambda: _gated_masked_conv2d(16, 66, torch.float32, groups=3, last=False)
    for channels in (32, 64):
        yield f"bfloat16 side C={channels}", lambda c=channels: _gated_masked_conv2d(16, c, torch.bfloat16, side=True)
    yield "float32 RGB side", lambda: _gated_masked_conv2d(16, 66, torch.float32, groups=3, side=True)


def _gated_activation(shape: tuple[int, ...], dtype, *, cond=None, groups=1, last=False, more=False):
    x = torch.zeros(shape, dtype=dtype)
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    condition = None if cond is None else torch.zeros(cond, dtype=dtype)
    out = gated_activation.forward(x, condition, groups)
    gated_activation.backward(out, x, condition, groups, (True, condition is not None), x.clone() if more else None)


def _gated_activation_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        name, shape = str(dtype).removeprefix("torch."), (8, 128, 32, 32)
        yield f"{name} cond [N, C]", lambda d=dtype, s=shape: _gated_activation(s, d, cond=(8, 128))
        yield f"{name} channels_last", lambda d=dtype, s=shape: _gated_activation(s, d, last=True, groups=2)
    yield "cond like input", lambda: _gated_activation((8, 128, 32, 32), torch.float32, cond=(8, 128, 32, 32))
    yield "two dims", lambda: _gated_activation((512, 64), torch.float32)


def _layer_backward_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    """The gate's backward as gated_masked_conv2d calls it."""
    for dtype in DTYPES:
        shape = (8, 128, 32, 32)
        yield (
            f"{str(dtype).removeprefix('torch.')} more",
            lambda d=dtype, s=shape: _gated_activation(s, d, cond=s[:2], last=True, more=True),
        )


def _masked_linear(rows: int, ins: int, outs: int, dtype, *, tf32=False):
    x, grad, weight = (torch.zeros(s, dtype=dtype) for s in ((rows, ins), (rows, outs), (outs, ins)))
    given = (tuple(range(ins)), tuple(range(outs)), True)
    with mock.patch.object(_tf32, "allowed_in_products", lambda t: tf32):
        masked_linear.forward(x, weight, grad[0], *given)
        masked_linear.grad_input(grad, weight, *given)
        masked_linear.grad_weight(grad, x, *given, True)


def _masked_linear_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        for size in (24, 512):
            yield f"{str(dtype).removeprefix('torch.')} {size}", lambda s=size, d=dtype: _masked_linear(64, s, s, d)
    yield "TF32", lambda: _masked_linear(64, 512, 512, torch.float32, tf32=True)


def _gan_loss(kind: str, dtype):
    logits, options = [torch.zeros(300, dtype=dtype)], (kind, "discriminator", 0.0, 1.0, "mean")
    (loss, *_), made = gan_loss.forward_with_gradients(logits, logits, *options, False, (True, True))
    gan_loss.forward(logits, logits, *options, False)
    if kind != "relativistic_average":  # whose backward takes what forward summed
        gan_loss.backward((loss,), logits, logits, None, *options, (True, True))
        gan_loss.backward((loss,), logits, logits, None, *options, (True, True), made)


def _gan_loss_in_part(kind: str, reduction: str, needs: tuple[bool, bool]) -> None:
    """Where something is None among the tensors: a gradient that nobody wants, terms that nothing uses."""
    logits, options = [torch.zeros(300)], (kind, "discriminator", 0.0, 1.0, reduction)
    results, made = gan_loss.forward_with_gradients(logits, logits, *options, False, needs)
    reused = results[-1] if kind == "relativistic_average" else None
    for ready in (None, made) if made else (None,):
        gan_loss.backward((results[0], None), logits, logits, reused, *options, needs, ready)


def _gan_loss_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        for kind in ("nonsaturating", "hinge", "relativistic_average"):
            yield f"{str(dtype).removeprefix('torch.')} {kind}", lambda k=kind, d=dtype: _gan_loss(k, d)
    for kind in ("nonsaturating", "relativistic_average"):
        yield f"{kind}, unused terms", lambda k=kind: _gan_loss_in_part(k, "none", (True, True))
    for needs in ((True, False), (False, True)):
        yield f"relativistic, needs {needs}", lambda n=needs: _gan_loss_in_part("relativistic", "mean", n)


def _sample_dot(x: torch.Tensor, pair: bool = False) -> None:
    sums = sample_dot.forward(x, x.clone() if pair else None)
    sample_dot.backward(sums, x)


def _sample_dot_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in (torch.float32, torch.bfloat16, torch.float64):
        name = f"{str(dtype).removeprefix('torch.')} squared norms"
        yield name, lambda d=dtype: _sample_dot(torch.zeros(64, 3, 64, 64, dtype=d))
    yield "products, channels_last", lambda: _sample_dot(torch.zeros(8, 16, 16, 3).permute(0, 3, 1, 2), pair=True)
    yield "rows inside quads", lambda: _sample_dot(torch.zeros(64, 3, 5, 7))


def _logistic_mixture_nll(n: int, channels: int, components: int, dtype, *, size=(32, 32), last=False, reduction="sum"):
    shape = (n, (3 if channels == 1 else 10) * components, *size)
    params, x = torch.zeros(shape, dtype=dtype), torch.zeros(n, channels, *size, dtype=torch.uint8)
    params = params.contiguous(memory_format=torch.channels_last) if last else params
    nll = logistic_mixture_nll.forward(params, x, 256, -7.0, reduction)
    logistic_mixture_nll.backward(nll, params, x, 256, -7.0, reduction)


def _logistic_mixture_nll_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        yield f"{name} colours K=10", lambda d=dtype: _logistic_mixture_nll(16, 3, 10, d)
        yield f"{name} sound K=10", lambda d=dtype: _logistic_mixture_nll(4, 1, 10, d, size=(1000,))
    yield "colours K=10, channels_last", lambda: _logistic_mixture_nll(16, 3, 10, torch.float32, last=True)
    yield "colours K=40", lambda: _logistic_mixture_nll(16, 3, 40, torch.float32)
    yield (
        "grey K=5, a loss a sample",
        lambda: _logistic_mixture_nll(64, 1, 5, torch.bfloat16, size=(), reduction="none"),
    )


def _bernoulli_nll(shape: tuple[int, ...], dtype, *, x_dtype=torch.uint8, reduction="batchmean", last=False):
    logits, x = torch.zeros(shape, dtype=dtype), torch.zeros(shape, dtype=x_dtype)
    logits = logits.permute(0, 3, 1, 2) if last else logits
    x = x.permute(0, 3, 1, 2).contiguous() if last else x
    nll = bernoulli_nll.forward(logits, x, reduction)
    bernoulli_nll.backward(nll, logits, x, reduction)


def _bernoulli_nll_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        yield f"{name} bytes", lambda d=dtype: _bernoulli_nll((64, 4096), d)
        yield f"{name} floats", lambda d=dtype: _bernoulli_nll((64, 4096), d, x_dtype=d)
        yield f"{name} bytes, a loss a sample", lambda d=dtype: _bernoulli_nll((128, 784), d, reduction="none")
    yield (
        "int64, rows inside quads",
        lambda: _bernoulli_nll((8, 1023), torch.float32, x_dtype=torch.int64, reduction="none"),
    )
    yield "of two layouts", lambda: _bernoulli_nll((4, 16, 16, 3), torch.float32, last=True)


def _categorical_nll(n: int, channels: int, levels: int, dtype, *, size=(32, 32), last=False, reduction="sum"):
    logits = torch.zeros(n, channels * levels, *size, dtype=dtype)
    x = torch.zeros(n, channels, *size, dtype=torch.uint8 if levels <= 256 else torch.int64)
    logits = logits.contiguous(memory_format=torch.channels_last) if last else logits
    nll = categorical_nll.forward(logits, x, reduction)
    categorical_nll.backward(nll, logits, x, reduction)


def _categorical_nll_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        yield f"{name} L=256", lambda d=dtype: _categorical_nll(16, 3, 256, d)
        yield f"{name} L=256, channels_last", lambda d=dtype: _categorical_nll(16, 3, 256, d, last=True)
    yield "L=2", lambda: _categorical_nll(16, 1, 2, torch.float32, size=(28, 28))
    yield "MADE, L=2", lambda: _categorical_nll(128, 784, 2, torch.float32, size=())
    yield "L=65536", lambda: _categorical_nll(4, 1, 65536, torch.bfloat16, size=(100,))
    yield "L=1000, a loss a sample", lambda: _categorical_nll(64, 1, 1000, torch.bfloat16, size=(), reduction="none")


def _categorical_sample_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        logits = torch.zeros(16, 3 * 256, 32, 32, dtype=dtype)
        last = logits.contiguous(memory_format=torch.channels_last)
        yield f"{name} L=256", lambda t=logits: categorical_sample.forward(t, torch.tensor(1), 3, 1.0)
        yield f"{name} L=256, channels_last", lambda t=last: categorical_sample.forward(t, torch.tensor(1), 3, 1.0)
    yield "L=2", lambda: categorical_sample.forward(torch.zeros(16, 2, 28, 28), torch.tensor(1), 1, 1.0)
    yield "L=65536", lambda: categorical_sample.forward(torch.zeros(4, 65536, 100), torch.tensor(1), 1, 1.0)


def _bernoulli_sample_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        logits = torch.zeros(64, 3, 32, 32, dtype=dtype)
        flat = logits.flatten(1)
        name = str(dtype).removeprefix("torch.")
        yield f"{name} colours", lambda t=logits: bernoulli_sample.forward(t, torch.tensor(1), 1.0)
        yield f"{name} flat", lambda t=flat: bernoulli_sample.forward(t, torch.tensor(1), 1.0)


def _logistic_mixture_sample_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    def draw(params: Tensor, channels: int) -> None:
        logistic_mixture_sample.forward(params, torch.tensor(1), channels, 256, -7.0, 1.0)

    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        yield f"{name} colours", lambda d=dtype: draw(torch.zeros(16, 100, 32, 32, dtype=d), 3)
        yield f"{name} grey", lambda d=dtype: draw(torch.zeros(16, 15, 28, 28, dtype=d), 1)


def _affine_coupling(shape, dtype, *, mask="channel", scale="exp", inverse=False, last=False, half=True, alone=False):
    """alone: of the log-determinant's gradient and the parameters' alone."""
    params = (shape[0], shape[1] // 2, *shape[2:]) if half else shape
    layout = torch.channels_last if last else torch.contiguous_format
    x, p = (torch.zeros(s, dtype=dtype).contiguous(memory_format=layout) for s in (shape, params))
    s = None if scale == "none" else p
    options = (mask, False, "exp" if s is None else scale, 1.0, inverse)
    out, log_det = affine_coupling.forward(x, p, s, *options)
    given = (None, None, None) if s is None else (x, p if inverse else None, s)
    grads, needs = ((None, log_det), (False, True, True)) if alone else ((out, log_det), (True, True, s is not None))
    affine_coupling.backward(*grads, *given, half, *options, needs)


def _affine_coupling_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    image = (64, 12, 32, 32)
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        yield f"{name} channel", lambda d=dtype: _affine_coupling(image, d)
        yield f"{name} board", lambda d=dtype: _affine_coupling(image, d, mask="checkerboard", scale="tanh", half=False)
        yield (
            f"{name} sigmoid inverse",
            lambda d=dtype: _affine_coupling(image, d, scale="sigmoid", inverse=True, last=True),
        )
    yield "NICE", lambda: _affine_coupling((512, 784), torch.float32, mask="even_odd", scale="none")
    yield "NICE inverse", lambda: _affine_coupling((512, 784), torch.float32, scale="none", inverse=True)
    yield "two numbers", lambda: _affine_coupling((512, 2), torch.float32)
    yield "alone", lambda: _affine_coupling(image, torch.float32, alone=True)


def _rational_quadratic_spline(
    shape, bins: int, dtype, *, mask="all", tails="linear", inverse=False, last=False, alone=False
):
    """alone: of the log-determinant's gradient and the parameters' alone."""
    live = shape[1] if mask == "all" else shape[1] // 2
    numbers = 3 * bins - 1 if tails == "linear" else 3 * bins + 1
    layout = torch.channels_last if last else torch.contiguous_format
    both = (shape, (shape[0], live * numbers, *shape[2:]))
    x, p = (torch.zeros(s, dtype=dtype).contiguous(memory_format=layout) for s in both)
    options = (mask, False, tails, -3.0, 3.0, 1e-3, 1e-3, 1e-3, 1.0, inverse)
    out, log_det = rational_quadratic_spline.forward(x, p, *options)
    rational_quadratic_spline.backward(None if alone else out, log_det, x, p, *options, (not alone, True))


def _rational_quadratic_spline_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    image = (64, 12, 32, 32)
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        yield f"{name} channel", lambda d=dtype: _rational_quadratic_spline(image, 8, d, mask="channel")
        yield (
            f"{name} box inverse",
            lambda d=dtype: _rational_quadratic_spline(image, 8, d, tails="none", inverse=True, last=True),
        )
    yield "vectors", lambda: _rational_quadratic_spline((4096, 64), 8, torch.float32, mask="even_odd")
    yield "sixteen bins", lambda: _rational_quadratic_spline(image, 16, torch.float32, inverse=True)
    yield "one bin", lambda: _rational_quadratic_spline((512, 2), 1, torch.float32)
    yield "alone", lambda: _rational_quadratic_spline(image, 8, torch.float32, alone=True)


def _nade_nll(n: int, inputs: int, hidden: int, dtype):
    x, weight = torch.zeros(n, inputs, dtype=torch.uint8), torch.zeros(inputs, hidden, dtype=dtype)
    logits = nade_nll.forward(x, weight, weight[0], weight, weight[:, 0])
    nade_nll.backward(logits, x, weight, weight[0], weight, (False, True, True, True, True))


def _nade_nll_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        yield f"{name} NADE 784-500", lambda d=dtype: _nade_nll(64, 784, 500, d)
    yield "NADE of odd sizes", lambda: _nade_nll(7, 5, 3, torch.float32)


def _pixel_lstm(shape: tuple[int, ...], direction: str, taps: int, dtype):
    x = torch.zeros(shape, dtype=dtype)
    weight = torch.zeros(shape[1], shape[1] // 4, taps, dtype=dtype)
    pixel_lstm.forward(x, weight, direction, 1, False)
    h, kept = pixel_lstm.forward(x, weight, direction, 1, True)
    pixel_lstm.backward(h, weight, h, kept, direction, 1, (True, False))


def _pixel_lstm_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        yield f"{name} LSTM right", lambda d=dtype: _pixel_lstm((8, 512, 32, 32), "right", 2, d)
    yield "LSTM left, few units", lambda: _pixel_lstm((8, 64, 9, 9), "left", 2, torch.float32)
    yield "LSTM down", lambda: _pixel_lstm((8, 512, 32, 32), "down", 3, torch.float32)


def _rbm(n: int, visible: int, hidden: int, dtype, *, known=False):
    v, weight = torch.zeros(n, visible, dtype=torch.uint8), torch.zeros(hidden, visible, dtype=dtype)
    given = (v, weight, torch.zeros(visible, dtype=dtype), torch.zeros(hidden, dtype=dtype))
    for keep in (True, False):
        rbm.forward(*given, keep)
    mask = torch.zeros(v.shape, dtype=torch.bool) if known else None
    rbm.gibbs(*given, 1, 1.0, mask, torch.zeros((), dtype=torch.int64))


def _rbm_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        yield f"{name} RBM 784-500", lambda d=dtype: _rbm(64, 784, 500, d, known=d == torch.float32)
    yield "RBM of odd sizes", lambda: _rbm(7, 5, 3, torch.float32)


def _am_softmax(n: int, classes: int, dtype, *, gradients=True, scaled=True):
    wide = torch.promote_types(dtype, torch.float32)
    products, each = torch.zeros(n, classes, dtype=wide), torch.zeros(n, dtype=wide)
    target, columns = torch.zeros(n, dtype=torch.int64), torch.zeros(classes, dtype=wide)
    am_softmax.rows(products, each, columns, target, 10.5, each if gradients else None, dtype)
    factor = torch.zeros((), dtype=wide) if scaled else None
    am_softmax.across(torch.zeros(n, 512, dtype=wide), torch.zeros(n, 512, dtype=dtype), each, 1e-12, factor)


def _am_softmax_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        yield f"{name} C=10575", lambda d=dtype: _am_softmax(64, 10575, d)
    yield "the loss alone, no factor", lambda: _am_softmax(64, 10575, torch.float32, gradients=False, scaled=False)


def _noise_contrastive(n: int, features: int, count: int, dtype, *, softmax=False, shared=False, given=True, grad=True):
    """given: a bias, a correction and hits that are left out."""
    wide = torch.promote_types(dtype, torch.float32)
    x, w = torch.zeros(n, features, dtype=dtype), torch.zeros(100, features, dtype=dtype)
    target, scores = torch.zeros(n, dtype=torch.int64), torch.zeros(n, count, dtype=wide)
    negatives = torch.zeros((count,) if shared else (n, count), dtype=torch.int64)
    bias, log_noise = (w[:, 0].contiguous(), torch.zeros(100, dtype=torch.float64)) if given else (None, None)
    shift, slopes = (scores[0] if shared else None), torch.zeros(n, dtype=wide)
    noise_contrastive.rows(
        x, w, bias, (target, negatives), log_noise, 1.0, softmax, given, shift, scores, slopes, "none", grad
    )
    vectors = (x.to(wide), scores.new_zeros(count, features)) if shared else (x, x)
    entries = torch.cat((target, negatives.flatten()))
    scale = torch.zeros(len(entries), dtype=wide)
    noise_contrastive.sums(*torch.sort(entries), None, scale, None, *vectors, w.clone(), bias)


def _noise_contrastive_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        for softmax in (False, True):
            for shared in (False, True):
                kind = f"{'softmax' if softmax else 'NCE'}{', shared' if shared else ''}"
                options = {"softmax": softmax, "shared": shared}
                yield f"{name} {kind}", lambda d=dtype, o=options: _noise_contrastive(64, 128, 64, d, **o)
    yield (
        "few negatives, the loss alone",
        lambda: _noise_contrastive(64, 300, 5, torch.float32, given=False, grad=False),
    )
    table, seed = torch.zeros(100, 3, dtype=torch.int64), torch.zeros((), dtype=torch.int64)
    yield "draws by an alias table", lambda: noise_sample.forward(table, seed, 64, 5)


def _vector_quantize(shape: tuple[int, ...], codes: int, dtype, *, last=False, above=True):
    z, e = torch.zeros(shape, dtype=dtype), torch.zeros(codes, shape[1], dtype=dtype)
    z = z.contiguous(memory_format=torch.channels_last) if last else z
    _, indices, distances = vector_quantize.forward(z, e)
    factor = torch.zeros(len(z), dtype=distances.dtype)
    vector_quantize.grad_input(z if above else None, factor, z, e, indices)
    vector_quantize.sums(z, indices, codes, e, factor)
    vector_quantize.statistics(z, indices, codes)


def _vector_quantize_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        yield f"{name} codes of 64", lambda d=dtype: _vector_quantize((16, 64, 32, 32), 512, d)
        yield f"{name} codes of 256", lambda d=dtype: _vector_quantize((16, 256, 32, 32), 1024, d, last=True)
    yield "codes of 5, no gradient above", lambda: _vector_quantize((3, 5, 7), 9, torch.float32, above=False)


def _crf(n: int, steps: int, tags: int, dtype, *, given=True):
    """given: with start, end, tags and lengths."""
    e, a = torch.zeros(n, steps, tags, dtype=dtype), torch.zeros(tags, tags, dtype=dtype)
    ends = (a[0], a[0]) if given else (None, None)
    labels, lengths = torch.zeros(n, steps, dtype=torch.int64), torch.full((n,), steps)
    rest = (labels, lengths) if given else (None, None)
    nll, kept = crf.forward_and_keep(e, a, *ends, *rest, "batchmean")
    crf.forward(e, a, *ends, *rest, "none")
    crf.backward(nll, e, a, *ends, *rest, "batchmean", (True, True, given, given), kept)
    crf.backward(torch.ones(n, dtype=nll.dtype), e, a, *ends, *rest, "none", (True, False, False, False), None)
    crf.decode(e, a, *ends, rest[1])
    for samples in (1, 100):
        crf.sample(e, a, *ends, rest[1], torch.tensor(1), samples)


def _crf_cases() -> Iterator[tuple[str, Callable[[], None]]]:
    for dtype in DTYPES:
        yield f"{str(dtype).removeprefix('torch.')} K=64", lambda d=dtype: _crf(64, 512, 64, d)
    for tags in (1, 8, 20):
        yield f"K={tags}", lambda k=tags: _crf(64, 32, k, torch.float32)
    yield "log Z alone", lambda: _crf(64, 32, 9, torch.float32, given=False)


def cases() -> Iterator[tuple[str, Callable[[], None]]]:
    """Pairs of a name and a call."""
    for dtype in DTYPES:
        name = str(dtype).removeprefix("torch.")
        for quads in _blocks.QUADS:
            yield f"{name} {quads} quads", lambda d=dtype, q=quads: _reparameterize_kl(torch.zeros(8, 4 * q, dtype=d))
        yield f"{name} prior", lambda d=dtype: _reparameterize_kl(torch.zeros(8, 1024, dtype=d), prior=True)
        yield (
            f"{name} strided",
            lambda d=dtype: _reparameterize_kl(torch.zeros(4, 16, 16, 8, dtype=d).permute(0, 3, 1, 2)),
        )
    mu = torch.zeros(8, 1024)
    yield "total", lambda: _reparameterize_kl(mu, reduction="batchmean")
    yield "eps", lambda: _reparameterize_kl(mu, eps=True)
    yield "samples", lambda: _reparameterize_kl(mu, samples=4)
    yield "KL only", lambda: _reparameterize_kl(mu, sample=False)
    yield "free bits, prior", lambda: _reparameterize_kl(mu, free_bits=0.1, prior=True)
    yield "rows inside quads", lambda: _reparameterize_kl(torch.zeros(8, 1023))
    yield "many blocks a row", lambda: _reparameterize_kl(torch.zeros(1, 1 << 16))
    yield from _masked_conv2d_cases()
    yield from _masked_linear_cases()
    yield from _gated_activation_cases()
    yield from _gan_loss_cases()
    yield from _bernoulli_nll_cases()
    yield from _logistic_mixture_nll_cases()
    yield from _categorical_nll_cases()
    yield from _categorical_sample_cases()
    yield from _bernoulli_sample_cases()
    yield from _logistic_mixture_sample_cases()
    yield from _affine_coupling_cases()
    yield from _rational_quadratic_spline_cases()
    yield from _nade_nll_cases()
    yield from _pixel_lstm_cases()
    yield from _rbm_cases()
    yield from _am_softmax_cases()
    yield from _noise_contrastive_cases()
    yield from _vector_quantize_cases()
    yield from _crf_cases()
    yield from _sample_dot_cases()
    yield from _gated_masked_conv2d_cases()
    yield from _layer_backward_cases()
