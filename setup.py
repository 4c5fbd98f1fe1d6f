"""Builds pygen._cpu always and pygen._cuda where wanted. Needs no torch. The switches: docs/building.md."""

import hashlib
import os
import platform
import re
import shlex
import subprocess
import sysconfig
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pybind11
from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, OptionError

CXX = shlex.split(os.environ.get("CXX", "g++"))
# Never -ffast-math: NaN and Inf must survive.
CXX_FLAGS = "-std=c++17 -O3 -g0 -DNDEBUG -fno-math-errno -fno-trapping-math -fPIC -fvisibility=hidden -fopenmp"
NVCC_FLAGS = "-std=c++17 -O3 -DNDEBUG --expt-relaxed-constexpr -Xcompiler=-fPIC,-fvisibility=hidden"
CUDA_ARCHS = "80 90a 100 120+PTX"

# Variant -> (floats in its vector type, flags). One is chosen at run time; nothing is compiled for the building
# machine. avx2x2 is the 16-wide form over two AVX2 registers.
AVX2 = "-mavx2 -mfma -mf16c"
# GCC bug 105593.
AVX512 = "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c -Wno-uninitialized -Wno-maybe-uninitialized"
ISAS = {"baseline": (4, "")}
if platform.machine().lower() in ("x86_64", "amd64"):
    ISAS = {"baseline": (4, "-Os")}  # for processors of before 2013: else a quarter of the wheel would be theirs
    ISAS |= {"avx2x2": (16, AVX2), "avx512": (16, AVX512), "avx512bf16": (16, AVX512 + " -mavx512bf16")}


def files(*patterns):
    return sorted(path.as_posix() for pattern in patterns for path in Path("csrc").glob(pattern))


def run(command, output):
    """Writes `output` in one step: a build that dies, or runs beside another, leaves no half-written file."""
    part = f"{output}.{os.getpid()}.part"
    Path(part).parent.mkdir(parents=True, exist_ok=True)
    print(shlex.join([*command, "-o", str(output)]), flush=True)
    if subprocess.run([*command, "-o", part]).returncode:
        raise CompileError(f"could not build {output}; the compiler's message is above")
    os.replace(part, output)


def jobs():
    """Compilers at a time: the CPUs that this process may use, which in a container are often not all that the machine has. As
    many as those would not fit into the container's memory."""
    if os.environ.get("MAX_JOBS"):
        return int(os.environ["MAX_JOBS"])
    cpus = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    try:
        quota, period = Path("/sys/fs/cgroup/cpu.max").read_text().split()
        return max(1, min(cpus, int(quota) // int(period)))
    except (OSError, ValueError):  # another system, or "max"
        return cpus


def compiler_takes(flag):
    return subprocess.run([*CXX, flag, "-xc++", "-fsyntax-only", os.devnull], capture_output=True).returncode == 0


def find_toolkit():
    """The toolkit's root, or None. The nvcc on PATH may be a wrapper: its dry run says where the real one lies."""
    home = os.environ.get("CUDA_HOME")
    nvcc = shlex.quote(f"{home}/bin/nvcc") if home else "PATH=$PATH:/usr/local/cuda/bin nvcc"
    top = re.search(r"^#\$ TOP=(.+?)\s*$", subprocess.getoutput(f"{nvcc} --dryrun -x cu /dev/null"), re.MULTILINE)
    return Path(top[1]).resolve() if top else None


def present_archs():
    """The architectures of this machine's devices; "" without a device or a driver."""
    capabilities = subprocess.getoutput("nvidia-smi --query-gpu=compute_cap --format=csv,noheader")
    found = re.findall(r"^(\d+)\.(\d)$", capabilities, re.MULTILINE)
    # The "a" opens what is Hopper's alone: wgmma and the bulk copies.
    return " ".join(sorted({"90a" if arch == ("9", "0") else "".join(arch) for arch in found}))


def gencode(toolkit, archs):
    known = subprocess.getoutput(f"{shlex.quote(str(toolkit))}/bin/nvcc --list-gpu-code").split()
    flags = []
    for arch in archs:
        match = re.fullmatch(r"(?:sm_)?((\d{2,3})[af]?)(\+PTX)?", arch)
        if not match:
            raise OptionError(f"PYGEN_CUDA_ARCHS: expected names like 80, 90a or 120+PTX, got {arch!r}")
        name, number, ptx = match.groups()
        if f"sm_{number}" not in known:
            raise OptionError(f"{toolkit} cannot compile for sm_{number}: set PYGEN_CUDA_ARCHS or PYGEN_BUILD_CUDA=0")
        flags.append(f"-gencode=arch=compute_{name},code=[sm_{name}{f',compute_{name}' if ptx else ''}]")
    return flags


def plan_cuda():
    """(toolkit, architectures) to build _cuda with, or a sentence why it is left out."""
    mode, archs = os.environ.get("PYGEN_BUILD_CUDA", "auto"), os.environ.get("PYGEN_CUDA_ARCHS", "").strip()
    if mode not in ("auto", "0", "1"):
        raise OptionError(f"PYGEN_BUILD_CUDA: expected auto, 0 or 1, got {mode!r}")
    named = re.split(r"[\s,;]+", archs)
    if {"90", "90a"} <= {re.sub(r"^sm_|\+PTX$", "", arch) for arch in named}:
        # The kernels that need "a" are empty without it, and which of the two a GPU takes is not ours to say.
        raise OptionError(f"PYGEN_CUDA_ARCHS: 90 and 90a are for the same GPUs: name 90a alone, got {archs!r}")
    if mode == "0":
        return "PYGEN_BUILD_CUDA=0"
    toolkit, default = find_toolkit(), CUDA_ARCHS if mode == "1" else present_archs()
    if mode == "1" and not toolkit:
        raise OptionError("PYGEN_BUILD_CUDA=1, but no CUDA toolkit was found: put nvcc on PATH or set CUDA_HOME")
    if not toolkit or not default:
        return f"no {'NVIDIA driver with a device' if toolkit else 'CUDA toolkit'} was found"
    return toolkit, named if archs else default.split()


class BuildExt(build_ext):
    def run(self):
        self.cuda = plan_cuda()
        if isinstance(self.cuda, str):
            print(f"pygen._cuda is left out: {self.cuda}")
            self.extensions = [ext for ext in self.extensions if ext.name != "pygen._cuda"]
            Path(self.get_ext_fullpath("pygen._cuda")).unlink(missing_ok=True)  # from an earlier build
        super().run()

    def build_extensions(self):
        self.includes = [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]
        # Not build_temp: editable installs throw that away, and with it every object of the last build.
        self.objects = Path("build", "objects-" + sysconfig.get_config_var("SOABI"))
        with ThreadPoolExecutor(jobs()) as pool:
            for ext in self.extensions:
                units, ext.link = self.plan_cpu() if ext.name == "pygen._cpu" else self.plan_cuda()
                ext.objects = [pool.submit(self.compile, *unit) for unit in units]
        for ext in self.extensions:
            run([*ext.link, *(future.result() for future in ext.objects)], self.get_ext_fullpath(ext.name))

    def compile(self, variant, source, command):
        """Compiles unless command, source and the headers it includes are byte for byte those of the object at hand."""
        output = self.objects / f"{Path(source).stem}.{variant}.o"
        stamp, includes = output.with_suffix(".key"), output.with_suffix(".d")

        def read():
            return includes.read_text().replace("\\\n", " ").partition(":")[2].split()  # "<object>: <file> ..."

        def key():
            key = hashlib.sha256(repr(command).encode())
            for path in read():
                key.update(path.encode() + (Path(path).read_bytes() if Path(path).exists() else b""))
            return key.hexdigest()

        if not (output.exists() and stamp.exists() and includes.exists() and stamp.read_text() == key()):
            stamp.unlink(missing_ok=True)
            start = time.time()
            run([*command, "-MMD", "-MF", str(includes), "-c", source], output)
            if all(os.path.getmtime(path) < start for path in read()):  # not edited while the compiler read them
                stamp.write_text(key())
        return str(output)

    def plan_cpu(self):
        command = [*CXX, *CXX_FLAGS.split(), "-Icsrc", "-Wall", "-Wextra", *shlex.split(os.environ.get("CXXFLAGS", ""))]
        units = [("python", "csrc/bindings_cpu.cpp", [*command, "-Os", *self.includes])]  # it only reads arguments
        # Plainest first: of an inline function that several variants emit the linker keeps the first, and that
        # one runs on every machine that can reach it.
        isas = dict(ISAS)
        if not compiler_takes("-mavx512bf16"):  # GCC before 10
            isas.pop("avx512bf16", None)
            command.append("-DPYGEN_NO_PAIRS")
        for isa, (lanes, flags) in isas.items():
            variant = [*command, *flags.split(), f"-DPYGEN_ISA={isa}", f"-DPYGEN_LANES={lanes}"]
            pairs = isa == "avx512bf16"  # what multiplies pairs of bfloat16, and nothing else
            units += [(isa, source, variant) for source in files("cpu/*.cpp") if source.endswith("_pairs.cpp") == pairs]
        # Without symbols, unless somebody asked for more of them: sanitizers name lines by them.
        return units, [*CXX, "-shared", "-fopenmp", *([] if "-g1" in command else ["-Wl,-s"])]

    def plan_cuda(self):
        toolkit, archs = self.cuda
        nvcc = [str(toolkit / "bin/nvcc"), *NVCC_FLAGS.split(), "-Icsrc", f'-DPYGEN_CUDA_ARCHS="{" ".join(archs)}"']
        units = [("python", "csrc/bindings_cuda.cpp", nvcc + self.includes)]
        units += [("cuda", source, nvcc + gencode(toolkit, archs)) for source in files("cuda/*.cu")]
        # Nothing exported: else calls into our cudart would bind to the one that torch has loaded.
        return units, [nvcc[0], "-shared", "-nodlink", "-cudart=static", "-Xlinker=--exclude-libs=ALL,--strip-all"]


setup(
    ext_modules=[
        Extension(f"pygen._{room}", [f"csrc/bindings_{room}.cpp", *files(f"{room}/*.cpp", f"{room}/*.cu")])
        for room in ("cpu", "cuda")
    ],
    packages=[*find_packages(include=["pygen", "pygen.*"]), "pygen.kernels"],
    package_dir={"pygen": "pygen", "pygen.kernels": "kernels"},
    cmdclass={"build_ext": BuildExt},
)
