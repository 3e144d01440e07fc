#!/usr/bin/env bash
# Debian's PostgreSQL, on which the store is tested beside SQLite (tests/infra/test_store*.py): the tests start servers
# of their own. Installs it by apt where it is missing and this user may; says when it stays absent: its tests are skipped.
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/setup/common.sh

missing() { ! command -v initdb >/dev/null 2>&1 && ! compgen -G '/usr/lib/postgresql/*/bin/initdb' >/dev/null; }
missing || exit 0

skip() {
  say "SKIPPED: $1, so the store is tested on SQLite alone (on Debian: sudo apt-get install postgresql)"
  exit 0
}

command -v apt-get >/dev/null 2>&1 || skip "no apt-get on this machine"
AS_ROOT=()
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null || skip "installing PostgreSQL needs root"
  AS_ROOT=(sudo -n)
fi
# Installing it must neither make nor start a server of the machine's.
POLICY=/usr/sbin/policy-rc.d
if [ ! -e "$POLICY" ]; then
  printf '#!/bin/sh\nexit 101\n' | "${AS_ROOT[@]}" tee "$POLICY" >/dev/null
  "${AS_ROOT[@]}" chmod 755 "$POLICY"
  trap '"${AS_ROOT[@]}" rm -f "$POLICY"' EXIT
fi
if [ ! -e /etc/postgresql-common/createcluster.conf ]; then
  "${AS_ROOT[@]}" mkdir -p /etc/postgresql-common
  printf 'create_main_cluster = false\n' | "${AS_ROOT[@]}" tee /etc/postgresql-common/createcluster.conf >/dev/null
fi
install() {
  "${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends \
    -o Dpkg::Options::=--force-confold postgresql
}
say "Installing PostgreSQL to test with"
if ! install >/dev/null 2>&1; then
  "${AS_ROOT[@]}" apt-get update -qq >/dev/null 2>&1 || true
  install >/dev/null || skip "apt-get could not install it (its message stands above)"
fi
if missing; then skip "apt-get installed no initdb"; fi
