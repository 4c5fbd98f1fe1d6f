"""The host's machine of tests/cuda_host refuses what a GPU would answer with wrong numbers, an error or nothing at all."""

import signal
import subprocess

import host_cuda
import pytest

pytestmark = host_cuda.MARKS
FAULTS = {
    "ends_early": "shared::cluster: of a block that has ended",
    "sends_alone": "st.async: undefined in a cluster of one block",
    "expects_too_much": "mbarrier: more bytes than it counts",
    "joins_part_of_a_warp": "bar.sync: no such barrier, or parts of warps",
    "stores_weights": "wgmma: reads what no copy has written",
    "changes_weights": "wgmma: reads what no copy has written",
    "shared_memory_not_asked_for": "launch: error 1\n",  # cudaErrorInvalidValue
    "large_cluster_not_asked_for": "launch: error 912\n",  # cudaErrorInvalidClusterSize
}


@pytest.fixture(scope="module")
def program(tmp_path_factory):
    return host_cuda.compile_program("faults", tmp_path_factory.mktemp("faults"), "shim", "hopper_host", "runtime_host")


@pytest.mark.parametrize("name", FAULTS)
def test_cuda_host_machine_refuses(name, program, monkeypatch):
    monkeypatch.setenv("PYGEN_HOST_CAPABILITY", "9")

    def run(what):
        return subprocess.run([str(program), name, what], capture_output=True, text=True, timeout=60)

    mended, faulty = run("mended"), run("fault")
    assert mended.returncode == 0, mended.stderr
    assert faulty.returncode in (1, -signal.SIGABRT) and FAULTS[name] in faulty.stderr
