"""What the samplers share: an op whose noise comes from a seed, without a gradient."""

from collections.abc import Callable
from types import ModuleType

import torch
from torch import Generator, Tensor

from pygen import _dispatch, _noise
from pygen.ops import _library


class Sampler:
    """x = op(params, seed, *options): not differentiable.

    Args:
        op: its name; that of the launchers with `forward(params, seed, *options)` too.
        schema: of the options.
        fake: of (params, *options): what comes out, without values.
    """

    def __init__(self, op: str, schema: str, fake: Callable[..., Tensor]) -> None:
        self.op, self.fake = op, fake
        below = _library.register(
            f"{op}(Tensor params, Tensor seed, {schema}, str backend) -> Tensor",
            self._launch,
            lambda params, seed, *rest: fake(params, *rest[:-1]),
            lambda *args: below(*args),
        )
        self.registered = getattr(torch.ops.pygen, op)

    def __call__(
        self,
        params: Tensor,
        options: tuple,
        seed: int | Tensor | None,
        generator: Generator | None,
        backend: str | None,
    ) -> Tensor:
        """Of arguments whose shapes and options have been checked. The seed is taken last."""
        name = _dispatch.requested(self.op, backend)
        plain = _dispatch.is_plain(params, seed)
        if not plain:
            _dispatch.ask(self.op, name, params.device.type)
        launcher = self._launcher(name, params) if plain else None
        drawn = _noise.resolve_seed(self.op, seed, generator, params.device)
        if launcher is None:
            return self.registered(params, drawn, *options, name)
        return launcher.forward(params, drawn, *options)

    def _launcher(self, backend: str, params: Tensor) -> ModuleType:
        return _dispatch.launcher(self.op, self.op, backend, params)

    def _launch(self, params: Tensor, seed: Tensor, *options_and_backend) -> Tensor:
        *options, backend = options_and_backend
        return self._launcher(backend, params).forward(params, seed, *options)
