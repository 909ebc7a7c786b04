# Every target sets up .venv by itself and is quick when that is done. Nothing but the package index is needed.
PYTHON ?= python3
BIN := .venv/bin

.PHONY: demo test check clean

demo: .venv/.demo
	$(BIN)/mmdf demo --out demo

test: .venv/.dev
	$(BIN)/pytest

check: .venv/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	mkdir -p .types && ln -sfn .. .types/mmdf
	MYPYPATH=.types $(BIN)/mypy -p mmdf
	$(BIN)/lint-imports

$(BIN)/python:
	$(PYTHON) -m venv .venv

# What was installed for development serves the demo too.
.venv/.demo: pyproject.toml | $(BIN)/python
	test -e .venv/.dev -a .venv/.dev -nt pyproject.toml || $(BIN)/pip install --quiet --editable '.[demo]'
	touch $@

.venv/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --editable '.[dev]'
	touch $@ .venv/.demo

clean:
	rm -rf .venv .types demo build *.egg-info
