#!/usr/bin/env bash
# Checks the alert rules with promtool: their form, and the cases in alerts.test.yml, of which each says what fires and what does not.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
tools=$("$here/promtool.sh")
for command in "check rules alerts.yml" "check config prometheus.yml" "test rules alerts.test.yml"; do
  # shellcheck disable=SC2086 # the words are arguments
  if ! output=$(cd "$here" && "$tools/promtool" $command 2>&1); then
    printf '%s\n' "$output" "ops/check.sh: promtool $command failed" >&2
    exit 1
  fi
done
