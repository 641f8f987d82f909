# The one entry to everything; CI and the pre-commit hook call the same targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?=
EXTRAS_KNOWN := figures openvino
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install serve lint audit test test-slow bench clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*##/\t/'

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

# torch goes first, so that a build of it found on this machine is taken before anything asks for it
$(VENV)/installed: $(BIN)/python pyproject.toml constraints.txt
	$(PIP) torch
	$(PIP) --editable .
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) "pip>=25.1"
	$(PIP) --group dev
	touch $@

# one stamp for each extra: a second call installs nothing, and an unknown extra is an error
$(EXTRAS_KNOWN:%=$(VENV)/installed-extra-%): $(VENV)/installed-extra-%: $(VENV)/installed
	$(PIP) --editable ".[$*]"
	touch $@

install: $(VENV)/installed $(EXTRAS:%=$(VENV)/installed-extra-%) ## create .venv and install the service; EXTRAS="figures openvino" adds optional parts

serve: install ## serve the bundled checkpoints on http://127.0.0.1:8000
	$(BIN)/patchserve serve

lint: $(VENV)/installed-dev ## format check, rules, types, floors, known weaknesses
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive app models bench

# not in lint: it asks PyPI's own API, which a mirror of packages does not have; strict, because it
# would pass over what it could not look up
audit: $(VENV)/installed-dev ## ask PyPI for known vulnerabilities of every pinned version
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

# one thread: the networks of the quick tests are too small to gain from more
test: lint ## lint, then every test that is not slow, with branch coverage
	OMP_NUM_THREADS=1 $(BIN)/pytest --cov --cov-fail-under=90

test-slow: $(VENV)/installed-dev ## the largest reference models and the training run
	$(BIN)/pytest -m slow --timeout 3600

bench: $(VENV)/installed-dev ## measure again what stands in bench/results
	$(PIP) --group bench --group bench-peers
	$(BIN)/python -m bench

clean: ## remove what the other targets made
	rm -rf $(VENV) .coverage* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
