#!/usr/bin/env bash
# tests/fuzz/run.sh URL ARGUMENT…: requests made from docs/openapi.yaml, good ones and bad ones, with every check that
# schemathesis has: no 5xx, only documented statuses and bodies, bad requests refused and good ones not, no route without
# a token, 405 for other methods. ARGUMENTs go to `schemathesis run`. Wants TOKEN, the token of a user that nobody writes to.
set -euo pipefail

here=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd)
tools=$("$here/../../deploy/python-env.sh" "$here/requirements.txt" fuzz)
# It keeps what it found in the folder where it stands.
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cd "$folder"
export HONGYAN_FUZZ_FOLDER=$here
"$tools/bin/python" "$tools/bin/schemathesis" --no-color --config-file "$here/schemathesis.toml" \
  run "$here/../../docs/openapi.yaml" --url "$1" --header "Authorization: Bearer $TOKEN" \
  --continue-on-failure --request-timeout 30 --warnings off "${@:2}"
