"""Fuzzes every op: python tools/fuzz.py --cases 1000 --seed 1 [--only masked_conv2d,cpu] [--first 0]

Of five cases four compare a random call with plain PyTorch (tests/fuzz.py), one spoils a call (tests/fuzz_refusals.py). Works in
slices, each a process of its own, so that the death of one is counted as a failure of the case it died in and not the end.
"""

import argparse
import collections
import json
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SLICE = 2000


def work(seed: int, first: int, last: int, only: tuple[str, ...], progress: Path) -> None:
    """Runs cases first .. last - 1; writes each one's number before it, and what it found, one JSON object a line."""
    sys.path.insert(0, str(ROOT / "tests"))
    import conftest  # noqa: F401  (sets up threads and the interpreter)
    import fuzz
    import fuzz_refusals

    with progress.open("w") as log:
        for number in range(first, last):
            log.write(json.dumps({"start": number}) + "\n")
            log.flush()
            case = fuzz.draw(seed, number, only)
            spoilt = number % 5 == 4
            found = {
                "number": number,
                "op": fuzz.BY_ID[case.op].name,
                "backend": case.backend or "chosen",
                "dtype": case.dtype,
            }
            try:
                found["verdict"] = fuzz_refusals.check_refusal(case, number) if spoilt else fuzz.check(case)
            except Exception as error:
                found["error"] = f"{type(error).__name__}: {error}"[:1500]
                text = fuzz_refusals.snippet(case, number) if spoilt else fuzz.shrunk(case).snippet()
                found |= {"verdict": "FAILED", "snippet": text}
            log.write(json.dumps(found) + "\n")


def run(seed: int, first: int, cases: int, only: tuple[str, ...]) -> list[dict]:
    """What was found of each case, deaths included."""
    found: list[dict] = []
    at, end = first, first + cases
    with tempfile.TemporaryDirectory() as folder:
        progress = Path(folder) / "progress"
        while at < end:
            last = min(at + SLICE, end)
            command = [sys.executable, __file__, "--work", str(progress), "--seed", str(seed), "--first", str(at)]
            command += ["--cases", str(last - at), "--only", ",".join(only)]
            code = subprocess.run(command).returncode
            lines = [json.loads(line) for line in progress.read_text().splitlines()] if progress.exists() else []
            found += [line for line in lines if "number" in line]
            if code == 0:
                at = last
                bad = [line["number"] for line in found if line["verdict"] in ("FAILED", "DIED")]
                print(f"{at - first} of {cases} cases; failed: {bad or 'none'}", flush=True)
                continue
            dead = max((line["start"] for line in lines if "start" in line), default=at)
            again = f".venv/bin/python tools/fuzz.py --seed {seed} --first {dead} --cases 1"
            found.append({"number": dead, "op": "?", "backend": "?", "dtype": "?", "verdict": "DIED",
                          "error": f"the process ended with {code}", "snippet": again})  # fmt: skip
            at = dead + 1
            progress.unlink(missing_ok=True)
    return found


def report(found: list[dict], seed: int, seconds: float) -> int:
    for line in found:
        if line["verdict"] in ("FAILED", "DIED"):
            print(f"case {seed}/{line['number']} {line['verdict']}: {line['error']}\n  {line['snippet']}")
    verdicts = collections.Counter(line["verdict"] for line in found)
    for what in ("op", "backend", "dtype"):
        counts = collections.Counter(line[what] for line in found)
        print(f"{what}: " + ", ".join(f"{name} {n}" for name, n in sorted(counts.items())))
    print(f"seed {seed}: {len(found)} cases in {seconds:.0f} s: " + ", ".join(f"{n} {v}" for v, n in verdicts.items()))
    return int(verdicts["FAILED"] + verdicts["DIED"] > 0)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=None, help="by default a new one, printed")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--only", default="", help="names of ops and backends")
    parser.add_argument("--work", help=argparse.SUPPRESS)
    options = parser.parse_args()
    seed = random.randrange(10**6) if options.seed is None else options.seed
    only = tuple(name for name in options.only.split(",") if name)
    if options.work:
        work(seed, options.first, options.first + options.cases, only, Path(options.work))
        return 0
    start = time.monotonic()
    return report(run(seed, options.first, options.cases, only), seed, time.monotonic() - start)


if __name__ == "__main__":
    sys.exit(main())
