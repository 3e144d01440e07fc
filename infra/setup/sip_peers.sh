#!/usr/bin/env bash
# Debian's sipp, sipsak, baresip and kamailio, against which SIP is tested (tests/sip_peers). Installs by apt those
# that are missing, where this user may; says which stay absent: their tests are skipped.
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/setup/common.sh

PACKAGES=(sipp:sip-tester sipsak:sipsak baresip:baresip-core kamailio:kamailio)
PATH=$PATH:/usr/sbin:/usr/local/sbin

missing() {
  local entry
  for entry in "${PACKAGES[@]}"; do
    command -v "${entry%%:*}" >/dev/null 2>&1 || printf '%s ' "${entry##*:}"
  done
}

WANTED=$(missing)
[ -n "$WANTED" ] || exit 0

skip() {
  say "SKIPPED: $1, so SIP is not tested beside: $(missing)(on Debian: sudo apt-get install $(missing))"
  exit 0
}

command -v apt-get >/dev/null 2>&1 || skip "no apt-get on this machine"
AS_ROOT=()
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null || skip "installing SIP peers needs root"
  AS_ROOT=(sudo -n)
fi
# Installing kamailio must not start one: a file that forbids it stands in the way while apt runs.
POLICY=/usr/sbin/policy-rc.d
if [ ! -e "$POLICY" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${AS_ROOT[@]}" tee "$POLICY" >/dev/null
  "${AS_ROOT[@]}" chmod 755 "$POLICY"
  trap '"${AS_ROOT[@]}" rm -f "$POLICY"' EXIT
fi
install() { "${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends "$@"; }
say "Installing SIP programs to test with: $WANTED"
# shellcheck disable=SC2086
if ! install $WANTED >/dev/null 2>&1; then
  "${AS_ROOT[@]}" apt-get update -qq >/dev/null 2>&1 || true
  # One after the other: what one release lacks must not keep the others away.
  for package in $WANTED; do
    install "$package" >/dev/null || say "apt-get could not install $package (its message stands above)"
  done
fi
[ -z "$(missing)" ] || skip "apt-get could not install all of them"
