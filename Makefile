# Every target creates what it needs, so any one of them works on a fresh machine.

PYTHON ?= python3
BIN := .venv/bin

.DEFAULT_GOAL := help
.PHONY: help run test chaos contract fuzz audit lint bench clean

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1	/p' $(MAKEFILE_LIST)

run: .venv/.run-stamp ## start the whole service on this machine
	@exec $(BIN)/python -m app

test: lint ## lint, then the tests with their coverage
	$(BIN)/python -m pytest --numprocesses 2 --dist loadfile --cov --cov-report=

chaos: .venv/.dev-stamp ## harm the service on purpose for hours, count what is lost
	$(BIN)/python -m tests.chaos

fuzz: .venv/.dev-stamp ## upload 10,000 malformed zips and forms, count what they break
	$(BIN)/python -m tests.fuzz

contract: .venv/.dev-stamp ## ask the API for 10,000 things that its document promises or rules out
	$(BIN)/python -m tests.contract

audit: .venv/.dev-stamp ## look the pinned packages up among known vulnerabilities
	$(BIN)/python -m pip install --quiet -e '.[audit]'
	$(BIN)/pip-audit --requirement constraints.txt --no-deps --disable-pip

lint: .venv/.dev-stamp ## ruff and mypy --strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/.dev-stamp ## measure against peers, on PHOTOS=photos.zip
	$(BIN)/python -m benchmarks $(PHOTOS)

clean: ## delete .venv, caches and build output; the data in .vitrine stays
	rm -rf .venv build *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find app worker models tests benchmarks -name __pycache__ -prune -exec rm -rf {} + 2>/dev/null || true

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' || \
		{ echo "Vitrine needs Python 3.11 to 3.13 as $(PYTHON); try: make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
		{ echo "$(PYTHON) has no venv module; on Debian and Ubuntu: apt install python3-venv" >&2; exit 1; }
	$(PYTHON) -m venv .venv

.venv/.run-stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	@touch $@

.venv/.dev-stamp: pyproject.toml constraints.txt | $(BIN)/python
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	@touch $@ .venv/.run-stamp
