# Everything starts from a bare machine with Python and make: the environment is made on first
# use, kept in .venv, and remade when what it depends on changes.

PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test test-slow lint bench docs clean

demo: .venv/ready
	$(BIN)/squint demo

test: .venv/ready
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile

test-slow: .venv/ready
	$(BIN)/python -m pytest -m slow

lint: .venv/ready
	$(BIN)/pre-commit run --all-files

bench: .venv/ready
	$(BIN)/python benchmarks/step.py

docs: .venv/docs
	$(BIN)/mkdocs build --strict

.venv/ready: pyproject.toml setup.py constraints.txt $(wildcard src/squint/native/*.[ch])
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable . --group dev
	touch $@

.venv/docs: .venv/ready
	$(BIN)/uv pip install --quiet --python $(BIN)/python --constraint constraints.txt --editable '.[docs]'
	touch $@

clean:
	rm -rf .venv
