"""Long calls and memory: Ctrl-C ends them, threads hold little of it, and where there is no more a call raises."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from support import Target, assert_same, has_kernel, threads
from test_conformance_process import resident

from pygen import _backends, models
from pygen.functional import bernoulli_nll, rbm_gibbs

pytestmark = pytest.mark.skipif(not has_kernel("rbm_gibbs", Target("cpu", "cpu")), reason="needs the C++ kernels")


def gibbs() -> torch.Tensor:
    weight, zeros = torch.eye(16), torch.zeros(16)
    return rbm_gibbs(torch.zeros(1, 16), weight, zeros, zeros, steps=1 << 25, seed=0)


def pixels(n: int) -> torch.Tensor:
    return models.PixelCNN(hidden_channels=64, num_blocks=8).sample(n, (12000, 64), seed=0)


def nade() -> torch.Tensor:
    return models.NADE(2000, 4000).sample(2000, seed=0)


LONG = {  # and its kernel
    "gibbs": (gibbs, "rbm_gibbs"),
    "team": (lambda: pixels(1), "sampling_draw"),
    "blocks": (lambda: pixels(4), "sampling_draw"),
    "nade": (nade, "nade_nll_draw"),
}


class Stopped(Exception):
    pass


@pytest.mark.parametrize("kind", LONG)
def test_ctrl_c_ends_long_calls(kind, monkeypatch):
    """Or a notebook's stop: at a step of the kernel, not at its end, seconds or hours later."""
    call, name = LONG[kind]
    compiled, started = _backends.compiled("_cpu"), []

    def handler(number, frame):
        raise Stopped

    def kernel(*arguments):
        started.append(time.process_time())
        soon.start()
        return getattr(compiled, name)(*arguments)

    proxy = SimpleNamespace(**{**vars(compiled), name: kernel})
    soon = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT))
    old = signal.signal(signal.SIGINT, handler)
    try:
        with threads(2), monkeypatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(_backends, "compiled", lambda module: proxy)
            call()
        spent = time.process_time() - started[0]
    finally:
        soon.cancel()
        signal.signal(signal.SIGINT, old)
    assert spent < 0.8, f"the call went on for {spent:.1f} seconds of the processor"
    assert pixels_of_two().shape == (2, 1, 4, 4)  # the next call works


def pixels_of_two() -> torch.Tensor:
    return models.PixelCNN(hidden_channels=8, num_blocks=1).sample(2, (4, 4), seed=0)


def chain(n: int, steps: int) -> torch.Tensor:
    weight = torch.randn(16, 16, generator=torch.Generator().manual_seed(0))
    return rbm_gibbs(torch.zeros(n, 16), weight, torch.zeros(16), torch.zeros(16), steps=steps, seed=0)


def long_chain() -> tuple[int, torch.Tensor]:
    """Steps that take longer than a kernel waits before it asks for signals, and where they end."""
    steps = 1 << 10
    while True:
        start = time.perf_counter()
        end = chain(4, steps)
        if time.perf_counter() - start > 0.25:
            return steps, end
        steps *= 2


@pytest.mark.parametrize("most", (1, 10))
def test_a_handler_that_goes_on_finds_the_call_whole(most):
    """Whatever it calls itself: kernels of a thread share their memory. And it ends, however often Ctrl-C is pressed."""
    called, timers = [], []
    steps, expected = long_chain()

    def press():
        timers.append(threading.Timer(0.02, os.kill, (os.getpid(), signal.SIGINT)))
        timers[-1].start()

    def handler(number, frame):
        called.append(chain(64, 3))
        if len(called) < most:
            press()

    old = signal.signal(signal.SIGINT, handler)
    try:
        press()
        found = chain(4, steps)
        calls = len(called)
    finally:
        while any(timer.is_alive() for timer in timers):
            timers[-1].join()
        signal.signal(signal.SIGINT, old)
    assert called and calls < 4  # once, and for what came in the meantime
    assert_same(found, expected)


def test_threads_hold_the_memory_of_the_ops_that_they_call():
    """Not that of all ops: 5 MB, filled with zeros, in each of a server's hundreds of threads."""
    x, count = torch.ones(2, 2), 20
    met, done = threading.Barrier(count + 1), threading.Event()

    def call():
        bernoulli_nll(x, x)
        met.wait()
        done.wait()

    with threads(1):
        bernoulli_nll(x, x)
        before = resident()
        pool = [threading.Thread(target=call) for _ in range(count)]
        for thread in pool:
            thread.start()
        met.wait()
        held = resident() - before
        done.set()
        for thread in pool:
            thread.join()
    assert held < count << 20, f"{held / count / 2**20:.1f} MB each"


@pytest.mark.slow
def test_no_more_memory_in_a_kernels_threads_is_an_error():
    """As of any tensor; what leaves a thread of OpenMP ends the process."""
    program = """
        import resource, torch
        from pygen import _backends, models
        torch.set_num_threads(2)
        torch.randn(1 << 22).sin()  # there are threads
        model = models.PixelCNN(hidden_channels=128, num_blocks=1)
        model.sample(2, (2, 2), seed=0)
        held = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (held + (64 << 20), -1))
        try:
            model.sample(2, (1, 1 << 17), seed=0)
        except MemoryError:
            print("an error", model.sample(2, (2, 2), seed=0).shape)
    """
    ran = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=120)
    assert ran.stdout == "an error torch.Size([2, 1, 2, 2])\n", ran.stderr


ALLOCATING = {  # what allocates: team and blocks of a sampler, layers, tiles, sums; with and without pybind11 in between
    "team": "pixels.sample(1, (2, 4), seed=0)",
    "blocks": "pixels.sample(4, (2, 4), seed=0)",
    "made": "made.sample(4, seed=0)",
    "conv": "functional.masked_conv2d(x[None, None], x[None, None, :3, :3], mask_type='A')",
    "plain": "functional.bernoulli_nll(x, x)",
    "gibbs": "functional.rbm_gibbs(x, x, x[0], x[0], seed=0, steps=3)[0]",
}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="loads a library before all others")
def test_each_allocation_of_a_kernel_may_fail(tmp_path):
    """Wherever the memory ends, in any thread: an error, after which the call works. None waits for one that has failed."""
    source, built = Path(__file__).with_name("failing_new.cpp"), tmp_path / "failing_new.so"
    command = [os.environ.get("CXX", "g++"), "-O1", "-shared", "-fPIC", str(source), "-o", str(built)]
    subprocess.run(command, check=True)
    program = """
        import ctypes, sys, torch
        from pygen import _backends, functional, models
        _backends.compiled("_cpu")  # one that cannot be loaded is replaced
        library = ctypes.CDLL(sys.argv[1])
        fail_after = library.fail_after
        fail_after.argtypes, fail_after.restype = [ctypes.c_long], ctypes.c_long
        where = [line.split()[0].split("-") for line in open("/proc/self/maps") if "/_cpu." in line]
        library.watch(*(ctypes.c_size_t(int(at, 16)) for at in (where[0][0], where[-1][1])))
        torch.set_num_threads(2)
        x, pixels, made = torch.ones(9, 9), models.PixelCNN(hidden_channels=8, num_blocks=1), models.MADE(20, [16, 16])
        for what in sys.argv[2:]:
            print(what, flush=True)
            call = eval(f"lambda: {what}")
            failed, ended = 0, False
            while not ended:
                fail_after(failed)  # from the first call of all on: some memory is kept for the next
                try:
                    call()
                except MemoryError:
                    failed += 1
                else:
                    ended = True
                asked = fail_after(-1)
                assert not ended or asked <= failed, "an error was lost"
                if failed == 1 or ended or failed % 16 == 0:
                    expected = call() if failed == 1 else expected
                    assert torch.equal(call(), expected)
            assert failed, "nothing was asked for: this says nothing"
    """
    command = [sys.executable, "-c", textwrap.dedent(program), str(built), *ALLOCATING.values()]
    environment = {**os.environ, "LD_PRELOAD": str(built)}
    ran = subprocess.run(command, capture_output=True, text=True, timeout=200, env=environment)
    assert ran.returncode == 0, ran.stdout + ran.stderr
