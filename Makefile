# Two commands set up everything: `make run`, `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
INSTALLED = $(VENV)/installed

.PHONY: run test test-all torture bench bench-gpu check smoke install clean

run: $(INSTALLED) ## train and test a DenseNet on the embedded digits
	$(BIN)/densenet-run experiment=quickstart
	@echo 'First, once a terminal: source $(BIN)/activate'

test: $(INSTALLED) ## the fast tests
	$(BIN)/python -m pytest -q -n 2

test-all: $(INSTALLED) ## all tests
	$(BIN)/python -m pytest -q -n 2 -m ''

torture: $(INSTALLED) ## kills, full disks, damaged records and odd folders, for TORTURE_MINUTES (10)
	$(BIN)/python tests/torture

bench: $(INSTALLED) ## how fast 10,000 records are tabulated, input is made, networks train and evaluate
	$(BIN)/python tests/benchmarks/bench_results.py
	$(BIN)/python tests/benchmarks/bench_input.py
	$(BIN)/python tests/benchmarks/bench_networks.py

bench-gpu: $(INSTALLED) ## whether the fused DenseNet is right and fast on a GPU
	$(BIN)/python tests/benchmarks/bench_gpu.py

check: $(INSTALLED) ## style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

smoke: $(INSTALLED) ## one epoch, seconds
	$(BIN)/densenet-run experiment=quickstart model.depth=10 epochs=1

install: $(INSTALLED) ## the virtual environment, with all that developing needs

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean: ## everything made here but outputs/
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
