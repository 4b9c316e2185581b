#!/usr/bin/env bash
# Builds the functions as Lambda runs them (provided.al2023): for each a zip with `bootstrap` in it.
#
# Called by `./dev build`, which puts cargo-lambda, zig and a python3 on the path. zig links against an old glibc, whatever
# this machine has; that no function needs a newer one than Amazon Linux 2023 has is checked all the same.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
newest=2.34 # glibc of Amazon Linux 2023

say() { printf '%s\n' "$*" >&2; }
die() { say "dev build: $*"; exit 1; }

case $# in 0) set -- --x86-64 ;; esac
[[ $# == 1 ]] || die "wants no argument or --arm64"
case $1 in
  --arm64) architecture=arm64 triple=aarch64-unknown-linux-gnu ;;
  --x86-64) architecture=x86_64 triple=x86_64-unknown-linux-gnu ;;
  *) die "knows no $1; it wants no argument or --arm64" ;;
esac

cd "$root"
"$root/deploy/rust-target.sh" "$triple" 'dev build'

names=() packages=()
for folder in functions/*/; do
  name=$(basename "$folder")
  names+=("$name") packages+=(--package "hongyan-$name")
done
out=${CARGO_TARGET_DIR:-$root/target}/lambda/$architecture

# librdkafka's cmake build includes curl/curl.h although it does not use it: deploy/include has an empty one.
# The functions say in their first log line which commit they are.
[[ -n ${HONGYAN_COMMIT:-} ]] || HONGYAN_COMMIT=$(git rev-parse --short=12 HEAD 2>/dev/null) || HONGYAN_COMMIT=unknown
export HONGYAN_COMMIT
export CFLAGS="-I$root/deploy/include${CFLAGS:+ $CFLAGS}"
cargo lambda build --release --locked "$1" --lambda-dir "$out" --features hongyan/msk "${packages[@]}"

# The newest version of glibc's symbols that a binary asks for: its dynamic string table has their names.
glibc() { grep -aoE 'GLIBC_2\.[0-9]+' "$1" | sort -uV | tail -n 1 | cut -d_ -f2; }
size() { wc -c <"$1" | awk '{ printf "%.1f MB", $1 / 1e6 }'; }

status=0
printf '%-24s %-12s %-12s %s\n' function bootstrap zip glibc
for name in "${names[@]}"; do
  bootstrap=$out/$name/bootstrap zip=$out/$name.zip
  [[ -x $bootstrap ]] || die "cargo-lambda made no $bootstrap"
  # One time for all, so that the same code makes the same zip, and a deployment sees that nothing changed.
  touch -t 198001010000 "$bootstrap"
  rm -f "$zip"
  (cd "$out/$name" && python3 -m zipfile -c "$zip" bootstrap)
  needs=$(glibc "$bootstrap")
  printf '%-24s %-12s %-12s %s\n' "$name" "$(size "$bootstrap")" "$(size "$zip")" "$needs"
  if [[ $(printf '%s\n' "$needs" "$newest" | sort -V | tail -n 1) != "$newest" ]]; then
    say "$name needs glibc $needs; Amazon Linux 2023 has $newest"
    status=1
  fi
done
say "The zips are in $out"
exit "$status"
