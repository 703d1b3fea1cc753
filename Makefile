# Every target creates the virtual environment it needs. Other interpreter: make demo PYTHON=python3.12
PYTHON ?= python3
VENV ?= .venv

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-long test-faults test-chaos lint type bench clean

BIN := $(VENV)/bin
LIBRARY := platform trainables search_spaces
WITHOUT_RAY := tests/unit tests/layout tests/browser tests/integration/test_study_*.py tests/faults/test_soak.py
PARALLEL := -n auto --maxprocesses 4 --dist loadgroup # a Ray cluster takes all cores for itself, these tests share them
export PYTHONDONTWRITEBYTECODE := 1
export PYTHONNOUSERSITE := 1

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: $(VENV)/.run ## train Parle with 3 replicas on Ray, next to SGD at equal gradients
	@$(BIN)/python examples/demo.py

test: $(VENV)/.dev ## run every test but the long ones, and every example in a docstring
	@$(BIN)/python -m pytest $(PARALLEL) -m "not long" --doctest-modules $(WITHOUT_RAY) $(LIBRARY)
	@$(BIN)/python -m pytest tests -m "not long" $(addprefix --ignore ,$(wildcard $(WITHOUT_RAY)))

test-fast: $(VENV)/.dev ## run the unit tests: no Ray, under two minutes
	@$(BIN)/python -m pytest -q $(PARALLEL) tests/unit

test-long: $(VENV)/.dev ## run the tests that make test leaves out: more real Ray, more SIGKILL
	@$(BIN)/python -m pytest tests -m long

test-faults: $(VENV)/.dev ## kill, stop and poison replicas, trials and servers with real signals; short and long tests
	@$(BIN)/python -m pytest tests/faults --ignore tests/faults/test_study_chaos.py --ignore tests/faults/test_sweep_chaos.py

test-chaos: $(VENV)/.dev ## kill drivers, workers and PostgreSQL at random under sweeps on three Rays, 20 rounds
	@DEEPRELAX_CHAOS_ROUNDS=20 $(BIN)/python -m pytest -q tests/faults/test_study_chaos.py tests/faults/test_sweep_chaos.py

lint: $(VENV)/.dev ## check style, format and which room imports which
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo

type: $(VENV)/.dev ## check the types, strictly, of library, tests, benchmarks and examples
	@$(BIN)/mypy

bench: $(VENV)/.run ## measure local step, loop, start-up, exchange, stacked replicas and sweeps, as ratios in one run
	@$(BIN)/python -m benchmarks.run

clean: ## remove the virtual environment, builds and caches
	rm -rf $(VENV) build dist .hypothesis .import_linter_cache .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# .run holds what a user installs, .dev adds the tools; each stamp is renewed when the requirements change.
$(VENV)/.run: EXTRAS := all
$(VENV)/.dev: EXTRAS := all,dev
$(VENV)/.dev: $(VENV)/.run
$(VENV)/.run $(VENV)/.dev: pyproject.toml constraints.txt | $(BIN)/python
	@echo "Installing deeprelax[$(EXTRAS)] into $(VENV)"
	@$(BIN)/python -m pip install --progress-bar off -c constraints.txt -e '.[$(EXTRAS)]' 2>&1 | tee $(VENV)/install.log \
	  | awk '/Downloading .*[0-9] [MG]B/ {split($$2, part, "-"); print "  " part[1], part[2], $$3, $$4; fflush()} \
	         /^Installing collected/ {print "  unpacking, about a minute"; fflush()}' \
	  || { tail -n 20 $(VENV)/install.log >&2; echo "The installation failed; the whole log is $(VENV)/install.log" >&2; exit 1; }
	@touch $@

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
	  echo "deeprelax needs Python 3.11 or newer, and '$(PYTHON)' is: $$($(PYTHON) --version 2>&1 || true)." >&2; \
	  echo "Name another one: make $(firstword $(MAKECMDGOALS)) PYTHON=python3.12" >&2; exit 1; }
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); echo "On Debian and Ubuntu: apt-get install python3-venv" >&2; exit 1; }
