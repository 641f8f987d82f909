# The one entry to everything; CI and the pre-commit hook call the same targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
EXTRAS ?=
EXTRAS_KNOWN := figures heif openvino
# progress on a terminal, nothing in a log
QUIET := $(shell [ -t 2 ] || echo --quiet)
PIP := $(BIN)/python -m pip install $(QUIET) --disable-pip-version-check --no-compile --constraint constraints.txt

.DEFAULT_GOAL := help
.PHONY: help install serve lint audit test test-slow test-browser bench clean

help: ## what there is
	@grep -E '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*##/\t/'

# checked before .venv exists: pip would only report a conflict of versions
$(BIN)/python:
	@$(PYTHON) -c 'import sys; v = sys.version_info; v >= (3, 11) or sys.exit("patchserve needs Python 3.11 or newer, and $(PYTHON) is %d.%d; try PYTHON=python3.12" % v[:2])'
	$(PYTHON) -m venv $(VENV)

# torch goes first, so that a build of it found on this machine is taken before anything asks for it
$(VENV)/installed: $(BIN)/python pyproject.toml constraints.txt
	@echo "Installing torch and the service into $(VENV), once: about 1.5 minutes and 1.1 GB with a CPU build of torch"
	$(PIP) torch
	$(PIP) --editable .
	touch $@

# compiles what the service imports, and nothing else of its requirements
$(VENV)/compiled: $(VENV)/installed
	PYTHONDONTWRITEBYTECODE= $(BIN)/patchserve --help > /dev/null
	touch $@

$(VENV)/installed-dev: $(VENV)/installed
	$(PIP) "pip>=25.1"
	$(PIP) --group dev
	touch $@

# the libraries whose checkpoints the tests compare with, apart from the others: they would replace
# torch, and transformers would import them
$(VENV)/originals: $(VENV)/installed-dev
	$(PIP) --no-deps --target $@ torchvision timm segmentation-models-pytorch
	touch $@

# one stamp for each extra: a second call installs nothing, and an unknown extra is an error
$(EXTRAS_KNOWN:%=$(VENV)/installed-extra-%): $(VENV)/installed-extra-%: $(VENV)/installed
	$(PIP) --editable ".[$*]"
	touch $@

ifneq ($(filter-out $(EXTRAS_KNOWN),$(EXTRAS)),)
$(error unknown EXTRAS: $(filter-out $(EXTRAS_KNOWN),$(EXTRAS)); there are: $(EXTRAS_KNOWN))
endif

install: $(VENV)/compiled $(EXTRAS:%=$(VENV)/installed-extra-%) ## create .venv and install the service; EXTRAS="figures openvino" adds optional parts

serve: install ## serve the bundled checkpoints on http://127.0.0.1:8000
	$(BIN)/patchserve serve

# without a cache, mypy takes most of the time
lint: ## format check, rules, types, layers, known weaknesses
	$(MAKE) --no-print-directory --jobs=2 $(VENV)/compiled lint-types lint-rules

.PHONY: lint-types lint-rules
lint-types: $(VENV)/installed-dev
	$(BIN)/mypy --num-workers 2

lint-rules: $(VENV)/installed-dev
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/bandit --quiet --configfile pyproject.toml --recursive app models bench

# not in lint: it asks PyPI's own API, which a mirror of packages does not have; strict, because it
# would pass over what it could not look up
audit: $(VENV)/installed-dev ## ask PyPI for known vulnerabilities of every pinned version
	$(BIN)/pip-audit --strict --disable-pip --no-deps --requirement constraints.txt

# tests/conftest.py says which tests share a worker, and which start first
PARALLEL := --numprocesses=auto --maxprocesses=8 --dist=loadgroup --no-loadscope-reorder

# one worker per core, one thread per worker: the networks of these tests are too small for more;
# with bytecode, because the tests start many processes
test: lint $(VENV)/originals ## lint, then every test that is not slow, with branch coverage
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/pytest $(PARALLEL) --cov --cov-fail-under=98.5

# one after another: the largest networks need gigabytes and all cores
test-slow: $(VENV)/installed-dev $(VENV)/originals ## the tests that take minutes
	$(BIN)/pytest -m slow --timeout 3600

# Biome checks the page's script and style sheet; the lock file pins it
BIOME := tests/browser/node_modules/.bin/biome
$(BIOME): tests/browser/package-lock.json
	@command -v npm > /dev/null || { echo "make test-browser needs npm, which installs the linter Biome"; exit 1; }
	npm ci --prefix tests/browser --no-audit --no-fund
	touch $@

$(VENV)/installed-browser: $(VENV)/installed-dev
	$(PIP) --group browser
	touch $@

CHROMIUM ?= chromium
.PHONY: chromium
chromium:
	@command -v $(CHROMIUM) > /dev/null \
		|| { [ "$$(id -u)" = 0 ] && apt-get update -qq && apt-get install -y -qq --no-install-recommends chromium; } \
		|| { echo "make test-browser needs Chromium: install it (apt-get install chromium), or name one: CHROMIUM=/path/to/it"; exit 1; }

# one after another, because the tests share the running services
test-browser: $(BIOME) $(VENV)/installed-browser chromium ## lint the page's script, then use the page in Chromium
	$(BIOME) check --error-on-warnings --config-path=tests/browser app/api/playground app/api/docs
	CHROMIUM=$(CHROMIUM) $(BIN)/pytest -m browser tests/browser

bench: $(VENV)/installed-dev ## measure everything in bench/results again
	$(PIP) --group bench --group bench-peers
	$(BIN)/python -m bench

clean: ## remove what the other targets made
	rm -rf $(VENV) tests/browser/node_modules .coverage* .mypy_cache .pytest_cache .ruff_cache .import_linter_cache
