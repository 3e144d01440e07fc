#!/usr/bin/env bash
# Sets up .venv-peers, where ours is compared with torchtune, transformers and moshi, and runs what follows:
#   infra/setup/peers.sh                          the comparisons (tests/peers)
#   infra/setup/peers.sh golden                   derive the golden vectors again; `make golden` calls it
#   infra/setup/peers.sh python -m some.module    anything else, in that environment
# Does nothing, quickly, when nothing changed.
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/setup/common.sh

choose_python

WANTED=$({ cat pyproject.toml requirements.lock infra/setup/peers.txt infra/setup/peers.sh; pwd; } | digest)
if [ "$(cat .venv-peers/.maya-installed 2>/dev/null || true)" != "$WANTED" ] || ! .venv-peers/bin/python -c 'import sys' 2>/dev/null; then
  if ! .venv-peers/bin/python -m pip --version >/dev/null 2>&1; then
    say "Virtual environment .venv-peers with $("$PYTHON" --version): 2 GB"
    make_venv "$PYTHON" .venv-peers
  fi
  say "Installing other implementations of CSM and Mimi (versions: infra/setup/peers.txt)"
  pip_shown .venv-peers/bin/pip install --only-binary=:all: -c requirements.lock -r infra/setup/peers.txt -e '.[csm]' \
    pytest pytest-asyncio pytest-timeout || fail "pip could not install the peers; its message stands above."
  # Their metadata exclude each other and current versions; what is used of them works (torch 2.13, numpy 2.4).
  pip_shown .venv-peers/bin/pip install --only-binary=:all: --no-deps torchtune==0.4.0 torchao==0.9.0 moshi==0.2.13 ||
    fail "pip could not install torchtune, torchao and moshi; its message stands above."
  echo "$WANTED" >.venv-peers/.maya-installed
fi

export NO_TORCH_COMPILE=1 PYTHONWARNINGS=ignore TRANSFORMERS_VERBOSITY=error
case "${1:-tests}" in
  tests) exec .venv-peers/bin/python -m pytest tests/peers -q -p no:cacheprovider "${@:2}" ;;
  golden)
    for script in tests/golden/derive_*.py; do
      module=${script%.py}
      .venv-peers/bin/python -m "${module//\//.}" "${@:2}"
    done
    ;;
  python) exec .venv-peers/bin/python "${@:2}" ;;
  *) fail "unknown: $1" "One of: tests, golden, python ..." ;;
esac
