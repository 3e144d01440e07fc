#!/usr/bin/env bash
# Looks for known holes in what is installed (audit.sh) and for secrets in what is committed (secrets.sh), and writes
# down what the product is made of (sbom.sh). With an argument, that one alone: audit, secrets or sbom.
# Their tools live in .venv-security: they ask for other versions than ours. Does nothing to .venv.
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/setup/common.sh

choose_python
WANTED=$({ cat infra/setup/security.txt infra/setup/security.sh; pwd; } | digest)
if [ "$(cat .venv-security/.maya-installed 2>/dev/null || true)" != "$WANTED" ] || ! .venv-security/bin/python -c 'import sys' 2>/dev/null; then
  say "Virtual environment .venv-security: 60 MB"
  make_venv "$PYTHON" .venv-security
  pip_shown .venv-security/bin/pip install -q -r infra/setup/security.txt ||
    fail "pip could not install the security checks' tools; its message stands above."
  echo "$WANTED" >.venv-security/.maya-installed
fi

case "${1:-all}" in
  all) infra/setup/secrets.sh && infra/setup/audit.sh && infra/setup/sbom.sh ;;
  audit | secrets | sbom) "infra/setup/$1.sh" "${@:2}" ;;
  *) fail "unknown: $1" "One of: audit, secrets, sbom" ;;
esac
