# make demo   set up .venv, fetch the default model, print 10 rows      make test   everything that must hold
# make check  format, lint, types, imports                              make bench  the comparison with peers
# make bench-peers  sets up the peers that need an environment of their own, once: a quarter of an hour
# The first call of any of them builds llama.cpp from source: 4 to 6 minutes on 2 cores, then never again.

PYTHON ?= python3
BIN := .venv/bin

# How llama.cpp is compiled (docs/models.md): GCC 12 leaves the configuration of AMX's tiles unwritten
# (its bug 114098), and ggml's 16-bit vectors are too wide for a head of 64, which then gets none.
SOUND := -U__AVX512FP16__ $(if $(findstring Free Software,$(shell c++ --version)),-fno-tree-dse -fno-dse)
export CFLAGS += $(SOUND)
export CXXFLAGS += $(SOUND)
MODEL := smollm2-135m-instruct
.DEFAULT_GOAL := help
.PHONY: help demo test check format bench bench-peers install model clean

help:
	@sed -n '1,4s/^# //p' Makefile

demo: model
	@$(BIN)/python examples/medical_billing.py

test: check model
	$(BIN)/python -m pytest

check: .venv/dev.stamp
	$(BIN)/ruff format --check src tests tools benchmarks examples
	$(BIN)/ruff check src tests tools benchmarks examples
	$(BIN)/codespell src tests tools benchmarks examples docs models README.md SECURITY.md
	$(BIN)/python tools/prose.py
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: .venv/dev.stamp
	$(BIN)/ruff format src tests tools benchmarks examples
	$(BIN)/ruff check --fix src tests tools benchmarks examples

# Half an hour on 2 cores. What `make bench-peers` has not set up is missing from the table by name.
bench: .venv/bench.stamp model
	@$(BIN)/synthgen-local models pull gemma-3-270m >&2
	$(BIN)/python benchmarks/compare.py --rounds 1 --write local

bench-peers: .venv/run.stamp
	$(BIN)/python benchmarks/peers.py

install: .venv/run.stamp

model: .venv/run.stamp
	@$(BIN)/synthgen-local models pull $(MODEL) >&2

# Everything a recipe says goes to stderr: the stdout of `make demo` is data.
.venv/bin/python:
	@echo "Making .venv" >&2
	@$(PYTHON) -m venv .venv >&2
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1' >&2

# pip keeps a wheel that it compiled and does not ask with which options: here it must compile its own.
.venv/run.stamp: pyproject.toml | .venv/bin/python
	@echo "Installing. llama.cpp is compiled from source: 4 to 6 minutes on 2 cores, once." >&2
	@$(BIN)/python tools/progress.py $(BIN)/python -m pip install --no-cache-dir \
		--disable-pip-version-check --editable . >&2
	@touch $@

.venv/dev.stamp: .venv/run.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group dev >&2
	@touch $@

.venv/bench.stamp: .venv/run.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench >&2
	@touch $@

clean:
	rm -rf .venv dist benchmarks/.peers
