# Every target sets up what it needs, and does so only once.
#
#   make demo          the main job on real head MRIs; results in build/demo
#   make test          the whole test suite (ARGS="-k tree" runs a part)
#   make test-slicer   the tests inside a real Slicer (SLICER=/path/to/Slicer)
#   make lint          formatting, lint and types
#   make bench         time a prediction by stage, as JSON
#   make clean         remove what the targets wrote, but not .venv
#
# PYTHON=/path/to/python3.12   the Python that .venv is built on
# PIP_OPTIONS="..."            more options for pip. On a machine without a GPU, "--extra-index-url ADDRESS", with the
#                              address of PyTorch's CPU builds (pytorch.org names it), saves several GB.
# ARGS="..."                   passed on to the program behind the target

SHELL := /bin/bash
VENV ?= .venv
ARGS ?=
PIP_OPTIONS ?=
BIN := $(VENV)/bin
# Two test processes on two cores: more threads in each only get into each other's way.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 ITK_GLOBAL_DEFAULT_NUMBER_OF_THREADS=1

export PIP_OPTIONS
ifdef PYTHON
export PYTHON
endif

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-slicer lint bench clean

help:
	@sed -n '3,14s/^# \{0,1\}//p' Makefile

venv:
	@.ci/setup-venv $(VENV)

demo: venv
	@$(BIN)/python Testing/demo/run.py $(ARGS)

test: venv
	$(ONE_THREAD) $(BIN)/python -m pytest -n 2 $(ARGS)

# HIERSEG_PYTHON=/path/to/python, one with hierseg's requirements, spares the .venv.
test-slicer: $(if $(HIERSEG_PYTHON),,venv)
	@SLICER="$(SLICER)" $(or $(HIERSEG_PYTHON),$(BIN)/python) Testing/tour/run.py $(ARGS)

lint: venv
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: venv
	@$(BIN)/python Testing/benchmarks/run.py $(ARGS)

clean:
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +
