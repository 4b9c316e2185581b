#!/usr/bin/env bash
# Checks template.yaml without AWS: expands it as AWS would and runs cfn-lint on what comes out.
#
# The linter and the translator (requirements.txt, pinned) are in a Python environment of their own (python-env.sh).
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
template=${1:-$here/../template.yaml}
# No resource of the template depends on it; the translator and the linter want to know one.
export AWS_DEFAULT_REGION=${AWS_DEFAULT_REGION:-eu-west-1}

die() { printf 'deploy/check.sh: %s\n' "$*" >&2; exit 1; }

tools=$("$here/python-env.sh" "$here/requirements.txt" deploy)
expanded=$(mktemp)
trap 'rm -f "$expanded"' EXIT
"$tools/bin/python" "$here/expand.py" "$template" "$expanded"
# W1030: an optional ARN has the default "", which no ARN matches; it is used only where a condition says it is set.
# W2001: SAM itself uses the parameter Rollout up; tests/tests/template.rs sees that each parameter is used.
"$tools/bin/python" "$tools/bin/cfn-lint" --non-zero-exit-code informational --ignore-checks W1030 W2001 \
  --regions "$AWS_DEFAULT_REGION" -- "$expanded" || die "see above; the lines are those of the expanded template"
