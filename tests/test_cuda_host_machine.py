"""The host's machine of tests/cuda_host refuses what a GPU would answer with wrong numbers, an error or nothing at all."""

import signal
import subprocess

import host_cuda
import pytest
import sanitizers

pytestmark = [mark for mark in host_cuda.MARKS if mark.name != "usefixtures"]  # programs, which need no module
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

RACES = {  # by how many teams of threads they are seen
    "shuffles": (1,),
    "writes_twice": (3,),
    "reads_unfenced": (3,),
    "keeps_to_itself": (1, 3),
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


@pytest.fixture(scope="module")
def races(tmp_path_factory):
    folder, machine = tmp_path_factory.mktemp("races"), ("shim", "hopper_host", "runtime_host")
    return host_cuda.compile_program("races", folder, *machine, flags=("-fsanitize=thread", "-g1"))


@pytest.mark.parametrize("name", RACES)
def test_cuda_host_machine_orders_no_more_than_a_gpu(name, races, monkeypatch):
    monkeypatch.setenv("TSAN_OPTIONS", sanitizers.OPTIONS["TSAN_OPTIONS"])

    def run(what, teams):
        monkeypatch.setenv("PYGEN_HOST_TEAMS", str(teams))
        return subprocess.run([str(races), name, what], capture_output=True, text=True, timeout=60)

    for teams in (1, 3):
        mended, faulty = run("mended", teams), run("fault", teams)
        assert mended.returncode == 0, mended.stderr
        assert (faulty.returncode == 1) is (teams in RACES[name])
        assert ("data race" in faulty.stderr) is (teams in RACES[name])
