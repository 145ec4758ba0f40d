#!/usr/bin/env bash
# Writes constraints.txt: one exact version of every package, for Python 3.10-3.12 on Linux x86-64.
# Keeps the versions it has where they still fit; `--upgrade` takes the newest ones.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

draft=$(mktemp)
trap 'rm -f "$draft"' EXIT
[ ! -f constraints.txt ] || cp constraints.txt "$draft"
.venv/bin/uv pip compile pyproject.toml --extra dev --universal --python-version 3.10 \
  --only-binary :all: --no-annotate --no-header --quiet --output-file "$draft" "$@" >/dev/null
{
  echo "# Exact versions for Python 3.10-3.12 on Linux x86-64, development tools included."
  echo "# Made from pyproject.toml by \`make constraints\`; \`make constraints UPGRADE=--upgrade\` takes newer ones."
  cat "$draft"
} >constraints.new
mv constraints.new constraints.txt
