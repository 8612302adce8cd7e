# make demo: from nothing to vessels on a picture.  make test: from nothing to a tested checkout.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check

.PHONY: demo test lint docs tables coverage bench clean

.venv/installed: pyproject.toml
	$(PYTHON) -m venv .venv
	$(PIP) install --quiet --editable .
	touch $@

.venv/tested: .venv/installed
	$(PIP) install --quiet --editable ".[test]"
	touch $@

demo: .venv/installed
	$(BIN)/python examples/demo.py demo

# A process for each core, and no more than memory has room for; who is done takes over tests of the others.
test: .venv/tested
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal

# Style and types; CI runs it too.
lint: .venv/tested
	$(BIN)/ruff check .
	$(BIN)/mypy

# Which lines no test reaches. It takes longer than make test; what it writes itself spoils tests of disks that take nothing.
coverage: .venv/tested
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal --cov --cov-report=term \
		-k "not full_disk_is_one_line and not folder_that_is_not_writable and not folder_that_becomes_read_only"

# The documentation, in site/: open site/index.html.
docs: .venv/tested
	$(BIN)/mkdocs build --strict

# The tables of docs/benchmarks.md, from docs/figures/*.json.
tables: .venv/tested
	$(BIN)/python docs/tables.py

bench: .venv/installed
	$(BIN)/python benchmarks/pipeline.py
	$(BIN)/python benchmarks/geolocation.py
	$(BIN)/python benchmarks/accuracy.py

clean:
	rm -rf .venv demo site build dist *.egg-info
