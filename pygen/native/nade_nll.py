"""Launcher of the C++ and the CUDA C++ kernels of nade_nll. CUDA: not yet run on a GPU."""

from collections.abc import Sequence

import torch
from torch import Tensor

from pygen._sums import column_sums
from pygen.models._program import NadeProgram, Unsupported
from pygen.models._sampling import binary_thresholds
from pygen.native._arguments import DTYPE_NAMES, on_gpu, strided, target
from pygen.reference import nade_nll as reference
from pygen.reference.bernoulli_nll import targets


class _Call:
    """Tensors as the kernels take them: contiguous, and on a CPU in the dtype that is computed in."""

    def __init__(self, input: Tensor, *parameters: Tensor) -> None:
        for t in (input, *parameters):
            strided(t)  # raises where there is nothing to read
        self.compiled, self.where = target(parameters[0])
        self.gpu = on_gpu((self.compiled, self.where))
        self.wide = torch.promote_types(parameters[0].dtype, torch.float32)
        self.parameters = [t.contiguous() if self.gpu else self.widened(t) for t in parameters]
        self.x = targets(input, self.wide).contiguous()
        self.sizes = (*input.shape, parameters[0].shape[1])
        self.dtype = DTYPE_NAMES[self.parameters[0].dtype]

    def widened(self, t: Tensor) -> Tensor:
        return t.to(self.wide).contiguous()

    def new(self, *shape: int) -> Tensor:
        return torch.empty(shape, dtype=self.wide, device=self.x.device)

    def plan(self) -> tuple[int, int, int]:
        return self.compiled.nade_nll_plan(self.dtype, *self.sizes)

    @property
    def given(self) -> tuple:
        return self.dtype, self.sizes, self.x.data_ptr(), _addresses(self.parameters[:3])


def _addresses(tensors: Sequence[Tensor]) -> tuple[int, ...]:
    return tuple(t.data_ptr() for t in tensors)


def forward(
    input: Tensor,  # [N, D]
    weight: Tensor,  # [D, H]
    hidden_bias: Tensor,  # [H]
    output_weight: Tensor,  # [D, H]
    output_bias: Tensor,  # [D]
) -> Tensor:
    """The logits [N, D]."""
    call = _Call(input, weight, hidden_bias, output_weight, output_bias)
    if call.gpu:
        partial = call.new(call.plan()[0], *input.shape)
        call.compiled.nade_nll_forward(*call.given, partial.data_ptr(), *call.where)
        return partial.sum(0) + call.widened(output_bias)
    logits = call.new(*input.shape)
    call.compiled.nade_nll_forward(*call.given, call.parameters[3].data_ptr(), logits.data_ptr(), *call.where)
    return logits


def backward(
    grad_logits: Tensor,  # [N, D]
    input: Tensor,  # [N, D]
    weight: Tensor,  # [D, H]
    hidden_bias: Tensor,  # [H]
    output_weight: Tensor,  # [D, H]
    needs: Sequence[bool],
) -> tuple[Tensor | None, ...]:
    """Gradients of input, weight, hidden_bias, output_weight and output_bias, None where they are not needed."""
    given = (input, weight, hidden_bias, output_weight)
    grads = _gradients(grad_logits, *given) if any(needs[1:4]) else (None,) * 3
    return (
        reference.grad_input(grad_logits, *given) if needs[0] else None,
        *(grad if n else None for grad, n in zip(grads, needs[1:4], strict=True)),
        column_sums(grad_logits).to(weight.dtype) if needs[4] else None,
    )


def _gradients(grad_logits: Tensor, *given: Tensor) -> list[Tensor]:
    """Of weight, hidden_bias and output_weight."""
    call = _Call(*given)
    g = call.widened(grad_logits)
    _, inputs, hidden = call.sizes
    shapes = (inputs, hidden), (hidden,), (inputs, hidden)
    if 0 in call.sizes:
        grads = [call.new(*shape).zero_() for shape in shapes]
    elif call.gpu:
        _, parts, numbers = call.plan()
        grads, workspace = [call.new(parts, *shape) for shape in shapes], call.new(numbers)
        arguments = g.data_ptr(), _addresses(grads), workspace.data_ptr()
        call.compiled.nade_nll_backward(*call.given, *arguments, *call.where)
        grads = [partial.sum(0) for partial in grads]
    else:
        grads = [call.new(*shape) for shape in shapes]
        call.compiled.nade_nll_backward(*call.given, g.data_ptr(), _addresses(grads), *call.where)
    return [grad.to(given[1].dtype) for grad in grads]


def draw(
    program: NadeProgram,
    levels: Tensor,  # [n, D], uint8
    u: Tensor,  # [n, D], float32
    known: Tensor | None,  # like levels
    known_mask: Tensor | None,  # like levels, bool
    temperature: float,
) -> None:
    """Fills `levels`, in one call."""
    compiled, where = target(levels)
    hidden, dtype = program.weight.shape[1], DTYPE_NAMES[program.weight.dtype]
    if on_gpu((compiled, where)) and hidden > (most := compiled.nade_nll_most_hidden(dtype, where[0])):
        raise Unsupported(f"{hidden} hidden units; shared memory has room for {most}")

    def in_turn(t: Tensor | None) -> Tensor | None:
        return t if t is None or program.turns is None else t[:, program.turns]

    parameters = [t.contiguous() for t in program.parameters]
    noise, known, known_mask = (in_turn(t) for t in (u, known, known_mask))
    assert noise is not None
    thresholds = binary_thresholds(noise, temperature)
    drawn = levels if program.turns is None else torch.empty_like(levels)
    compiled.nade_nll_draw(
        dtype,
        (*levels.shape, hidden),
        _addresses(parameters[:3]),
        parameters[3].data_ptr(),
        thresholds.data_ptr(),
        *(None if t is None else t.data_ptr() for t in (known, known_mask)),
        drawn.data_ptr(),
        *where,
    )
    if program.turns is not None:
        levels[:, program.turns] = drawn
