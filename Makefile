# Everything a checkout needs is made here: a virtual environment with hash-locked dependencies first.
# `make` alone lists the targets.

PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
PYTHONS ?= python3.11 python3.12 python3.13

.DEFAULT_GOAL := help
.PHONY: help demo test check unit bench bench-questions faults matrix lowest picture lock clean

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 16

$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "handspan needs Python 3.11 or later; set PYTHON=...")'
	@echo "Installing into $(VENV), once: about half a minute."
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	touch $@

demo: $(VENV)/ready ## six apps on a recorded day of a real Home Assistant, live in the terminal
	$(BIN)/handspan demo

test: check unit ## everything CI runs

check: $(VENV)/ready ## formatting, lint, types, import directions
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

unit: $(VENV)/ready ## the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

bench: $(VENV)/ready ## the benchmarks: one table of ratios beside their budgets (about two minutes)
	$(BIN)/python -m benchmarks

SIZES ?= 100k 1m
bench-questions: $(VENV)/ready ## every question to files of 100k and 1m runs (SIZES="100k 1m 10m": ten minutes)
	$(BIN)/python -m benchmarks.questions --sizes $(SIZES)

faults: $(VENV)/ready ## every fault made to happen: one table (two minutes; FAULTS="--full": half an hour)
	$(BIN)/python -m tests.faults.board $(FAULTS)

matrix: ## the tests under each interpreter of PYTHONS that is there; a missing one is named
	@for python in $(PYTHONS); do \
	  if ! command -v $$python >/dev/null || ! $$python -c 'pass' 2>/dev/null; then echo "MISSING $$python: not tested"; continue; fi; \
	  echo "== $$python"; $(MAKE) --no-print-directory unit PYTHON=$$python VENV=.venv-$$(basename $$python) || exit 1; \
	done

lowest: ## the tests with the oldest dependencies pyproject.toml admits
	$(PYTHON) -m venv .venv-lowest && .venv-lowest/bin/python -m pip install --quiet uv
	.venv-lowest/bin/uv pip compile pyproject.toml --extra all --resolution lowest-direct --quiet -o .venv-lowest/lowest.txt
	.venv-lowest/bin/python -m pip install --quiet -r .venv-lowest/lowest.txt pytest pytest-asyncio hypothesis import-linter hatchling editables
	.venv-lowest/bin/python -m pip install --quiet opentelemetry-distro==0.51b0 # may take an older wrapt
	.venv-lowest/bin/python -m pip install --quiet --no-deps --no-build-isolation --editable .
	.venv-lowest/bin/python -m pytest -q tests/flow tests/faults

picture: $(VENV)/ready ## take the picture of the README anew
	$(BIN)/python docs/picture.py docs/demo.svg

lock: $(VENV)/ready ## write requirements.lock anew
	$(BIN)/uv pip compile pyproject.toml --extra all --group dev --universal --python-version 3.11 \
	  --generate-hashes --no-header --quiet -o requirements.lock

clean: ## remove what make made
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist

# Hassette runs on CPython 3.13 only, so its integration is tested from a virtual environment of its own.
PYTHON313 ?= python3.13
.PHONY: hassette

.venv-hassette/ready: pyproject.toml
	$(PYTHON313) -m venv .venv-hassette
	.venv-hassette/bin/python -m pip install --quiet --disable-pip-version-check hassette==0.60.0 --editable .
	touch $@

hassette: $(VENV)/ready .venv-hassette/ready ## the Hassette integration's tests, on PYTHON313 (default python3.13)
	$(BIN)/python -m pytest tests/flow/test_integration_hassette.py
