# Everything starts from a bare machine with Python and make: the environment is made on first
# use, kept in .venv, and remade when what it depends on changes.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow test-gpu lint bench docs clean

demo: .venv/ready
	$(BIN)/squint demo

test: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

# On a CUDA device. Without the checks of shapes: Triton can't compile functions that carry them.
test-gpu: .venv/ready
	$(BIN)/python -m pytest -m gpu -o addopts="-q --strict-markers"

lint: .venv/ready
	$(BIN)/pre-commit run --all-files

# A selection of ten minutes or so. Tables go to benchmarks/results/; a missing peer is named there.
BENCHMARKS := startup step step_peers roofline views_small views_files losses sampler evaluation features

bench: .venv/bench
	for name in $(BENCHMARKS); do \
	  $(BIN)/python benchmarks/$$name.py --quick --write || exit; \
	done

docs: .venv/docs
	$(BIN)/mkdocs build --strict

.venv/ready: pyproject.toml setup.py constraints.txt $(wildcard src/squint/native/*.[ch])
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable . --group dev
	touch $@

.venv/bench: .venv/ready
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable . --group bench
	touch $@

.venv/docs: .venv/ready
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv
