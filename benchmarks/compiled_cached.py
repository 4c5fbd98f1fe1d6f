"""The cached sampler as `torch.compile` would have it: one graph for a row's early streams and one for a pixel, or for one of
MADE's steps, of static shapes, with the place as a tensor, so that nothing compiles twice. On a GPU also a whole row, or all of
MADE's steps, as one CUDA graph. Where streams have strides, one graph for each kind of pixel, and as many rows as repeat. A
competitor, not an engine; not yet run on a GPU.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from pygen.models import _sampling
from pygen.models._mixture import Mixture
from pygen.models._program import Conv, DenseProgram, Elu, Gate, MultiScaleProgram, Program, Up, scaled_levels

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
    torch._dynamo.config.recompile_limit = 64  # kinds of pixels
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


def _noise(u: Tensor, num_levels: int, dtype: torch.dtype, of_mixture: bool = False) -> Tensor:
    return _sampling.binary_thresholds(u, 1.0).to(dtype) if num_levels == 2 and not of_mixture else u


def _pixels(
    program: Program, n: int, height: int, width: int, compiled: Callable, captured: Callable | None
) -> Sampler:
    like, groups, levels = program.like, program.groups, program.num_levels
    each, strides = program.in_channels // groups, program.strides
    period = max(strides)
    margin = max(abs(dx) for stage in program.stages if isinstance(stage, Conv) for _, dx in stage.taps)
    back = program.rows_back()
    widths = [-(-width // stride) for stride in strides]
    # Of each stream its rows, the present one last: [rows, margin + W + margin, n, C].
    shapes = zip(back, widths, program.channels, strict=True)
    rows = [like.new_zeros(b + 1, w + 2 * margin, n, c) for b, w, c in shapes]
    stages = list(enumerate(program.stages, start=1))
    matrices: dict = {s: _columns(stage.weight) for s, stage in stages if isinstance(stage, Conv)}
    for s, stage in stages:
        if isinstance(stage, Up):
            matrices |= {(s, i): _columns(weight) for i, (_, weight) in enumerate(stage.phases)}
    scaled = scaled_levels(program)

    def gated(x: Tensor, blocks: int, linear: bool) -> Tensor:
        a, b = x.unflatten(-1, (blocks, -1)).chunk(2, -1)
        return ((a if linear else torch.tanh(a)) * torch.sigmoid(b)).flatten(-2)

    def eluted(x: Tensor, concat: bool) -> Tensor:
        return nn.functional.elu(torch.cat([x, -x], -1) if concat else x)

    def pixels(s: int) -> Tensor:
        """Of the present row."""
        return rows[s][-1, margin : margin + widths[s]]

    def early_row(y: int) -> None:
        """y: of the image, as far as the period tells."""
        for s, stream in enumerate(rows):
            if y % strides[s]:
                continue
            if len(stream) > 1:
                stream[:-1].copy_(stream[1:].clone())
            stream[-1].zero_()
            if s == 0:
                pixels(0)[..., program.in_channels :] = 1
        for s, stage in stages:
            if not program.early[s] or y % strides[s]:
                continue
            source, out = rows[stage.source], pixels(s)
            if isinstance(stage, Gate):
                made = gated(pixels(stage.source), stage.groups, stage.linear)
            elif isinstance(stage, Elu):
                made = eluted(pixels(stage.source), stage.concat)
            elif isinstance(stage, Up):
                columns = []
                for phase in (2 * (y // strides[s] % 2), 2 * (y // strides[s] % 2) + 1):
                    taps = stage.phases[phase][0]
                    window = torch.cat([source[-1, margin + dx :][: widths[stage.source]] for _, dx in taps], -1)
                    columns.append(window @ matrices[s, phase])
                made = torch.stack(columns, 1).flatten(0, 1)[: widths[s]]
                made = made if stage.bias is None else made + stage.bias
            else:
                step = strides[s] // strides[stage.source]
                span = step * (widths[s] - 1) + 1
                taps = [source[dy - 1, margin + dx :][:span:step] for dy, dx in stage.taps]
                made = torch.zeros_like(out)
                if taps:
                    window = torch.cat(taps, -1).flatten(0, 1)
                    window = window.relu() if stage.relu else window
                    made = (window @ matrices[s]).view_as(out)
                made = made if stage.bias is None else made + stage.bias
            add = getattr(stage, "add", None)
            out.copy_(made if add is None else made + pixels(add))

    def block(s: int, g: int) -> slice:
        size = program.channels[s] // groups
        return slice(g * size, (g + 1) * size)

    def read(s: int, at: dict[int, Tensor], dx: int, present: dict[int, Tensor]) -> Tensor:
        """[n, C] of the pixel dx from where the stream is now."""
        made_now = dx == 0 and s in present
        return present[s] if made_now else rows[s][-1].index_select(0, at[strides[s]] + dx)[0]

    def conv(s: int, stage: Conv, g: int, at: dict[int, Tensor], present: dict[int, Tensor]) -> Tensor:
        """[n, c] of group g at column `at`; what later groups of the pixel hold is zero or has dead weights."""
        pieces = [read(stage.source, at, dx, present) for _, dx in stage.taps]
        of = block(s, g)
        made = like.new_zeros(n, of.stop - of.start)
        if pieces:
            window = torch.cat(pieces, -1)
            made = (window.relu() if stage.relu else window) @ matrices[s][:, of]
        return made if stage.bias is None else made + stage.bias[of]

    def decided(params: Tensor, noise: Tensor, g: int) -> Tensor:
        """Levels [n, c] of group g; of a mixture all channels, one after the other."""
        if isinstance(program, MultiScaleProgram):
            drawn = torch.zeros(n, each, dtype=torch.int64, device=like.device)
            for c in range(each):
                mixture = Mixture.of(params, drawn, levels, program.min_log_scale)[:, c]
                drawn = torch.cat([drawn[:, :c], mixture.decide(noise[:, c]).unsqueeze(1), drawn[:, c + 1 :]], 1)
            return drawn
        of = slice(g * each, (g + 1) * each)
        logits = params[:, of.start * levels : of.stop * levels].unflatten(1, (each, levels))
        return _decide(logits, noise[:, of])

    def pixel(places: list[Tensor], noise: Tensor, y: int, x: int) -> Tensor:
        """places: the column in streams of stride 1, 2, 4, .., [1] each; noise [n, C] -> levels [n, C]."""
        at = {1 << i: place for i, place in enumerate(places)}
        late = [(s, stage) for s, stage in stages if not (program.early[s] or y % strides[s] or x % strides[s])]
        present = {s: like.new_zeros(n, program.channels[s]) for s in (0, *(s for s, _ in late))}
        present[0][:, program.in_channels :] = 1
        drawn = []
        for g in range(groups):
            for s, stage in late:
                if isinstance(stage, Conv):
                    made = conv(s, stage, g, at, present)
                elif isinstance(stage, Up):
                    phase = 2 * (y // strides[s] % 2) + x // strides[s] % 2
                    made = read(stage.source, at, 0, present) @ matrices[s, phase]
                    made = made if stage.bias is None else made + stage.bias
                elif isinstance(stage, Elu):
                    made = eluted(read(stage.source, at, 0, present), stage.concat)
                else:
                    double = program.channels[stage.source] // groups
                    source = read(stage.source, at, 0, present)
                    made = gated(source[:, g * double : (g + 1) * double], 1, stage.linear)
                if getattr(stage, "add", None) is not None:
                    made = made + read(stage.add, at, 0, present)[:, block(s, g)]
                present[s] = torch.cat(
                    [present[s][:, : block(s, g).start], made, present[s][:, block(s, g).stop :]], -1
                )
            of = slice(g * each, (g + 1) * each)
            drawn.append(decided(present[len(stages)], noise, g))
            present[0] = torch.cat([present[0][:, : of.start], scaled[drawn[-1]], present[0][:, of.stop :]], -1)
        for s in kept:
            if s in present:
                rows[s][-1].index_copy_(0, at[strides[s]], present[s].unsqueeze(0))
        return torch.cat(drawn, -1)

    # Late streams that a later pixel or row reads.
    reads = [(stage.source, tap) for stage in program.stages if isinstance(stage, Conv) for tap in stage.taps]
    reads += [(stage.source, (1, 1)) for stage in program.stages if isinstance(stage, Up)]
    kept = sorted({s for s, tap in reads if tap != (0, 0) and not program.early[s]})
    early_row, pixel = compiled(early_row), compiled(pixel)
    scales = period.bit_length()
    places = [[torch.tensor([margin + x // (1 << i)], device=like.device) for i in range(scales)] for x in range(width)]

    def some_rows(noise: Tensor) -> Tensor:  # [rows, W, n, C] both, from a multiple of the period on
        drawn = []
        for y, of_row in enumerate(noise):
            early_row(y % period)
            drawn.append(torch.stack([pixel(places[x], of_row[x], y % period, x % period) for x in range(width)]))
        return torch.stack(drawn)

    graphs: dict[int, Sampler] = {}

    def sample(u: Tensor) -> Tensor:
        with torch.no_grad():
            noise = _noise(u, levels, like.dtype, isinstance(program, MultiScaleProgram))
            noise = noise.permute(2, 3, 0, 1).contiguous()  # [H, W, n, C]
            parts = noise.split(period)
            if captured and not graphs:
                graphs.update(
                    (len(part), _in_graphs(some_rows, part, captured)) for part in {len(p): p for p in parts}.values()
                )
            for stream in rows:
                stream.zero_()
            drawn = [(graphs[len(part)] if graphs else some_rows)(part) for part in parts]
            return torch.cat(drawn).permute(2, 3, 0, 1)

    return sample


def _columns(weight: Tensor) -> Tensor:
    """[T * Cin, Cout] of [T, Cout, Cin]."""
    return weight.transpose(1, 2).flatten(0, 1).contiguous()


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
    scaled = scaled_levels(program)
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
