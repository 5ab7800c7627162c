# Two commands do everything on a fresh machine: `make demo` and `make test`. Both set up .venv on first use.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

.PHONY: demo test bench quality install-check clean

demo: $(READY)
	$(BIN)/python examples/digits_demo.py

test: $(READY)
	$(BIN)/python -m pytest -q --cov --cov-report=term

# ART's trainers and ours side by side; over an hour on two cores. BENCH="--models small_cnn --batches 64" takes a part.
bench: $(READY)
	$(BIN)/python benchmarks/bench.py $(BENCH)

quality: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The package alone, without the tools for development: it must import and train.
install-check:
	rm -rf build/alone && $(PYTHON) -m venv build/alone
	build/alone/bin/python -m pip install -q -c constraints.txt torch
	build/alone/bin/python -m pip install -q -c constraints.txt .
	build/alone/bin/python tests/install_check.py

# torch goes in first and pinned, so that no later package pulls another build of it.
$(READY): constraints.txt setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "art_gair needs Python 3.10 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c constraints.txt torch
	$(BIN)/python -m pip install -q -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
