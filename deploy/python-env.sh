#!/usr/bin/env bash
# deploy/python-env.sh REQUIREMENTS NAME [ARGUMENT…]: prints the folder of a Python environment that has what REQUIREMENTS
# pins. The arguments go to `pip install`.
#
# It is kept under ${XDG_CACHE_HOME:-~/.cache}/hongyan and made at the first use. Needs python3 with venv: `./dev setup`
# installs it.
set -euo pipefail

requirements=$1 name=$2
shift 2
say() { printf '%s\n' "$*" >&2; }
die() { printf 'deploy/python-env.sh: %s\n' "$*" >&2; exit 1; }

command -v python3 >/dev/null || die "python3 is missing"
wanted=$(cksum <"$requirements" | cut -d' ' -f1)
tools=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/hongyan/$name-$wanted
if [[ ! -e $tools/complete ]]; then
  # Made beside and moved into place, so that neither a failure nor a second run at the same time leaves a half one.
  say "Installing $(grep -v '^#' "$requirements" | paste -sd ' ' -) into $tools"
  mkdir -p "$(dirname "$tools")"
  fresh=$(mktemp -d "$tools.XXXXXX")
  log=$fresh.log
  trap 'rm -rf "$fresh" "$log"' EXIT
  { python3 -m venv "$fresh" &&
    "$fresh/bin/python" -m pip install --quiet --disable-pip-version-check "$@" -r "$requirements"; } >"$log" 2>&1 ||
    { tail -n 15 "$log" >&2 && die "what $requirements pins cannot be installed; is python3-venv there, and the network?"; }
  touch "$fresh/complete"
  rm -rf "$tools"
  mv "$fresh" "$tools" 2>/dev/null || [[ -e $tools/complete ]] || die "cannot write $tools"
fi
echo "$tools"
