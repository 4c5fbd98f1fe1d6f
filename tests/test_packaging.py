"""The wheel as users get it: built in a copy of the checkout, installed and run outside of it."""

import os
import platform
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
MEGABYTE = 10**6

# One process builds, so `pytest -n 2 --dist loadgroup` does not build twice.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("packaging")]


def run(*command, cwd=ROOT, **env):
    plain = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "TRITON_INTERPRET", "CXXFLAGS")}
    done = subprocess.run([str(c) for c in command], cwd=cwd, env=plain | env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_build_refuses_two_forms_of_one_architecture(tmp_path):
    """CUDA_HOME: without a toolkit nothing is built if they are not refused."""
    env = os.environ | {"PYGEN_BUILD_CUDA": "1", "PYGEN_CUDA_ARCHS": "80 sm_90+PTX;90a", "CUDA_HOME": str(tmp_path)}
    done = subprocess.run([sys.executable, "setup.py", "build_ext"], cwd=ROOT, env=env, capture_output=True, text=True)
    assert done.returncode != 0 and "name 90a alone" in done.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """The CPU wheel. It takes the compiled objects along: setup.py uses those whose sources have not changed."""
    source = tmp_path_factory.mktemp("checkout") / "pygen"
    shutil.copytree(ROOT, source, ignore=shutil.ignore_patterns(".*", "build", "dist", "out", "*.so", "*.egg-info"))
    for objects in (ROOT / "build").glob("objects-*"):
        shutil.copytree(objects, source / "build" / objects.name)
    build = ["pip", "wheel", "-q", "--no-deps", "--no-build-isolation", "--no-index", "-w", "dist", "."]
    run(sys.executable, "-m", *build, cwd=source, PYGEN_BUILD_CUDA="0")
    return next((source / "dist").glob("*.whl"))


@pytest.fixture(scope="module")
def cpu_module(wheel, tmp_path_factory):
    """pygen/_cpu*.so out of the wheel."""
    folder = tmp_path_factory.mktemp("module")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = [n for n in archive.namelist() if re.fullmatch(r"pygen/_cpu\..*\.so", n)]
        return Path(archive.extract(name, folder))


@pytest.fixture(scope="module")
def clean_python(wheel, tmp_path_factory):
    """A Python with the wheel and, borrowed from this one, torch; it sees neither the checkout nor the editable install."""
    folder = tmp_path_factory.mktemp("clean")
    run(sys.executable, "-m", "venv", "--without-pip", folder / "venv")
    python = folder / "venv" / "bin" / "python"
    site = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))").strip())
    # Plain lines: site does not read the .pth files in there, by which the editable install would come along.
    (site / "borrowed.pth").write_text("\n".join(p for p in sys.path if p.endswith("-packages")))
    run(sys.executable, "-m", "pip", "--python", python, "install", "-q", "--no-deps", "--no-index", wheel)
    return python


def test_packaging_wheel_holds_what_it_should_and_no_more(wheel):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        (metadata,) = [archive.read(n).decode() for n in names if n.endswith(".dist-info/METADATA")]
    tops = {name.split("/")[0] for name in names}
    assert tops == {"pygen", wheel.name.split("-cp")[0] + ".dist-info"}, "another project owns the name kernels"
    assert {"pygen/kernels/__init__.py", "pygen/py.typed", "pygen/_cpu.pyi", "pygen/_cuda.pyi"} <= names
    sources = {p.relative_to(ROOT).as_posix() for p in (ROOT / "pygen").rglob("*.py")}
    assert sources <= names, "a package without __init__.py, perhaps"
    assert not [n for n in names if re.search(r"pygen/_cuda\..*\.so|\.(cpp|cu|h)$", n)]
    assert "Requires-Dist: torch>=2.10" in metadata and "Name: pygen-kernels" in metadata


def test_packaging_wheel_is_small(wheel):
    """Every op for three instruction sets: 4.0 MB. Symbols or a toolkit in it would be tens."""
    assert wheel.stat().st_size < 5 * MEGABYTE


@pytest.mark.parametrize(
    ("quota", "asked", "expected"),
    (
        ("300000 100000", "", 3),
        ("50000 100000", "", 1),
        ("max 100000", "", 8),
        (None, "", 8),
        ("300000 100000", "5", 5),
    ),
)
def test_packaging_compiles_as_many_at_once_as_a_container_has_processors(monkeypatch, quota, asked, expected):
    functions = {}
    exec((ROOT / "setup.py").read_text().partition("\nsetup(")[0], functions)

    def read_text(path):
        assert str(path) == "/sys/fs/cgroup/cpu.max"
        if quota is None:
            raise FileNotFoundError
        return quota + "\n"

    monkeypatch.setattr(os, "sched_getaffinity", lambda process: set(range(8)), raising=False)
    monkeypatch.setattr(Path, "read_text", read_text)
    monkeypatch.setenv("MAX_JOBS", asked)
    assert functions["jobs"]() == expected


def test_packaging_module_links_torchs_openmp_and_nothing_of_torch(cpu_module):
    needed = set(re.findall(r"NEEDED.*\[(.*)\]", run("readelf", "-d", cpu_module)))
    assert "libgomp.so.1" in needed
    system = {"libstdc++.so.6", "libm.so.6", "libgcc_s.so.1", "libc.so.6", "libpthread.so.0"}
    assert {n for n in needed if not n.startswith("ld-linux")} <= system | {"libgomp.so.1"}


def test_packaging_module_holds_no_path_of_the_building_machine(cpu_module):
    assert str(ROOT).encode() not in cpu_module.read_bytes()
    assert sys.prefix.encode() not in cpu_module.read_bytes()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variants are those of x86-64")
def test_packaging_shared_functions_run_on_plain_processors(cpu_module):
    """What several variants emit, such as std::vector's members, must not be the copy that AVX was used for."""
    symbols = re.findall(
        r"\d+: ([0-9a-f]+) +(\d+) FUNC .* (\S+)$", run("readelf", "-W", "--dyn-syms", cpu_module), re.M
    )
    spans = [(int(start, 16), int(start, 16) + int(size), name) for start, size, name in symbols if int(size)]
    assert spans
    code = run("objdump", "-d", "--no-show-raw-insn", cpu_module)
    avx = [int(address, 16) for address in re.findall(r"^ +([0-9a-f]+):\tv[a-z]", code, re.M)]
    assert avx, "the module has AVX code, elsewhere"
    assert {name for start, end, name in spans for address in avx if start <= address < end} == set()


@pytest.mark.skipif(platform.machine() != "x86_64", reason="the variants are those of x86-64")
@pytest.mark.parametrize("stem", ("masked_conv2d", "masked_conv2d_weight"))
def test_packaging_a_compiler_without_pairs_of_bfloat16_needs_none(stem, tmp_path):
    """What setup.py then says: nothing may be left to link from the files that it leaves out."""
    avx512 = [f"-m{flag}" for flag in ("avx512f", "avx512bw", "avx512dq", "avx512vl", "fma", "f16c")]
    flags = ["-std=c++17", "-O0", "-w", "-fopenmp", "-Icsrc", "-DPYGEN_ISA=avx512", "-DPYGEN_LANES=16", *avx512]
    for more, needs in (([], True), (["-DPYGEN_NO_PAIRS"], False)):
        run("g++", *flags, *more, "-c", f"csrc/cpu/{stem}.cpp", "-o", tmp_path / "object.o")
        assert ("avx512bf16" in run("nm", "-u", tmp_path / "object.o")) == needs


def test_packaging_installed_wheel_runs_outside_the_checkout(clean_python, tmp_path):
    script = """
        import pygen, torch, pygen.kernels
        from pygen.functional import reparameterize_kl
        mu = torch.randn(5, 7, requires_grad=True)
        z, kl = reparameterize_kl(mu, torch.zeros(5, 7), seed=3, backend="cpu")
        (z.sum() + kl).backward()
        assert mu.grad.isfinite().all()
        print(pygen.__file__, pygen.kernels.__file__, pygen.backends()["cuda"], sep="\\n")
    """
    lines = run(clean_python, "-c", "\n".join(line[8:] for line in script.splitlines()), cwd=tmp_path).splitlines()
    venv = str(clean_python.parent.parent)
    assert lines[0].startswith(venv) and lines[1].startswith(venv) and "pygen/kernels" in lines[1]
    assert "_cuda" in lines[2], "says why there is no CUDA backend"
    assert "cpu: ready" in run(clean_python.parent / "pygen", "doctor", cwd=tmp_path)


def test_packaging_stubs_name_what_the_modules_have():
    from pygen import _cpu

    stub = (ROOT / "pygen" / "_cpu.pyi").read_text()
    kernels = re.compile(r".*_(forward|backward|grad_\w+)$")
    public = [n for n in dir(_cpu) if not n.startswith("_") and not kernels.match(n)]
    assert public and [n for n in public if f"def {n}(" not in stub] == []
