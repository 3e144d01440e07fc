#!/usr/bin/env bash
# Everything that is checked: lint, format, types, tests; the telephony tests under Python 3.13, and other
# implementations beside ours in an environment of their own. `make test` calls it.
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/setup/common.sh

PY313=$(find_python 3.13 || true)
if [ -n "$PY313" ]; then
  WANTED=$({ cat pyproject.toml requirements.lock infra/setup/test.sh; pwd; } | digest)
  if [ "$(cat .venv313/.maya-installed 2>/dev/null || true)" != "$WANTED" ] || ! .venv313/bin/python -c 'import sys' 2>/dev/null; then
    say "Virtual environment .venv313 with $("$PY313" --version), without the speech models' packages"
    make_venv "$PY313" .venv313
    pip_shown .venv313/bin/pip install --only-binary=:all: -c requirements.lock -e '.[records]' \
      pytest pytest-asyncio pytest-timeout pytest-httpserver hypothesis httpx
    echo "$WANTED" >.venv313/.maya-installed
  fi
fi

say "ruff"
.venv/bin/ruff check .
.venv/bin/ruff format --check .
say "mypy --strict"
.venv/bin/mypy
if [ -n "$PY313" ]; then
  say "Telephony tests under $("$PY313" --version)"
  .venv313/bin/python -m pytest tests/telephony -q -p no:cacheprovider
  AFTER="and the telephony tests passed under Python 3.13"
else
  AFTER="SKIPPED: no Python 3.13 on this machine, so the telephony tests did not run under it"
  say "$AFTER"
fi
say "Ours beside torchtune, transformers and moshi, in .venv-peers"
infra/setup/peers.sh
say "pipecat, to be measured beside ours, in .venv-pipecat"
infra/setup/pipecat.sh
infra/setup/programs.sh
say "Secrets in the source, known holes, bill of materials, in .venv-security"
infra/setup/security.sh
say "pytest"
.venv/bin/python -m pytest "$@"
say "All checks passed; $AFTER."
