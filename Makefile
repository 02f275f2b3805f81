# Everything here needs Python 3.11 or later with its venv module, make, and a C compiler.
# PYTHON=<command> chooses the Python of a new .venv; without it the first one that is recent enough.

.DELETE_ON_ERROR:
.DEFAULT_GOAL := help
.PHONY: help demo test bench bench-errors bench-kernels bench-scaling bench-compare lint dist clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

RECENT := import sys; sys.exit(sys.version_info < (3, 11))
CANDIDATES := $(or $(PYTHON),python3 python3.11 python3.12 python3.13 python3.14)

# What the compiled part is made of: the package is installed again when one of these changes.
BUILD_FILES := pyproject.toml setup.py $(wildcard skae/_kernel/*.pyx skae/_kernel/*.pxd skae/_kernel/*.h)

help:
	@echo "make demo    train the pipeline on digits, print the table, save the picture"
	@echo "             (SKAE_DATA=mnist.npz make demo: the same on MNIST)"
	@echo "make test    run the tests and the examples in the docstrings"
	@echo "make bench   the table of training times: skae, its bare matrix products, its peers (hours)"
	@echo "             (ARGS=--quick: a few rows of it; DATA=mnist.npz: on MNIST)"
	@echo "make bench-errors DATA=mnist.npz    the table of published errors and ours (hours)"
	@echo "make bench-kernels    compare each elementwise loop with a copy, and with NumPy"
	@echo "make bench-scaling    how time and memory grow, throughput, import time (minutes)"
	@echo "make bench-compare REV=HEAD    fail if this checkout is slower than that revision"
	@echo "make lint    check the style of the Python and Cython sources"
	@echo "make dist    build the sdist, and the wheel from it, in dist/"
	@echo "make clean   remove .venv and all that was built"

demo: $(VENV)/installed
	$(BIN)/python docs/examples/plot_pipeline.py

test: $(VENV)/installed
	$(BIN)/python -m pytest

bench: $(VENV)/installed
	$(BIN)/python benchmarks/training.py $(if $(DATA),--data '$(DATA)') $(ARGS)

bench-errors: $(VENV)/installed
	$(BIN)/python benchmarks/errors.py $(if $(DATA),--data '$(DATA)')

bench-kernels: $(VENV)/installed
	$(BIN)/python benchmarks/kernels.py

bench-scaling: $(VENV)/installed
	$(BIN)/python benchmarks/scaling.py

bench-compare: $(VENV)/builder
	$(BIN)/python benchmarks/compare.py $(if $(REV),--revision '$(REV)')

lint: $(VENV)/tools
	$(BIN)/ruff check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cython-lint skae

dist: $(VENV)/tools
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/python -m twine check --strict dist/*

clean:
	rm -rf $(VENV) build dist *.egg-info .pytest_cache .ruff_cache .hypothesis
	rm -f skae/_kernel/*.so skae/_kernel/*.c
	find skae tests benchmarks docs -name __pycache__ -prune -exec rm -rf {} +

$(VENV)/created:
	@for python in $(CANDIDATES); do \
	    if $$python -c '$(RECENT)' 2>/dev/null; then \
	        echo "Creating $(VENV) with $$python"; \
	        $$python -m venv $(VENV) && touch $@; \
	        exit; \
	    fi; \
	done; \
	echo "skae needs Python 3.11 or later, and none was found (tried: $(CANDIDATES));" \
	    "install one, or name it: make PYTHON=/path/to/python3" >&2; \
	exit 1

# The package in place, compiled, with what its tests, demo and benchmarks import.
$(VENV)/installed: $(VENV)/created $(BUILD_FILES)
	@echo "Compiling and installing skae in $(VENV)"
	@$(PIP) install --editable '.[test]'
	@touch $@

# What setup.py imports. pip has it in a place of its own, but bench-compare runs setup.py itself.
$(VENV)/builder: $(VENV)/installed
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["build-system"]["requires"], sep="\n")' > $@.txt
	@$(PIP) install --requirement $@.txt
	@touch $@

# The tools of the extra "dev", without compiling the package.
$(VENV)/tools: $(VENV)/created pyproject.toml
	@echo "Installing the development tools in $(VENV)"
	@$(BIN)/python -c 'import tomllib; print(*tomllib.load(open("pyproject.toml", "rb"))["project"]["optional-dependencies"]["dev"], sep="\n")' > $@.txt
	@$(PIP) install --requirement $@.txt
	@touch $@
