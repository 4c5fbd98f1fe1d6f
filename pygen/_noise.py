"""Seeds: from torch's generators through an opaque op, or from the caller. The noise itself is made inside the kernels.

A seed is a 0-dim int64 tensor on the inputs' device, all 64 bits used. Kernels read it from memory, so a CUDA graph
that captured the draw replays with fresh noise; checkpointing restores the generator and draws the same seed again.
"""

import torch
from torch import Generator, Tensor

from pygen._checks import fail

# The last word of the Philox counter: one per op, so that equal seeds do not give two ops the same noise.
# csrc/common/philox.h and kernels/_philox.py hold the same list.
DOMAINS = {
    "reparameterize_kl": 0,
    "sampling": 1,
    "categorical_sample": 2,
    "bernoulli_sample": 3,
    "logistic_mixture_sample": 4,
    "crf_sample": 5,
    "rbm": 6,
    "noise_sample": 7,
}

_INT64_MIN = -(2**63)

_library = torch.library.Library("pygen", "FRAGMENT")
_library.define(
    "draw_seed(*, Device device) -> Tensor", tags=(torch.Tag.nondeterministic_seeded, torch.Tag.pt2_compliant_tag)
)


def draw_seed(device: torch.device, generator: Generator | None = None) -> Tensor:
    """A seed from `generator`, or from the device's default generator."""
    if torch._C._are_functorch_transforms_active():
        # The same seed, where vmap's `randomness` can give each entry its own. It adds the least number to the drawn bits.
        drawn = torch.randint(_INT64_MIN, 2**63 - 1, (), dtype=torch.int64, device=device, generator=generator)
        return drawn ^ _INT64_MIN
    seed = torch.empty((), dtype=torch.int64, device=device)
    if generator is None:  # one argument less to parse
        return seed.random_(_INT64_MIN, None)
    return seed.random_(_INT64_MIN, None, generator=generator)


_library.impl("draw_seed", draw_seed, "BackendSelect")


@torch.library.register_fake("pygen::draw_seed", lib=_library)
def _(device: torch.device) -> Tensor:
    return torch.empty((), dtype=torch.int64, device=device)


def resolve_seed(op: str, seed: object, generator: Generator | None, device: torch.device) -> Tensor:
    """The seed of one call, from `seed=`, `generator=` or torch's default generator, checked first."""
    if seed is not None and generator is not None:
        raise fail(op, "generator", "at most one of eps, seed and generator", "both seed and generator")
    if seed is None:
        if generator is None:
            return torch.ops.pygen.draw_seed(device=device) if torch.compiler.is_compiling() else draw_seed(device)
        if not isinstance(generator, Generator):
            raise fail(op, "generator", "a torch.Generator", type(generator).__name__, kind=TypeError)
        if generator.device.type != device.type:
            raise fail(op, "generator", f"a generator on {device}", generator.device)
        return draw_seed(device, generator)
    if isinstance(seed, Tensor):
        if seed.dtype != torch.int64 or seed.dim() != 0:
            raise fail(op, "seed", "an int or a 0-dim int64 tensor", f"{seed.dtype} {list(seed.shape)}", kind=TypeError)
        if seed.device != device:
            raise fail(op, "seed", f"a tensor on {device}", seed.device)
        return seed
    if isinstance(seed, bool) or not isinstance(seed, (int, torch.SymInt)):
        raise fail(op, "seed", "an int or a 0-dim int64 tensor", type(seed).__name__, kind=TypeError)
    if not _INT64_MIN <= seed < 2**63:
        raise fail(op, "seed", "-2^63 <= seed < 2^63", seed)
    return torch.full((), seed, dtype=torch.int64, device=device)  # type: ignore[arg-type]  # a SymInt will do
