# make = check + test. Each target sets itself up: all it needs is Python 3.11+ and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
# One arithmetic thread a test process: two test processes share two cores.
TEST_ENV := OMP_NUM_THREADS=1 TOKENIZERS_PARALLELISM=false

.PHONY: all check test demo bench golden docs
all: check test

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else f"Python 3.11 or newer is needed, this is {sys.version.split()[0]}; make PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing foretune and its tools into $(VENV) (first time only; this can take minutes)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(STAMP)

check: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python tools/write_docs.py --check
	$(BIN)/python tools/changelog_check.py

test: $(STAMP)
	$(TEST_ENV) $(BIN)/python -m pytest -q -n 2

demo: $(STAMP)
	$(BIN)/python tools/demo.py

# make bench NAME=start runs one benchmark, without NAME all of them.
bench: $(STAMP)
	$(BIN)/python benchmarks/run.py $(NAME)

golden: $(STAMP)
	$(TEST_ENV) $(BIN)/python -m pytest -q tests/golden

docs: $(STAMP)
	$(BIN)/python tools/write_docs.py
	$(BIN)/python -m pytest -q tests/docs
