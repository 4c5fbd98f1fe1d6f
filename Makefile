# What each target is for: README.md. What can be set: docs/building.md.
PYTHON ?= python3
TORCH ?=
OP ?=
ARGS ?=
BIN := .venv/bin
SETUP := .ci/setup constraints.txt pyproject.toml setup.py
SOURCES := $(shell find csrc -type f)
CLANG_FORMAT = find csrc tools tests/cuda_host -name '*.h' -o -name '*.cuh' -o -name '*.cpp' -o -name '*.cu' | xargs $(BIN)/clang-format

.NOTPARALLEL:
.PHONY: .venv demo test quick bench gpu gpu-build gpu-test gpu-micro gpu-bench cuda-check arm-check fuzz mutants accuracy sanitize coverage matrix picture wheel lint format clean

.venv: .venv/.stamp

# A change of C++ alone only compiles; anything else sets up anew, which is quick where all is installed.
.venv/.stamp: $(SETUP) $(SOURCES)
	$(if $(filter-out csrc/%,$?),.ci/setup "$(PYTHON)" "$(TORCH)",$(BIN)/python setup.py -q build_ext --inplace)
	@touch $@

demo: .venv
	$(BIN)/pygen demo $(ARGS)

test: .venv
	$(BIN)/python -m pytest tests -n 2 $(ARGS)

quick: .venv
	$(BIN)/python -m pytest tests -q -m "not slow" $(ARGS)

bench: .venv
	$(BIN)/pygen bench $(if $(OP),--op $(OP)) $(ARGS)

gpu: gpu-build gpu-test gpu-micro gpu-bench

gpu-build: .venv
	$(BIN)/python -c "import pygen, sys; why = pygen.backends()['cuda']; sys.exit(why and 'pygen._cuda cannot run here: ' + why)"

# Eight at a time: what takes the time is compiling Triton's kernels, on one core each.
gpu-test: gpu-build
	$(BIN)/python -m pytest tests -n 8 $(ARGS)

gpu-micro: gpu-build
	PYGEN_BENCH_DEVICE=cuda $(BIN)/python benchmarks/gpu_ceilings.py

gpu-bench: gpu-build
	PYGEN_BENCH_DEVICE=cuda $(BIN)/pygen bench $(if $(OP),--op $(OP)) $(ARGS)

cuda-check: .venv
	$(BIN)/python tools/cuda_check.py $(ARGS)

# NEON, where a cross compiler is at hand (g++-aarch64-linux-gnu): compiles, runs nothing.
arm-check:
	set -e; for source in csrc/cpu/*.cpp; do aarch64-linux-gnu-g++ -std=c++17 -O3 -fno-math-errno -fno-trapping-math -fopenmp \
	  -Wall -Wextra -Werror -Icsrc -DPYGEN_ISA=baseline -DPYGEN_LANES=4 -c $$source -o /dev/null; done

# Random calls of every op against plain PyTorch, and spoilt ones: make fuzz N=100000 SEED=1
N ?= 2000
SEED ?=
fuzz: .venv
	$(BIN)/python tools/fuzz.py --cases $(N) $(if $(SEED),--seed $(SEED)) $(ARGS)

# Faults planted one at a time in a copy of the sources: which does the suite see? Writes docs/mutants.md; goes on where it ended.
mutants: .venv
	$(BIN)/python tools/mutants.py $(ARGS)

# Errors beside plain PyTorch's, and the noise's moments: docs/accuracy.md
accuracy: .venv
	$(BIN)/python tools/accuracy.py $(ARGS)

# The CUDA kernels on the host, then the C++ kernels; of one of these tools alone: python tools/sanitize.py --help.
sanitize: .venv
	$(BIN)/python tests/cuda_host/sanitize.py
	$(BIN)/python tools/sanitize.py

# Which kernel is executed where without a GPU: docs/coverage.md
coverage: .venv
	$(BIN)/python tools/coverage_list.py

# The Triton versions that pygen supports, each installed beside the others: docs/matrix.md
matrix: .venv
	$(BIN)/python tools/matrix.py $(ARGS)

# The README's first picture and its caption: trains the demo's model of digits, draws, measures.
picture: .venv
	$(BIN)/python tools/readme_picture.py
	$(BIN)/python tools/readme_figures.py

# What setuptools left in build/lib would end up in the wheel, deleted modules too.
wheel:
	rm -rf build/lib* build/bdist*
	$(PYTHON) -m pip wheel -q --no-deps -w dist .
	ls -l dist

lint: .venv
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy pygen kernels
	$(CLANG_FORMAT) --dry-run -Werror

format: .venv
	$(BIN)/ruff check -q --fix --exit-zero .
	$(BIN)/ruff format .
	$(CLANG_FORMAT) -i

clean:
	rm -rf build dist out *.egg-info pygen/*.so
