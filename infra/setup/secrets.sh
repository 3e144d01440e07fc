#!/usr/bin/env bash
# Fails when a committed file, or one about to be, holds what looks like a secret that infra/setup/secrets.baseline does not
# know. The baseline has hashes of what was looked at and is none: hashes of files, RFCs' examples, tests' passwords.
#   infra/setup/security.sh secrets update    after looking at what it found: those are none either
# Nothing is asked of the network about what is found. Called by security.sh, which installs detect-secrets.
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/setup/common.sh

BASELINE=infra/setup/secrets.baseline
# Generated, or nothing but hashes and sound.
SKIPPED='(^|/)(requirements\.lock|secrets\.baseline|catalogue\.py)$|\.(npz|png|wav|ico|woff2|svg|txt)$|^tests/golden/'
export PATH="$PWD/.venv-security/bin:$PATH"

list() { git ls-files -z --cached --others --exclude-standard | grep -zvE "$SKIPPED"; }

if [ "${1:-}" = update ]; then
  list | xargs -0 detect-secrets scan --no-verify >"$BASELINE.new"
  python3 - "$BASELINE.new" <<'PYTHON'
import json, sys
with open(sys.argv[1]) as file:
    found = json.load(file)
found.pop("generated_at", None)  # so that it changes when something has
with open(sys.argv[1], "w") as file:
    file.write(json.dumps(found, indent=1, sort_keys=True) + "\n")
PYTHON
  mv "$BASELINE.new" "$BASELINE"
  say "$BASELINE holds what is there now; look at what changed in it before you commit it"
  exit 0
fi

say "Secrets in the source (detect-secrets)"
FOUND=0
# A key of ours in whatever quotes: 32 bytes are 43 letters.
OURS=$(list | xargs -0 grep -nEI 'maya_[A-Za-z0-9_-]{43}([^A-Za-z0-9_-]|$)' || true)
if [ -n "$OURS" ]; then
  FOUND=1
  printf 'A key of Maya:\n%s\n' "$OURS" | cut -c1-120
fi
# It would write the baseline anew where only lines moved.
COPY=$(mktemp)
trap 'rm -f "$COPY"' EXIT
cp "$BASELINE" "$COPY"
list | xargs -0 detect-secrets-hook --no-verify --baseline "$COPY" || FOUND=1
[ "$FOUND" = 0 ] || fail "what looks like a secret stands in the source (above)." \
  "If it is one: take it out, and change it where it is used; git keeps what was committed." \
  "If it is none: infra/setup/security.sh secrets update, and commit the baseline."
echo "    none that is not known to be harmless"
