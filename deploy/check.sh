#!/usr/bin/env bash
# Checks template.yaml without AWS: expands it as AWS would and runs cfn-lint on what comes out.
#
# The linter and the translator (requirements.txt, pinned) are kept in a Python environment of their own under
# ${XDG_CACHE_HOME:-~/.cache}/hongyan, made at the first use. Needs python3 with venv: `./dev setup` installs it.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
template=${1:-$here/../template.yaml}
# No resource of the template depends on it; the translator and the linter want to know one.
export AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-eu-west-1}

die() { printf 'deploy/check.sh: %s\n' "$*" >&2; exit 1; }

command -v python3 >/dev/null || die "python3 is missing"
wanted=$(cksum <"$here/requirements.txt" | cut -d' ' -f1)
tools=${XDG_CACHE_HOME:-${HOME:-/tmp}/.cache}/hongyan/deploy-$wanted
if [[ ! -e $tools/complete ]]; then
  # Made beside and moved into place, so that neither a failure nor a second run at the same time leaves a half one.
  mkdir -p "$(dirname "$tools")"
  fresh=$(mktemp -d "$tools.XXXXXX")
  log=$fresh.log
  trap 'rm -rf "$fresh" "$log"' EXIT
  { python3 -m venv "$fresh" &&
    "$fresh/bin/python" -m pip install --quiet --disable-pip-version-check -r "$here/requirements.txt"; } >"$log" 2>&1 ||
    { tail -n 15 "$log" >&2 && die "the tools of deploy/requirements.txt cannot be installed; is python3-venv there, and the network?"; }
  touch "$fresh/complete"
  rm -rf "$tools"
  mv "$fresh" "$tools" 2>/dev/null || [[ -e $tools/complete ]] || die "cannot write $tools"
fi

expanded=$(mktemp)
trap 'rm -rf "$expanded" "${fresh:-}" "${log:-}"' EXIT
"$tools/bin/python" "$here/expand.py" "$template" "$expanded"
# W1030: an optional ARN has the default "", which no ARN matches; it is used only where a condition says it is set.
# W2001: SAM itself uses the parameter Rollout up; tests/tests/template.rs sees that each parameter is used.
"$tools/bin/python" "$tools/bin/cfn-lint" --non-zero-exit-code informational --ignore-checks W1030 W2001 \
  --regions "$AWS_DEFAULT_REGION" -- "$expanded" || die "see above; the lines are those of the expanded template"
