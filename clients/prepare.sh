#!/usr/bin/env bash
# Installs the packages of the TypeScript client and of the page exactly as locked, unless they are there, and compiles the client.
set -euo pipefail
cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.."

for folder in clients/typescript web; do
  if ! cmp -s "$folder/package-lock.json" "$folder/node_modules/.locked.json"; then
    npm ci --prefix "$folder" --no-audit --no-fund --loglevel=error
    cp "$folder/package-lock.json" "$folder/node_modules/.locked.json"
  fi
done
npm run --silent --prefix clients/typescript build
