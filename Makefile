# What a developer runs. Needs Python >= 3.11 with venv, git and make; a package index has all else, in locked versions.

PYTHON ?= python3
# Two processes. Single tests take up to ten seconds, so the process that is done first takes over tests of the other.
PYTEST_ARGS ?= -n 2 --dist worksteal
LOCK_ARGS ?=
SOAK_SEEDS ?= 20000
KILLS ?= 200
TAKEOVERS ?= 100

VENV := .venv
BIN := $(VENV)/bin
LOCK := requirements/dev.lock
PIP := $(BIN)/python -m pip --disable-pip-version-check
# The lock names everything, so nothing is left to resolve: a resolver would look past it, for an older pip asks for the
# newest release of what another package wants with an extra (`coverage[toml]`), and then misses its hash.
FROM_LOCK := install --quiet --no-deps --require-hashes -r $(LOCK)

COMPILE := .venv-lock/bin/uv pip compile --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --custom-compile-command 'make lock' --quiet

# What `check` and `coverage` run: the tests of the pure packages themselves. Coverage by a runtime's tests would prove
# little.
PURE_TESTS := $(addprefix tests/,proto host rollout planner scopes conformance) \
	$(patsubst %,tests/test_%.py,front_door graph refusals rough_use transition_listing undo) \
	$(patsubst %,property_tests/test_%_laws.py,codec data quick schema signing host rollout planner policy held_clock scopes selector)

# mutmut plants the defects; in an environment of its own, for nothing else needs it or what it brings.
MUTMUT := mutmut==3.8.1
MUTANTS := build/mutants/venv

# What the project is measured against is in an environment of its own, with a lock of its own.
BENCH := build/bench/venv
BENCH_LOCK := requirements/bench.lock
BENCH_ARGS ?= --write

# The site's builder, likewise. -W: a warning is an error, so a broken link or docstring fails the build.
DOCS := build/docs/venv
DOCS_LOCK := requirements/docs.lock
SPHINX := PYTHONPATH=.:runtimes $(DOCS)/bin/python -m sphinx -W --keep-going --quiet --jobs auto

# The locked pyright is the one that runs; it need not ask whether a newer one exists.
export PYRIGHT_PYTHON_IGNORE_WARNINGS := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo scenarios check test test-faults machines soak coverage mutants bench docs setup lint types mypy pyright lock clean

# The checks, from quick to slow. The last line of each names the others.
CHECKS := check test test-faults machines coverage soak mutants bench
NAME_OTHERS = @echo 'make $@: passed. The other checks: $(filter-out $@,$(CHECKS)) (see make help)'

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' Makefile
	@echo 'Which tests to run for a change, and what each part costs: tests/README.md'

demo: setup ## Show a rollout, from nothing
	@$(BIN)/nixfleet demo

check: lint types ## Check style, types, imports and the pure packages, each law with 50 examples (a minute)
	HYPOTHESIS_PROFILE=quick $(BIN)/pytest $(PYTEST_ARGS) $(PURE_TESTS)
	$(NAME_OTHERS)

test: lint types ## Run all of `check`, each law with 200 examples, and every other test (six minutes)
	$(BIN)/pytest $(PYTEST_ARGS)
	$(NAME_OTHERS)

test-faults: setup ## Kill each side 200 times, send 20,000 hostile requests, let network and machines fail
	FAULTS_KILLS=$(KILLS) FAULTS_TAKEOVERS=$(TAKEOVERS) HOSTILE_REQUESTS=20000 SCHEMATHESIS_EXAMPLES=20 \
		$(BIN)/pytest -s tests/faults tests/standby \
		tests/control_plane/test_http_hostile.py tests/control_plane/test_http_schemathesis.py
	$(NAME_OTHERS)

machines: setup ## Switch a real machine: systemd, dbus and nix in a container (root; two minutes)
	$(BIN)/pytest -s tests/machines
	$(NAME_OTHERS)

scenarios: setup ## Rewrite the output in tests/scenarios/*.txt; read the diff
	$(BIN)/python -m tests.scenarios.rewrite

setup: $(VENV)/ready ## Make .venv with the locked tools and this checkout in it

lint: setup ## Check style, format and import direction
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: setup ## Check types with mypy and pyright
	@$(MAKE) --no-print-directory -j 2 --output-sync=target mypy pyright verify-types

mypy pyright: setup
	$(BIN)/$@

verify-types: setup ## Check that every public type of the pure packages is complete
	tools/verify_types.sh $(BIN)

soak: setup ## Run simulated fleets from fresh seeds, for hours (SOAK_SEEDS=20000)
	$(BIN)/nixfleet simulate --crash-points
	$(BIN)/nixfleet simulate --seeds $(SOAK_SEEDS)
	$(NAME_OTHERS)

coverage: setup ## List the branches of the pure packages that no test takes (two minutes)
	$(BIN)/pytest $(PYTEST_ARGS) --cov --cov-fail-under=100 $(PURE_TESTS)
	$(NAME_OTHERS)

mutants: $(MUTANTS)/ready ## List the planted defects of the core that no test notices (half an hour)
	$(MUTANTS)/bin/python tools/mutants/measure.py
	$(NAME_OTHERS)

bench: $(BENCH)/ready ## Measure everything beside its peers, and write docs/explanation/performance.md (BENCH_ARGS=--quick)
	PYTHONPATH=.:runtimes $(BENCH)/bin/python -m benchmarks $(BENCH_ARGS)
	$(NAME_OTHERS)

docs: $(DOCS)/ready ## Build the documentation as a site; a broken link is an error
	$(SPHINX) -b html -d build/docs/doctrees docs build/docs/html
	@echo 'The site is in build/docs/html/index.html'

lock: ## Write the locks in requirements/ anew (LOCK_ARGS=--upgrade takes newer releases)
	$(PYTHON) -m venv .venv-lock
	.venv-lock/bin/python -m pip --disable-pip-version-check install --quiet uv
	$(COMPILE) pyproject.toml --extra dev --output-file $(LOCK) $(LOCK_ARGS)
	$(COMPILE) pyproject.toml requirements/bench.in --extra runtime --extra http \
		--output-file $(BENCH_LOCK) $(LOCK_ARGS)
	$(COMPILE) pyproject.toml requirements/docs.in --extra runtime --extra http --extra testing --extra cli \
		--output-file $(DOCS_LOCK) $(LOCK_ARGS)

clean: ## Remove all that the other targets made
	rm -rf $(VENV) .venv-lock build dist htmlcov .coverage .coverage.* \
		.mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# A changed lock gives a fresh environment, so that nothing removed from it lingers there.
$(VENV)/locked: $(LOCK)
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { \
		echo 'nixfleet needs Python 3.11 or newer, and $(PYTHON) is:' \
			"$$($(PYTHON) --version 2>&1)." 'Try: make PYTHON=python3.12' >&2; exit 1; }
	$(PYTHON) -m venv --clear $(VENV)
	$(PIP) $(FROM_LOCK)
	@touch $@

$(MUTANTS)/ready: $(LOCK) Makefile
	$(PYTHON) -m venv --clear $(MUTANTS)
	$(MUTANTS)/bin/pip $(FROM_LOCK)
	$(MUTANTS)/bin/pip install --quiet $(MUTMUT)
	@touch $@

$(BENCH)/ready: $(BENCH_LOCK)
	$(PYTHON) -m venv --clear $(BENCH)
	$(BENCH)/bin/pip install --quiet --no-deps --require-hashes -r $(BENCH_LOCK)
	@touch $@

$(DOCS)/ready: $(DOCS_LOCK)
	$(PYTHON) -m venv --clear $(DOCS)
	$(DOCS)/bin/pip install --quiet --no-deps --require-hashes -r $(DOCS_LOCK)
	@touch $@

$(VENV)/ready: $(VENV)/locked pyproject.toml
	$(PIP) install --quiet --no-deps --no-build-isolation -e .
	@touch $@
