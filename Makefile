# Two commands do everything on a fresh machine with Python 3.11 or newer: make sweep, make test.
PYTHON ?= python3
CONFIG ?= digits
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready

BENCHMARKS := overhead naive scale gpu inference

.PHONY: sweep test test-slow bench lint format clean

sweep: $(READY)
	$(BIN)/arsvd sweep $(CONFIG) $(ARGS)

test: $(READY)
	$(BIN)/python -m pytest -q

# pytest says 5 where no test has the mark
test-slow: $(READY)
	$(BIN)/python -m pytest -q -m slow $(ARGS) || test $$? -eq 5

# Each at a small size, with a JSON line last, minutes in all; MNIST is read from DATA where that is given, and
# what cannot do without it says so where it is missing.
bench: $(READY)
	for name in $(BENCHMARKS); do $(BIN)/python -m benchmarks.$$name --small --results .bench $(if $(DATA),--data-dir $(DATA)) || exit 1; done

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Made again only when what is installed changes, so a second call starts at once.
$(READY): pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit("arsvd needs Python 3.11 or newer, this is " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	$(BIN)/python -c 'import torch, torchvision'
	touch $@

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache
