# Two commands do everything on a fresh machine: `make demo` and `make test`. Both set up .venv on first use.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
READY  := $(VENV)/.ready

# In a fresh clone, another torch than the pinned one: make test TORCH="torch==2.6.0", or TORCH="torch>=2.6" for the newest.
TORCH  ?=
PINS   := $(if $(TORCH),build/constraints.txt,constraints.txt)

.PHONY: demo test paper bench gpu quality docs dist install-check upstream upstream-check clean

demo: $(READY)
	$(BIN)/python examples/adversarial_training_digits.py

# PYTEST="--cov -m ''" measures coverage and takes the slow tests too, as CI does.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n auto --dist loadgroup $(PYTEST)

# The paper's experiments in the form for a CPU, which takes hours; what is there already is not run again.
# PAPER="--form digits" takes minutes, PAPER="--share 1/2" and 2/2 at once are for two processes.
paper: $(READY)
	for script in capacity kappa overfitting methods ablations; do \
	  OMP_NUM_THREADS=1 $(BIN)/python examples/paper/$$script.py $(PAPER) || exit 1; done

# ART's trainers and ours side by side; over an hour on two cores. BENCH="--models small_cnn --batches 64" takes a part.
bench: $(READY)
	$(BIN)/python benchmarks/bench.py $(BENCH)

# What a GPU is needed for, in ten minutes: GPU="--minutes 5" or GPU="--device cpu --small". Works without make too.
gpu: $(READY)
	$(BIN)/python benchmarks/gpu.py $(GPU)

quality: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

# The guides and the reference as HTML: build/docs/index.html.
docs: $(READY)
	rm -rf build/docs
	OMP_NUM_THREADS=1 $(BIN)/python docs/build.py

# dist/: the sdist, and the wheel built from it.
dist: build/tools/.ready
	rm -rf dist
	build/tools/bin/python -m build -q --no-isolation
	build/tools/bin/python -m twine check --strict dist/*

# The wheel alone, without extras and tools: it must import and train.
install-check: $(PINS) dist
	rm -rf build/alone && $(PYTHON) -m venv build/alone
	build/alone/bin/python -m pip install -q -c $(PINS) torch
	build/alone/bin/python -m pip install -q -c $(PINS) dist/*.whl
	cd build/alone && bin/python ../../tests/install_check.py

# Twine brings thirty packages, so it stays out of .venv.
build/tools/.ready: constraints.txt
	rm -rf build/tools && $(PYTHON) -m venv build/tools
	build/tools/bin/python -m pip install -q -c constraints.txt build twine setuptools
	touch $@

# The contribution to ART, written from this package's core into a checkout of ART 1.20: make upstream ART=FOLDER
upstream: $(READY)
	$(BIN)/python -m upstream.write $(if $(ART),"$(ART)")

# ART's gates on it, in a copy of ART=FOLDER, or of the pinned release; UPSTREAM="--only style" takes a part.
upstream-check: $(READY) build/upstream/.ready
	$(BIN)/python -m upstream.check $(UPSTREAM) $(if $(ART),"$(ART)")

build/upstream/.ready: upstream/requirements.txt
	$(PYTHON) -m venv build/upstream/tools
	build/upstream/tools/bin/python -m pip install -q -r upstream/requirements.txt
	build/upstream/tools/bin/python -m pip install -q --target build/upstream/packages requests
	touch $@

# torch goes in first and pinned, so that no later package pulls another build of it.
$(READY): $(PINS) setup.py
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10) and "art_gair needs Python 3.10 or newer: make PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q -c $(PINS) torch
	$(BIN)/python -m pip install -q -c $(PINS) -e '.[dev]'
	touch $@

# The pins without torch's and those of what torch itself pins.
build/constraints.txt: constraints.txt
	mkdir -p build
	grep -vE '^(torch|sympy|setuptools)==' constraints.txt > $@
	echo '$(TORCH)' >> $@

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage
