# Everything a fresh machine needs is set up by these targets; `make help` lists them.
.DEFAULT_GOAL := help
.PHONY: help setup demo test drill check bench proof services lock clean
SHELL := /bin/bash
.DELETE_ON_ERROR:

VENV := .venv
BIN := $(VENV)/bin
RUN := $(VENV)/.set-up-to-run
DEV := $(VENV)/.set-up-to-develop
T ?= tests

help:  ## Show this list
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-8s %s\n", $$1, $$2}'

$(RUN): requirements.lock pyproject.toml scripts/venv
	@scripts/venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

$(DEV): $(RUN) requirements-dev.lock
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-dev.lock
	@touch $@

setup: $(DEV)  ## Set up .venv with everything for running, testing and checking

demo: $(RUN)  ## Enrich 320 invented people against the sandbox; no keys, nothing to pay
	@$(BIN)/sluiceway demo examples/prospects.csv --into demo

services:
	@scripts/services

test: $(DEV) services  ## Run the tests (under 10 minutes); T=tests/usage runs a part
	@$(BIN)/python -m pytest -n 2 $(T)

drill: $(DEV) services  ## Run the long kill and chaos tests (under 40 minutes); seeds are printed
	@$(BIN)/python -m pytest -m drill -s --timeout 2400

check: $(DEV)  ## Check style and types, for Linux, macOS and Windows
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/mypy --platform win32
	@$(BIN)/mypy --platform darwin

bench: $(DEV) services  ## Measure speed and memory as ratios; writes bench/out/latest.json
	@$(BIN)/python -m bench

proof: $(DEV) services  ## Kill a hand-written job and Sluiceway 20 times each, and compare the books; under 2 minutes
	@$(BIN)/python -m bench.proof $(if $(SEED),--seed $(SEED))

lock: $(DEV)  ## Pin the newest versions of everything, after a change to pyproject.toml
	@scripts/lock

clean:  ## Remove everything the other targets made
	@rm -rf $(VENV) demo bench/out build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
