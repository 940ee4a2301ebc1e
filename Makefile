# Each target does all the set-up that it needs, and nothing that has been done before.

PYTHON := .venv/bin/python

.PHONY: run test test-fast lint bench lock

run:        # starts v2vweb; settings come from the environment: README.md
	@exec setup/run.sh

test:       # every test, as many at a time as there are cores; what cannot run here is named with the reason at the end
	@setup/prepare.sh test
	@$(PYTHON) -m pytest -n auto --maxprocesses 4

test-fast:  # without real virt-v2v and without a browser
	@setup/prepare.sh test
	@$(PYTHON) -m pytest -n auto --maxprocesses 4 -m "not real and not browser"

lint: export V2VWEB_DATA_DIR := $(CURDIR)/.cache/lint
lint:
	@setup/prepare.sh test
	$(PYTHON) -m ruff check
	$(PYTHON) -m ruff format --check
	$(PYTHON) -m mypy
	$(PYTHON) -m djlint templates --lint --quiet
	$(PYTHON) manage.py makemigrations --check --dry-run

bench:      # all of them, or one: make bench ONLY=board
	@setup/prepare.sh test
	@$(PYTHON) -m tests.benchmarks $(ONLY)

lock:       # after a change of versions in pyproject.toml
	@setup/prepare.sh lock
