# `make demo` and `make test` need Python and a package index, nothing else.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
OUT ?= demo

.PHONY: demo test explore lint bench clean

demo: $(VENV)/installed
	$(BIN)/python examples/demo.py $(OUT)

test: $(VENV)/tested
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/python -m pytest

# Property tests on examples that no run has met before.
explore: $(VENV)/tested
	HYPOTHESIS_PROFILE=explore $(BIN)/python -m pytest -m hypothesis

lint: $(VENV)/tested
	$(BIN)/ruff check .
	$(BIN)/mypy

bench: $(VENV)/tested
	$(BIN)/python -m pytest tests/benchmarks --benchmark-only

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/tested: $(VENV)/bin/python pyproject.toml constraints.txt
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[test]'
	touch $@

clean:
	rm -rf $(VENV) demo
