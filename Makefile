# Everything is run from here; `make help` lists it. The environment is .venv, made from requirements.lock.

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
CODE := smsgw addressbook runtime workers simulator bench tests

.PHONY: help demo test check bench picture format lock tools clean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/made ## Run everything on loopback and play the story; ARGS=--exit ends after it
	$(BIN)/smsgw demo $(ARGS)

test: .venv/made tools ## Run every test: real engines, real sockets, a real browser (about 5 minutes)
	$(BIN)/pytest -n 2 --dist loadfile $(ARGS)

check: .venv/made ## Format, lint, types, import rules, and the fast tests
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/ruff check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q -m "not slow" -n 2 --dist loadfile $(ARGS)

bench: .venv/made ## Measure every figure that the README names, one after the other (about 5 minutes)
	$(BIN)/smsgw bench $(ARGS)

picture: .venv/made tools ## Draw docs/simulator.svg anew from the demo's page
	$(BIN)/python -m tests.picture

format: .venv/made ## Format the code
	$(BIN)/ruff format $(CODE)
	$(BIN)/ruff check --fix $(CODE)

tools: .venv/made ## Install what the tests need beside Python: tshark, Chromium, npm's smpp
	$(BIN)/python -m tests.tools

lock: ## Take up the newest versions into requirements.lock
	rm -rf build/lock && $(PYTHON) -m venv build/lock
	build/lock/bin/pip install --quiet --editable '.[simulator,dev]'
	build/lock/bin/pip freeze --exclude-editable > requirements.lock

.venv/made: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --requirement requirements.lock
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --editable .
	touch $@

clean: ## Remove the environment and everything that was built
	rm -rf .venv build *.egg-info
