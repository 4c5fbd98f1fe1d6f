"""vector_quantize against distances by a matrix product, argmin, embedding and two losses as people put them together."""

from __future__ import annotations

from collections.abc import Callable

import harness
import pytest
import torch
import torch.nn.functional as F
from harness import DEVICE, Measurement, Work
from torch import Tensor

import pygen
from pygen.functional import vector_quantize

OP = "vector_quantize"
BETA = 0.25
# (N, D, H, K): the 32x32 latents of a VQ-VAE with 512 codes of 64 numbers, and larger codebooks of wider codes.
SHAPES = [(16, 64, 32, 512), (16, 256, 32, 1024), (16, 256, 32, 8192)]
LAYOUTS = ("contiguous", "channels_last")
DTYPES = (torch.float32,) if DEVICE.type == "cpu" else (torch.float32, torch.bfloat16)
CASES = [(shape, layout, dtype) for shape in SHAPES for layout in LAYOUTS for dtype in DTYPES]
CASES = [case for case in CASES if case[0][3] < 8192 or case[1] == "contiguous"]
DIRECTIONS = ("forward", "forward+backward")

Op = Callable[[Tensor, Tensor], tuple[Tensor, Tensor, Tensor]]
Case = tuple[tuple[int, int, int, int], str, torch.dtype]


def plain(input: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """As the field's repositories have it: |z|^2 + |e|^2 - 2 z.e of all pairs, argmin, embedding, two mse losses."""
    last = input.movedim(1, -1)
    rows = last.reshape(-1, last.shape[-1])
    distances = torch.addmm(
        rows.square().sum(1, keepdim=True) + codebook.square().sum(1), rows, codebook.t(), alpha=-2.0
    )
    indices = distances.argmin(1).view(last.shape[:-1])
    codes = F.embedding(indices, codebook).movedim(-1, 1)
    loss = F.mse_loss(codes, input.detach()) + BETA * F.mse_loss(input, codes.detach())
    return input + (codes - input).detach(), indices, loss


def by_cdist(input: Tensor, codebook: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    last = input.movedim(1, -1)
    indices = torch.cdist(last.detach().reshape(-1, last.shape[-1]), codebook.detach()).argmin(1).view(last.shape[:-1])
    codes = F.embedding(indices, codebook).movedim(-1, 1)
    loss = F.mse_loss(codes, input.detach()) + BETA * F.mse_loss(input, codes.detach())
    return input + (codes - input).detach(), indices, loss


def _providers() -> dict[str, Op]:
    torch._dynamo.reset()  # past eight shapes of one function Dynamo would quietly run it eagerly
    ops: dict[str, Op] = {"eager": plain, "cdist": by_cdist, "compiled": harness.compiled(plain)}
    for name, reason in pygen.backends().items():
        runs_here = name in (("cpu",) if DEVICE.type == "cpu" else ("triton", "cuda"))
        if reason is None and runs_here:
            ops[f"pygen {name}"] = lambda *t, name=name: vector_quantize(*t, beta=BETA, backend=name)
    return ops


def _work(op: Op, direction: str, input: Tensor, codebook: Tensor) -> Work:
    if direction == "forward":
        return lambda: op(input, codebook)
    leaves = [t.detach().requires_grad_() for t in (input, codebook)]

    def both() -> tuple[Tensor, ...]:
        quantized, _, loss = op(*leaves)
        return torch.autograd.grad((quantized, loss), leaves, (input, loss.new_ones(())))

    return both


def _errors(ops: dict[str, Op], input: Tensor, codebook: Tensor) -> dict[str, float]:
    """Of the loss and both gradients against float64 of the same indices, each over its largest value; fails where ours is
    wrong, or where a code lies further than the nearest by more than rounding."""
    last = input.movedim(1, -1).reshape(-1, input.shape[1]).double()
    least = torch.cat([torch.cdist(part, codebook.double()).amin(1) for part in last.split(1024)]).square()

    def check(name: str, op: Op) -> float:
        leaves = [t.detach().requires_grad_() for t in (input, codebook)]
        quantized, indices, loss = op(*leaves)
        grads = torch.autograd.grad((quantized, loss), leaves, (input, loss.new_ones(())))
        codes = codebook.double()[indices.reshape(-1)]
        apart = codes - last
        of_input = input.double() - BETA * 2 / input.numel() * apart.view(*indices.shape, -1).movedim(-1, 1)
        of_codes = torch.zeros_like(codebook, dtype=torch.float64).index_add(
            0, indices.reshape(-1), 2 / input.numel() * apart
        )
        truth = ((1 + BETA) * apart.square().mean(), of_input, of_codes)
        pairs = zip((loss, *grads), truth, strict=True)
        error = max(((a.double() - b).abs().max() / b.abs().max()).item() for a, b in pairs)
        allowed = 2**-8 if input.dtype == torch.bfloat16 else 1e-5
        far = ((apart.square().sum(1) - least) / (1 + least)).max().item()
        right = error <= allowed and far <= 1e-4
        assert right or not name.startswith("pygen "), f"{name} is off by {error}, a code by {far}"
        return error

    return harness.errors_of(ops, check)


def _inputs(case: Case) -> tuple[Tensor, Tensor]:
    (n, features, side, codes), layout, dtype = case
    g = torch.Generator().manual_seed(0)
    input = torch.randn(n, features, side, side, generator=g).to(DEVICE, dtype)
    if layout == "channels_last":
        input = input.contiguous(memory_format=torch.channels_last)
    return input, torch.randn(codes, features, generator=g).to(DEVICE, dtype)


def _case_id(case: Case) -> str:
    (n, features, side, codes), layout, dtype = case
    return f"[{n}, {features}, {side}, {side}] K={codes} {layout} {str(dtype).removeprefix('torch.')}"


@pytest.fixture(scope="module")
def group(request, collect) -> dict[str, Measurement]:
    case, direction = request.param
    inputs = _inputs(case)
    ops = _providers()
    errors = _errors(ops, *inputs)
    works = {name: _work(op, direction, *inputs) for name, op in ops.items()}
    # What must be moved: input read, quantized written; then input and the upstream gradient read, its gradient written.
    moved = 2 if direction == "forward" else 5
    measured = harness.compare(works, moved * inputs[0].numel() * inputs[0].element_size(), errors)
    collect(OP, _case_id(case), direction, measured)
    return measured


GROUPS = harness.groups(CASES, DIRECTIONS, _case_id)
NAMES = list(_providers())
NAMES += [f"{name} graphed" for name in NAMES] if DEVICE.type == "cuda" else []


@pytest.mark.parametrize("group", GROUPS, indirect=True)
@pytest.mark.parametrize("provider", NAMES)
def bench_vector_quantize(benchmark, group: dict[str, Measurement], provider: str) -> None:
    harness.record(benchmark, group[provider])
