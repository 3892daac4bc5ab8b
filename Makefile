# Needs only make and Python >= 3.11 with venv and pip; everything else goes into .venv.

PYTHON ?= python3
VENV := .venv
BENCH := .venv-bench
BIN := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help demo test test-template check fuzz planted bench clean

help: ## Show the commands
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-13s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: $(VENV)/.installed ## Stream typed tokens from an embedded loopback server
	@$(BIN)/streamsession demo

test: $(VENV)/.installed-test ## Run all the tests on asyncio and trio
	$(BIN)/python -m pytest -n auto

test-template: $(VENV)/.installed-test ## Make SDKs from the template, and run their own tests and checks
	$(BIN)/python -m pytest -n auto -o python_files='check_*.py' -o faulthandler_timeout=900 tests/template

check: $(VENV)/.installed-check ## Lint, type-check, and measure the coverage of the tests
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/pyright
	$(BIN)/coverage run -m pytest -q -n auto
	$(BIN)/coverage combine -q
	$(BIN)/coverage report

fuzz: $(VENV)/.installed-test ## Search for inputs that break a law, for FUZZ_SECONDS (60)
	$(BIN)/python -m tests.fuzz --seconds $${FUZZ_SECONDS:-60}

planted: $(VENV)/.installed-test ## Plant faults in the source, and see that the tests notice each
	$(BIN)/python -m tests.planted

bench: $(BENCH)/.installed ## Measure it side by side with its peers; BENCH_ARGS=--quick for a look
	@$(BENCH)/bin/python -m benchmarks $(BENCH_ARGS)

clean: ## Remove the environments and everything generated
	rm -rf $(VENV) $(BENCH) dist .coverage* .hypothesis .mypy_cache .pytest_cache .ruff_cache

# Each stamp is an installation that is remade when pyproject.toml changes.
# Dependency groups need pip 25.1.
$(VENV)/.installed: pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "streamsession needs Python 3.11 or later; set PYTHON=/path/to/python3"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet --editable .
	@touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(BIN)/python -m pip install --quiet --group test
	@touch $@

$(VENV)/.installed-check: $(VENV)/.installed-test
	$(BIN)/python -m pip install --quiet --group check --group bench
	@touch $@

$(BENCH)/.installed: pyproject.toml
	$(PYTHON) -m venv $(BENCH)
	$(BENCH)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BENCH)/bin/python -m pip install --quiet --editable . --group bench
	@touch $@
