# Two commands for a newcomer: `make demo` and `make test`. The rest is for developers.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
CLIP ?=
OUT ?= demo-out
WORKERS ?= 2

.PHONY: demo test lowest coverage check lint types contracts format clean

demo: $(VENV)/.demo
	$(BIN)/unsmear demo $(if $(CLIP),"$(CLIP)") -o "$(OUT)"

# A test seldom keeps two cores busy, so two are run at a time, of one thread each; those of a file
# stay together, as they share what it sets up, and files come by name: by number of tests, the
# slowest would come last. `pytest` alone runs one test after the other. Threads that a test asks for
# sleep while they wait: otherwise they would keep the core from the other one.
PARALLEL = -n $(WORKERS) --dist loadfile --no-loadscope-reorder
THREADS = OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE

test: $(VENV)/.dev
	$(THREADS) $(BIN)/python -m pytest $(PARALLEL)

# All tests with the lowest versions that pyproject.toml allows. Warnings are not errors here: old
# versions warn about one another.
lowest: $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(VENV)-lowest
	$(BIN)/uv pip install --quiet --python $(VENV)-lowest --resolution lowest-direct -e ".[dev]"
	$(THREADS) $(VENV)-lowest/bin/python -m pytest $(PARALLEL) -o filterwarnings=default

# The rooms that people's files go through must stay tested.
coverage: $(VENV)/.dev
	$(BIN)/python -m coverage run -m pytest
	$(BIN)/python -m coverage report --fail-under 90 \
		--include "src/unsmear/video/*,src/unsmear/restoration/*"

check: lint types contracts

lint: $(VENV)/.dev
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(VENV)/.dev
	$(BIN)/mypy

contracts: $(VENV)/.dev
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# The constraints file keeps torch to one version. Where pip's index offers a CPU build of it first, as
# PyTorch's own does, that saves gigabytes.
$(VENV)/.demo: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[demo,fast]"
	touch $@

$(VENV)/.dev: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e ".[dev]"
	touch $@

clean:
	rm -rf $(VENV) $(VENV)-lowest $(OUT) build dist
