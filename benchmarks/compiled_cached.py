"""The cached sampler as `torch.compile` would have it: one graph for a row's early streams and one for a pixel, or for one of
MADE's steps, of static shapes, with the place as a tensor, so that nothing compiles twice. On a GPU also a whole row, or all of
MADE's steps, as one CUDA graph. A competitor, not an engine; not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pygen.models import _sampling
from pygen.models._levels import scale_levels
from pygen.models._program import Conv, DenseProgram, Gate, Program

Sampler = Callable[[Tensor], Tensor]  # uniforms [n, C, H, W] or [n, D] -> levels of the same shape
Work = Callable[[], object]


def sampler(
    model: nn.Module,
    n: int,
    size: tuple[int, ...],
    compile_it: bool = True,
    captured: Callable[[Work], Work] | None = None,
) -> Sampler:
    """Of an unconditional model; size: (H, W), or () for MADE; captured: makes one CUDA graph of a row's work."""
    compiled = (lambda f: torch.compile(f, dynamic=False, fullgraph=True)) if compile_it else (lambda f: f)
    with torch.no_grad():
        if model.program_type is DenseProgram:
            return _dense(model._program(0), n, compiled, captured)
        return _pixels(model._program(None), n, *size, compiled, captured)


def _in_graphs(draw: Sampler, noise: Tensor, captured: Callable[[Work], Work]) -> Sampler:
    """draw(noise) by replays of one graph, which reads and writes the same memory each time."""
    given, drawn = noise.clone(), torch.empty_like(noise, dtype=torch.int64)
    replay = captured(lambda: drawn.copy_(draw(given)))

    def run(noise: Tensor) -> Tensor:
        given.copy_(noise)
        replay()
        return drawn.clone()

    return run


def _decide(logits: Tensor, u: Tensor) -> Tensor:
    """int64 [...] of logits [..., L]; two levels need one comparison with a threshold, which `_noise` has made ready."""
    if logits.shape[-1] == 2:
        return (logits[..., 0] - logits[..., 1] < u).long()
    return _sampling.decide(logits, u, 1.0)


def _noise(u: Tensor, num_levels: int, dtype: torch.dtype) -> Tensor:
    return _sampling.binary_thresholds(u, 1.0).to(dtype) if num_levels == 2 else u


def _pixels(
    program: Program, n: int, height: int, width: int, compiled: Callable, captured: Callable | None
) -> Sampler:
    like, groups, levels = program.like, program.groups, program.num_levels
    each = program.in_channels // groups
    margin = max(abs(dx) for stage in program.stages if isinstance(stage, Conv) for _, dx in stage.taps)
    back = program.rows_back()
    # Of each stream its rows, the present one last: [rows, margin + W + margin, n, C].
    rows = [like.new_zeros(b + 1, width + 2 * margin, n, c) for b, c in zip(back, program.channels, strict=True)]
    stages = list(enumerate(program.stages, start=1))
    matrices = {s: stage.weight.transpose(1, 2).contiguous() for s, stage in stages if isinstance(stage, Conv)}
    scaled = scale_levels(torch.arange(levels, device=like.device), levels, like.dtype)

    def gated(x: Tensor, blocks: int) -> Tensor:
        a, b = x.unflatten(-1, (blocks, -1)).chunk(2, -1)
        return (torch.tanh(a) * torch.sigmoid(b)).flatten(-2)

    def early_row() -> None:
        for stream in rows:
            if len(stream) > 1:
                stream[:-1].copy_(stream[1:].clone())
            stream[-1].zero_()
        for s, stage in stages:
            if not program.early[s]:
                continue
            source, out = rows[stage.source], rows[s][-1, margin : margin + width]
            if isinstance(stage, Gate):
                out.copy_(gated(source[-1, margin : margin + width], stage.groups))
                continue
            taps = [source[dy - 1, margin + dx : margin + dx + width] for dy, dx in stage.taps]
            made = torch.zeros_like(out)
            if taps:
                window = torch.cat(taps, -1).flatten(0, 1)
                window = window.relu() if stage.relu else window
                made = (window @ matrices[s].flatten(0, 1)).view_as(out)
            made = made if stage.bias is None else made + stage.bias
            out.copy_(made if stage.add is None else made + rows[stage.add][-1, margin : margin + width])

    def block(s: int, g: int) -> slice:
        size = program.channels[s] // groups
        return slice(g * size, (g + 1) * size)

    def conv(s: int, stage: Conv, g: int, at: Tensor, present: dict[int, Tensor]) -> Tensor:
        """[n, c] of group g at column `at`; what later groups of the pixel hold is zero or has dead weights."""
        pieces = []
        for _, dx in stage.taps:
            made_now = dx == 0 and stage.source in present
            piece = present[stage.source] if made_now else rows[stage.source][-1].index_select(0, at + dx)[0]
            pieces.append(piece)
        of = block(s, g)
        made = like.new_zeros(n, of.stop - of.start)
        if pieces:
            window = torch.cat(pieces, -1)
            made = (window.relu() if stage.relu else window) @ matrices[s].flatten(0, 1)[:, of]
        made = made if stage.bias is None else made + stage.bias[of]
        if stage.add is None:
            return made
        added = present[stage.add] if stage.add in present else rows[stage.add][-1].index_select(0, at)[0]
        return made + added[:, of]

    def pixel(at: Tensor, noise: Tensor) -> Tensor:  # [1]; [n, C] -> levels [n, C]
        present = {s: like.new_zeros(n, c) for s, c in enumerate(program.channels) if not program.early[s]}
        drawn = []
        for g in range(groups):
            for s, stage in stages:
                if program.early[s]:
                    continue
                if isinstance(stage, Conv):
                    made = conv(s, stage, g, at, present)
                else:
                    double = program.channels[stage.source] // groups
                    source = present.get(stage.source)
                    source = rows[stage.source][-1].index_select(0, at)[0] if source is None else source
                    made = gated(source[:, g * double : (g + 1) * double], 1)
                present[s] = torch.cat(
                    [present[s][:, : block(s, g).start], made, present[s][:, block(s, g).stop :]], -1
                )
            of = slice(g * each, (g + 1) * each)
            logits = present[len(stages)][:, of.start * levels : of.stop * levels].unflatten(1, (each, levels))
            drawn.append(_decide(logits, noise[:, of]))
            present[0] = torch.cat([present[0][:, : of.start], scaled[drawn[-1]], present[0][:, of.stop :]], -1)
        for s in kept:
            rows[s][-1].index_copy_(0, at, present[s].unsqueeze(0))
        return torch.cat(drawn, -1)

    # Late streams that a later pixel or row reads.
    reads = [(stage.source, tap) for stage in program.stages if isinstance(stage, Conv) for tap in stage.taps]
    kept = sorted({s for s, tap in reads if tap != (0, 0) and not program.early[s]})
    early_row, pixel = compiled(early_row), compiled(pixel)
    places = [torch.tensor([margin + x], device=like.device) for x in range(width)]

    def row(noise: Tensor) -> Tensor:  # [W, n, C] both
        early_row()
        return torch.stack([pixel(places[x], noise[x]) for x in range(width)])

    graphs: list[Sampler] = []

    def sample(u: Tensor) -> Tensor:
        with torch.no_grad():
            noise = _noise(u, levels, like.dtype).permute(2, 3, 0, 1).contiguous()  # [H, W, n, C]
            if captured and not graphs:
                graphs.append(_in_graphs(row, noise[0], captured))
            for stream in rows:
                stream.zero_()
            draw_row = graphs[0] if graphs else row
            return torch.stack([draw_row(noise[y]) for y in range(height)]).permute(2, 3, 0, 1)

    return sample


def _dense(program: DenseProgram, n: int, compiled: Callable, captured: Callable | None) -> Sampler:
    """Each new value, and each unit that it completes, is added to all sums that see it: columns of the weights."""
    like, levels = program.like, program.num_levels
    degrees = [torch.tensor(d, device=like.device) for d in program.degrees]
    outputs = degrees[0].repeat_interleave(levels)
    ends = [*degrees[1:], outputs]
    last = len(program.weights) - 1
    columns = []  # of each layer [in + 1, out], zero where dead; the one more is nobody's
    for i, (weight, ins, outs) in enumerate(zip(program.weights, degrees, ends, strict=True)):
        live = outs.unsqueeze(1) > ins if i == last else outs.unsqueeze(1) >= ins
        columns.append(nn.functional.pad((weight * live).T, (0, 0, 0, 1)).contiguous())
    order = degrees[0].argsort()
    steps = len(order)
    completed = []  # of each hidden layer [steps, most]: the units that a step completes, filled up with the one more
    for d in degrees[1:]:
        counts = torch.bincount(d, minlength=steps)[:steps]
        table = torch.full((steps, max(1, int(counts.max()))), len(d), device=like.device)
        for step in range(steps):
            units = (d == step).nonzero()[:, 0]
            table[step, : len(units)] = units
        completed.append(table)
    sums = [bias.expand(n, -1).clone() for bias in program.biases]
    hidden_sums = [nn.functional.pad(s, (0, 1)) for s in sums[:-1]]
    scaled = scale_levels(torch.arange(levels, device=like.device), levels, like.dtype)
    every = torch.arange(levels, device=like.device)

    def step_of(step: Tensor, at: Tensor, noise: Tensor) -> Tensor:  # [1], [1]: the input's number, [n] -> [n]
        logits = sums[-1].index_select(1, at * levels + every)
        level = _decide(logits, noise)
        values, sources = scaled[level].unsqueeze(1), at
        for i in range(last + 1):
            target = sums[-1] if i == last else hidden_sums[i][:, :-1]
            target.add_(values @ columns[i].index_select(0, sources))
            if i < last:
                sources = completed[i].index_select(0, step)[0]
                values = hidden_sums[i].index_select(1, sources).relu()
        return level

    step_of = compiled(step_of)
    places = [
        (torch.tensor([i], device=like.device), order[i : i + 1].clone(), at) for i, at in enumerate(order.tolist())
    ]

    def draw(noise: Tensor) -> Tensor:  # [D, n] both
        for s, bias in zip([*(h[:, :-1] for h in hidden_sums), sums[-1]], program.biases, strict=True):
            s.copy_(bias.expand(n, -1))
        drawn = torch.stack([step_of(step, at, noise[number]) for step, at, number in places])
        return torch.empty_like(drawn).index_copy_(0, order, drawn)

    graphs: list[Sampler] = []

    def sample(u: Tensor) -> Tensor:
        with torch.no_grad():
            noise = _noise(u, levels, like.dtype).T.contiguous()
            if captured and not graphs:
                graphs.append(_in_graphs(draw, noise, captured))
            return (graphs[0] if graphs else draw)(noise).T

    return sample
