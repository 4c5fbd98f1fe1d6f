"""The C++ kernels under sanitizers: builds a copy of the sources so, and calls every op on its row's samples, and the samplers.

    python tools/sanitize.py [address,undefined] [thread] [op ...]     (`make sanitize` also runs the CUDA kernels on the host so)
    python tools/sanitize.py thread nce_loss noise_sample

ThreadSanitizer knows nothing of OpenMP's runtime and would report every join as a race: for it the kernels get
tools/openmp_threads.cpp in place of that, and csrc/cpu/parallel.h shares out the least of work to threads.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Of C++20, which defines what a left shift does to a sign; compilers do the same before it.
FLAGS = "-std=c++20 -fno-sanitize-recover=all -fno-sanitize=vptr -g1 -fno-omit-frame-pointer -O1"
THREADS = 3


def copy(to: Path) -> None:
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    files = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode()
    for path in files.rstrip("\0").split("\0"):
        source, target = ROOT / path, to / path
        if source.exists() and not (target.exists() and target.read_bytes() == source.read_bytes()):
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(source, target)
    link = to / "pygen" / "kernels"
    if not link.is_symlink():
        link.symlink_to("../kernels")


def exercise_ops(makers: int, only: list[str]) -> None:
    """Forward and backward of every row that has C++ kernels: every dtype on every instruction set, on the last in layouts.

    And what else the row has registered, without a gradient: paths, chains.
    """
    import layouts
    import support
    from registry import OPS, SAMPLERS, gradients, leaves

    target, calls = support.Target("cpu", "cpu"), 0
    for op in [*OPS, *SAMPLERS]:
        if (only and op.name not in only) or not support.has_kernel(op.name, target):
            continue
        for isa in support.isas():
            with support.instruction_set(isa):
                for sample in op.samples():
                    for dtype in support.DTYPES:
                        for function, given in op.registered(sample, dtype):
                            function(*given)
                        for maker in layouts.MAKERS[: makers if isa == support.isas()[-1] else 1]:
                            tensors = {k: maker(t) if t.dim() else t for k, t in sample.cast(dtype).items()}
                            op.run(tensors, sample.options, "cpu")  # without gradients: short ways
                            marked, inputs = leaves(op, tensors)
                            gradients(op.run(marked, sample.options, "cpu"), inputs, retain_graph=False)
                            calls += 1
        print(f"{op.name}: no fault in {calls} calls so far", flush=True)


def exercise_samplers() -> None:
    """A block of images a thread, and teams of threads on one image; known pixels and conditions."""
    import support
    import torch
    from pixel_twins import CASES, twins

    from pygen import models

    for isa in support.isas():
        with support.instruction_set(isa):
            for name, case in CASES.items():
                for dtype in (torch.float32, torch.float64) if name in ("gated", "plain-rgb") else (torch.float32,):
                    _, model = twins(name, dtype)
                    for n in (1, 2, 7):
                        cond = case.conditions(n, 3, 7)
                        cond = cond.to(dtype) if cond is not None and cond.is_floating_point() else cond
                        known = case.images(n, 3, 7, seed=9)
                        given = {"known": known, "known_mask": known > 0} if n == 2 else {}
                        model.sample(n, (3, 7), cond=cond, seed=3, engine="cpu", **given)
            models.MADE(20, [16, 16]).sample(9, seed=1, engine="cpu")
            models.NADE(20, 17, num_orders=2).sample(9, seed=1, engine="cpu")
    print("the samplers: no fault", flush=True)


def exercise_noise_sample() -> None:
    """One class and many, draws that fill a block and not, none."""
    import support
    import torch

    from pygen.functional import noise_sample, noise_table

    for isa in support.isas():
        with support.instruction_set(isa):
            for classes in (1, 3, 1000):
                table = noise_table(torch.arange(1.0, classes + 1))
                for size in ((1, 1), (3, 5), (2, 513), (7, 5001), (0, 4)):
                    noise_sample(table, size, seed=7, backend="cpu")
    print("noise_sample: no fault", flush=True)


def exercise_process() -> None:
    """Threads of any number, the user's too, which end with the memory that they hold; signals whose handlers call in; fork."""
    import torch

    from pygen import functional, models

    v, weight, zeros, image = torch.rand(40, 33), torch.rand(33, 33), torch.zeros(33), torch.rand(2, 4, 9, 8)
    pixels, made, nade = models.PixelCNN(hidden_channels=8, num_blocks=1), models.MADE(20, [16]), models.NADE(30, 60)
    sampled = (lambda: pixels.sample(1, (6, 8)), lambda: pixels.sample(4, (6, 8)), lambda: nade.sample(5))
    long = (
        lambda: functional.rbm_gibbs(v, weight, zeros, zeros, steps=1000),
        lambda: pixels.sample(1, (200, 32)),
        lambda: pixels.sample(4, (200, 32)),
        lambda: models.NADE(1000, 1000).sample(60),
    )

    @torch.enable_grad()
    def some() -> None:
        x, conv, logits = (t.clone().requires_grad_() for t in (v, image, v))
        functional.bernoulli_nll(x, v).backward()
        functional.masked_conv2d(conv, image[:, :, :3, :3], mask_type="B").sum().backward()
        loss = functional.discriminator_loss(real=logits, fake=-logits)
        backward = [threading.Thread(target=loss.backward, kwargs={"retain_graph": True}) for _ in range(2)]
        for thread in backward:
            thread.start()
        for call in (*sampled, lambda: made.sample(5), lambda: functional.rbm_gibbs(v, weight, zeros, zeros, steps=2)):
            call()
        for thread in backward:
            thread.join()

    team = torch.get_num_threads
    for count in (1, 2, 5, 1, THREADS):
        torch.get_num_threads = lambda count=count: count
        some()
    torch.get_num_threads = team
    for _ in range(3):
        threads = [threading.Thread(target=some) for _ in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    class Stopped(Exception):
        pass

    calls = []

    def handler(*_: object) -> None:
        calls.append(some())
        if len(calls) % 2:
            raise Stopped

    old = signal.signal(signal.SIGINT, handler)
    for call in long * 2:  # stopped, and gone on with
        soon = threading.Timer(0.15, os.kill, (os.getpid(), signal.SIGINT))
        with contextlib.suppress(Stopped):
            soon.start()
            call()
            soon.join()
    signal.signal(signal.SIGINT, old)
    if "libtsan" not in os.environ["LD_PRELOAD"]:  # which has a fork that finds other threads start none
        torch.get_num_threads = lambda: 1  # as torch has it where processes load data
        child = os.fork()
        if not child:
            some()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        torch.get_num_threads = team
    print(f"threads, {len(calls)} signals, fork but under thread: no fault", flush=True)


OTHERS = {  # beside the rows
    "samplers": exercise_samplers,
    "noise_sample": exercise_noise_sample,
    "process": exercise_process,
}


def names() -> list[str]:
    """What can be asked for: the rows that have C++ kernels, and what has no row."""
    import support
    from registry import OPS, SAMPLERS

    target = support.Target("cpu", "cpu")
    return [*OTHERS, *(op.name for op in (*OPS, *SAMPLERS) if support.has_kernel(op.name, target))]


def exercise(only: list[str]) -> None:
    """In the process that a sanitizer watches."""
    import conftest  # noqa: F401
    import torch

    torch.set_num_threads(1)  # torch's own operations; the launchers ask the following
    torch.get_num_threads = lambda: THREADS
    for name, function in OTHERS.items():
        if name in only or not only:
            function()
    ops = [name for name in only if name not in OTHERS]
    if ops or not only:
        exercise_ops(2 if "libtsan" in os.environ["LD_PRELOAD"] else 100, ops)


def sanitize(sanitizers: str, only: list[str]) -> bool:
    from sanitizers import watch

    root = ROOT / "build" / f"sanitized-{sanitizers.partition(',')[0]}"
    copy(root)
    if sanitizers == "thread":
        shutil.copy(ROOT / "tools" / "openmp_threads.cpp", root / "csrc" / "cpu")
    env = {**os.environ, "CXXFLAGS": f"-fsanitize={sanitizers} {FLAGS}", "PYGEN_BUILD_CUDA": "0"}
    build = [sys.executable, "setup.py", "-q", "build_ext", "--inplace"]
    if code := subprocess.run(build, cwd=root, env=env).returncode:
        print(f"{sanitizers}: the build ended with {code}", flush=True)
        return False
    return watch(sanitizers, [sys.executable, "tools/sanitize.py", *only], root, root, PYTHONPATH=str(root))


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT / "tests"))
    from sanitizers import CHILD, command_line

    if CHILD in os.environ:
        exercise(sys.argv[1:])
    else:
        asked, only = command_line(__doc__, "op", names)
        sys.exit(not all([sanitize(each, only) for each in asked]))
