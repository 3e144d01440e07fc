#!/usr/bin/env bash
# Debian's Chromium, in which the page /talk is tested. Installs it by apt where it is missing and this user may;
# elsewhere says so, and the tests that need it are skipped.
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/setup/common.sh

if command -v chromium >/dev/null 2>&1 || command -v chromium-browser >/dev/null 2>&1; then exit 0; fi

skip() {
  say "SKIPPED: $1, so calls through the page /talk are not tested; on Debian: sudo apt-get install chromium"
  exit 0
}

command -v apt-get >/dev/null 2>&1 || skip "no Chromium and no apt-get on this machine"
AS_ROOT=()
if [ "$(id -u)" != 0 ]; then
  sudo -n true 2>/dev/null || skip "Chromium is missing, and installing it needs root"
  AS_ROOT=(sudo -n)
fi
say "Installing Debian's Chromium: 120 MB to fetch, once"
install() { "${AS_ROOT[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -qq -y --no-install-recommends chromium; }
if ! install >/dev/null 2>&1; then
  "${AS_ROOT[@]}" apt-get update -qq >/dev/null 2>&1 || true
  install >/dev/null || skip "apt-get could not install chromium (its message stands above)"
fi
