"""bernoulli_sample: bits drawn under logits."""

from torch import Generator, Tensor

from pygen import _checks
from pygen._layout import empty_bytes
from pygen.ops._sampler import Sampler

_OP = "bernoulli_sample"


def bernoulli_sample(
    logits: Tensor,
    *,
    temperature: float = 1.0,
    seed: int | Tensor | None = None,
    generator: Generator | None = None,
    backend: str | None = None,
) -> Tensor:
    """Draws independent bits, each 1 with probability sigmoid(logits / temperature), such as pixels from a decoder.

    The distribution is that of torch.bernoulli(logits.sigmoid()), in one pass and without rounding probabilities near
    1; its negative log-likelihood is bernoulli_nll. NaN gives 0. Not differentiable; what comes out does not require
    grad.

    Each bit takes one uniform number, a pure function of the seed, its image and its place p C + c in it (position p,
    channel c). So draws do not depend on the batch, the layout, threads or the backend, but for numbers within an
    exponential's rounding of the chance.

    Args:
        logits: [N, C, ...] or [N], float64, float32, bfloat16 or float16; computed in float32 (float64). Any strides.
        temperature: logits are divided by it; towards 0 the likelier bit comes always.
        seed: an int, or a 0-dim int64 tensor on logits' device.
        generator: on logits' device, draws the seed (torch.compile(fullgraph=True) cannot trace one: use seed=). Without both
            the seed comes from torch's default generator.
        backend: "reference", "cpu", "triton", "cuda"; None chooses. Triton and CUDA: not yet run on a GPU.

    Returns:
        0 and 1 as torch.uint8, of logits' shape: levels as images are kept, and as bernoulli_nll takes them for x, a byte each
        where logits' dtype would take four. `.to(dtype)` where a layer wants numbers. channels_last where logits are, else
        contiguous.

    Raises:
        TypeError, ValueError: an argument does not fit; the message names it.
        RuntimeError: the requested backend cannot run; the message says why.

    Example:
        >>> bits = pygen.functional.bernoulli_sample(torch.randn(4, 1, 8, 8), seed=0)
        >>> bits.shape, bits.dtype
        (torch.Size([4, 1, 8, 8]), torch.uint8)
    """
    _checks.check_tensor(_OP, "logits", logits)
    _checks.check_floating(_OP, "logits", logits)
    if logits.dim() == 0:
        raise _checks.fail(_OP, "logits", "at least one dim, [N, ...]", "a 0-dim tensor")
    _checks.check_temperature(_OP, temperature)
    return _sampler(logits, (float(temperature),), seed, generator, backend)


_sampler = Sampler(_OP, "float temperature", lambda logits, temperature: empty_bytes(logits))
