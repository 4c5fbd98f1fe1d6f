"""What the pixel models share: likelihoods of integer levels, sampling, and the memory of the image size."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from pygen._checks import fail
from pygen._layout import is_channels_last
from pygen.functional import categorical_nll

from . import _engines, _sampling
from ._arguments import check_input_range, check_int, check_ints
from ._builder import Builder
from ._checkpoint import Recorded
from ._levels import INPUT_RANGE, InputRange, check_levels, scale_levels
from ._mixture import Mixture
from ._program import Program
from ._task import Task, Watch, evaluating


def in_layout_of(blocks: nn.Module, t: Tensor) -> Tensor:
    """t in channels_last where the first block's weights are, that is after `model.to(memory_format=torch.channels_last)`: images
    of one channel cannot say so themselves."""
    weights = next((list(block.parameters()) for block in blocks.children()), [])
    return t.contiguous(memory_format=torch.channels_last) if any(map(is_channels_last, weights)) else t


class ShapeMemory(Recorded):
    """Remembers the image size of the last training batch, and keeps it in the state_dict as `_extra_state`."""

    trained_shape: tuple[int, ...] = ()

    def get_extra_state(self) -> Tensor:
        return torch.tensor(self.trained_shape, dtype=torch.int64, device="cpu")

    def set_extra_state(self, state: Tensor) -> None:
        self.trained_shape = tuple(state.tolist())


class PixelModel(ShapeMemory):
    """An autoregressive model of images: pixels in raster order, within a pixel the colour groups in turn.

    A subclass defines `_logits`, and `_program` for the engines that need it. Images are
    levels 0 .. num_levels - 1, uint8 or int64 [N, C, H, W], of any size.
    """

    program_type: type = Program

    def __init__(
        self, in_channels: int, num_levels: int, color_groups: int, input_range: InputRange = INPUT_RANGE
    ) -> None:
        super().__init__()
        self.in_channels, self.color_groups = in_channels, color_groups
        self.num_levels = check_int(self._name, "num_levels", num_levels, at_least=2)
        self.input_range = check_input_range(self._name, input_range)

    def _logits(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """[N, C * L, H, W], channel after channel, of scaled images x [N, C, H, W] and a prepared condition."""
        raise NotImplementedError

    def _program(self, cond: Tensor | None) -> Program:
        """`_logits` as stages for the samplers' engines, with the weights of now."""
        raise NotImplementedError

    def _prepare_cond(self, cond: Tensor | None, n: int, size: torch.Size | tuple[int, int]) -> Tensor | None:
        """The condition as `_logits` takes it, for n images of that size."""
        if cond is not None:
            expected = "None, as this model is unconditional"
            raise fail(self._name, "cond", expected, type(cond).__name__, kind=TypeError)
        return None

    @property
    def _name(self) -> str:
        return type(self).__name__

    @property
    def _weight(self) -> Tensor:
        """Any parameter, for the model's dtype and device."""
        return next(self.parameters())

    def logits(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """The levels' logits of each channel and pixel given all before it, [N, C, num_levels, H, W]."""
        return self._outputs(x, cond).unflatten(1, (self.in_channels, self.num_levels))

    def _outputs(self, x: Tensor, cond: Tensor | None) -> Tensor:
        """`_logits` of levels and an unprepared condition."""
        check_levels(self._name, x, self.num_levels, (self.in_channels, None, None))
        cond = self._prepare_cond(cond, x.shape[0], x.shape[2:])
        return self._logits(self._scaled(x), cond)

    def _scaled(self, levels: Tensor) -> Tensor:
        """As `_logits` takes them."""
        return scale_levels(levels, self.num_levels, self._weight.dtype, self.input_range)

    def _builder(self) -> Builder:
        """Of `_program`."""
        return Builder(self.in_channels, self.num_levels, self.color_groups, self.input_range)

    def log_prob(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """log p(x | cond), [N] nats: exact, and differentiable to any order.

        Args:
            x: levels [N, C, H, W].
            cond: of a conditional model.
        """
        return -self._nll(x, cond, "none")

    def loss(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """Minus the batch's mean of log p(x | cond), in nats."""
        loss = self._nll(x, cond, "batchmean")
        if self.training:
            self.trained_shape = tuple(x.shape[2:])
        return loss

    def forward(self, x: Tensor, cond: Tensor | None = None) -> Tensor:
        """`loss`, under the name that wrappers such as DistributedDataParallel call."""
        return self.loss(x, cond)

    def _nll(self, x: Tensor, cond: Tensor | None, reduction: str) -> Tensor:
        """Of every image, [N], or their mean."""
        return categorical_nll(self._outputs(x, cond), x, reduction=reduction)

    @property
    def _share_of_pixels(self) -> float:
        """With how many of an image's pixels a weight is multiplied, on average."""
        return 1.0

    @property
    def _turns(self) -> int:
        """In how many steps a pixel's channels are drawn."""
        return self.color_groups

    def _conditionals(self, outputs: Tensor, levels: Tensor, temperature: float) -> Tensor | Mixture:
        """What each value is drawn from, [N, C, H, W, L], from what the network made of the levels before it."""
        return outputs.unflatten(1, (self.in_channels, self.num_levels)).movedim(2, -1)

    def sample(
        self,
        n: int,
        shape: tuple[int, int] | None = None,
        *,
        cond: Tensor | None = None,
        known: Tensor | None = None,
        known_mask: Tensor | None = None,
        temperature: float = 1.0,
        seed: int | Tensor | None = None,
        generator: torch.Generator | None = None,
        engine: str | None = None,
        progress: bool = False,
    ) -> Tensor:
        """n images drawn from the model: levels [n, C, H, W], uint8 (int64 beyond 256 levels).

        Image i depends on the seed, its index i, its condition and what is known of it: not on its batch-mates.

        Args:
            n: how many.
            shape: (H, W). None means that of the last training batch.
            cond: the images' conditions, as in `log_prob`.
            known: levels that are given, for in-painting; broadcasts to [n, C, H, W]. They guide what comes after them.
            known_mask: bool, broadcasts to [n, C, H, W]; true where `known` counts.
            temperature: the logits are divided by it; of a mixture its weights' are, and its scales multiplied.
            seed, generator: at most one; with neither the noise follows torch.manual_seed.
            engine: "cpu", C++ that computes each activation once (float32, float64); "cached", the same in plain PyTorch;
                "fixed_point", forwards of the whole images until nothing changes; "naive", one for every pixel and colour
                group; None: the first of cpu, cached and naive that can run. They draw the same images, but for levels
                whose cumulated probability lies within rounding of the noise.
            progress: a line on stderr that counts levels.

        Raises:
            RuntimeError: the engine cannot run, with the reason; or the model was changed meanwhile.
        """
        n = check_int(self._name, "n", n, at_least=0)
        height, width = self._shape(shape)
        cond = self._prepare_cond(cond, n, (height, width))
        engine = _engines.choose(self, engine)
        drawing, _ = _sampling.prepare(
            self._name,
            n,
            (self.in_channels, height, width),
            self.num_levels,
            self._weight.device,
            known=known,
            known_mask=known_mask,
            temperature=temperature,
            seed=seed,
            generator=generator,
        )
        watch = Watch(self, drawing.levels.numel(), progress)
        at_once = _engines.images_at_once(watch, engine, height, width)
        parts = [slice(start, start + at_once) for start in range(0, n, at_once)]
        with evaluating(self, watch.modules):
            tasks = (self._task(drawing.rows(some), None if cond is None else cond[some]) for some in parts)
            _engines.run(engine, tasks, watch)
        return drawing.levels

    def _shape(self, shape: Any) -> tuple[int, int]:
        if shape is None:
            shape = self.trained_shape
            if not shape:
                raise fail(self._name, "shape", "(H, W), as the model has not been trained yet", "None")
        shape = check_ints(self._name, "shape", shape)
        if len(shape) != 2:
            raise fail(self._name, "shape", "(H, W)", shape)
        return shape[0], shape[1]

    def _task(self, drawing: _sampling.Drawing, cond: Tensor | None) -> Task:
        group = self.in_channels // self._turns
        height, width = drawing.levels.shape[2:]

        def steps() -> list[tuple]:
            return [
                (slice(None), slice(start, start + group), i, j)
                for i in range(height)
                for j in range(width)
                for start in range(0, self.in_channels, group)
            ]

        def outputs(levels: Tensor, rows: slice | Tensor) -> Tensor:
            return self._logits(self._scaled(levels), None if cond is None else cond[rows])

        def conditionals(outputs: Tensor, levels: Tensor) -> Tensor | Mixture:
            return self._conditionals(outputs, levels, drawing.temperature)

        turns = self._turns // self.color_groups
        return Task(self, drawing, steps, outputs, conditionals, lambda: self._program(cond), turns)
