# Everything runs in .venv, which `make setup` makes: no root, nothing outside this folder.

BIN := .venv/bin
JOBS ?= 2
CHECKS := "ruff check ." "ruff format --check ." mypy lint-imports codespell \
  "pytest tests/unit/test_size_budget.py"
PYTEST = OMP_NUM_THREADS=1 $(BIN)/pytest -n $(JOBS) --dist worksteal

# An active conda environment makes fairseq2 look there, and only there, for its libraries.
unexport CONDA_PREFIX PYTHONPATH PYTHONHOME

.DEFAULT_GOAL := help
.NOTPARALLEL:
.PHONY: help setup test test-slow test-browser check format demo demo-train demo-full constraints clean

help: ## print this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(firstword $(MAKEFILE_LIST)) | while IFS='|' read -r name text; \
	  do printf '  make %-12s %s\n' "$$name" "$$text"; done

setup: ## make or update .venv (PYTHON=..., TORCH_INDEX=...: see tools/setup.sh)
	@tools/setup.sh

test: check ## the checks and the tests that take seconds (JOBS=2 at a time)
	$(PYTEST) -m "not slow"

test-slow: setup ## the tests that take minutes
	$(PYTEST) -m slow

test-browser: setup ## the server's page in a browser (Debian: apt-get install chromium chromium-driver)
	OMP_NUM_THREADS=1 $(BIN)/pytest -rs tests/browser

check: setup ## style, types, import rules, spelling, size budget: all of them, even if one fails
	@failed=; for step in $(CHECKS); do \
	  echo "== $$step"; \
	  if [ "$$step" = mypy ] && [ -e $(BIN)/python3.10 ]; then \
	    echo "left out: the types that numpy and av declare for Python 3.10 are older than those meant"; \
	  else $(BIN)/$$step || failed="$$failed [$$step]"; fi; \
	done; \
	if [ -n "$$failed" ]; then echo "make check: failed:$$failed" >&2; exit 1; fi

format: setup ## rewrite the code in the project's style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

demo: setup ## hear, measure and finetune the model of the package, in 3 minutes on 2 cores
	@tools/demo.sh

demo-train: setup ## train a model from nothing on real speech, in at most 20 minutes on 2 cores
	@tools/demo_train.sh demo

demo-full: setup ## the same in five languages, in about two hours; fetches 377 MB
	@tools/demo_train.sh demo_full

constraints: setup ## choose anew the versions in constraints.txt (UPGRADE=--upgrade: the newest)
	tools/constraints.sh $(UPGRADE)

clean: ## remove what builds and tests leave behind; keeps .venv
	rm -rf build dist .pytest_cache .mypy_cache .ruff_cache .import_linter_cache .grimp_cache .hypothesis
	find . -path ./.venv -prune -o -name __pycache__ -type d -exec rm -rf {} +
