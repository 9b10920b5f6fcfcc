# Each target sets up .venv by itself; the first run downloads the pinned packages.
#   make test PYTHON=python3.12         another interpreter (after `make clean`)
#   make test HIDIFF_DATA=<folder>      where the real datasets lie
#   make demo DATA=<DRIVE folder>       the demo on DRIVE instead of phantoms

SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && exit; done; echo python3)
BIN := .venv/bin
INSTALLED := .venv/.installed
STAMP := .venv/.built

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow lint clean

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1|/' | awk -F'|' '{printf "make %-10s %s\n", $$1, $$2}'

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c '$(SUPPORTED)' || { \
		echo "got $(PYTHON) = $$($(PYTHON) --version 2>&1); expected Python 3.10 to 3.13:" \
		     "install one and name it, e.g. make test PYTHON=python3.12" >&2; exit 1; }
	@echo "Setting up .venv with $$($(PYTHON) --version) (once; minutes, most of it torch)"
	$(PYTHON) -m venv --clear .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $(INSTALLED)

# The packed operators: compiled again, in seconds, whenever their sources changed.
$(STAMP): $(INSTALLED) setup.py hidiff_monai/ops/build.py $(wildcard hidiff_monai/ops/csrc/*)
	$(BIN)/python hidiff_monai/ops/build.py
	@touch $(STAMP)

demo: $(STAMP)  ## train, refine, evaluate and explain on phantoms (or DATA=<DRIVE folder>); writes demo_report/
	$(BIN)/hidiff demo --output demo_report $(if $(DATA),--data "$(DATA)")

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy hidiff_monai

test: lint  ## lint, then every test but the slow ones; real data from HIDIFF_DATA
	$(BIN)/python -m pytest --durations=10

test-slow: $(STAMP)  ## the slow tests alone
	$(BIN)/python -m pytest --durations=10 -m slow

clean:  ## remove .venv and caches; results stay
	rm -rf .venv build hidiff_monai/ops/_packed.so *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
