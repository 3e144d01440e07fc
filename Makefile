# Two commands: `make demo` plays a call, `make test` checks everything. Each sets itself up first.
SHELL := /bin/bash
MAYA := .venv/bin/maya

.PHONY: demo test golden setup clean
.DEFAULT_GOAL := demo

demo: setup
	@$(MAYA) demo

test:
	@infra/setup/setup.sh tests
	@infra/setup/test.sh

# Derives tests/golden again from torchtune, transformers and moshi, in .venv-peers.
golden:
	@infra/setup/peers.sh golden

setup:
	@infra/setup/setup.sh

clean:
	rm -rf .venv .venv313 .venv-peers .venv-pipecat .venv-security .mypy_cache .ruff_cache .pytest_cache .hypothesis
	@echo "Models and the built llama.cpp wheel stay in $${XDG_CACHE_HOME:-$$HOME/.cache}/maya; remove that folder to start from nothing."
