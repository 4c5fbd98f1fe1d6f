"""Every op among threads, processes and thousands of calls; its modules copied, pickled and loaded."""

import concurrent.futures
import copy
import gc
import io
import multiprocessing
import os
import pickle
import sys
from pathlib import Path

import pytest
import torch
from module_cases import cast, each_module, run
from registry import OPS, each_op, gradients, leaves, on_floating
from support import FAST_TARGETS, Target, assert_same, has_kernel, threads

import pygen

KERNELS = [t for t in FAST_TARGETS if t.backend != "reference"]


def results_of(op, backend, scale=1.0, device="cpu"):
    """Values and gradients of every sample."""
    found = []
    for sample in op.samples():
        tensors = on_floating(lambda t: t * scale, sample.cast(torch.float32, device))
        marked, inputs = leaves(op, tensors)
        outputs = op.run(marked, sample.options, backend)
        found += [*(o.detach() for o in outputs), *gradients(outputs, inputs)]
    return found


@each_op
@pytest.mark.parametrize("target", KERNELS, ids=str)
def test_eight_threads_get_the_same_as_one(op, target):
    scales = [0.5 + i / 8 for i in range(8)]
    alone = [results_of(op, target.backend, s, target.device) for s in scales]
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        for _ in range(2):
            together = list(pool.map(lambda s: results_of(op, target.backend, s, target.device), scales))
            for first, second in zip(alone, together, strict=True):
                for a, b in zip(first, second, strict=True):
                    assert_same(a, b)


@each_op
def test_use_backend_stays_in_its_thread(op):
    seen = []
    tensors = op.sample("odd everything").cast(torch.float32)

    def other_thread():
        seen.append(str(pygen.explain(op.name, *tensors.values()).backend))

    with pygen.use_backend("reference"):
        with concurrent.futures.ThreadPoolExecutor(1) as pool:
            pool.submit(other_thread).result()
        assert pygen.explain(op.name, *tensors.values()).backend == "reference"
    assert seen == [pygen.explain(op.name, *tensors.values()).backend]


def _backend(op) -> str:
    return "cpu" if has_kernel(op.name, Target("cpu", "cpu")) else "reference"


def _in_child(rows, connection):
    torch.set_num_threads(1)  # as DataLoader's workers do: OpenMP's threads do not survive a fork
    for row in rows:
        connection.send([t.numpy() for t in results_of(OPS[row], _backend(OPS[row]))])
    connection.close()


def check_in_child(ops, method: str) -> None:
    with threads(2):
        expected = [results_of(op, _backend(op)) for op in ops]
    context = multiprocessing.get_context(method)
    here, there = context.Pipe(duplex=False)
    child = context.Process(target=_in_child, args=([OPS.index(op) for op in ops], there))
    child.start()
    try:
        for op, tensors in zip(ops, expected, strict=True):
            assert here.poll(200), f"the child hangs in {op}"
            for a, b in zip(here.recv(), tensors, strict=True):
                assert_same(torch.from_numpy(a), b)
    finally:
        child.join(100)  # a busy machine takes its time to end one, too
        child.kill()
    assert child.exitcode == 0


@each_op
@pytest.mark.skipif(sys.platform != "linux", reason="fork is Linux's")
def test_forked_processes_get_the_same(op):
    """Also after the parent has used its threads."""
    if torch.cuda.is_initialized():
        pytest.skip("no child can use a CUDA context of its parent")
    check_in_child([op], "fork")


@pytest.mark.slow
def test_spawned_processes_get_the_same():
    """One child for all ops: its start is what takes the time."""
    check_in_child(OPS, "spawn")


def resident() -> int:
    """Bytes of memory that the process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


@each_op
@pytest.mark.parametrize("target", FAST_TARGETS, ids=str)
@pytest.mark.slow
def test_memory_is_flat_over_ten_thousand_calls(op, target):
    """Python's memory, the process's, and reference cycles: with the collector off nothing may pile up."""
    sample = op.sample("one element")
    rounds = 3_400 if target.backend != "reference" else 100  # of three calls each

    def loop(n):
        for _ in range(n):
            marked, inputs = leaves(op, sample.cast(torch.float32, target.device))
            outputs = op.call(marked, sample.options, target.backend)
            gradients(outputs, inputs)
            op.call(marked, sample.options, target.backend)  # a graph that never runs backward
            with torch.no_grad():
                op.call(marked, sample.options, target.backend)

    loop(100)  # what torch and Python keep is at hand then
    for _ in range(
        3
    ):  # what calls leave behind they leave every time; what earlier tests left, or a cache's growth, once
        gc.collect()  # empties Python's store of freed objects too
        gc.disable()
        try:
            bytes_before, blocks_before = resident(), sys.getallocatedblocks()
            loop(rounds)
            grown = resident() - bytes_before
            garbage = gc.collect()
            blocks = sys.getallocatedblocks() - blocks_before
        finally:
            gc.enable()
        if grown < 4 * 2**20 and blocks < 200 and garbage < 200:
            return
    pytest.fail(
        f"{3 * rounds} calls left {grown} bytes, {blocks} blocks of Python's memory, {garbage} objects in cycles"
    )


@each_module
def test_modules_copy_pickle_and_load(make):
    module, inputs = make()
    expected = run(module, inputs)
    buffer = io.BytesIO()
    torch.save(module.state_dict(), buffer)
    buffer.seek(0)
    loaded, _ = make()
    for p in loaded.parameters():
        torch.nn.init.constant_(p, 0.1)
    missing = loaded.load_state_dict(torch.load(buffer, weights_only=True), strict=True)
    assert not missing.missing_keys and not missing.unexpected_keys
    for other in (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), loaded):
        for a, b in zip(run(other, inputs), expected, strict=True):
            assert_same(a, b)
        assert repr(other) == repr(module)
    for a, b in zip(copy.deepcopy(module).parameters(), module.parameters(), strict=True):
        assert a.data_ptr() != b.data_ptr()


@each_module
def test_modules_move_between_dtypes(make):
    module, inputs = make()
    for dtype in (torch.float64, torch.bfloat16, torch.float32):
        outputs = run(module.to(dtype), cast(inputs, dtype))
        assert outputs[0].dtype == dtype or outputs[0].dtype == torch.promote_types(dtype, torch.float32)
        if any(o.requires_grad for o in outputs):
            sum(o.double().sum() for o in outputs).backward()
        for p in module.parameters():
            assert p.grad is not None and p.grad.dtype == dtype
            p.grad = None
