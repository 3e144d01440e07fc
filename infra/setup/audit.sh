#!/usr/bin/env bash
# Asks for each package of requirements.lock whether holes in that version are known. Fails where there is one that
# infra/setup/audit-accepted.txt does not name. Where nobody can be asked, says so and goes on.
# Called by security.sh, which installs pip-audit.
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/setup/common.sh

say "Known holes in requirements.lock (pip-audit)"
LIST=$(mktemp)
trap 'rm -f "$LIST" "$LIST.json"' EXIT
# Package and version alone: markers and other options are pip's.
grep -oE '^[A-Za-z0-9._-]+==[^ ;]+' requirements.lock >"$LIST"
timeout 120 .venv-security/bin/pip-audit -r "$LIST" --no-deps --disable-pip --progress-spinner off --timeout 10 \
  --format json >"$LIST.json" 2>"$LIST.err" || true
.venv-security/bin/python infra/setup/audit_report.py "$LIST.json" infra/setup/audit-accepted.txt "$(wc -l <"$LIST")" || {
  status=$?
  [ -s "$LIST.json" ] || tail -n 3 "$LIST.err" >&2
  rm -f "$LIST.err"
  exit "$status"
}
rm -f "$LIST.err"
