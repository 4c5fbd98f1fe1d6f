"""gan_loss: what compiles its Triton kernels in every configuration."""

import torch
from pygen.kernels import gan_loss

from ._common import DTYPES, Cases


def launch(kind: str, dtype):
    logits, options = [torch.zeros(300, dtype=dtype)], (kind, "discriminator", 0.0, 1.0, "mean")
    (loss, *_), made = gan_loss.forward_with_gradients(logits, logits, *options, False, (True, True))
    gan_loss.forward(logits, logits, *options, False)
    if kind != "relativistic_average":  # whose backward takes what forward summed
        gan_loss.backward((loss,), logits, logits, None, *options, (True, True))
        gan_loss.backward((loss,), logits, logits, None, *options, (True, True), made)


def launch_in_part(kind: str, reduction: str, needs: tuple[bool, bool]) -> None:
    """Where something is None among the tensors: a gradient that nobody wants, terms that nothing uses."""
    logits, options = [torch.zeros(300)], (kind, "discriminator", 0.0, 1.0, reduction)
    results, made = gan_loss.forward_with_gradients(logits, logits, *options, False, needs)
    reused = results[-1] if kind == "relativistic_average" else None
    for ready in (None, made) if made else (None,):
        gan_loss.backward((results[0], None), logits, logits, reused, *options, needs, ready)


def cases() -> Cases:
    for name, dtype in DTYPES.items():
        for kind in ("nonsaturating", "hinge", "relativistic_average"):
            yield f"{name} {kind}", lambda k=kind, d=dtype: launch(k, d)
    for kind in ("nonsaturating", "relativistic_average"):
        yield f"{kind}, unused terms", lambda k=kind: launch_in_part(k, "none", (True, True))
    for needs in ((True, False), (False, True)):
        yield f"relativistic, needs {needs}", lambda n=needs: launch_in_part("relativistic", "mean", n)
