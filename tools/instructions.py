"""Counts the machine instructions of a file of csrc/cuda, kernel by kernel and loop by loop: what a GPU has to issue for so many
numbers. `python tools/instructions.py gan_loss --of 'fwd.*float'` needs nvcc; the disassembler comes with Triton.

A loop's count has every instruction between its first and its branch back, those of branches not taken too.
"""

import argparse
import re
import subprocess
import tempfile
from collections import Counter
from pathlib import Path

import triton

ROOT = Path(__file__).resolve().parents[1]
BIN = Path(triton.__file__).parent / "backends" / "nvidia" / "bin"
FLAGS = ("-std=c++17", "-O3", "-DNDEBUG", "--expt-relaxed-constexpr", f"-I{ROOT / 'csrc'}", "-cubin")
KINDS = {
    "special": r"MUFU",
    "float": r"F(FMA|ADD|MUL|SEL|SETP|MNMX|CHK)|H(FMA|ADD|MUL|SETP)2",
    "double": r"D(FMA|ADD|MUL|SETP)",
    "conversion": r"F2F|I2F|F2I",
    "memory": r"U?LD|ST|ATOM|RED",
    "control": r"BRA|BSSY|BSYNC|EXIT|CALL|RET|BAR|SHFL|WARPSYNC|BREAK",
}  # the others are whole numbers and moves

Instruction = tuple[int, str]  # address, text


def disassembled(source: Path, arch: str) -> dict[str, list[Instruction]]:
    with tempfile.TemporaryDirectory() as there:
        cubin = Path(there) / "kernels.cubin"
        subprocess.run(["nvcc", *FLAGS, f"-arch={arch}", "-o", cubin, source], check=True)
        text = subprocess.run([BIN / "cuobjdump", "-sass", cubin], capture_output=True, text=True, check=True).stdout
    kernels: dict[str, list[Instruction]] = {}
    for line in text.splitlines():
        if found := re.search(r"Function : (\S+)", line):
            name = subprocess.run(["c++filt", found[1]], capture_output=True, text=True, check=True).stdout.strip()
            current = kernels.setdefault(re.sub(r"pygen::(cuda::)?|\(anonymous namespace\)::", "", name), [])
        elif found := re.match(r"\s+/\*([0-9a-f]{4,})\*/\s+(.*?);", line):
            current.append((int(found[1], 16), found[2].strip()))
    return kernels


def kind(text: str) -> str | None:
    op = re.sub(r"^@!?U?P\w+\s+", "", text).split()[0]
    if op.startswith("NOP"):
        return None
    return next((name for name, pattern in KINDS.items() if re.match(pattern, op)), "integer")


def counted(kernel: list[Instruction], first: int = 0, last: int | None = None) -> str:
    kinds = Counter(kind(t) for at, t in kernel if first <= at and (last is None or at <= last))
    del kinds[None]
    return f"{kinds.total():6d}   " + "  ".join(f"{name} {n}" for name, n in kinds.most_common())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("stem", help="of csrc/cuda/<stem>.cu")
    parser.add_argument("--of", default="", help="a pattern that the kernel's name, with its types, must hold")
    parser.add_argument("--arch", default="sm_90a")
    options = parser.parse_args()
    for name, kernel in disassembled(ROOT / "csrc" / "cuda" / f"{options.stem}.cu", options.arch).items():
        if not re.search(options.of, name):
            continue
        print(name, f"\n  whole {counted(kernel)}")
        for at, text in kernel:
            back = re.search(r"\bBRA\b.*?(0x[0-9a-f]+)", text)
            if back and int(back[1], 16) < at:
                print(f"  loop  {counted(kernel, int(back[1], 16), at)}")


if __name__ == "__main__":
    main()
