# Each target sets up .venv by itself; the first run downloads the pinned packages.
#   make test PYTHON=python3.12         another interpreter (after `make clean`)
#   make test HIDIFF_DATA=<folder>      where the real datasets lie
#   make demo DATA=<DRIVE folder>       the demo on DRIVE instead of phantoms
#   make label BUNDLE=drive STUDIES=<folder> PORT=8000 OPTIONS="--checkpoint <file>"   docs/monai_label.md

SUPPORTED := import sys; sys.exit(not (3, 10) <= sys.version_info[:2] < (3, 14))
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c '$(SUPPORTED)' 2>/dev/null && echo $$p && exit; done; echo python3)
BIN := .venv/bin
INSTALLED := .venv/.installed
STAMP := .venv/.built
# MONAI Label needs other versions than the package: an environment outside the clone, built once a machine.
LABEL_PYTHON ?= python3.11
LABEL_HOME := $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/hidiff_monai
LABEL_ENV := $(LABEL_HOME)/label-$(word 1,$(shell cksum < requirements-label.txt))
LABEL := $(LABEL_ENV)/bin/python
PORT ?= 8000

.DEFAULT_GOAL := help
.PHONY: help demo reproduce label label-package test test-label test-slow lint clean

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

HIDIFF_DATA ?= ../shared/data
RESULTS ?= results
reproduce: $(STAMP)  ## from raw data to the table of results, three seeds: make reproduce DATASET=drive [DATA=<download>] [OPTIONS="--amp True"]
	@test -n "$(DATASET)" || { echo "got no DATASET; expected drive, chase_db1, kvasir_seg, cvc_clinicdb," \
		"cvc_clinicdb_sequences, acdc, synapse or brats: make reproduce DATASET=drive" >&2; exit 1; }
	$(BIN)/hidiff reproduce $(DATASET) "$(or $(DATA),$(HIDIFF_DATA)/$(DATASET:_sequences=))" "$(RESULTS)/$(DATASET)" $(OPTIONS)

lint: $(STAMP)  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy hidiff_monai

test: lint  ## lint, then every test but the slow ones, two files at a time; real data from HIDIFF_DATA
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses=2 --dist=loadfile --durations=10

test-slow: $(STAMP)  ## the slow tests alone
	$(BIN)/python -m pytest --durations=10 -m slow

$(LABEL_ENV)/.installed:
	@$(LABEL_PYTHON) -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' 2>/dev/null || { \
		echo "got LABEL_PYTHON = $(LABEL_PYTHON); expected Python 3.11, which MONAI Label's versions were tried with:" \
		     "install it, or name it with LABEL_PYTHON=" >&2; exit 1; }
	@echo "Setting up MONAI Label in $(LABEL_ENV) (once; minutes, 3 GB and more with CUDA)"
	$(LABEL_PYTHON) -m venv --clear $(LABEL_ENV)
	$(LABEL) -m pip install --disable-pip-version-check -r requirements-label.txt
	$(LABEL) -m pip install --disable-pip-version-check --no-deps monailabel==0.8.5
	@touch $@

# The environment serves every clone of a machine: it is pointed at this one where it was at another.
label-package: $(LABEL_ENV)/.installed
	@cd / && $(LABEL) -c 'import sys, hidiff_monai as h; sys.exit(h.__file__ != "$(CURDIR)/hidiff_monai/__init__.py")' \
		2>/dev/null || $(LABEL) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation \
		-e "$(CURDIR)"

label: label-package  ## a MONAI Label server: make label BUNDLE=drive [STUDIES=<folder>] [PORT=8000]
	@test -n "$(BUNDLE)" || { echo "got no BUNDLE; expected one of $(notdir $(wildcard bundles/*)), or a bundle's" \
		"folder: make label BUNDLE=drive" >&2; exit 1; }
	@exec $(LABEL) -m hidiff_monai label --bundle "$(if $(wildcard bundles/$(BUNDLE)),bundles/$(BUNDLE),$(BUNDLE))" \
		$(if $(STUDIES),--studies "$(STUDIES)") --port $(PORT) $(OPTIONS)

# Beside the server's own tests a few of the package's: here it runs with NumPy 1, pydicom 2 and no highdicom.
test-label: label-package  ## the tests of the MONAI Label server, in its environment
	$(LABEL) -m pytest --durations=10 tests/label tests/io/test_dicom.py tests/io/test_rtstruct.py \
		tests/data/test_scans.py tests/prediction/test_run.py

clean:  ## remove .venv and caches; results stay
	rm -rf .venv build hidiff_monai/ops/_packed.so *.egg-info .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
