#!/usr/bin/env bash
# Writes build/maya.cdx.json: what is installed in .venv with versions and licences, as CycloneDX, checked against its schema.
# Does nothing, quickly, when nothing changed. Called by security.sh, which installs cyclonedx-bom.
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/setup/common.sh

OUT=build/maya.cdx.json
say "Bill of materials of .venv (CycloneDX)"
mkdir -p build
WANTED=$({ ls .venv/lib/python*/site-packages | grep -E '\.dist-info$'; cat pyproject.toml infra/setup/security.txt; } | digest)
if [ "$(cat build/.sbom 2>/dev/null || true)" != "$WANTED" ] || [ ! -s "$OUT" ]; then
  rm -f "$OUT"
  .venv-security/bin/cyclonedx-py environment .venv --pyproject pyproject.toml --output-reproducible --validate \
    --spec-version 1.6 --output-format JSON --output-file "$OUT" 2>/dev/null || fail "cyclonedx-py could not write $OUT"
  echo "$WANTED" >build/.sbom
fi
.venv-security/bin/python - "$OUT" <<'PYTHON'
import json, sys
with open(sys.argv[1]) as file:
    made = json.load(file)
parts = made.get("components", [])
if made.get("bomFormat") != "CycloneDX" or not parts or any(not part.get("version") for part in parts):
    sys.exit(f"{sys.argv[1]} is no bill of materials")
licensed = sum(bool(part.get("licenses")) for part in parts)
print(f"    {sys.argv[1]}: {len(parts)} components, {licensed} with a licence")
PYTHON
