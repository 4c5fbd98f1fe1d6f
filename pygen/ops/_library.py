"""How an op is registered: schema, implementation, fake and autograd under one name.

An op's autograd.Function takes, as its first argument, what does the work: the launcher (the fast door of the public
functions), or the op below autograd (under compile, fake tensors and other modes).
"""

from collections.abc import Callable

import torch

library = torch.library.Library("pygen", "FRAGMENT")


def register(schema: str, impl: Callable, fake: Callable, autograd: Callable) -> Callable:
    """Defines pygen::<schema>; returns its form below autograd.

    Args:
        impl: chooses a backend and launches it, for every device.
        fake: outputs of the right shape, dtype and strides, and no data.
        autograd: called with the op's arguments where gradients are recorded.
    """
    name = schema.split("(", 1)[0]
    library.define(schema, tags=(torch.Tag.pt2_compliant_tag,))
    library.impl(name, impl, "CompositeExplicitAutograd")
    torch.library.register_fake(f"pygen::{name}", fake, lib=library)
    library.impl(name, autograd, "Autograd")
    op = getattr(torch.ops.pygen, name).default

    def below_autograd(*args):
        with torch._C._AutoDispatchBelowAutograd():
            return op(*args)

    return below_autograd


def fast_apply(function: type[torch.autograd.Function]) -> Callable:
    """`function.apply` less what it does about torch.func transforms: where is_plain holds there are none. Saves 3 us."""
    return super(torch.autograd.Function, function).apply  # type: ignore[misc]  # of a private base
