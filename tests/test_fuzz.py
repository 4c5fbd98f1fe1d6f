"""A fixed budget of fuzz.py's cases, and the tests of the fuzzer: it must find what is planted, and shrink it."""

import itertools
import random

import fuzz
import fuzz_moves
import fuzz_refusals
import pytest
import torch
from registry import OPS, SAMPLERS

SEED = 20
SLICES = 8


@pytest.mark.parametrize("part", range(SLICES))
def test_fuzz_finds_no_wrong_answer(part):
    for number in range(part, 320, SLICES):
        case = fuzz.draw(SEED, number)
        if case.backend == "triton":
            continue  # a second each; `make fuzz` has them
        try:
            fuzz.check(case)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{fuzz.shrunk(case).snippet()}") from error


@pytest.mark.parametrize("part", range(2))
def test_fuzz_finds_no_spoilt_call_that_is_not_refused(part):
    for number in range(part, 160, 2):
        case = fuzz.draw(SEED + 1, number)
        if case.backend != "triton":
            fuzz_refusals.check_refusal(case, number)


def test_a_spoilt_call_that_needs_no_memory_is_compared_without_reading_it():
    """Torch's own operations would have ended the process."""
    case = fuzz.Case("reparameterize_kl/z,kl", {"mu": (3, 5, 0), "logvar": ()}, dtype="bfloat16")
    freed = 0
    for number in range(200):
        if "freed" in fuzz_refusals.spoil(case, random.Random(number))[2]:
            assert fuzz_refusals.check_refusal(case, number) in ("accepted", "refused")
            freed += 1
    assert freed


FOUND = {  # once
    "eps of nothing read the seed that was not there": fuzz.Case(
        "reparameterize_kl/z,kl", {"mu": (16, 0, 8), "logvar": (16, 0, 8), "eps": (16, 0, 8)}, {"reduction": "none"}
    ),
    "the split gave torch an image of no width": fuzz.Case(
        "masked_conv2d/output",
        {"input": (4, 9, 1, 0), "weight": (17, 9, 3, 5)},
        {"mask_type": "B"},
        backend="composite",
    ),
    "the composite of masked_linear guessed the rows of a matrix without columns": fuzz.Case(
        "masked_linear/output",
        {"input": (3, 0), "weight": (2, 0), "bias": (2,)},
        {"in_degrees": (), "out_degrees": (0, 1), "strict": False},
        backend="composite",
    ),
    "the reference's slopes of the gate had lost their digits in the tails": fuzz.Case(
        "gated_activation/output", {"input": (2, 2)}, dtype="float64", values="large", seed=854747696
    ),
    "gradients that cancel to the last bits of label_smoothing": fuzz.Case(
        "discriminator_loss/loss",
        {"real": (), "fake": (2,)},
        {"label_smoothing": 0.49},
        values="small",
        seed=1401183389,
    ),
    "torch adds number after number where the summed dims are scattered": fuzz.Case(
        "gaussian_kl/kl", {"mu": (1, 1, 512, 2, 2), "logvar": (1, 1, 2, 1)}, seed=1971392303
    ),
    "a sum of thousands of draws depends on the last bits of each": fuzz.Case(
        "reparameterize_kl/z,kl",
        {"mu": (33, 31, 1, 1, 4), "logvar": ()},
        {"free_bits": 2, "seed": -(2**63)},
        values="special",
        seed=1323387994,
        upstream=("stride 0", "stride 0"),
        isa="baseline",
    ),
    "minimal filtering made NaN of infinite pixels": fuzz.Case(
        "masked_conv2d/output",
        {"input": (1, 51, 2, 4), "weight": (24, 51, 3, 3), "bias": (24,)},
        {"mask_type": "B"},
        values="special",
        seed=800081512,
    ),
    "classes without features": fuzz.Case(
        "nce_loss/nll",
        {"input": (3, 0), "weight": (2, 0), "target": (3,), "noise": (2,), "negatives": (3, 4), "bias": (2,)},
        backend="reference",
    ),
    "equal weights and gradients, whose rounding errors all have one sign": fuzz.Case(
        "masked_conv2d/output",
        {"input": (1, 21, 2, 7), "weight": (46, 21, 5, 7)},
        {"mask_type": "A"},
        seed=1475332830,
        layouts={"weight": "expanded"},
        upstream=("stride 0",),
    ),
}


@pytest.mark.parametrize("name", FOUND)
def test_what_fuzzing_found_stays_found(name):
    fuzz.check(FOUND[name])


@pytest.mark.parametrize("op", [*OPS, *SAMPLERS], ids=str)
def test_a_tensor_whose_memory_was_freed_is_refused(op):
    """As FSDP leaves parameters: never read, and never taken for an argument that was not given."""
    names = op.sample("odd everything").tensors
    for name, dtype in itertools.product(names, (torch.float32, torch.bfloat16)):
        sample = op.sample("odd everything")
        tensors = sample.cast(dtype)
        if dtype == torch.bfloat16:  # what must be converted, and does not lie together
            tensors[name] = torch.stack((tensors[name], tensors[name]), -1)[..., 0]
        tensors[name].untyped_storage().resize_(0)
        for backend in fuzz.backends_of(op):
            if backend == "cpu":  # torch's own operations do read it
                with pytest.raises(RuntimeError, match=r"without memory|out of bounds for storage"):
                    op.run(tensors, sample.options, backend)


def test_fuzz_draws_every_row_and_the_same_case_again():
    cases = [fuzz.draw(3, i) for i in range(200)]
    assert {c.op for c in cases} == set(fuzz.BY_ID) and len(fuzz.BY_ID) == len(OPS) + len(SAMPLERS)
    assert cases == [fuzz.draw(3, i) for i in range(200)]
    assert {fuzz.BY_ID[c.op].name for c in (fuzz.draw(3, i, ("gaussian_kl", "cpu")) for i in range(20))} == {
        "gaussian_kl"
    }


@pytest.mark.parametrize("op", SAMPLERS, ids=str)
def test_fuzz_judges_a_single_wrong_draw(op):
    sample = op.sample("odd everything")
    options = {**sample.options, "seed": 11}
    first, *rest = op.composite(sample.tensors, options)
    op.judge(sample.tensors, options, first, *rest)
    wrong = first.clone()
    wrong[-1, -1] = torch.where(first[-1, -1] > 0, 0, 1)
    with pytest.raises(AssertionError, match="first"):
        op.judge(sample.tensors, options, wrong, *rest)


def _wrong_where(op, spoil):
    """The op's call, its first output spoilt."""
    call = op.call

    def wrong(tensors, options, backend):
        outputs = call(tensors, options, backend)
        return (spoil(outputs[0], tensors), *outputs[1:]) if backend != "reference" else outputs

    return wrong


@pytest.mark.parametrize("op", [op for op in OPS if op.name in ("reparameterize_kl", "masked_conv2d")], ids=str)
def test_fuzz_finds_and_shrinks_a_planted_fault(op, monkeypatch):
    """A fault of non-contiguous inputs alone."""

    def spoil(out, tensors):
        first = next(iter(tensors.values()))
        return out * 1 if first.is_contiguous() or out.numel() == 0 else out * (1 + 2.0**-4)

    planted = {**op.__dict__, "call": _wrong_where(op, spoil)}
    monkeypatch.setitem(fuzz.BY_ID, f"{op.name}/{','.join(op.outputs)}", type(op)(**planted))
    for number in range(60):
        case = fuzz.draw(7, number, (op.name, "cpu"))
        if not fuzz.fault(case):
            continue
        small = fuzz.shrunk(case)
        assert fuzz.fault(small), "the shrunk case does not fail"
        assert set(small.layouts) == {next(iter(case.shapes))}, small
        assert sum(torch.Size(s).numel() for s in small.shapes.values()) <= 60, small
        assert "layouts=" in small.snippet()
        return
    raise AssertionError("60 cases did not find it")


@pytest.mark.parametrize("dtype", (torch.float32, torch.float64))
def test_the_judge_moves_each_stored_number_by_one_ulp(dtype):
    eps, t = torch.finfo(dtype).eps, torch.ones(3, dtype=dtype)
    for each in (t, t[:1].expand(50), torch.ones(2, 40, dtype=dtype)):
        moved = fuzz_moves.nudged(each, eps, torch.Generator().manual_seed(1)) - 1
        assert moved.dtype == torch.float64 and (moved.abs() == eps).all()
        assert (moved == moved[0]).all() == (0 in each.stride())


def test_fuzz_judges_a_sum_that_cancels_but_not_a_wrong_one():
    case = fuzz.Case("discriminator_loss/loss", {"real": (63,), "fake": (77,)}, {"kind": "wasserstein"}, seed=5)
    tensors = fuzz.tensors_of(case)
    (ref,), _ = fuzz.truth(case, tensors, torch.float64)
    assert fuzz.explained(case, tensors, 0, (ref + 2.0**-25).float(), ref)
    assert not fuzz.explained(case, tensors, 0, (ref + 2.0**-17).float(), ref)
