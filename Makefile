# Everything here needs Python 3.11 or later with its venv module, make, and a C compiler.
# PYTHON=<command> chooses the Python of a new .venv; by default the first that is recent enough.

.DELETE_ON_ERROR:
.NOTPARALLEL:  # all targets share one environment
.DEFAULT_GOAL := help
.PHONY: help demo test test-fast test-all test-lowest fuzz coverage bench bench-errors bench-kernels \
    bench-fits bench-scaling bench-jobs bench-novelty bench-imputation bench-replicas bench-sparse \
    bench-text bench-top-k bench-compare lint docs dist wheel-test clean

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet

RECENT := import sys; sys.exit(sys.version_info < (3, 11))
CANDIDATES := $(or $(PYTHON),python3 python3.11 python3.12 python3.13 python3.14)

# Sources of the extensions: the package is installed again if one of them changes.
BUILD_FILES := pyproject.toml setup.py $(wildcard skae/_kernel/*.pyx skae/_kernel/*.pxd skae/_kernel/*.h)

help:
	@echo "make demo    train the pipeline on digits, print the table, save the picture"
	@echo "             (SKAE_DATA=mnist.npz make demo: the same on MNIST)"
	@echo "make test    run the tests and the examples in the docstrings"
	@echo "make test-fast    leave out the slow ones, and the pages of the guide"
	@echo "make test-all    add scikit-learn's checks of some fifty more configurations (minutes)"
	@echo "make test-lowest    run all tests with the lowest supported versions of the dependencies"
	@echo "             (PYTHON=python3.11: they do not support Python later than 3.12)"
	@echo "make fuzz N=2000    run 2000 random programs against the public interface"
	@echo "             (SEED=5000: first seed; see tests/fuzz.py)"
	@echo "make coverage    run all tests; fail if the coverage of the Python code is too low"
	@echo "make bench   the table of training times: skae, matrix products alone, peers (hours)"
	@echo "             (ARGS=--quick: only a few rows; DATA=mnist.npz: on MNIST)"
	@echo "make bench-errors DATA=mnist.npz    the table of published errors and ours (hours)"
	@echo "make bench-fits    whole fits of skae, MLPRegressor, PyOD, PyTorch and skorch (minutes)"
	@echo "make bench-kernels    compare each elementwise loop with a copy and with NumPy"
	@echo "make bench-scaling    scaling of time and memory, throughput, import time (minutes)"
	@echo "make bench-jobs    reconstruction, denoising, codes, novelty, time on many data sets (an hour)"
	@echo "             (ADBENCH=<folder of ADBench's .npz> DATA=mnist.npz: also on these)"
	@echo "make bench-novelty    detectors on many tables (an hour; ADBENCH=<folder>: also on its tables)"
	@echo "make bench-imputation    imputers on tables with removed values (hours; ADBENCH=<folder>)"
	@echo "make bench-top-k DATA=mnist.npz    time and features of top-k codes (half an hour)"
	@echo "make bench-sparse    fine-tuning on sparse samples and arrays (5 minutes)"
	@echo "make bench-text REVIEWS=<file>    codes of product reviews and TF-IDF (a minute)"
	@echo "make bench-replicas    skae.dask.fit and ordinary fits (minutes; DATA=mnist.npz)"
	@echo "make bench-compare REV=HEAD    fail if this checkout is slower than that revision"
	@echo "make lint    check the style of the Python and Cython sources, and the types"
	@echo "make docs    build the documentation in docs/_build/html, examples included"
	@echo "make dist    build the sdist, and the wheel from it, in dist/, and check them"
	@echo "make wheel-test PYTHON=python3.12    build a wheel for that Python, and test it"
	@echo "make clean   remove .venv and all build products"

# The demo needs less than the tests: install nothing if the requirements of the tests are there.
demo: $(or $(wildcard $(VENV)/installed),$(VENV)/installed-plot)
	$(BIN)/python docs/examples/plot_pipeline.py

# One process per core, with one thread of BLAS. Tests of several threads run separately.
PYTEST := $(BIN)/python -m pytest
PARALLEL := OPENBLAS_NUM_THREADS=1 $(PYTEST) --numprocesses=auto --dist=worksteal

test: $(VENV)/installed
	$(PARALLEL) -m "not threads and not exhaustive"
	$(PYTEST) -m threads tests/test_threads.py tests/test_kernel.py tests/test_detector.py

test-fast: $(VENV)/installed
	$(PARALLEL) -m "not threads and not exhaustive and not slow" tests skae

test-all: test
	$(PARALLEL) -m exhaustive tests/test_exhaustive.py

# pip applies the first variable to installed packages; from 25.3 on, the second to build
# dependencies (before, the first to both).
test-lowest: $(VENV)/dev.required
	$(BIN)/python .ci/requirements.py --lowest > $(VENV)/lowest.txt
	PIP_CONSTRAINT=$(VENV)/lowest.txt PIP_BUILD_CONSTRAINT=$(VENV)/lowest.txt $(TEST_WHEEL)

fuzz: $(VENV)/installed
	$(BIN)/python tests/fuzz.py $(or $(N),2000) --seed $(or $(SEED),0) --jobs $(or $(JOBS),2)

coverage: $(VENV)/installed $(VENV)/dev.required
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage report

bench: $(VENV)/installed
	$(BIN)/python benchmarks/training.py $(if $(DATA),--data '$(DATA)') $(ARGS)

bench-errors: $(VENV)/installed
	$(BIN)/python benchmarks/errors.py $(if $(DATA),--data '$(DATA)')

bench-fits: $(VENV)/installed
	$(BIN)/python benchmarks/fits.py $(if $(DATA),--data '$(DATA)')

bench-kernels: $(VENV)/installed
	$(BIN)/python benchmarks/kernels.py

bench-replicas: $(VENV)/installed
	$(BIN)/python benchmarks/replicas.py $(if $(DATA),--data '$(DATA)') $(ARGS)

bench-top-k: $(VENV)/installed
	$(BIN)/python benchmarks/top_k.py --data '$(DATA)' $(ARGS)

bench-sparse: $(VENV)/installed
	$(BIN)/python benchmarks/sparse_samples.py $(ARGS)

bench-text: $(VENV)/installed
	$(BIN)/python benchmarks/text.py --data '$(REVIEWS)' --json benchmarks/results/text.json $(ARGS)

bench-scaling: $(VENV)/installed
	$(BIN)/python benchmarks/scaling.py

JOBS_DATA = $(if $(ADBENCH),--adbench '$(ADBENCH)') $(if $(DATA),--data '$(DATA)')

bench-jobs: $(VENV)/installed
	$(BIN)/python benchmarks/jobs.py $(JOBS_DATA) --json benchmarks/results/jobs.json $(ARGS)

bench-novelty: $(VENV)/installed
	$(BIN)/python benchmarks/novelty.py $(if $(ADBENCH),--adbench '$(ADBENCH)') $(ARGS)

bench-imputation: $(VENV)/installed
	$(BIN)/python benchmarks/imputation.py $(if $(ADBENCH),--adbench '$(ADBENCH)') $(ARGS)

# setup.py is run directly, by the Python of the environment.
bench-compare: $(VENV)/installed $(VENV)/build.required
	$(BIN)/python benchmarks/compare.py $(if $(REV),--revision '$(REV)')

lint: $(VENV)/installed $(VENV)/dev.required
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/cython-lint skae
	$(BIN)/mypy
	$(BIN)/stubtest --mypy-config-file pyproject.toml --ignore-missing-stub \
	    --ignore-disjoint-bases skae._kernel

docs: $(VENV)/installed $(VENV)/docs.required
	$(BIN)/sphinx-build -W --keep-going -b html docs docs/_build/html
	$(BIN)/python docs/check_links.py docs/_build/html

dist: $(VENV)/dev.required
	rm -rf dist
	$(BIN)/python -m build
	$(BIN)/twine check --strict dist/*
	$(BIN)/check-sdist
	$(BIN)/python .ci/check_dist.py dist/*.tar.gz dist/*.whl

TEST_WHEEL = PATH="$(CURDIR)/$(BIN):$$PATH" .ci/test_wheel.sh $(PYTHON)

wheel-test: $(VENV)/dev.required
	$(TEST_WHEEL)

clean:
	rm -rf $(VENV) build dist *.egg-info docs/_build docs/auto_examples docs/generated
	rm -rf .coverage .pytest_cache .ruff_cache .mypy_cache .hypothesis
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

# An editable install of the package, with the requirements of tests and benchmarks; or, for the
# demo, with those of the displays.
$(VENV)/installed: EXTRA := test
$(VENV)/installed-plot: EXTRA := plot
$(VENV)/installed $(VENV)/installed-plot: $(VENV)/created $(BUILD_FILES)
	@echo "Compiling and installing skae in $(VENV): a minute or two"
	@$(PIP) install --editable '.[$(EXTRA)]'
	@touch $@

# The requirements of the build, or of an extra, without the package itself.
$(VENV)/%.required: $(VENV)/created pyproject.toml
	@echo "Installing the requirements of $* in $(VENV)"
	@$(BIN)/python .ci/requirements.py $* > $@.txt
	@$(PIP) install --requirement $@.txt
	@touch $@
