#!/usr/bin/env bash
# Run on the Asterisk host: says what is missing there for Maya, and how to mend it. Changes nothing.
#
#   sudo bash check.sh 10.0.0.8           Maya's address; ports 8080 and 9019
#   sudo bash check.sh 10.0.0.8 8080 9019
#
# Exit status 0: at least one of the two ways (chan_websocket, AudioSocket) is ready. 1: none is. 2: wrong usage.

set -u

usage() {
  echo "usage: bash check.sh MAYA_ADDRESS [HTTP_PORT [AUDIOSOCKET_PORT]]" >&2
  exit 2
}

case "${1:-}" in
  '' | -*) usage ;;
esac
MAYA=$1
HTTP_PORT=${2:-8080}
AUDIOSOCKET_PORT=${3:-9019}
for port in "$HTTP_PORT" "$AUDIOSOCKET_PORT"; do
  case "$port" in
    *[!0-9]* | '') usage ;;
  esac
done
ASTERISK=${ASTERISK:-asterisk}
CONF_DIR=${ASTERISK_CONF_DIR:-/etc/asterisk}

WEBSOCKET=ready
AUDIOSOCKET=ready

ok() { printf 'ok       %s\n' "$1"; }
note() { printf 'note     %s\n         -> %s\n' "$1" "$2"; }
missing() { printf 'MISSING  %s\n         -> %s\n' "$1" "$2"; }

cli() { "$ASTERISK" -rx "$1" 2>/dev/null; }

# $1: a module's name without .so. True when it is loaded and running.
is_running() { cli "module show like $1.so" | grep -E "^$1\.so .*Running" >/dev/null; }

# $1: a module. $2: how to get it.
check_module() {
  if is_running "$1"; then
    ok "module $1"
    return 0
  fi
  missing "module $1 is not running" "asterisk -rx 'module load $1.so'; $2"
  return 1
}

# $1, $2: address and port. True when something accepts a TCP connection there within 2 s.
accepts() { timeout 2 bash -c 'exec 3<>"/dev/tcp/$1/$2"' _ "$1" "$2" 2>/dev/null; }

# $1: MAJOR.MINOR. Prints yes, no or unknown: does this version have chan_websocket? $2 = json: with JSON control?
has_chan_websocket() {
  local major minor first
  major=${1%%.*}
  minor=${1#*.}
  minor=${minor%%[!0-9]*}
  case "$major" in
    '' | *[!0-9]*) echo unknown; return ;;
  esac
  minor=${minor:-0}
  case "$major:$2" in
    20:plain) first=16 ;;
    20:json) first=18 ;;
    21:plain) first=11 ;;
    22:plain) first=6 ;;
    22:json) first=8 ;;
    23:plain) first=0 ;;
    23:json) first=2 ;;
    21:json) echo no; return ;;
    *) if [ "$major" -gt 23 ]; then echo yes; else echo no; fi; return ;;
  esac
  if [ "$minor" -ge "$first" ]; then echo yes; else echo no; fi
}

# --- Asterisk itself

if ! command -v "$ASTERISK" >/dev/null 2>&1; then
  missing "there is no asterisk command" "run this on the Asterisk host, or set ASTERISK=/path/to/asterisk"
  exit 1
fi
RAW_VERSION=$(cli 'core show version' | head -n 1)
if [ -z "$RAW_VERSION" ]; then
  missing "Asterisk does not answer" "start it (systemctl start asterisk), and run this as root or as its user"
  exit 1
fi
VERSION=$(printf '%s\n' "$RAW_VERSION" | sed -n -E 's/^Asterisk (certified[-\/])?([0-9]+\.[0-9]+).*/\2/p')
ok "${RAW_VERSION%% built by*}"

# --- chan_websocket

case "$(has_chan_websocket "$VERSION" plain)" in
  yes) ok "chan_websocket belongs to this version" ;;
  no)
    missing "chan_websocket came with 20.16, 21.11, 22.6 and 23.0" "update Asterisk, or use AudioSocket"
    WEBSOCKET=missing
    ;;
  *) note "the version cannot be read" "look whether chan_websocket is there: module show like websocket" ;;
esac
if [ "$(has_chan_websocket "$VERSION" json)" != yes ]; then
  note "JSON control came with 20.18, 22.8 and 23.2" "leave f(json) out of the dial string; Maya reads both forms"
fi
for module in res_http_websocket res_websocket_client chan_websocket; do
  check_module "$module" "if there is none, build Asterisk with it: make menuselect" || WEBSOCKET=missing
done
if ! is_running res_timing_timerfd && ! is_running res_timing_dahdi && ! is_running res_timing_pthread; then
  missing "no timing module is running" "asterisk -rx 'module load res_timing_timerfd.so'"
  WEBSOCKET=missing
fi
if [ -r "$CONF_DIR/websocket_client.conf" ]; then
  if grep -E '^[[:space:]]*uri[[:space:]]*=.*/asterisk/media' "$CONF_DIR/websocket_client.conf" >/dev/null; then
    ok "websocket_client.conf names Maya's /asterisk/media"
  else
    missing "websocket_client.conf has no uri that ends in /asterisk/media" "copy the section [maya] of our file"
    WEBSOCKET=missing
  fi
  if ! grep -E '^[[:space:]]*protocols[[:space:]]*=[[:space:]]*media' "$CONF_DIR/websocket_client.conf" >/dev/null; then
    missing "websocket_client.conf does not say protocols = media" "add it to the section [maya]"
    WEBSOCKET=missing
  fi
else
  missing "there is no $CONF_DIR/websocket_client.conf that we may read" "copy ours there, or run this as root"
  WEBSOCKET=missing
fi
if accepts "$MAYA" "$HTTP_PORT"; then
  ok "port $HTTP_PORT of $MAYA accepts connections"
else
  missing "port $HTTP_PORT of $MAYA does not accept connections" \
    "start Maya on an address that this host reaches (MAYA_HOST), open the firewall"
  WEBSOCKET=missing
fi

# --- AudioSocket

check_module res_audiosocket "if there is none, build Asterisk with it: make menuselect" || AUDIOSOCKET=missing
if is_running chan_audiosocket; then
  ok "module chan_audiosocket: Dial(AudioSocket/...)"
elif is_running app_audiosocket; then
  ok "module app_audiosocket: AudioSocket(...)"
  note "chan_audiosocket is not running" "use snippet 3 of extensions.conf, or load it for snippet 2"
else
  missing "neither chan_audiosocket nor app_audiosocket is running" \
    "asterisk -rx 'module load chan_audiosocket.so'; if there is none, build Asterisk with it: make menuselect"
  AUDIOSOCKET=missing
fi
if accepts "$MAYA" "$AUDIOSOCKET_PORT"; then
  ok "port $AUDIOSOCKET_PORT of $MAYA accepts connections"
else
  missing "port $AUDIOSOCKET_PORT of $MAYA does not accept connections" \
    "set audiosocket_host in Maya's [asterisk], list this host in allowed, open the firewall"
  AUDIOSOCKET=missing
fi

# --- Formats, and what the snippets use

for codec in ulaw alaw slin; do
  if cli 'core show codecs audio' | grep -E "[[:space:]]$codec[[:space:]]" >/dev/null; then
    ok "format $codec"
  elif [ "$codec" = ulaw ]; then
    missing "format ulaw is not known" "asterisk -rx 'module load codec_ulaw.so'"
    WEBSOCKET=missing
  else
    note "format $codec is not known" "use c(ulaw) with chan_websocket"
  fi
done
for module in func_curl func_uri func_shell; do
  is_running "$module" || note "module $module is not running, which the snippets use" \
    "asterisk -rx 'module load $module.so'"
done
if grep -E -h '^[^;]*AudioSocket/[^,]*c\((ulaw|alaw|slin[0-9]+)\)' "$CONF_DIR"/extensions*.conf >/dev/null 2>&1; then
  missing "the dialplan has Dial(AudioSocket/...) with another codec than slin" "always write c(slin)"
  AUDIOSOCKET=missing
fi
if cli 'dialplan show maya' | grep "Context 'maya'" >/dev/null; then
  ok "context maya is in the dialplan"
else
  note "there is no context maya in the dialplan" "copy the snippets, then: asterisk -rx 'dialplan reload'"
fi

# --- The verdict

printf '\nchan_websocket: %s\nAudioSocket:    %s\n' "$WEBSOCKET" "$AUDIOSOCKET"
[ "$WEBSOCKET" = ready ] || [ "$AUDIOSOCKET" = ready ]
