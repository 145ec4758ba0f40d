#!/usr/bin/env bash
# Writes constraints.txt: one exact version of every package, the same for Python 3.11 and 3.12, and
# an older one for 3.10 where the newer has left it. Keeps the versions it has where they still fit;
# `--upgrade` takes the newest ones.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

draft=$(mktemp) here=$(mktemp)
trap 'rm -f "$draft" "$here"' EXIT
cat constraints.txt >"$draft" 2>/dev/null || true

# On all platforms what there is for Linux on x86-64, where fairseq2 has its native package.
printf '%s\n' fairseq2~=0.8.1 torchaudio==2.9.1 >"$here"

compile() {
  .venv/bin/uv pip compile pyproject.toml --extra dev --universal --overrides "$here" --only-binary :all: \
    --no-annotate --no-header --quiet --output-file "$draft" "$@" >/dev/null
}

compile --python-version 3.11 --fork-strategy fewest "$@"
[ "$#" -gt 0 ] || grep "< '3.11'" constraints.txt >>"$draft" || true
compile --python-version 3.10 # keeps what was chosen above, where it can

{
  echo "# Exact versions for Python 3.10-3.12 on Linux x86-64, development tools included."
  echo "# Made from pyproject.toml by \`make constraints\`; \`make constraints UPGRADE=--upgrade\` takes newer ones."
  cat "$draft"
} >constraints.new
mv constraints.new constraints.txt
