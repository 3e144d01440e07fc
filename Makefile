# Two commands: `make demo` plays a call, `make test` checks everything. Each sets itself up first.
SHELL := /bin/bash
MAYA := .venv/bin/maya

.PHONY: demo test setup clean
.DEFAULT_GOAL := demo

demo: setup
	@$(MAYA) demo

test:
	@infra/setup/setup.sh tests
	@infra/setup/test.sh

setup:
	@infra/setup/setup.sh

clean:
	rm -rf .venv .venv313 .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@echo "Models and the built llama.cpp wheel stay in $${XDG_CACHE_HOME:-$$HOME/.cache}/maya; remove that folder to start from nothing."
