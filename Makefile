PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
SOURCES := setup.py pyproject.toml constraints.txt $(shell find csrc -type f)

.PHONY: demo test quick
demo: .venv
	$(BIN)/pygen demo

test: .venv
	$(BIN)/python -m pytest tests

quick: .venv
	$(BIN)/python -m pytest tests -m "not slow" -q

.PHONY: .venv
.venv: $(VENV)/.stamp

$(VENV)/.stamp: $(SOURCES)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt setuptools wheel pybind11 torch==2.13.0 triton
	$(BIN)/python -m pip install -q -c constraints.txt --no-build-isolation -e ".[test,demo]"
	touch $@
