# Shared by setup.sh and test.sh; sourced from the repository root.

CACHE="${XDG_CACHE_HOME:-$HOME/.cache}/maya"
# Neither images nor downloads inside llama.cpp: a third less to compile.
LLAMA_CMAKE_ARGS="${CMAKE_ARGS:--DLLAVA_BUILD=OFF -DLLAMA_CURL=OFF}"

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

fail() {
  printf '\nSet-up stopped: %s\n' "$1" >&2
  shift
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 2
}

# Run pip; show what it collects and installs, hide its remarks about the machine's own index settings.
pip_shown() {
  "$@" 2> >(grep -v -e 'is ignored: it is neither' -e 'Running pip as the' >&2) |
    { grep --line-buffered -E '^ *(Downloading|Using cached|Building|Installing)' || true; } |
    sed -u -E 's/^ */    /; s/^(.{100}).+/\1 .../'
}

# $1: a Python that should have version $2 (a prefix such as 3.13); pyenv's shims exist for versions that do not run.
python_runs() {
  "$1" -c "import sys; v = '%d.%d' % sys.version_info[:2]; sys.exit(v != '$2')" >/dev/null 2>&1
}

# Prints the path of a working Python $1 (3.11, ...), or fails.
find_python() {
  local candidate root
  candidate=$(command -v "python$1" || true)
  if [ -n "$candidate" ] && python_runs "$candidate" "$1"; then echo "$candidate"; return 0; fi
  if command -v pyenv >/dev/null 2>&1; then
    root=$(pyenv root)
    for candidate in "$root"/versions/"$1"*/bin/python"$1"; do
      if [ -x "$candidate" ] && python_runs "$candidate" "$1"; then echo "$candidate"; return 0; fi
    done
  fi
  candidate=$(command -v python3 || true)
  if [ -n "$candidate" ] && python_runs "$candidate" "$1"; then echo "$candidate"; return 0; fi
  return 1
}

# Sets PYTHON: the one that is asked for, else the first that works.
choose_python() {
  local version
  PYTHON=${MAYA_PYTHON:-}
  if [ -z "$PYTHON" ]; then
    for version in 3.11 3.12 3.13; do
      if PYTHON=$(find_python "$version"); then break; fi
    done
  fi
  [ -n "$PYTHON" ] || fail "no working Python 3.11, 3.12 or 3.13 was found." \
    "On Debian and Ubuntu: sudo apt-get install python3 python3-venv" "Or name one: make demo MAYA_PYTHON=/path/to/python3.12"
}

make_venv() { # $1 python, $2 folder
  "$1" -c 'import venv, ensurepip' >/dev/null 2>&1 || fail "$1 has no venv module." \
    "On Debian and Ubuntu: sudo apt-get install python3-venv"
  rm -rf "$2"
  "$1" -m venv "$2" || fail "the virtual environment $2 could not be made." \
    "On Debian and Ubuntu: sudo apt-get install python3-venv"
}

digest() { sha256sum | cut -c1-16; }
