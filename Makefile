# Needs Python 3.11 or later (with pip and venv) and make; fetches packages from the package index and nothing else.
# `make PYTHON=python3.12 demo` picks another interpreter.

PYTHON ?= python3
VENV ?= .venv
SET = movielens-100k

BIN = $(VENV)/bin
PIP = $(BIN)/python -m pip install --quiet --disable-pip-version-check
MOVIELENS = $(PIP) --no-deps recbole==1.2.1
# TorchRec asks for FBGEMM's build for CUDA; these are the builds for a CPU that fit the PyTorch of constraints.txt.
TORCHREC = $(PIP) --no-deps torchrec==1.8.0 fbgemm-gpu-cpu==1.8.0
REQUIREMENTS = setup.cfg pyproject.toml constraints.txt
# A process a core, eight at most; each takes new tests once it has none left.
PYTEST = $(BIN)/pytest --numprocesses auto --maxprocesses 8 --dist worksteal
DOCS = NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --quiet --strict

# The benchmarks that run without being told of a data set: those that take no positional argument. Fingerprints
# measure nothing, and that of a GPU needs one.
BENCHMARKS = $(filter-out fingerprints gpu,$(basename $(notdir $(shell grep -L 'add_argument."[a-z]' $$(grep -l ArgumentParser benchmarks/*.py)))))

.DEFAULT_GOAL := help
.PHONY: help demo check test nightly lint loops kernels format figures docs bench clean \
	gpu-first gpu-measure gpu-sanitize gpu-profile gpu-check

help: ## Print this text
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/demo-installed ## Draw the co-clusters of MovieLens-100K, train tables within a quarter, and recommend; all of it in demo/
	@mkdir -p demo
	$(BIN)/baco compress $(SET) --split random --budget 0.03 --out demo/codes.safetensors
	$(BIN)/baco report demo/codes.safetensors --data $(SET) --split random --names $(SET) --out demo/coclusters.html
	$(BIN)/baco compare $(SET) --methods full,random,baco-multilevel,bisecting,affinity,product --budget 0.25 --epochs 40 --out demo
	$(BIN)/baco train $(SET) --method affinity --budget 0.25 --epochs 40 --out demo/model.safetensors
	$(BIN)/baco recommend demo/model.safetensors --user 42 --k 10 --names $(SET)

# Waiting threads that spin slow a busy machine down several times over.
check test nightly: export OMP_WAIT_POLICY ?= PASSIVE

# What may run side by side before there are several processes of tests.
SIDE_BY_SIDE = $(MAKE) --no-print-directory $(if $(filter -j% --jobs%,$(MAKEFLAGS)),,--jobs=2 --output-sync)

check: $(VENV)/test-installed ## Check style and types, and run the tests that touch nothing heavy: within 90 seconds
	+$(SIDE_BY_SIDE) lint loops
	$(PYTEST) --tier check

test: $(VENV)/test-installed ## Test every behaviour once, at the smallest size that shows it, and build the documentation: within 6 minutes
	+$(SIDE_BY_SIDE) lint loops kernels
	$(PYTEST) --tier test
	$(DOCS)

nightly: $(VENV)/nightly-installed ## Test at every size, with coverage and rare packages; notebooks and pages as published
	+$(SIDE_BY_SIDE) lint loops kernels
	$(PYTEST) --tier nightly --cov --cov-report=term-missing:skip-covered
	$(PYTEST) --nbmake --nbmake-timeout=600 notebooks
	$(DOCS)

lint: $(VENV)/test-installed ## Check style and types, without running a test
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/hadolint Dockerfile

loops kernels: $(VENV)/test-installed
	$(BIN)/python tests/compiled.py $@

format: $(VENV)/test-installed ## Format the sources, and mend what ruff can mend
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

figures: $(VENV)/test-installed ## Write the tables of README.md and docs/ from benchmarks/results/, and draw their pictures
	$(BIN)/python -m benchmarks.figures
	$(BIN)/python docs/pictures.py

docs: $(VENV)/test-installed ## Build the documentation into build/site; a warning is an error
	$(DOCS)

bench: $(VENV)/test-installed ## Run the benchmarks that need no data set; they print what they measure
	@for name in $(BENCHMARKS); do echo "benchmarks/$$name.py"; $(BIN)/python -m benchmarks.$$name || exit 1; done

# On a machine with a GPU whose $(PYTHON) has PyTorch, CuPy and pytest. What they find goes to $(OUT), too. A step that fails
# or hangs ends, and the next one is taken all the same: each target is done within ten minutes, and fails at its end.
OUT ?= build/gpu
GPU_TESTS = tests/kernels/test_gpu_solver.py tests/clustering/test_streaming.py tests/kernels/test_gpu_codebook.py
# Small graphs alone under the sanitizers, which slow kernels down tens of times, and no pools of memory, without which
# nothing can be captured into a CUDA graph.
SANITIZED = -p without_pools -m gpu -k "not million and not captured" --tier nightly $(GPU_TESTS)
LOGGED = 2>&1 | tee $(OUT)/$@

gpu-first gpu-measure gpu-sanitize gpu-profile gpu-check: SHELL = bash
gpu-first gpu-measure gpu-sanitize gpu-profile gpu-check: .SHELLFLAGS = -o pipefail -c

gpu-first: ## With a GPU, first: what is there, whether every kernel compiles and runs, and the small tests stage by stage
	@mkdir -p $(OUT)
	$(PYTHON) -m pip install --quiet --no-index --no-deps --no-build-isolation --editable .
	@failed=; \
	timeout 30 $(PYTHON) -c 'import cupy; cupy.show_config()' $(LOGGED)-config.txt || failed=1; \
	timeout 90 $(PYTHON) -m baco_gpu env --backend cuda $(LOGGED)-env.txt || failed=1; \
	timeout 120 $(PYTHON) -m benchmarks.gpu --parts device --out $(OUT)/device $(LOGGED)-device.txt || failed=1; \
	BACO_GPU_EDGES=0 timeout 330 $(PYTHON) -m pytest -m gpu -k "not million" --tier nightly -v $(GPU_TESTS) \
		$(LOGGED)-tests.txt || failed=1; \
	test -z "$$failed"

gpu-measure: ## With a GPU: all measurements, within 8 minutes, to $(OUT)/gpu.json, .csv and .png
	@mkdir -p $(OUT)
	timeout 540 $(PYTHON) -m benchmarks.gpu --out $(OUT)/gpu $(LOGGED).txt

gpu-sanitize: ## With a GPU: small tests under compute-sanitizer's memcheck, synccheck and racecheck
	@mkdir -p $(OUT); failed=; \
	for tool in "memcheck --report-api-errors no" synccheck racecheck; do \
		echo "compute-sanitizer --tool $$tool"; \
		BACO_GPU_EDGES=0 BACO_DATA= PYTHONPATH=tests PYTORCH_NO_CUDA_MEMORY_CACHING=1 \
		timeout 190 compute-sanitizer --tool $$tool --error-exitcode 1 $(PYTHON) -m pytest $(SANITIZED) \
			$(LOGGED)-$${tool%% *}.txt || failed=1; done; \
	test -z "$$failed"

gpu-profile: ## With a GPU: what Nsight Compute counts of the kernels of a sweep and of merging, to $(OUT)
	@mkdir -p $(OUT)
	timeout 540 ncu --clock-control none --section SpeedOfLight --section MemoryWorkloadAnalysis --section WarpStateStats \
		--section Occupancy --kernel-name 'regex:label_|pairs_of_edges|best_partners' --launch-count 60 --csv \
		$(PYTHON) -m benchmarks.gpu --edges 1e7 --part solve-1e7 --rows $(OUT)/profiled.jsonl > $(OUT)/$@.csv

gpu-check: gpu-first ## With a GPU and time: all of its tests, at every size, then compute-sanitizer
	$(PYTHON) -m pytest -m gpu --tier nightly
	+$(MAKE) --no-print-directory gpu-sanitize

clean: ## Remove caches, builds and demo/; keeps .venv
	rm -rf build dist demo .coverage .hypothesis .mypy_cache .pytest_cache .ruff_cache
	find baco_gpu benchmarks kernels tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/pip:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("baco_gpu needs Python 3.11 or later, got " \
		+ sys.version.split()[0] + "; name another: make PYTHON=python3.12")'
	$(PYTHON) -m venv $(VENV)

# The stamps keep a second run from installing again; a change of the requirements makes them old.
$(VENV)/demo-installed: $(REQUIREMENTS) | $(BIN)/pip
	@echo "Installing baco_gpu into $(VENV): a few minutes the first time, most of them for PyTorch"
	$(PIP) -c constraints.txt -e .
	$(MOVIELENS)
	@touch $@

$(VENV)/test-installed: $(REQUIREMENTS) | $(BIN)/pip
	@echo "Installing baco_gpu and the test tools into $(VENV): a few minutes the first time, most of them for PyTorch"
	$(PIP) -c constraints.txt -e '.[dev]'
	$(MOVIELENS)
	@touch $@ $(VENV)/demo-installed

$(VENV)/nightly-installed: $(VENV)/test-installed
	@echo "Installing what the nightly tests alone compare with"
	$(PIP) -c constraints.txt -e '.[dev,nightly]'
	$(TORCHREC)
	@touch $@
