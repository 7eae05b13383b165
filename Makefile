# Everything runs in .venv, which the first target makes; PYTHON names the interpreter for it.
PYTHON ?= python3
BIN := .venv/bin
SOURCES := $(shell find src csrc tests/oracles -type f -not -path '*/__pycache__/*' -not -path '*.egg-info/*')
CXX_FILES := $(filter-out %.gen.h, $(shell find csrc tests -name '*.h' -o -name '*.cpp' -o -name '*.cu' -o -name '*.cuh'))

.PHONY: demo test bench bench-check gpu tune lint gen clean

demo: .venv/installed
	$(BIN)/python -m sphere_fused demo

test: .venv/installed
	$(BIN)/pytest

# All of it, on the CPU, in some 36 minutes; writes the README's tables and its figure.
bench: .venv/bench
	$(BIN)/python -m sphere_fused bench --device cpu --json benchmarks/results/cpu.json
	$(BIN)/python -m sphere_fused bench report benchmarks/results/cpu.json --into README.md --figure docs/bench.png

# Whether steps have become slower beside torch's fused Adam than committed; two minutes.
bench-check: .venv/installed
	$(BIN)/python -m sphere_fused bench check benchmarks/results/check.json

# On a machine with a GPU, with the torch that PYTHON has and no network; see benchmarks/gpu.py.
RESULTS ?= benchmarks/results
gpu:
	$(PYTHON) benchmarks/gpu.py --output $(RESULTS)

# Likewise: what other values of the kernels' constants would give; see benchmarks/tune.py.
tune:
	$(PYTHON) benchmarks/tune.py --output $(RESULTS)

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/clang-format --dry-run -Werror $(CXX_FILES)
	$(BIN)/python -m sphere_fused.emit csrc/rules.gen.h --check

# The rules in C++, from the rules in Python.
gen: .venv/installed
	PYTHONPATH=src $(BIN)/python -m sphere_fused.emit csrc/rules.gen.h

.venv/bin/python:
	$(PYTHON) -m venv .venv

# A warning about a kernel is an error here; not in a user's pip install, whose nvcc may be newer.
.venv/installed: export NVCC_APPEND_FLAGS += -Werror=all-warnings
.venv/installed: .venv/bin/python $(SOURCES) setup.py pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt '.[demo,lint,test]'
	touch $@

# Other people's optimizers, that ours are timed beside.
.venv/bench: .venv/installed
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt '.[bench]'
	touch $@

clean:
	rm -rf .venv build *.egg-info src/*.egg-info
