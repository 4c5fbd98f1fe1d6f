"""The console commands: pygen demo | bench | sample | doctor."""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from pygen import _sample

_BENCHMARKS = Path(__file__).resolve().parent.parent / "benchmarks"  # in a source checkout

# Fresh pages cost more than most kernels: glibc must neither give large blocks back nor map each one anew.
_TAMED_ALLOCATOR = {"MALLOC_TRIM_THRESHOLD_": str(1 << 40), "MALLOC_MMAP_THRESHOLD_": str(1 << 40)}


def main(argv: Sequence[str] | None = None) -> int:
    """Runs the command of `argv` (default: the process's) and returns its exit status."""
    parser = argparse.ArgumentParser(prog="pygen", description="Fast kernels for generative models in PyTorch.")
    commands = parser.add_subparsers(dest="command", required=True)

    demo = commands.add_parser("demo", help="train on real digits with plain PyTorch and with pygen, side by side")
    demo.add_argument("--out", type=Path, default=Path("out/demo"), help="folder for pictures and report (%(default)s)")
    demo.add_argument("--job", action="append", dest="jobs", metavar="JOB", help="only this job; may be repeated")
    demo.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (%(default)s)")
    demo.add_argument("--seed", type=int, default=0, help="of weights, batches and noise (%(default)s)")
    demo.add_argument("--quick", action="store_true", help="a few steps of everything, quality unchecked")
    demo.set_defaults(run=_demo)

    bench = commands.add_parser("bench", help="pytest-benchmark comparison of the ops; other arguments go to pytest")
    bench.add_argument("--op", help="one op, such as reparameterize_kl; default: all")
    bench.set_defaults(run=_bench)

    sample = commands.add_parser("sample", help="draw images from a model that pygen.models.save has written")
    _sample.add_arguments(sample)
    sample.set_defaults(run=_draw)

    doctor = commands.add_parser("doctor", help="what this installation has, what it lacks and why")
    doctor.set_defaults(run=_doctor)

    args, others = parser.parse_known_args(argv)
    if others and args.command != "bench":
        parser.error(f"unrecognized arguments: {' '.join(others)}")
    args.pytest_args = others
    try:
        status = args.run(args)
        sys.stdout.flush()
    except BrokenPipeError:  # who read has left, as of `pygen doctor | head -1`: nothing is wrong, and nobody to tell
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for the interpreter's own flush at the end
        return 141  # 128 + SIGPIPE, which Windows does not have
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    return status


def _demo(args: argparse.Namespace) -> int:
    try:
        from pygen._demo import _run
    except ImportError as error:
        return _fail(f'{error.name} is needed for the demo: pip install "pygen-kernels[demo]"')
    return _run.run_jobs(args.jobs, out=args.out, device=args.device, seed=args.seed, quick=args.quick)


def _bench(args: argparse.Namespace) -> int:
    files = {path.stem.removeprefix("bench_"): path for path in sorted(_BENCHMARKS.glob("bench_*.py"))}
    if not files:
        return _fail(f"benchmarks are part of the source checkout, and {_BENCHMARKS} has none")
    if args.op is not None and args.op not in files:
        return _fail(f"--op: expected one of {', '.join(files)}, got {args.op}")
    chosen = list(files.values()) if args.op is None else [files[args.op]]
    command = [sys.executable, "-m", "pytest", *map(str, chosen), *args.pytest_args]
    return subprocess.run(command, env={**_TAMED_ALLOCATOR, **os.environ}, cwd=_BENCHMARKS.parent).returncode


def _draw(args: argparse.Namespace) -> int:
    try:
        _sample.run(args)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        return _fail(str(error))
    return 0


def _doctor(args: argparse.Namespace) -> int:
    from pygen import _doctor

    return _doctor.report()


def _fail(message: str) -> int:
    print(f"pygen: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main())
