#!/usr/bin/env bash
# Sets up .venv with all dependencies and fetches the bundled models. Does nothing, quickly, when nothing changed.
# With the argument "tests" also torch (200 MB as its CPU build, some GB where the index gives a CUDA build) and what
# else only the tests of the CSM voice need.
set -euo pipefail
cd "$(dirname "$0")/../.."
. infra/setup/common.sh

choose_python

machine() { # The wheel is built for this very processor and C library (-march=native).
  grep -m1 -E '^(flags|Features)' /proc/cpuinfo 2>/dev/null || true
  uname -sm
  grep -E '^(ID|VERSION_ID)=' /etc/os-release 2>/dev/null || true
}

LLAMA=$(grep -E '^llama[_-]cpp[_-]python==' requirements.lock)
WHEELS="$CACHE/wheels/${LLAMA#*==}-$({ machine; echo "$LLAMA_CMAKE_ARGS"; } | digest)"

build_llama() {
  local log="$WHEELS/build.log" started=$SECONDS step
  if ! command -v "${CXX:-g++}" >/dev/null 2>&1 && ! command -v clang++ >/dev/null 2>&1; then
    fail "no C++ compiler was found; llama.cpp is compiled for this processor." \
      "On Debian and Ubuntu: sudo apt-get install g++"
  fi
  mkdir -p "$WHEELS/part"
  say "Compiling llama.cpp for this processor: once, about 5 minutes on two cores (log: $log)"
  CMAKE_ARGS="$LLAMA_CMAKE_ARGS" .venv/bin/pip wheel "${LLAMA}" --no-binary llama_cpp_python,llama-cpp-python --no-deps \
    --wheel-dir "$WHEELS/part" -v >"$log" 2>&1 &
  local building=$!
  trap 'kill "$building" 2>/dev/null || true' INT TERM EXIT
  while kill -0 "$building" 2>/dev/null; do
    sleep 5
    step=$(grep -oE '^ *\[[0-9]+/[0-9]+\]' "$log" | tail -n 1 | tr -d ' ' || true)
    if [ -t 1 ]; then
      printf '\r    %s compiled, %d s ' "${step:-preparing}" $((SECONDS - started))
    elif (((SECONDS - started) % 30 < 5)); then
      printf '    %s compiled, %d s\n' "${step:-preparing}" $((SECONDS - started))
    fi
  done
  trap - INT TERM EXIT
  if ! wait "$building"; then
    tail -n 15 "$log" >&2
    fail "llama.cpp did not compile; the whole log is $log"
  fi
  mv "$WHEELS"/part/*.whl "$WHEELS/"
  printf '\n    done in %d s; kept in %s\n' $((SECONDS - started)) "$WHEELS"
}

EXTRAS=speech,plots,procfile,records,postgres,traces,dev STAMPS=(.venv/.maya-installed)
if [ "${1:-}" = tests ]; then
  EXTRAS+=,csm,finetune,cluster
  STAMPS+=(.venv/.maya-installed-tests)
fi
WANTED=$({ cat pyproject.toml requirements.lock infra/setup/setup.sh; echo "$WHEELS"; pwd; } | digest)
if [ "$(cat "${STAMPS[-1]}" 2>/dev/null || true)" != "$WANTED" ] || ! .venv/bin/python -c 'import sys' 2>/dev/null; then
  if ! .venv/bin/python -m pip --version >/dev/null 2>&1; then
    say "Virtual environment .venv with $("$PYTHON" --version) ($PYTHON)"
    make_venv "$PYTHON" .venv
  fi
  ls "$WHEELS"/*.whl >/dev/null 2>&1 || build_llama
  say "Installing dependencies (versions: requirements.lock)"
  pip_shown .venv/bin/pip install --only-binary=:all: --find-links "$WHEELS" -c requirements.lock \
    -e ".[$EXTRAS]" || fail "pip could not install the dependencies; its message stands above."
  for stamp in "${STAMPS[@]}"; do echo "$WANTED" >"$stamp"; done
fi

# Says nothing and returns at once when all of them are there.
.venv/bin/maya models pull --quick --profile embedded --profile tiny
if [ "${1:-}" = tests ]; then .venv/bin/maya models pull --quick llama-3-tokenizer; fi
