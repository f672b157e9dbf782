# The first target that needs llama.cpp builds it from source: 4 to 6 minutes on 2 cores, then never again.

PYTHON ?= python3
BIN := .venv/bin

# How llama.cpp is compiled (docs/models.md): GCC 12 leaves the configuration of AMX's tiles unwritten
# (its bug 114098), and ggml's 16-bit vectors are too wide for a head of 64, which then gets none.
SOUND := -U__AVX512FP16__ $(if $(findstring Free Software,$(shell c++ --version)),-fno-tree-dse -fno-dse)
export CFLAGS += $(SOUND)
export CXXFLAGS += $(SOUND)
MODEL := smollm2-135m-instruct
CODE := src tests tools benchmarks examples
PYTEST := $(BIN)/python -m pytest
FAST := $(PYTEST) -m "not model"
.DEFAULT_GOAL := help
.PHONY: help demo test fast test-model cov canary check types format docs bench bench-peers
.PHONY: install install-dev model clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | expand -t 14

demo: model  ## fetch the default model, print 10 rows
	@$(BIN)/python examples/medical_billing.py

test: check fast test-model  ## everything that must hold: check, fast, test-model

fast: .venv/dev.stamp  ## the tests that need no weights
	$(FAST)

test-model: .venv/dev.stamp model  ## the tests that need the default model
	$(PYTEST) -m model

cov: .venv/dev.stamp model  ## all tests, with the coverage of lines
	$(FAST) --cov
	$(PYTEST) -m model --cov --cov-append --cov-report=term:skip-covered --cov-fail-under=95

canary: .venv/dev.stamp model  ## all tests with the newest llama-cpp-python, tested or not
	$(BIN)/python -m pip install --no-cache-dir --upgrade llama-cpp-python
	$(PYTEST)

check: .venv/dev.stamp types  ## format, spelling, lint, phrases, types, imports
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/codespell $(CODE) docs models README.md SECURITY.md
	$(BIN)/python tools/prose.py
	$(BIN)/lint-imports --no-cache

types: .venv/dev.stamp
	$(BIN)/mypy
	$(BIN)/mypy --config-file tests/mypy.ini

format: .venv/dev.stamp  ## let ruff rewrite what it can
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

docs: .venv/docs.stamp  ## the API reference of the public names, in site/
	$(BIN)/python tools/api_docs.py

# Half an hour on 2 cores. What `make bench-peers` has not set up is missing from the table by name.
bench: .venv/bench.stamp model  ## the comparison with other generators
	@$(BIN)/synthgen-local models pull gemma-3-270m >&2
	$(BIN)/python benchmarks/compare.py --rounds 1 --write local

bench-peers: .venv/run.stamp  ## set up the peers with an environment of their own, once
	$(BIN)/python benchmarks/peers.py

install: .venv/run.stamp  ## the program, in .venv

install-dev: .venv/dev.stamp  ## the same, with the tools of the tests

model: .venv/run.stamp  ## fetch the default model
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

.venv/docs.stamp: .venv/run.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group docs >&2
	@touch $@

.venv/bench.stamp: .venv/run.stamp
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --group bench >&2
	@touch $@

clean:  ## remove what these targets made
	rm -rf .venv dist benchmarks/.peers
