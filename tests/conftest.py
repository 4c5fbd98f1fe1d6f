"""Set-up of the suite, before pygen is imported: Triton fixes its interpreter when kernels are decorated."""

import gc
import importlib.util
import os

# Threads that wait sleep. Spinning, as they would, two on a busy machine cost each other 15 ms in every small operation.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A graph of ours that an earlier version compiled would be taken for today's.
os.environ.setdefault("TORCHINDUCTOR_AUTOGRAD_CACHE", "0")

import torch

if torch.cuda.is_available():
    # Else float32 convolutions, ours among them, would have TF32's error, and cuDNN's gradients would change from run to run.
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cudnn.deterministic = True
else:
    os.environ.setdefault("TRITON_INTERPRET", "1")
    if os.environ["TRITON_INTERPRET"] == "1" and importlib.util.find_spec("triton"):
        import quick_interpreter

        quick_interpreter.hurry()
THREADS = 2
torch.set_num_threads(THREADS)

import pytest  # noqa: E402
import support  # noqa: E402

import pygen  # noqa: E402


@pytest.fixture(autouse=True)
def _same_start():
    """Each test starts from the same seed and thread count, whatever ran before it, and leaves torch.empty as it was."""
    torch.manual_seed(0)
    torch.set_num_threads(THREADS)
    empty = torch.empty
    yield
    left, torch.empty = torch.empty, empty
    assert left is empty, "torch.empty was left replaced"
    if torch.get_num_threads() != THREADS:
        torch.set_num_threads(THREADS)
    if torch.cuda.is_initialized() and torch.cuda.memory_reserved() > 4 << 30:
        torch.cuda.empty_cache()  # other processes test on the same GPU


@pytest.fixture
def poisoned():
    """Memory that torch.empty hands out is NaN, so a value that a kernel forgot to write shows."""
    with support.poisoned_memory():
        yield


@pytest.fixture
def cuda_on_host(monkeypatch):
    """The launchers of pygen/native run the CUDA kernels, compiled for the host."""
    import host_cuda  # asks nvcc where its headers are

    return host_cuda.run_native_on(monkeypatch)


@pytest.fixture(params=[pytest.param(t, marks=pytest.mark.slow if t.slow else (), id=str(t)) for t in support.TARGETS])
def target(request):
    """Each backend that runs here, with the device it runs on."""
    return request.param


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out what an op's missing kernel would have to run; `pygen.explain` and test_smoke.py name those."""
    gone = [item for item in items if _lacks(getattr(item, "callspec", None), getattr(item, "module", None))]
    if gone:
        config.hook.pytest_deselected(items=gone)
        items[:] = [item for item in items if item not in set(gone)]


def _lacks(callspec, module) -> bool:
    """Of the op among the parameters, or that the file is about."""
    params = callspec.params if callspec else {}
    op, target = params.get("op", getattr(module, "op", None)), params.get("target")
    return isinstance(target, support.Target) and op is not None and not support.has_kernel(op.name, target)


def pytest_runtest_logfinish() -> None:
    """Ends a worker whose GPU answers no more: each of its later tests would fail for the sake of one. xdist starts another."""
    if "PYTEST_XDIST_WORKER" not in os.environ or not torch.cuda.is_initialized():
        return
    try:
        torch.cuda.synchronize()
    except RuntimeError as error:
        os.write(2, f"this process's GPU answers no more: {error}\n".encode())
        os._exit(1)


def pytest_unconfigure() -> None:
    gc.unfreeze()


def pytest_report_header() -> list[str]:
    return pygen.show_config().splitlines()
