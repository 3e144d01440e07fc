#!/usr/bin/env bash
# Debian's prometheus, with promtool, against which metrics, alert rules and the dashboard's queries are tested
# (tests/infra/test_observe_prometheus.py). Installs it by apt where it is missing and this user may; where it stays
# absent its tests are skipped.
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/setup/common.sh

there() { command -v prometheus >/dev/null 2>&1 && command -v promtool >/dev/null 2>&1; }
there && exit 0

skip() {
  say "SKIPPED: $1, so metrics are not scraped by a real Prometheus (on Debian: sudo apt-get install prometheus)"
  exit 0
}

command -v apt-get >/dev/null 2>&1 || skip "no apt-get on this machine"
AS_ROOT=()
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null || skip "installing prometheus needs root"
  AS_ROOT=(sudo -n)
fi
# Installing it must not start one: a file that forbids it stands in the way while apt runs.
POLICY=/usr/sbin/policy-rc.d
if [ ! -e "$POLICY" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${AS_ROOT[@]}" tee "$POLICY" >/dev/null
  "${AS_ROOT[@]}" chmod 755 "$POLICY"
  trap '"${AS_ROOT[@]}" rm -f "$POLICY"' EXIT
fi
install() {
  "${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends prometheus
}
say "Installing prometheus to test with"
if ! install >/dev/null 2>&1; then
  "${AS_ROOT[@]}" apt-get update -qq >/dev/null 2>&1 || true
  install >/dev/null || true
fi
there || skip "apt-get could not install prometheus"
