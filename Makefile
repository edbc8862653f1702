# Everything a person types in this project. `make` alone explains.
# The virtual environment is .venv; stamp files in it remember what is installed, so that a second `make` starts at once.

.DEFAULT_GOAL := help
.PHONY: help demo serve test browser check format results experiments bench scale clean
.DELETE_ON_ERROR:

# A waiting OpenMP thread must sleep, not spin: on a shared machine spinning costs a factor of 50.
export OMP_WAIT_POLICY := passive

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip --disable-pip-version-check --quiet
BROWSER := tests/browser/node_modules
CODE := src tests $(wildcard benchmarks)

help: ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(VENV)/.has-demo ## draw a wardrobe, train, evaluate, write demo/report.html (minutes)
	$(BIN)/panfit demo --out demo

serve: $(VENV)/.has-serve ## serve the demo's run: a page to try it on
	@test -d demo/runs || $(MAKE) demo
	$(BIN)/panfit serve

test: $(VENV)/.has-dev ## run the tests, two files at a time
	$(BIN)/python -m pytest -n 2 --dist loadfile

browser: $(VENV)/.has-dev $(BROWSER)/.has-modules ## go through the page in a real browser; pictures in artifacts/page
	PANFIT_SHOTS=$(CURDIR)/artifacts/page $(BIN)/python -m pytest -rs tests/serve/test_browser.py

check: $(VENV)/.has-dev ## format, lint, types, arrows between modules: change nothing, say what is wrong
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(VENV)/.has-dev ## rewrite the code in the house format
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

results: $(VENV)/.has-dev ## write the tables in README.md and docs/results.md from results/*.json
	$(BIN)/python -m panfit.reproduce.document

experiments: $(VENV)/.has-dev ## run again what results/*.json came from (hours)
	$(BIN)/python benchmarks/experiments.py
	$(BIN)/python -m benchmarks.newcomers wardrobe closet
	$(BIN)/python benchmarks/faithfulness.py runs/experiments/newcomers/wardrobe/all --data runs/experiments/data/wardrobe

bench: $(VENV)/.has-dev ## measure speed and memory (idle machine, minutes a case), then write docs/benchmarks.md
	$(BIN)/python -m benchmarks.speed
	$(BIN)/python -m panfit.reproduce.document

scale: $(VENV)/.has-dev ## measure how cost grows with the data (half an hour, 12 GB of disk), then write docs/benchmarks.md
	$(BIN)/python -m benchmarks.scale --work runs/scale
	$(BIN)/python -m panfit.reproduce.document

clean: ## remove the virtual environment, the demo's output and the tools' caches
	rm -rf $(VENV) $(BROWSER) demo artifacts .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find src tests -name __pycache__ -type d -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "panfit needs Python 3.11 or newer; name one: make PYTHON=python3.12 ..." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

# Order-only on the interpreter: its time stamp says nothing about what is installed.
$(VENV)/.has-demo: pyproject.toml | $(BIN)/python
	@echo "installing panfit into $(VENV) ..."
	$(PIP) install --editable '.[text,plots]'
	@touch $@

$(VENV)/.has-serve: pyproject.toml | $(VENV)/.has-demo
	@echo "installing panfit's service into $(VENV) ..."
	$(PIP) install --editable '.[serve]'
	@touch $@

$(BROWSER)/.has-modules: tests/browser/package.json
	@command -v npm > /dev/null || { echo "the browser's story needs Node.js 20 or newer, with npm" >&2; exit 1; }
	@echo "installing what drives the browser into $(BROWSER) ..."
	cd tests/browser && npm install --no-save --no-package-lock --ignore-scripts --no-audit --no-fund --loglevel=error
	@touch $@

# All that the demo and the service need is among what development needs, so one stamp sets the others.
$(VENV)/.has-dev: pyproject.toml | $(BIN)/python
	@echo "installing panfit and its development tools into $(VENV) ..."
	$(PIP) install --editable '.[dev]'
	@touch $(VENV)/.has-demo $(VENV)/.has-serve $@
