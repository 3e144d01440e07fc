#!/usr/bin/env bash
# Debian's programs that the tests run Maya beside: a browser, SIP phones and a proxy, PostgreSQL, Prometheus, Caddy.
# Installs by apt those that are missing, where this user may; says which stay absent: their tests are skipped.
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/setup/common.sh

# command, or one of several:package:what is not tested without it
PROGRAMS=(
  "chromium|chromium-browser:chromium:the pages /talk and /console in a browser"
  "sipp:sip-tester:SIP beside sipp"
  "sipsak:sipsak:SIP beside sipsak"
  "baresip:baresip-core:SIP beside baresip"
  "kamailio:kamailio:SIP behind kamailio"
  "initdb:postgresql:the store on PostgreSQL"
  "prometheus:prometheus:metrics and alert rules in Prometheus"
  "caddy:caddy:TLS by Caddy"
  "openssl:openssl:TLS by ourselves"
)
PATH=$PATH:/usr/sbin:/usr/local/sbin

there() { # $1: command, or one of several
  local command
  for command in ${1//|/ }; do
    if command -v "$command" >/dev/null 2>&1 || compgen -G "/usr/lib/postgresql/*/bin/$command" >/dev/null; then return 0; fi
  done
  return 1
}

missing() { # what is missing, a package a line
  local entry commands package
  for entry in "${PROGRAMS[@]}"; do
    IFS=: read -r commands package _ <<<"$entry"
    there "$commands" || echo "$package"
  done
}

WANTED=$(missing)
[ -n "$WANTED" ] || exit 0

stay_absent() { # $1: why
  local entry package what
  for entry in "${PROGRAMS[@]}"; do
    IFS=: read -r _ package what <<<"$entry"
    if missing | grep -qx "$package"; then
      say "SKIPPED: $1, so this is not tested: $what (on Debian: sudo apt-get install $package)"
    fi
  done
  exit 0
}

command -v apt-get >/dev/null 2>&1 || stay_absent "no apt-get on this machine"
AS_ROOT=()
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null || stay_absent "installing needs root"
  AS_ROOT=(sudo -n)
fi
# Installing a server must not start one: a file that forbids it stands in the way while apt runs.
POLICY=/usr/sbin/policy-rc.d
if [ ! -e "$POLICY" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${AS_ROOT[@]}" tee "$POLICY" >/dev/null
  "${AS_ROOT[@]}" chmod 755 "$POLICY"
  trap '"${AS_ROOT[@]}" rm -f "$POLICY"' EXIT
fi
CLUSTERS=/etc/postgresql-common/createcluster.conf
if [ ! -e "$CLUSTERS" ]; then
  "${AS_ROOT[@]}" mkdir -p "${CLUSTERS%/*}"
  printf 'create_main_cluster = false\n' | "${AS_ROOT[@]}" tee "$CLUSTERS" >/dev/null
fi
# Nor at the next boot: units that were not there before are disabled. Those that were are left as they are.
UNITS=(caddy kamailio postgresql prometheus prometheus-node-exporter)
units_there() {
  local unit
  for unit in "${UNITS[@]}"; do
    if [ -e "/lib/systemd/system/$unit.service" ] || [ -e "/etc/systemd/system/$unit.service" ]; then echo "$unit.service"; fi
  done
}
BEFORE=$(units_there)
install() {
  "${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
    -o Dpkg::Options::=--force-confold "$@"
}
say "Installing programs to test with, 200 MB to fetch, once:" $WANTED
# shellcheck disable=SC2086
if ! install $WANTED >/dev/null 2>&1; then
  "${AS_ROOT[@]}" apt-get update -qq >/dev/null 2>&1 || true
  # One after the other: what one release lacks must not keep the others away.
  for package in $WANTED; do
    install "$package" >/dev/null || say "apt-get could not install $package (its message stands above)"
  done
fi
if command -v systemctl >/dev/null 2>&1; then
  for unit in $(units_there); do
    if ! grep -qx "$unit" <<<"$BEFORE"; then
      "${AS_ROOT[@]}" systemctl disable "$unit" >/dev/null 2>&1 || say "systemctl could not disable $unit"
    fi
  done
fi
[ -z "$(missing)" ] || stay_absent "apt-get could not install it"
