"""Errors against float64, beside plain PyTorch's in the same dtype, and the noise's moments: make accuracy, docs/accuracy.md.

    ratio = max|ours - ref| / (max|eager - ref| + 2 eps max|ref|)

of every output and gradient of random calls (tests/fuzz.py draws them; values of ordinary size). `ref` is the composition in
float64 of the same rounded inputs, `eager` the composition as people write it, in the dtype itself.
"""

import argparse
import contextlib
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))
import conftest  # noqa: E402, F401
import fuzz  # noqa: E402
import host_cuda  # noqa: E402
import numpy as np  # noqa: E402
import pytest  # noqa: E402
import torch  # noqa: E402

WORST, USUAL = 2.0, 1.2
HOST = "cuda on the host"
FEWER = {"triton": 50, HOST: 10}  # an interpreter and fibers: so many times fewer calls
MOST = {"triton": 300, HOST: 3000}  # elements


def ratio(ours: torch.Tensor, ref: torch.Tensor, eager: torch.Tensor) -> float | None:
    finite = ref.to(ours.dtype).isfinite()
    if not finite.any():
        return None
    largest = ref[finite].abs().max().item()
    eager_error = (eager.double() - ref)[finite].abs().nan_to_num(float("inf"), float("inf")).max().item()
    error = (ours.double() - ref)[finite].abs().max().item()
    scale = eager_error + 2 * torch.finfo(ours.dtype).eps * largest
    return error / scale if scale > 0 else (0.0 if error == 0 else float("inf"))


@contextlib.contextmanager
def kernels_of(backend: str) -> Iterator[list]:
    """What is called on the C++ backend runs on the CUDA kernels instead, if those are asked for; a list of those calls."""
    calls: list = []
    with pytest.MonkeyPatch.context() as patch:
        if backend == HOST:
            compiled = host_cuda.run_native_on(patch)
            for launcher in host_cuda.LAUNCHERS:
                patch.setattr(launcher, "target", lambda t: calls.append(t) or (compiled, (0, 0)))
        yield calls


def backends_of(op: fuzz.Op) -> list[str]:
    names = fuzz.backends_of(op)
    return [*names, HOST] if "cpu" in names and host_cuda.toolkit_headers() else names


def measure(
    cases: int, seed: int, backends: tuple[str, ...], only: tuple[str, ...]
) -> dict[tuple[str, str, str, str], list[tuple[float, int]]]:
    found = defaultdict(list)
    for op_id, op in fuzz.BY_ID.items():
        if op.judge or (only and op.name not in only):
            continue  # of a sampler: decisions, not numbers
        for backend in backends_of(op):
            if backend not in backends:
                continue
            for number in range(max(1, cases // FEWER.get(backend, 1))):
                case = fuzz.draw(seed, number, (op.name,))
                elements = sum(torch.Size(s).numel() for s in case.shapes.values())
                if case.op != op_id or elements > MOST.get(backend, 10**6):
                    continue
                for name, dtype in fuzz.DTYPES.items():
                    if name == "float64":
                        continue  # no wider truth; tests/fuzz.py holds it to 64 eps of the reference
                    runs = "cpu" if backend == HOST else backend
                    one = replace(case, backend=runs, dtype=name, values="normal", layouts={}, isa=None, wanted=None)
                    one = replace(one, upstream=())
                    tensors = fuzz.tensors_of(one)
                    with kernels_of(backend) as calls:
                        outputs, grads = fuzz.answers(
                            one, lambda t, o=one, p=op: p.run(t, o.options, o.backend), tensors
                        )
                    if backend == HOST and not calls:
                        continue  # nothing to launch, or no such kernel
                    ref, ref_grads = fuzz.truth(one, tensors, torch.float64)
                    eager, eager_grads = fuzz.truth(one, tensors, dtype)
                    for direction, rows in (
                        ("forward", zip(outputs, ref, eager, strict=True)),
                        ("backward", zip(grads, ref_grads, eager_grads, strict=True)),
                    ):
                        for got, r, e in rows:
                            if got is not None and r is not None and e is not None and got.numel():
                                value = ratio(got, r.double(), e)
                                if value is not None:
                                    found[op.name, backend, name, direction].append((value, number))
    return found


def kept(page: str, only: tuple[str, ...]) -> tuple[list[str], list[str], str]:
    """Of the page as it is the rows and the calls of other ops, and its last chapter."""
    body, _, end = page.partition("\n## Noise\n") if only else ("", "", "")
    lines = [line for line in body.splitlines() if not line.startswith(tuple(f"{m} {o}" for m in "|-" for o in only))]
    rows = [line for line in lines if line.count(" | ") == 7][2:]
    return rows, [line for line in lines if line.startswith("- ")], f"\n## Noise\n{end}"


def report(found: dict, cases: int, seed: int, rows: list[str], calls: list[str]) -> str:
    """rows, calls: of ops that have not been measured."""
    lines = [
        "# Accuracy",
        "",
        f"Written by `make accuracy` (tools/accuracy.py), seed {seed}, up to {cases} random calls of each op.",
        "The largest error of a result against float64, over plain PyTorch's in the same dtype plus 2 eps of the largest",
        f"value. Goals: at most {WORST:g}, and {USUAL:g} in 99 of 100 results. Beyond the goal: in bold.",
        "triton: under its interpreter, fewer and smaller calls; so too cuda on the host: CUDA C++ compiled by g++",
        "(tests/cuda_host). Neither has yet run on a GPU.",
        "",
        "| op | backend | dtype | direction | results | median | 99th percentile | worst |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    made = list(rows)
    for (op, backend, dtype, direction), results in found.items():
        values = np.array([v for v, _ in results])
        usual, worst = np.percentile(values, 99), values.max()
        mark = lambda v, goal: f"**{v:.2f}**" if v > goal else f"{v:.2f}"  # noqa: E731
        made.append(
            f"| {op} | {backend} | {dtype} | {direction} | {len(values)} | {np.median(values):.2f} | "
            f"{mark(usual, USUAL)} | {mark(worst, WORST)} |"
        )
    lines += sorted(made, key=lambda row: row.split(" | ")[:4])
    beyond = sorted({(op, n) for (op, *_), results in found.items() for value, n in results if value > WORST})
    calls = list(calls)
    for op, number in beyond:
        case = fuzz.draw(seed, number, (op,))
        calls.append(f"- {op}, call {number}: {dict(case.shapes)}, {dict(case.options)}")
    if calls:
        lines += [
            "",
            "Beyond the goal. Where one number is the sum of many that cancel, its error beside eager's is chance. The",
            "reference's log_softmax gives a small loss of am_softmax (3e-11) as 0 in float32, as F.cross_entropy would; the",
            "kernels keep it. A spline of one bin (params of 2 numbers a channel) is the identity, its log-determinant 0: inf",
            "where plain PyTorch gives just that and a kernel a rounding error. Of splines one steep element has a tensor's",
            "largest error; over 20,000 of them the kernels' errors are below plain PyTorch's (the op's page).",
            "",
        ]
    lines += sorted(calls, key=lambda call: call.partition(",")[0])
    return "\n".join(lines) + "\n"


def noise(draws: int) -> str:
    """Moments and tails of `draws` normals of the C++ kernel, and repeats over consecutive calls."""
    from scipy import stats

    from pygen.functional import reparameterize_kl

    chunk = 5_000_000
    sums, tails, seen = np.zeros(4), {3.0: 0, 4.0: 0, 5.0: 0}, 0
    zero = torch.zeros(chunk)
    torch.manual_seed(2026)
    repeats, previous = 0, None
    while seen < draws:
        z = reparameterize_kl(zero, zero)[0].double()
        sums += [z.pow(p).sum().item() for p in (1, 2, 3, 4)]
        for limit in tails:
            tails[limit] += int((z.abs() > limit).sum())
        if previous is not None:
            repeats += int(np.isin(z[:100_000].numpy(), previous).sum())
        previous = z[:100_000].numpy()
        seen += chunk
    n = float(seen)
    expected, spread = (0, 1, 0, 3), (1, 2, 15, 96)
    lines = ["", "## Noise", "", f"{seen:.0e} normals of the C++ kernel, {seen // chunk} calls after one `manual_seed`.", "",
             "| quantity | found | expected | standard deviations off |", "| --- | --- | --- | --- |"]  # fmt: skip
    for p in range(4):
        mean = sums[p] / n
        lines.append(
            f"| mean of z^{p + 1} | {mean:.6f} | {expected[p]} | {(mean - expected[p]) / (spread[p] / n) ** 0.5:+.2f} |"
        )
    for limit, count in tails.items():
        wanted = 2 * stats.norm.sf(limit) * n
        lines.append(f"| draws beyond {limit:g} | {count} | {wanted:.1f} | {(count - wanted) / wanted**0.5:+.2f} |")
    lines += [
        "",
        f"Equal float32 values in the first 10^5 draws of one call and of the next: {repeats} "
        "(some are due: float32 has few values near 0; equal words would give 10^5 in each pair).",
        "The integers are equal on every backend, word for word: tests/test_noise.py, tests/test_triton_noise.py and",
        "tests/test_cuda_host.py hold them to NumPy's and to the published known answers.",
        "No package of a battery (PractRand, TestU01, dieharder) was to be had; Philox4x32-10 passes TestU01's BigCrush by its",
        "authors' account (SC'11), and the words here are theirs.",
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--draws", type=float, default=1e8)
    parser.add_argument("--backends", default=f"cpu,composite,reference,triton,{HOST}")
    parser.add_argument("--only", default="", help="ops, the rows of which are put into the page as it is")
    options = parser.parse_args()
    page = ROOT / "docs" / "accuracy.md"
    only = tuple(name for name in options.only.split(",") if name)
    rows, calls, end = kept(page.read_text(), only)
    found = measure(options.cases, options.seed, tuple(options.backends.split(",")), only)
    text = report(found, options.cases, options.seed, rows, calls) + (end if only else noise(int(options.draws)))
    page.write_text(text)
    print(text)


if __name__ == "__main__":
    main()
