#!/usr/bin/env bash
# Sets up .venv-pipecat, where `maya bench turns --peer pipecat` runs pipecat and llama.cpp's OpenAI-compatible server.
# Does nothing, quickly, when nothing changed. After `make setup`, whose compiled llama.cpp it takes.
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/setup/common.sh

choose_python

WANTED=$({ cat bench/pipecat/requirements.txt infra/setup/pipecat.sh; pwd; } | digest)
if [ "$(cat .venv-pipecat/.maya-installed 2>/dev/null || true)" != "$WANTED" ] || ! .venv-pipecat/bin/python -c 'import sys' 2>/dev/null; then
  # The newest, if this cache was carried from machine to machine.
  VERSION=$(sed -nE 's/^llama-cpp-python\[server\]==//p' bench/pipecat/requirements.txt)
  WHEEL=$(ls -t "$CACHE"/wheels/"$VERSION"-*/llama_cpp_python-"$VERSION"-*.whl 2>/dev/null | head -n 1 || true)
  [ -n "$WHEEL" ] || fail "llama-cpp-python $VERSION has not been compiled yet." "Run first: make setup"
  if ! .venv-pipecat/bin/python -m pip --version >/dev/null 2>&1; then
    say "Virtual environment .venv-pipecat with $("$PYTHON" --version): 1 GB"
    make_venv "$PYTHON" .venv-pipecat
  fi
  say "Installing pipecat and llama.cpp's server (versions: bench/pipecat/requirements.txt)"
  # docopt, which pipecat's num2words wants, exists as source only.
  pip_shown .venv-pipecat/bin/pip install --only-binary=:all: --no-binary docopt --find-links "$(dirname "$WHEEL")" \
    -r bench/pipecat/requirements.txt || fail "pip could not install pipecat; its message stands above."
  LOGURU_LEVEL=ERROR .venv-pipecat/bin/python -c 'import llama_cpp.server.app, pipecat.services.whisper.stt' ||
    fail "what was installed does not run on this machine; the message stands above." \
      "If llama.cpp is the reason, it was compiled for another processor: rm -r $(dirname "$WHEEL"), then make setup"
  echo "$WANTED" >.venv-pipecat/.maya-installed
fi
