#!/usr/bin/env bash
# Makes the files that compose.yaml wants in infra/deploy/secrets/, those that are missing: random passwords, a first
# admin's key (shown once), and a place for Twilio's token. Changes none that is there. Needs `maya` for the keys: on the
# PATH, as `make setup` leaves it in .venv, or where $MAYA says.
set -euo pipefail
cd "$(dirname "$0")"
MAYA=${MAYA:-$(command -v maya || echo ../../.venv/bin/maya)}
# Nobody but its owner gets into the folder; inside the containers the files are read by other users.
mkdir -p -m 0700 secrets secrets/keys
umask 022

random() { od -An -N24 -tx1 /dev/urandom | tr -d ' \n'; }

fresh() { # $1: name, $2: content
  [ ! -e "secrets/$1" ] || return 0
  printf '%s\n' "$2" >"secrets/$1"
  echo "made secrets/$1"
}

fresh postgres_password "$(random)"
fresh grafana_password "$(random)"
fresh store_url "postgresql://maya:$(cat secrets/postgres_password)@postgres/maya"
KEY=
new_key() { # $1: role, $2: name; its line goes to the keys' file, the key itself to $KEY
  local made
  made=$("$MAYA" keys new --role "$1" --name "$2" --days 365)
  printf '%s\n' "$made" | sed -n "s/^  \([^ ]*:$1:[^ ]*\)\$/\1/p" >>secrets/keys/access_keys
  KEY=$(printf '%s\n' "$made" | sed -n 's/^  \(maya_[^ ]*\)$/\1/p')
}

if [ ! -e secrets/keys/access_keys ]; then
  new_key admin "$(id -un | tr -cd 'A-Za-z0-9._-')"
  echo "made secrets/keys/access_keys, for this key, shown this once:"
  echo "  $KEY"
fi
if [ ! -e secrets/metrics_key ]; then
  new_key metrics prometheus
  fresh metrics_key "$KEY"
fi
chmod 0755 secrets/keys
if [ ! -e secrets/twilio_auth_token ]; then
  : >secrets/twilio_auth_token
  echo "write Twilio's auth token (console.twilio.com) into infra/deploy/secrets/twilio_auth_token"
fi
