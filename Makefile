# `make run` and `make test` also install all that they need into $(VENV).
PYTHON ?= python3
VENV ?= .venv
BIN = $(VENV)/bin
HYDRA_NEXT = $(CURDIR)/build/hydra-next
INSTALLED = $(VENV)/installed
GPU_MINUTES ?= 7

.PHONY: run test test-all test-hydra-next torture bench gpu check smoke install clean

run: $(INSTALLED) ## train and test a DenseNet on the embedded digits
	$(BIN)/densenet-run experiment=quickstart
	@echo 'First, once a terminal: source $(BIN)/activate'

test: $(INSTALLED) ## the fast tests
	$(BIN)/python -m pytest -q -n 2

test-all: $(INSTALLED) ## all tests
	$(BIN)/python -m pytest -q -n 2 -m ''

test-hydra-next: $(INSTALLED) ## the fast tests with the release candidate of Hydra's next version
	$(BIN)/pip install --quiet --upgrade --target $(HYDRA_NEXT) 'hydra-core==1.4.0rc3'
	PYTHONPATH=$(HYDRA_NEXT) $(BIN)/python -m pytest -q -n 2

torture: $(INSTALLED) ## kills, full disks, damaged records and odd names, for TORTURE_MINUTES (10)
	$(BIN)/python tests/torture

bench: $(INSTALLED) ## time of 10,000 records, sweeps of 1,000 runs, loading images, training and evaluation
	$(BIN)/python tests/benchmarks/bench_results.py
	$(BIN)/python tests/benchmarks/bench_sweeps.py
	$(BIN)/python tests/benchmarks/bench_input.py
	$(BIN)/python tests/benchmarks/bench_folder.py
	$(BIN)/python tests/benchmarks/bench_host.py
	$(BIN)/python tests/benchmarks/bench_networks.py
	$(BIN)/python tests/benchmarks/bench_libraries.py

gpu: $(INSTALLED) ## what to do first where there is a GPU, for GPU_MINUTES (7): tests, speed, the paper's run
	$(BIN)/python tests/benchmarks/gpu_checklist.py --minutes $(GPU_MINUTES) build/gpu

check: $(INSTALLED) ## style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

smoke: $(INSTALLED) ## one epoch: seconds
	$(BIN)/densenet-run experiment=quickstart model.depth=10 epochs=1

install: $(INSTALLED) ## the virtual environment, with the tools for development

$(INSTALLED): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@

clean: ## remove everything that make has made, except outputs/
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .mypy_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
