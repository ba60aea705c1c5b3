# From a bare clone: `make run` opens the shop, `make test` proves it. Python 3.11+ and make suffice.
# The virtualenv is made with uv where uv works, else with venv and pip; packages are hash-checked.

BIN := .venv/bin
PYTHON ?= python3
ARGS ?=

help: ## list what can be made
	@sed -n 's/^\([a-z0-9]*\):.*## \(.*\)/  make \1	\2/p' Makefile

run: .venv/runtime.stamp ## open the shop with everything embedded (ARGS="--port 5000")
	@$(BIN)/flask demo $(ARGS)

# Two processes take half the time on two cores; each has databases of its own.
test: PYTEST_ARGS ?= -n 2
test: .venv/dev.stamp ## run the whole suite (PYTEST_ARGS="-k webhook")
	@$(BIN)/pytest $(PYTEST_ARGS)

check: .venv/dev.stamp ## lint, formatting, types, templates
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy .
	$(BIN)/djlint --lint --quiet $(wildcard templates sandbox/templates)

e2e: .venv/dev.stamp ## only the tests that drive a browser
	@$(BIN)/pytest -m browser $(PYTEST_ARGS)

bench: .venv/dev.stamp ## measure speed against the goals
	@$(BIN)/python -m bench $(ARGS)

storm: .venv/dev.stamp ## shop through crashes and faults, then prove the ledger
	@$(BIN)/python -m storm.processes $(ARGS)

words: .venv/dev.stamp ## bring the translations in step with what the pages say
	@$(BIN)/python -m translations.harvest

lock: ## renew both requirements files from their .in files (needs uv; ARGS=--upgrade)
	uv pip compile --quiet $(LOCK) $(ARGS) -o requirements.txt requirements.in
	uv pip compile --quiet $(LOCK) $(ARGS) -o requirements-dev.txt requirements-dev.in

clean: ## remove the virtualenv and caches; the shop's data in instance/ stays
	rm -rf .venv .pytest_cache .mypy_cache .ruff_cache .hypothesis .coverage htmlcov build
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

.PHONY: help run test check e2e bench storm words lock clean

LOCK := --universal --python-version 3.11 --generate-hashes --no-header

# Whoever has the tests' packages has the shop's too, so that one visit makes both stamps.
.venv/dev.stamp: requirements-dev.txt requirements.txt $(BIN)/python
	@$(call install,requirements-dev.txt)
	@touch .venv/runtime.stamp $@

.venv/runtime.stamp: requirements.txt $(BIN)/python
	@$(call install,requirements.txt)
	@touch $@

# The locks are complete, so that pip need not resolve anything (--no-deps).
define install
echo "Installing $(1) …"; \
if $(UV_WORKS); then \
  uv pip install --quiet --python $(BIN)/python --no-deps --require-hashes -r $(1); \
else \
  $(BIN)/python -m pip --version >/dev/null 2>&1 || $(BIN)/python -m ensurepip >/dev/null; \
  $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r $(1); \
fi
endef

$(BIN)/python:
	@rm -rf .venv; \
	if $(UV_WORKS); then exec uv venv --quiet --python '>=3.11' .venv; fi; \
	for python in $(PYTHON) python3.14 python3.13 python3.12 python3.11; do \
	  if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
	    $$python -m venv .venv && exit 0; \
	    echo "Python's venv module does not work here; on Debian and Ubuntu: apt install python3-venv" >&2; \
	    rm -rf .venv; exit 1; \
	  fi; \
	done; \
	echo "Quittance needs Python 3.11 or newer, and found none: install one, or name it: make run PYTHON=/path/to/python3" >&2; \
	exit 1

# Asked by running it: a shim of a version manager may be there and not work.
UV_WORKS := uv --version >/dev/null 2>&1
