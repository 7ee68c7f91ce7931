# The ways in for people and for CI; each target sets up what is missing first (setup/README.md).
#
# make hands on no exit status but 2. `make gate` therefore prints the gate's own status as its
# last line ("make: … Error 1" says it too); a script that needs it runs `.venv/bin/harness run
# --gate` after `make setup`.

.DEFAULT_GOAL := help
.PHONY: help setup gate test faults lint bench doctor lock clean distclean

VENV := .venv/bin
# More for `make gate`, as in: make gate ARGS='--arch aarch64 --kernel my.deb'
ARGS ?=

help: ## this list
	@sed -n 's/^\([a-z]*\):.*## /\1	/p' $(MAKEFILE_LIST) | expand -t 12

setup: ## install what is missing: system packages, virtual environment; silent when all is there
	@./setup/setup.sh

gate: setup ## the main job: run the candidate on both architectures, compare, give the verdict
	@status=0; $(VENV)/harness run --gate $(ARGS) || status=$$?; \
	printf 'exit status %s\n' $$status; exit $$status

test: setup ## all tests of the harness, the ones with real guests last
	@$(VENV)/python -m pytest -m 'not bench and not faults' $(ARGS)

faults: setup ## plant faults in real guests of both architectures: panics, hangs, floods, …
	@$(VENV)/python -m pytest -m faults tests/faults $(ARGS)

lint: setup ## format, lint, types, import contracts, shell scripts: the same as in `make test`
	@$(VENV)/python -m pytest -q tests/test_tools.py $(ARGS)

bench: setup ## measure the harness against bare QEMU; asserts no times
	@$(VENV)/python -m pytest -m bench -s tests/bench $(ARGS)

doctor: setup ## what this host can do, and what to install
	@$(VENV)/harness doctor

lock: setup ## write requirements.lock anew from pyproject.toml
	@$(VENV)/python -m pip install --quiet --upgrade uv
	@$(VENV)/uv pip compile pyproject.toml --group dev --universal --python-version 3.11 \
	    --upgrade --generate-hashes --no-emit-index-url --no-annotate --quiet \
	    --custom-compile-command 'make lock' --output-file requirements.lock

clean: ## remove what tools left behind; keeps the environment, the cache and the results
	@rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache dist
	@find harness tests selftests setup -name __pycache__ -type d -prune -exec rm -rf {} +

distclean: clean ## also remove the virtual environment
	@rm -rf .venv .venv-setup.log .venv-setup.lock
