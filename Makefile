# Two commands set everything up on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# The slow files are in the first folders: at the end no process waits long for the other.
BY_FILE := --dist loadfile --no-loadscope-reorder

.PHONY: demo demo-screen demo-large demo-conditions demo-words test test-faults soak coverage check bench gpu help

help:
	@echo "make demo    environment, install, train both stages on real frames, report in runs/demo"
	@echo "make demo-screen  the same at the screen's own 192x160 pixels, report in runs/screen: about 12 minutes on two cores"
	@echo "make demo-large  trains on the Hubble Deep Field, draws 2048x2048 pixels of such a sky, report in runs/deepfield: about 20 minutes on two cores"
	@echo "make demo-conditions  class, edges, colours, boxes, pixels and actions steer what is drawn, report in runs/conditions: at most 20 minutes"
	@echo "make demo-words  a judge of texts guides pictures, a prior reads captions, report in runs/words: at most 20 minutes"
	@echo "make test    environment, install, style, types, layers, all tests"
	@echo "make test-faults   malicious and damaged files, signals, two processes; some minutes"
	@echo "make soak    two hundred kills and a long run: half an hour"
	@echo "make coverage   the same tests as \`make test\`, and which lines they run (half as slow again)"
	@echo "make check   style, types and layers alone"
	@echo "make gpu     what needs a CUDA card: tests and benchmarks, at most 8 minutes"
	@echo "make bench   all benchmarks; refreshes benchmarks/results"

$(BIN)/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.demo: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --no-compile --editable ".[demo]"
	@touch $@

$(VENV)/.dev: pyproject.toml | $(BIN)/python
	$(BIN)/pip install --quiet --no-compile --editable ".[dev]"
	@touch $@ $(VENV)/.demo

demo: $(VENV)/.demo
	$(BIN)/vqgan demo --out runs/demo

demo-screen: $(VENV)/.demo
	$(BIN)/vqgan demo --screen --out runs/screen

demo-large: $(VENV)/.demo
	$(BIN)/vqgan demo --large --out runs/deepfield

demo-conditions: $(VENV)/.demo
	$(BIN)/vqgan demo --conditions --out runs/conditions

demo-words: $(VENV)/.demo
	$(BIN)/vqgan demo --words --out runs/words

check: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports > .lint-imports.log || (cat .lint-imports.log && false)

test: check
	OMP_NUM_THREADS=1 $(BIN)/pytest -n 2 $(BY_FILE) $(if $(COVERAGE),--cov --cov-report=term:skip-covered --cov-fail-under=90)

coverage:
	$(MAKE) test COVERAGE=yes

test-faults: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/faults -n 2

soak: $(VENV)/.dev
	OMP_NUM_THREADS=1 $(BIN)/pytest tests/soak

bench: $(VENV)/.dev
	@for script in benchmarks/[a-z]*.py; do \
	  case $$script in */timing.py|*/limits.py|*/cells.py|*/adversary.py|*/digits.py|*/codebooks.py|*/perceptual.py|*/recipes.py|*/forgiving.py|*/rates.py|*/bottleneck.py|*/settings.py|*/compute.py|*/screen_prior.py|*/vae.py|*/gpu.py|*/foreign_sprites.py|*/imagine.py) ;; *) $(BIN)/python $$script --json benchmarks/results/$$(basename $$script .py).json ;; esac; \
	done

gpu:
	PYTHONPATH=src $(PYTHON) benchmarks/gpu.py
