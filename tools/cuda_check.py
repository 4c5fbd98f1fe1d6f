"""Compiles every CUDA and Triton kernel for GPUs that need not be there; prints registers, spills and shared memory.

    python tools/cuda_check.py [--only nvcc|triton] [--archs 90a,100] [--every 1] [--of crf,rbm] [--device-only] [--update]

Fails if anything does not compile, warns, spills more than TOLERATED, would hang or be refused, or if a Triton kernel takes
more than the committed tools/triton_resources.json says of the same Triton; --update writes that anew.
"""

import argparse
import itertools
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent
ARCHS = ("80", "90a", "100", "120")  # nvcc; Triton compiles for the first three
TRITON_ARCHS = (80, 90, 100)
NVCC_FLAGS = [
    "-std=c++17",
    "-O3",
    "-DNDEBUG",
    "--expt-relaxed-constexpr",
    "-Icsrc",
    "-Xptxas=-v",
    "-Werror=all-warnings",
]
NVCC_FLAGS.append("-Xcompiler=-fPIC,-fvisibility=hidden,-Wall,-Wextra,-Werror")
# Bytes a thread that are printed and not failed. Which of Triton's kernels spill a few differs between its versions, each of
# which brings its own ptxas, and between architectures; short rows and float64, which bandwidth does not bound.
TOLERATED = {"nvcc": 0, "triton": 32}


BASELINE = ROOT / "tools" / "triton_resources.json"
MORE_REGISTERS = 8  # than the baseline has: what a line of arithmetic may cost without a word


class Row(NamedTuple):
    arch: str
    kernel: str
    registers: int
    spills: int  # bytes
    shared: int  # bytes


def hangs(row: Row) -> bool:
    """Whether a kernel of warpgroups starts with other registers than it deals out (40 and twice 232 of 3 x 168): of fewer,
    setmaxnreg would wait for ever."""
    return row.arch == "sm_90a" and "_wgmma_" in row.kernel and row.registers != 168


def squeezed(row: Row) -> bool:
    """Whether a kernel of nvcc's, whose launches may take just the 48 KiB that each gets unasked, declares shared memory of its
    own: a launch that asks for no more is refused where the two together are more."""
    takes = r"nade_nll_draw|masked_(conv2d|linear)_(fwd|bwd_weight)_k|rbm_|pixel_lstm_|logistic_mixture_nll_"
    return row.shared > 0 and re.search(takes, row.kernel) is not None


def _plain_name(mangled: str) -> str:
    name = subprocess.run(["c++filt", mangled], capture_output=True, text=True, check=True).stdout.strip()
    name = re.sub(r"\(anonymous namespace\)::|pygen::cuda::|^void |\(.*\)$", "", name.replace("(bool)", ""))
    return re.sub(r", ([01])(?=[,>])", lambda m: ", true" if m[1] == "1" else ", false", name)


def nvcc(source: Path, arch: str, device_only: bool = False) -> list[Row]:
    """The resources of each kernel in `source`; raises RuntimeError with nvcc's message."""
    code = f"-gencode=arch=compute_{arch},code=sm_{arch}"
    with tempfile.TemporaryDirectory() as folder:
        command = [os.environ.get("NVCC", "nvcc"), *NVCC_FLAGS, code, "-cubin" if device_only else "-c"]
        command += [str(source), "-o", f"{folder}/out.o"]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if (
        done.returncode or "serialized" in done.stderr
    ):  # products that the compiler makes wait: no warning, though it may cost half
        raise RuntimeError(f"{source.name} for sm_{arch}:\n{done.stdout}{done.stderr}")
    rows = []
    for block in re.split(r"Compiling entry function ", done.stderr)[1:]:
        mangled = re.match(r"'(\w+)'", block)[1]
        spills = sum(map(int, re.findall(r"(\d+) bytes spill (?:stores|loads)", block)))
        shared = re.search(r"(\d+) bytes smem", block)
        registers = int(re.search(r"Used (\d+) registers", block)[1])
        rows.append(Row(f"sm_{arch}", _plain_name(mangled), registers, spills, int(shared[1]) if shared else 0))
    return rows


def all_nvcc(archs: list[str], device_only: bool = False) -> Iterator[Row]:
    jobs = [(source, arch) for arch in archs for source in sorted((ROOT / "csrc" / "cuda").glob("*.cu"))]
    with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count() or 1)) as pool:
        for rows in pool.map(lambda job: nvcc(*job, device_only), jobs):
            yield from sorted(rows, key=lambda row: row.kernel)


def all_triton(archs: list[int], every: int = 1, of: tuple[str, ...] = ("",)) -> Iterator[Row]:
    """of: words of which the name of an op's file in tools/triton_cases has one."""
    sys.path.insert(0, str(ROOT))
    from pygen.kernels import _aot

    from tools.triton_cases import cases

    for arch in archs:
        with _aot.compile_only(arch) as compiled:
            for op, name, call in itertools.islice(cases(), None, None, every):
                if not any(word in op for word in of):
                    continue
                compiled.clear()
                call()
                for c in compiled:
                    yield Row(f"sm_{arch}", f"{c.kernel} [{name}] {c.constants}", c.registers, c.stack, c.shared)


def worse(rows: list[Row], baseline: dict) -> list[str]:
    """What takes more than the baseline of the same Triton says; kernels that it does not know are new."""
    import triton

    if baseline["triton"] != triton.__version__:
        print(f"no comparison: the baseline is Triton {baseline['triton']}'s, this is {triton.__version__}")
        return []
    found, new = [], 0
    for row in rows:
        known = baseline["rows"].get(f"{row.arch} {row.kernel}")
        new += known is None
        if known and (row.registers > known[0] + MORE_REGISTERS or row.spills > known[1] or row.shared > known[2]):
            now = f"{row.registers} registers, {row.spills} bytes spilled, {row.shared} shared"
            found.append(f"{row.arch} {row.kernel}: {now}; the baseline has {', '.join(map(str, known))}")
    print(f"{len(rows) - new} Triton kernels compared with the baseline, {new} new")
    return found


def write_baseline(rows: list[Row], kept: dict[str, list[int]]) -> None:
    """kept: what the baseline says of other kernels."""
    import triton

    made = {f"{row.arch} {row.kernel}" for row in rows}
    most = {name: used for name, used in kept.items() if name not in made}
    for row in rows:  # a case may compile a kernel more than once, for arguments that Triton specialises on
        name, used = f"{row.arch} {row.kernel}", [row.registers, row.spills, row.shared]
        most[name] = [max(pair) for pair in zip(most.get(name, used), used, strict=True)]
    lines = [f"{json.dumps(name)}: {used}" for name, used in most.items()]
    head = f'{{"triton": "{triton.__version__}", "columns": ["registers", "bytes spilled", "bytes shared"], "rows": {{'
    BASELINE.write_text(head + "\n" + ",\n".join(lines) + "\n}}\n")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=("nvcc", "triton"))
    parser.add_argument("--archs", default=",".join(ARCHS), help="comma-separated, default %(default)s")
    parser.add_argument("--every", type=int, default=1, help="take one of so many of Triton's cases")
    parser.add_argument(
        "--device-only", action="store_true", help="nvcc: leave out the host's part, which takes a quarter"
    )
    parser.add_argument("--of", help="of Triton's cases those of these ops, crf,rbm: with --update other rows stay")
    parser.add_argument("--update", action="store_true", help="take Triton's figures as the baseline")
    options = parser.parse_args()
    if os.environ.pop("TRITON_INTERPRET", None):  # fixed when a kernel is decorated
        return subprocess.run([sys.executable, *sys.argv]).returncode
    archs = options.archs.split(",")
    sources = []
    if options.only != "triton":
        if not shutil.which(os.environ.get("NVCC", "nvcc")):
            print("no nvcc on PATH: the CUDA C++ is not checked")
            if options.only == "nvcc":
                return 1
        else:
            sources.append(("nvcc", all_nvcc(archs, options.device_only)))
    if options.only != "nvcc":
        numbers = [int(a.rstrip("a")) for a in archs]
        of = tuple((options.of or "").split(","))
        sources.append(("triton", all_triton([n for n in numbers if n in TRITON_ARCHS], options.every, of)))
    spilled, failing, of_triton = 0, 0, []
    print(f"{'arch':8}{'registers':>10}{'spilled':>9}{'shared':>8}  kernel")
    for compiler, rows in sources:
        for row in rows:
            of_triton += [row] if compiler == "triton" else []
            too_many = row.spills > TOLERATED[compiler]
            spilled += too_many
            refused = compiler == "nvcc" and squeezed(row)
            failing += hangs(row) or refused
            note = "  <- spills too much" if too_many else "  <- hangs in setmaxnreg" if hangs(row) else ""
            note += "  <- declares shared memory" if refused else ""
            print(f"{row.arch:8}{row.registers:>10}{row.spills:>9}{row.shared:>8}  {row.kernel}{note}", flush=True)
    if options.update:
        write_baseline(of_triton, json.loads(BASELINE.read_text())["rows"] if options.of else {})
    more = worse(of_triton, json.loads(BASELINE.read_text())) if of_triton else []
    for line in more:
        print(f"more than the baseline (if that is meant: --update): {line}")
    print(f"{spilled} kernels spill too much" if spilled else "every kernel compiles, none spills more than tolerated")
    return int(spilled > 0 or failing > 0 or bool(more))


if __name__ == "__main__":
    try:
        sys.exit(main())
    except RuntimeError as error:
        sys.exit(str(error))
