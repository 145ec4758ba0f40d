#!/usr/bin/env bash
# Makes or updates .venv from constraints.txt; `make setup` runs it. Needs no root.
#
#   PYTHON=python3.12   the Python to use; without it, the first 3.10-3.12 that runs
#   TORCH_INDEX=URL     the package index to take torch and torchaudio from, and nothing else: with
#                       PyTorch's index of CPU-only wheels, .venv is a fifth of the size
#
# Safe to stop at any moment and to run again: the stamp is written last, and packages that a killed
# run left half installed are installed anew. While the stamp is current it does nothing.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

venv=$(pwd -P)/.venv
stamp=$venv/.setup-stamp
torch_from=$venv/.torch-index

say() { printf 'setup: %s\n' "$*"; }
die() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# What was installed from; an exact copy of it is the stamp.
inputs() { cat pyproject.toml constraints.txt tools/setup.sh; }
torch_index() { cat "$torch_from" 2>/dev/null || true; }
current() { inputs | cmp -s - "$stamp" && usable "$venv/bin/python" && [ "${TORCH_INDEX-$(torch_index)}" = "$(torch_index)" ]; }

# Prints nothing for a Python that does not start, or that was built without what pip and torch need.
version() { "$1" -c 'import bz2, ctypes, ssl, sys, zlib; print("%d.%d" % sys.version_info[:2])' 2>/dev/null; }
usable() { case $(version "$1") in 3.10 | 3.11 | 3.12) ;; *) return 1 ;; esac; }

candidates() { # names on PATH may be shims that fail, hence also pyenv's own folders and uv's
  local pyenv=${PYENV_ROOT:-$HOME/.pyenv}/versions
  printf '%s\n' python3.11 python3.12 python3.10 python3 python \
    "$pyenv"/3.11.*/bin/python "$pyenv"/3.12.*/bin/python "$pyenv"/3.10.*/bin/python
  uv python find --no-python-downloads '>=3.10,<3.13' 2>/dev/null || true
}

find_python() {
  local python fallback=
  while read -r python; do
    usable "$python" || continue
    if "$python" -c 'import ensurepip' 2>/dev/null; then
      printf '%s\n' "$python"
      return
    fi
    fallback=${fallback:-$python}
  done < <(candidates)
  [ -n "$fallback" ] || die "found no Python 3.10, 3.11 or 3.12 that runs: install one, or name it with PYTHON=/path/to/python"
  printf '%s\n' "$fallback"
}

# Has pip, and stands where it was made (a moved .venv has scripts that start nothing).
whole() {
  grep -qF "$venv" "$venv/bin/activate" && usable "$venv/bin/python" &&
    "$venv/bin/python" -m pip --version && ls "$venv"/lib/python3*/site-packages/pip-*.dist-info/RECORD
} >/dev/null 2>&1

try() {
  rm -rf "$venv"
  "$@" "$venv" >/dev/null 2>&1 && whole && say "      made by: $*"
}

make_venv() {
  local python=$1
  try "$python" -m venv || try uv venv --quiet --seed --python "$python" ||
    try "$python" -m virtualenv --quiet || try virtualenv --quiet --python "$python" || {
    rm -rf "$venv"
    die "$python cannot make a virtual environment: install its venv package (Debian, Ubuntu: python$(version "$python")-venv), or uv, or virtualenv"
  }
}

# pip writes RECORD last: what lacks it is not all there, though pip would take it for installed.
drop_half_installed() {
  local info
  for info in "$venv"/lib/python3*/site-packages/*.dist-info; do
    [ -f "$info/RECORD" ] || rm -rf "$info"
  done
}

install() {
  "$venv/bin/python" -m pip install "${pip_options[@]}" "$@" ||
    die "pip failed, see above; once the cause is mended, run it again"
}

pip_options=(--disable-pip-version-check --no-input --only-binary :all: --constraint constraints.txt)
[ -t 1 ] || pip_options+=(--quiet)
unset PYTHONPATH PYTHONHOME CONDA_PREFIX PIP_TARGET PIP_PREFIX
export PIP_USER=0

if [ -n "${PYTHON:-}" ]; then
  usable "$PYTHON" || die "PYTHON=$PYTHON is not a Python 3.10, 3.11 or 3.12 that runs, with ssl and ctypes"
  have=$(version "$venv/bin/python" || version "$PYTHON")
  [ "$have" = "$(version "$PYTHON")" ] || die ".venv is of Python $have; for PYTHON=$PYTHON remove it first: rm -rf .venv"
fi
if current; then
  say ".venv is up to date"
  exit
fi
case $venv in *[!A-Za-z0-9/._~-]*)
  die "fairseq2 finds no file below a path such as $(pwd -P): move this folder to one of ASCII letters, digits and . _ - ~ alone" ;;
esac
if command -v flock >/dev/null; then
  exec 9<constraints.txt
  flock --nonblock 9 || { say "waiting for another set-up of this folder"; flock 9; }
  if current; then exit; fi
fi

first=
if whole; then
  say "[1/4] .venv is there, of Python $(version "$venv/bin/python"); updating it"
  rm -f "$stamp"
  drop_half_installed
else
  [ ! -e "$venv" ] || say ".venv is unfinished, broken or was moved: making it anew"
  python=${PYTHON:-$(find_python)}
  say "[1/4] making .venv with $python ($(version "$python")): some seconds"
  make_venv "$python"
  first=yes
fi

inputs >"$stamp.new" # as they are now; they may change meanwhile
wanted=${TORCH_INDEX-$(torch_index)}
if [ -n "$wanted" ]; then
  say "[2/4] torch from $wanted"
  again=()
  [ "$wanted" = "$(torch_index)" ] || again=(--force-reinstall)
  install --no-deps --index-url "$wanted" ${again[@]+"${again[@]}"} torch torchaudio
  # fairseq2's native library wants this one library of CUDA's even where nothing runs on a GPU.
  install nvidia-cuda-runtime-cu12
else
  say "[2/4] torch with CUDA${first:+: a download of 3 GB, 2 minutes on a fast network}"
  install torch torchaudio
fi
printf '%s\n' "$wanted" >"$torch_from"

say "[3/4] the other packages${first:+: 150 of them, 1 minute}"
install setuptools wheel
install --no-build-isolation --editable '.[dev]'

say "[4/4] importing it all once: some seconds"
"$venv/bin/python" -c 'import wavellama, fairseq2, torch, torchaudio' ||
  die "installed, but it does not import: see above"

mv "$stamp.new" "$stamp"
say "done in $SECONDS s; .venv takes $(du -sh "$venv" | cut -f1)"
