"""Lays out a dense network for the kernels that run csrc/cuda/dense_network.cuh. Not yet run on a GPU."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from pygen.native._arguments import DTYPE_NAMES, Where

THREADS = 0  # a block; 0: the most
_IMAGES_BYTES = 32  # a block's images are as many as numbers fit: each has sums in registers
_PANELS = (32, 16, 8, 4, 2, 1)  # steps
_BUFFERS_BYTES = 48 << 10  # of two panels' triangles, on any device: sums depend on where panels end
_ALIGNED = 4  # elements: 16 bytes at least


class _Layer(NamedTuple):
    """A layer of weights: where its places lie in the table, and its sizes once packed."""

    rows: int
    columns: int
    seen: int
    units: int
    outs: int  # units to each of `rows` and `seen`
    row_step: int
    pitch: int
    weight: int  # packed
    bias: int


class Plan(NamedTuple):
    """What the degrees, the outputs of an input and the size of a number say."""

    table: Tensor  # int64, on the CPU, pinned
    layers: tuple[_Layer, ...]
    layers_at: int  # in the table, as DenseLayer
    order_at: int
    inputs: int
    sources: int  # of each input
    packed_size: int
    panel: int  # steps; 0: not even one step's triangle is small
    act_size: int
    sum_size: int
    triangle_at: int  # bytes of a buffer
    steps_at: int
    itemsize: int
    step_bytes: int

    def table_on(self, device: torch.device) -> Tensor:
        """Nothing waits for the copy."""
        return self.table.to(device, non_blocking=True)

    def rows(self, i: int, table: Tensor) -> Tensor:
        """Of layer i's weight, int64 [units]: where its units are made, as they become known."""
        layer = self.layers[i]
        first = table[layer.rows : layer.rows + layer.units // layer.outs]
        steps = torch.arange(layer.outs, device=table.device) * layer.row_step
        return (first.unsqueeze(1) + steps).flatten()

    @property
    def image_size(self) -> int:
        return _whole(self.act_size + (2 if self.panel else 1) * self.sum_size)


class Network:
    """Weights sorted, by a launch for each layer; nothing here waits for the stream.

    arguments: as csrc/cuda/dense_network.bind.h takes them. What they point to lives as long as this does.
    """

    def __init__(
        self,
        where: Where,
        plan: Plan,
        table: Tensor,  # the plan's, on the device
        weights: Sequence[Tensor],
        biases: Sequence[Tensor],  # [out]
        n: int,
        *,
        added: Tensor | None = None,  # [n, all layers' units, by degree]: each image's own biases, in place of those
        difference: bool = False,  # the last layer's rows are those of `weights` minus the next ones
        threads: int | None = None,
        images_per_block: int | None = None,
    ) -> None:
        (compiled, there), like = where, weights[0]
        block = choose_block(compiled, there[0], plan, n, images_per_block)
        memory = None if block.in_shared else like.new_empty(-(-n // block.images) * block.images * plan.image_size)
        packed = like.new_empty(plan.packed_size)
        self._keeps = (memory, table, packed, added)
        for weight, bias, layer in zip(weights, biases, plan.layers, strict=True):
            compiled.dense_pack(
                DTYPE_NAMES[like.dtype],
                (weight.data_ptr(), *weight.stride()),
                (bias.data_ptr(), bias.stride(0)),
                _addresses(table, layer.rows, layer.columns, layer.seen),
                (layer.units, layer.outs, layer.row_step, layer.pitch),
                difference and layer is plan.layers[-1],
                _addresses(packed, layer.weight, layer.bias),
                *there,
            )
        self.arguments = (
            DTYPE_NAMES[like.dtype],
            (n, plan.inputs, plan.sources),
            (*_addresses(table, plan.layers_at, 0, plan.order_at), len(plan.layers)),
            packed.data_ptr(),
            (0, 0) if added is None else (added.data_ptr(), added.stride(0)),
            (plan.layers[-1].outs, plan.panel),
            (plan.act_size, plan.sum_size, plan.image_size),
            (plan.triangle_at, plan.steps_at, block.buffer_bytes, block.shared_bytes),
            0 if memory is None else memory.data_ptr(),
            block.images,
            THREADS if threads is None else threads,
        )


class Block(NamedTuple):
    """What a block runs and holds. buffer_bytes: of one of two panels."""

    images: int
    in_shared: bool
    buffer_bytes: int
    shared_bytes: int


def choose_block(compiled: Any, device: int, plan: Plan, n: int, images: int | None = None) -> Block:
    """As few images as let all blocks run at once, or as many as there may be, or as fit into shared memory if one does."""
    processors, room = compiled.sampling_limits(device)
    if images is None:
        images = 1
        while images < _IMAGES_BYTES // plan.itemsize and n > images * processors:
            images *= 2
    while images > 0:
        block = _block(compiled, plan, images, True)
        if block.shared_bytes <= room:
            return block
        images //= 2
    return _block(compiled, plan, compiled.dense_images_in_memory, False)


def _block(compiled: Any, plan: Plan, images: int, in_shared: bool) -> Block:
    buffer_bytes = plan.steps_at + plan.panel * images * plan.step_bytes
    images_bytes = images * plan.image_size * plan.itemsize if in_shared else 0
    return Block(images, in_shared, buffer_bytes, 2 * buffer_bytes + images_bytes)


def _addresses(t: Tensor, *offsets: int) -> tuple[int, ...]:
    return tuple(t.data_ptr() + offset * t.element_size() for offset in offsets)


@lru_cache(maxsize=32)  # degrees never change: a model has as many plans as orderings
def make_plan(
    compiled: Any,
    degrees: tuple[tuple[int, ...], ...],
    when: tuple[int, ...],
    outputs: tuple[int, int, int],  # outs, input_stride, row_step
    itemsize: int,
    step_bytes: int,
) -> Plan:
    """Sorts units by degree, and chooses the longest panels whose triangles are small. Of the last layer output k of input d is
    made by row d * input_stride + k * row_step."""
    inputs, (outs, input_stride, row_step) = len(when), outputs
    turns = torch.tensor(when, dtype=torch.int64, device="cpu").argsort()
    steps = torch.arange(inputs + 1, device="cpu")
    by_degree = [torch.tensor(of, dtype=torch.int64, device="cpu").sort(stable=True) for of in degrees]
    below = [torch.searchsorted(of.values, steps) for of in by_degree]
    sizes = _Sizes.of(below, [*below[1:], steps * outs], itemsize, compiled.dense_event_bytes)
    table = _Table()
    below_at = [table.append(counts) for counts in (*below, steps * outs)]
    layers, fields = [], []
    packed_size = added_size = act_size = sum_size = triangle_size = 0
    for i, (_, order) in enumerate(by_degree):
        last = i + 1 == len(degrees)
        rows = turns * input_stride if last else by_degree[i + 1].indices
        seen = below[i][:-1] if last else below[i][by_degree[i + 1].values + 1]
        units, pitch = len(rows) * (outs if last else 1), _whole(len(order))
        layer = _Layer(
            rows=table.append(rows),
            columns=table.append(order),
            seen=table.append(seen),
            units=units,
            outs=outs if last else 1,
            row_step=row_step if last else 1,
            pitch=pitch,
            weight=packed_size,
            bias=packed_size + units * pitch,
        )
        layers.append(layer)
        fields.append(
            {
                "weight": layer.weight,
                "pitch": pitch,
                "bias": layer.bias,
                "added": added_size,
                "act": act_size,
                "sum": sum_size,
                "triangle": triangle_size,
                "triangle_pitch": sizes.pitches[i],
                "sources_below": below_at[i],
                "units_below": below_at[i + 1],
                "degrees": table.append(by_degree[i].values),
            }
        )
        packed_size = layer.bias + _whole(units)
        added_size += units
        act_size += pitch
        sum_size += sizes.counts[i]
        triangle_size += sizes.within[i] * sizes.pitches[i]
    names = compiled.dense_layer_fields.split()
    layers_at = table.append(torch.tensor([[of[name] for name in names] for of in fields], device="cpu").flatten())
    order_at = table.append(turns)
    numbers = torch.cat(table.pieces)
    return Plan(
        numbers.pin_memory() if torch.cuda.is_available() else numbers,
        tuple(layers),
        layers_at,
        order_at,
        inputs,
        len(degrees[0]) // max(inputs, 1),
        packed_size,
        sizes.panel,
        act_size,
        sum_size,
        sizes.events_bytes,
        sizes.events_bytes + sizes.triangle_bytes,
        itemsize,
        step_bytes,
    )


class _Sizes(NamedTuple):
    """Of the longest panel whose triangles are small, and its largest number of each layer's sources and units."""

    panel: int
    within: list[int]
    counts: list[int]
    pitches: list[int]
    events_bytes: int
    triangle_bytes: int

    @staticmethod
    def of(below: list[Tensor], units_below: list[Tensor], itemsize: int, event_bytes: int) -> _Sizes:
        inputs = len(below[0]) - 1
        for panel in (*_PANELS, 0):
            ends = torch.tensor([*range(0, inputs, panel or 1), inputs], device="cpu")
            sources = [counts[ends].diff() for counts in below]
            within = [int(some.max()) for some in sources]
            counts = [int(counts[ends].diff().max()) for counts in units_below]
            pitches = [count | 1 for count in counts]  # odd: lanes that copy a unit's row reach all banks
            triangles = sum(some * pitch for some, pitch in zip(within, pitches, strict=True))
            events = int(torch.stack(sources).sum(0).max()) + 1  # and their end
            sizes = _Sizes(panel, within, counts, pitches, events * event_bytes, _whole(triangles) * itemsize)
            if 2 * (sizes.events_bytes + sizes.triangle_bytes) <= _BUFFERS_BYTES:
                return sizes
        return sizes._replace(events_bytes=0, triangle_bytes=0)


class _Table:
    """Numbers one after the other."""

    def __init__(self) -> None:
        self.pieces: list[Tensor] = []
        self.size = 0

    def append(self, numbers: Tensor) -> int:
        """Where they begin."""
        self.pieces.append(numbers)
        self.size += numbers.numel()
        return self.size - numbers.numel()


def _whole(elements: int) -> int:
    """As many as 16 bytes begin with."""
    return -(-elements // _ALIGNED) * _ALIGNED
