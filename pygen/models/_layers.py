"""What a model was made of when its constructor ended, and whether it still is: sampling programs speak for that alone."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

_PARAMETRIZATIONS = "parametrizations"


class Layer(NamedTuple):
    """A module's class, None where there is none, and its children by their names."""

    kind: type | None
    children: dict[str, Layer]


def _kind(module: nn.Module) -> type:
    """As it was before torch.nn.utils.parametrize, which changes how weights are made and not what a layer does with them."""
    kind = type(module)
    return kind.__bases__[0] if _PARAMETRIZATIONS in module._modules else kind


def layers_of(module: nn.Module | None) -> Layer:
    if module is None:
        return Layer(None, {})
    children = {name: layers_of(child) for name, child in module._modules.items() if name != _PARAMETRIZATIONS}
    return Layer(_kind(module), children)


def changed(model: nn.Module, made: Layer) -> str | None:
    """The first layer that is another one now, as "head.2 is a GELU". What a subclass adds beside the model's own layers is none
    of them; what is added inside those may be called by them."""
    left: list[tuple[str, nn.Module, Layer]] = [("", model, made)]
    while left:
        path, module, layer = left.pop()
        if "forward" in vars(module):
            return f"{path or 'the model'} has a forward of its own"
        now = module._modules
        if path and len(now) - (_PARAMETRIZATIONS in now) != len(layer.children):
            return f"{path} has other layers than it was made with"
        for name, child in layer.children.items():
            at, found = f"{path}.{name}" if path else name, now.get(name)
            if found is None:
                if child.kind is not None:
                    return f"{at} is gone"
            elif _kind(found) is not child.kind:
                return f"{at} is a {type(found).__name__}"
            else:
                left.append((at, found, child))
    return None
