"""Builds pygen._cpu always and pygen._cuda where wanted. Needs no torch. The switches: docs/building.md."""

import hashlib
import os
import platform
import re
import shlex
import shutil
import subprocess
import sysconfig
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from setuptools import Extension, find_packages, setup
from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError, OptionError

CXX = shlex.split(os.environ.get("CXX", "g++"))
CXX_FLAGS = "-std=c++17 -O3 -g0 -DNDEBUG -fPIC -fvisibility=hidden -fopenmp -Wall -Wextra -Icsrc"
CXX_FLAGS += " -fno-math-errno -fno-trapping-math"  # never -ffast-math: NaN and Inf must survive
NVCC_FLAGS = "-std=c++17 -O3 -DNDEBUG -Xcompiler=-fPIC,-fvisibility=hidden,-Wall --expt-relaxed-constexpr -Icsrc"
CUDA_ARCHS = "80 90a 100 120+PTX"

# Variant -> (floats in its vector type, flags). One is chosen at run time; nothing is compiled for the building
# machine. avx2x2 is the 16-wide form over two AVX2 registers.
AVX2 = "-mavx2 -mfma -mf16c"
AVX512 = "-mavx512f -mavx512bw -mavx512dq -mavx512vl -mfma -mf16c"
X86 = platform.machine().lower() in ("x86_64", "amd64")
ISAS = {"baseline": (4, "")}
if X86:
    ISAS |= {"avx2": (8, AVX2), "avx2x2": (16, AVX2), "avx512": (16, AVX512)}


def sources(*patterns):
    return sorted(path.as_posix() for pattern in patterns for path in Path("csrc").glob(pattern))


def run(command, output):
    """Writes `output` in one step: a build that dies, or runs beside another, leaves no half-written file."""
    part = f"{output}.{os.getpid()}.part"
    print(shlex.join([*command, "-o", str(output)]), flush=True)
    if subprocess.run([*command, "-o", part]).returncode:
        raise CompileError(f"could not build {output}; the compiler's message is above")
    os.replace(part, output)


def find_toolkit():
    """The toolkit's root, or None. The nvcc on PATH may be a wrapper: its dry run says where the real one lies."""
    home = os.environ.get("CUDA_HOME")
    nvcc = f"{home}/bin/nvcc" if home else shutil.which("nvcc") or "/usr/local/cuda/bin/nvcc"
    try:
        dryrun = subprocess.run([nvcc, "--dryrun", "-x", "cu", os.devnull], capture_output=True, text=True).stderr
    except OSError:
        return None
    top = re.search(r"^#\$ TOP=(.+?)\s*$", dryrun, re.MULTILINE)
    return Path(top[1]).resolve() if top else None


def present_archs():
    """The architectures of this machine's devices, as its driver reports them."""
    query = ["nvidia-smi", "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        found = re.findall(r"^(\d+)\.(\d)$", subprocess.run(query, capture_output=True, text=True).stdout, re.MULTILINE)
    except OSError:
        return []
    # The "a" opens what is Hopper's alone: wgmma and the bulk copies.
    return sorted({"90a" if capability == ("9", "0") else "".join(capability) for capability in found})


def gencode(toolkit, archs):
    listed = subprocess.run([toolkit / "bin/nvcc", "--list-gpu-code"], capture_output=True, text=True, check=True)
    flags = []
    for arch in archs:
        match = re.fullmatch(r"(?:sm_)?(\d+)\.?(\d)([af]?)(\+PTX)?", arch)
        if not match:
            raise OptionError(f"PYGEN_CUDA_ARCHS: expected names like 80, 90a or 120+PTX, got {arch!r}")
        number, ptx = match[1] + match[2], f",compute_{match[1]}{match[2]}{match[3]}" if match[4] else ""
        if f"sm_{number}" not in listed.stdout.split():
            raise OptionError(f"the CUDA toolkit in {toolkit} cannot compile for sm_{number}: set PYGEN_CUDA_ARCHS")
        flags.append(f"-gencode=arch=compute_{number}{match[3]},code=[sm_{number}{match[3]}{ptx}]")
    return flags


def plan_cuda():
    """(toolkit, architectures) to build _cuda with, or a sentence why it is left out."""
    mode, archs = os.environ.get("PYGEN_BUILD_CUDA", "auto"), os.environ.get("PYGEN_CUDA_ARCHS", "").strip()
    if mode not in ("auto", "0", "1"):
        raise OptionError(f"PYGEN_BUILD_CUDA: expected auto, 0 or 1, got {mode!r}")
    if mode == "0":
        return "PYGEN_BUILD_CUDA=0"
    toolkit, present = find_toolkit(), present_archs()
    if mode == "1" and not toolkit:
        raise OptionError("PYGEN_BUILD_CUDA=1, but no CUDA toolkit was found: put nvcc on PATH or set CUDA_HOME")
    if not toolkit or (mode == "auto" and not present):
        return f"no {'NVIDIA driver with a device' if toolkit else 'CUDA toolkit'} found (PYGEN_BUILD_CUDA=1 insists)"
    archs = archs or (" ".join(present) if mode == "auto" else CUDA_ARCHS)
    return toolkit, re.split(r"[\s,;]+", archs)


class BuildExt(build_ext):
    def run(self):
        self.cuda = plan_cuda()
        if isinstance(self.cuda, str):
            print(f"pygen._cuda is left out: {self.cuda}")
            self.extensions = [ext for ext in self.extensions if ext.name != "pygen._cuda"]
        super().run()

    def build_extensions(self):
        # Not build_temp: editable installs throw that away, and with it every object of the last build.
        self.objects = Path("build", "objects-" + sysconfig.get_config_var("SOABI"))
        self.objects.mkdir(parents=True, exist_ok=True)
        plans = [getattr(self, ext.name.replace("pygen._", "plan_"))() for ext in self.extensions]
        with ThreadPoolExecutor(int(os.environ.get("MAX_JOBS") or os.cpu_count())) as pool:
            built = [[pool.submit(self.compile, *unit) for unit in units] for units, _ in plans]
        for ext, objects, (_, link) in zip(self.extensions, built, plans):
            output = Path(self.get_ext_fullpath(ext.name))
            output.parent.mkdir(parents=True, exist_ok=True)
            run([*link, *(future.result() for future in objects)], output)

    def compile(self, name, source, command):
        """Compiles unless command, source and headers are byte for byte those of the object at hand."""
        output, stamp = self.objects / f"{name}.o", self.objects / f"{name}.key"
        key = hashlib.sha256(repr(command).encode())
        for path in [source, *sources("**/*.h", "**/*.cuh")]:
            key.update(path.encode() + Path(path).read_bytes())
        if not (output.exists() and stamp.exists() and stamp.read_text() == key.hexdigest()):
            run([*command, "-c", source], output)
            stamp.write_text(key.hexdigest())
        return str(output)

    def plan_cpu(self):
        names = f"-DPYGEN_ISAS(X)={' '.join(f'X({isa})' for isa in ISAS)}"
        command = [*CXX, *CXX_FLAGS.split(), names, f"-DPYGEN_X86={X86:d}", *shlex.split(os.environ.get("CXXFLAGS", ""))]
        units = [("bindings_cpu", "csrc/bindings_cpu.cpp", command + includes())]
        # Plainest first: of an inline function that several variants emit the linker keeps the first, and that
        # one runs on every machine that can reach it.
        for isa, (lanes, flags) in ISAS.items():
            variant = [*command, *flags.split(), f"-DPYGEN_ISA={isa}", f"-DPYGEN_LANES={lanes}"]
            units += [(f"{Path(source).stem}.{isa}", source, variant) for source in sources("cpu/*.cpp")]
        return units, [*CXX, "-shared", "-fopenmp", "-Wl,-s"]

    def plan_cuda(self):
        toolkit, archs = self.cuda
        nvcc = [str(toolkit / "bin/nvcc"), *NVCC_FLAGS.split(), f'-DPYGEN_CUDA_ARCHS="{" ".join(archs)}"']
        device = [*nvcc, *gencode(toolkit, archs)]
        units = [("bindings_cuda", "csrc/bindings_cuda.cpp", nvcc + includes())]
        units += [(f"{Path(source).stem}.cuda", source, device) for source in sources("cuda/*.cu")]
        # Nothing exported: else calls into our cudart would bind to the one that torch has loaded.
        return units, [nvcc[0], "-shared", "-cudart=static", "-Xlinker=--exclude-libs=ALL,--strip-all"]


def includes():
    import pybind11  # absent when setup.py only answers questions, such as its version

    return [f"-I{pybind11.get_include()}", f"-I{sysconfig.get_path('include')}"]


setup(
    ext_modules=[
        Extension("pygen._cpu", ["csrc/bindings_cpu.cpp", *sources("cpu/*.cpp")]),
        Extension("pygen._cuda", ["csrc/bindings_cuda.cpp", *sources("cuda/*.cu")]),
    ],
    packages=[*find_packages(include=["pygen", "pygen.*"]), "pygen.kernels"],
    package_dir={"pygen": "pygen", "pygen.kernels": "kernels"},
    cmdclass={"build_ext": BuildExt},
)
