# Everything a contributor types. `make` alone lists the targets.
#
# Needs Python 3.11 or newer, make and the package registries; the rest is set up on first use in .venv.
# ARGS="..." is handed on to the program that a target runs.

SHELL := /bin/sh
VENV ?= .venv
BIN := $(VENV)/bin
PYTEST := $(BIN)/python -m pytest
# Parallel test processes; each starts servers of its own. One more than cores, because tests mostly wait.
WORKERS ?= 3
ARGS ?=
# The demo needs little, unless other backends than the embedded one are asked for.
DEMO_STAMP := $(if $(findstring --backend,$(ARGS)),.setup,.demo)
DOCS := $(wildcard README.md docs)

.DEFAULT_GOAL := help
.PHONY: help setup demo test lint format types unit floors docs bench test-pythons clean

help: ## List these targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## /{printf "  make %-13s %s\n", $$1, $$2}' Makefile

setup: $(VENV)/.setup ## Make .venv with everything the tests need (quick the second time).

demo: $(VENV)/$(DEMO_STAMP) ## Run the payments demo and its audit (ARGS="--seed 7").
	$(BIN)/holdfast demo $(ARGS)

# Every check runs even when an earlier one failed, so that one run shows all there is to repair.
test: $(VENV)/.setup ## Run every check and every test.
	@status=0; \
	$(MAKE) --no-print-directory lint || status=1; \
	$(MAKE) --no-print-directory types || status=1; \
	HOLDFAST_REQUIRE_SERVICES=1 $(PYTEST) -n $(WORKERS) --dist loadgroup $(ARGS) || status=1; \
	exit $$status

lint: $(VENV)/.setup ## Check style and formatting (ruff).
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

format: $(VENV)/.setup ## Rewrite the files in the house format.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

types: $(VENV)/.setup ## Check types (mypy strict), what users' checkers infer, and the public API's completeness (pyright).
	$(BIN)/mypy
	$(BIN)/mypy tests/typing
	PATH="$(abspath $(BIN)):$$PATH" pyright tests/typing
	PATH="$(abspath $(BIN)):$$PATH" pyright --verifytypes holdfast --ignoreexternal

unit: $(VENV)/.setup ## Run the tests that need no server.
	$(PYTEST) tests/unit $(ARGS)

floors: $(VENV)/.setup ## Check that imports go down the floors.
	$(PYTEST) tests/unit/test_floors.py $(ARGS)

docs: $(VENV)/.setup ## Run every Python snippet of README.md and docs/.
	$(PYTEST) $(DOCS) $(ARGS)

bench: $(VENV)/.bench ## Measure floor and holdfast side by side.
	$(BIN)/python -m bench $(ARGS)

# The first environment's servers serve the others, too: not every version has wheels that carry them.
test-pythons: $(VENV)/.setup ## Run the tests on each supported Python that this machine has.
	PATH="$$PATH:$(abspath $(BIN))" .ci/test-pythons $(ARGS)

clean: ## Remove environments, caches and build results.
	rm -rf .venv .venv-* build dist site .mypy_cache .pytest_cache .ruff_cache .hypothesis .coverage .coverage.*
	find src tests bench examples docs -name __pycache__ -type d -prune -exec rm -rf {} + 2>/dev/null || true

$(VENV)/.setup: pyproject.toml .ci/environment
	.ci/environment $(VENV) '.[redis,hiredis,postgres,asyncpg,sqlalchemy,fastapi,demo]' --group test --group lint
	@touch $(VENV)/.demo $@

$(VENV)/.demo: pyproject.toml .ci/environment
	.ci/environment $(VENV) '.[demo]'
	@touch $@

$(VENV)/.bench: $(VENV)/.setup
	.ci/environment $(VENV) . --group bench
	@touch $@
