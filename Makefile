# `make serve` and `make test` do all the set-up by themselves; a repeat costs nothing.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TORCH_VENV := .venv-torch
PEERS_VENV := .venv-peers
TORCH := torch==2.13.0
MANIFESTS := $(wildcard weights/*/model.toml)

# PIP_USER in someone's environment must not send packages out of the virtual environment.
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PIP_USER := 0
# Tests start hundreds of processes: none of them has to compile anew what it imports.
export PYTHONDONTWRITEBYTECODE :=

# $(call venv,FOLDER): a virtual environment. Debian's python3 without python3-venv has no
# ensurepip; a pip outside can put one inside all the same.
define venv
@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
  echo "Python 3.11 or newer is needed: make $(MAKECMDGOALS) PYTHON=python3.11" >&2; exit 1; }
@test -x $(1)/bin/pip || { rm -rf $(1) && $(PYTHON) -m venv $(1) >/dev/null 2>&1; } || { \
  rm -rf $(1) && $(PYTHON) -m venv --without-pip $(1) && \
  $(PYTHON) -m pip --python $(1)/bin/python install --quiet pip; } || { \
  rm -rf $(1); \
  echo "No virtual environment can be made; on Debian: apt-get install python3-venv" >&2; exit 1; }
endef

.PHONY: help install install-dev serve test tests-without-torch test-torch test-train lint format bench bench-video clean

help:  ## what there is
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## */  make \1\t/' | expand -t 20

install: $(VENV)/.weights  ## virtual environment, packages, weights

install-dev: $(VENV)/.dev $(VENV)/.weights  ## the same with what tests and checks need

serve: install  ## everything on this machine; Ctrl-C ends it
	@exec $(BIN)/moderation serve

test: install-dev  ## checks and all tests that need no torch; names what was skipped
	@$(MAKE) --no-print-directory -j2 lint tests-without-torch

tests-without-torch: install-dev
	@# Three on two cores: many tests wait for leases and other processes.
	$(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder

test-torch: $(TORCH_VENV)/.torch $(VENV)/.weights  ## tests that need torch, in an environment of their own
	@# By name: to read all the others takes longer than some of these.
	OMP_NUM_THREADS=1 $(TORCH_VENV)/bin/python -m pytest -n 2 -m "torch and not train" --need-torch \
	  $$(grep -rl torch tests --include='test_*.py')

test-train: $(TORCH_VENV)/.torch $(VENV)/.weights  ## a whole training, in small: for who changes training
	$(TORCH_VENV)/bin/python -m pytest -m train tests/integration/test_train_scenes.py

lint: $(VENV)/.dev  ## ruff, mypy, import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev  ## let ruff mend what it can
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: install-dev $(PEERS_VENV)/.peers  ## images through the whole path, beside peers
	$(BIN)/python -m benchmarks.images

bench-video: install-dev  ## films: speed beside ffmpeg and the models alone, borders, memory
	$(BIN)/python -m benchmarks.video

clean:  ## environments, caches and pulled weights; never the data folder
	rm -rf $(VENV) $(TORCH_VENV) $(PEERS_VENV) weights/.cache *.egg-info build dist \
	  .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache

# Nothing is compiled ahead: most of what comes along is never imported.
$(VENV)/.runtime: pyproject.toml constraints.txt
	$(call venv,$(VENV))
	$(BIN)/pip install --quiet --no-compile -c constraints.txt -e .
	@touch $@

$(VENV)/.dev: pyproject.toml constraints.txt
	$(call venv,$(VENV))
	$(BIN)/pip install --quiet --no-compile -c constraints.txt -e '.[dev]'
	@touch $(VENV)/.runtime $@

$(VENV)/.weights: $(VENV)/.runtime $(MANIFESTS)
	$(BIN)/moderation weights pull
	@touch $@

$(TORCH_VENV)/.torch: pyproject.toml constraints.txt
	$(call venv,$(TORCH_VENV))
	$(TORCH_VENV)/bin/pip install --quiet --no-compile -c constraints.txt $(TORCH) safetensors onnx -e '.[test]'
	@# Compiled here once, and not by each of the tests' processes at the same time.
	$(TORCH_VENV)/bin/python -c 'import torch.utils.data, onnx, sklearn.metrics, skimage.io, openvino, pytest, hypothesis'
	@touch $@

$(PEERS_VENV)/.peers: benchmarks/peers.txt
	$(call venv,$(PEERS_VENV))
	$(PEERS_VENV)/bin/pip install --quiet -r benchmarks/peers.txt
	@touch $@
