#!/usr/bin/env bash
# Prints the folder with `prometheus` and `promtool`: those on the path, or Debian's package unpacked into .local/.
#
# The package is unpacked and not installed: installed, it would start a service, and it would need root.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
die() { printf 'ops/promtool.sh: %s\n' "$*" >&2; exit 1; }

if tool=$(command -v promtool) && command -v prometheus >/dev/null; then
  dirname -- "$tool"
  exit
fi
home=$root/.local/prometheus
if [[ ! -x $home/usr/bin/promtool ]]; then
  if ! command -v apt-get >/dev/null && command -v brew >/dev/null; then
    brew install -q prometheus >&2
    dirname -- "$(command -v promtool)"
    exit
  fi
  command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
    die "promtool is missing. Install Prometheus (brew install prometheus, or https://prometheus.io/download)."
  printf 'Unpacking Debian'\''s package prometheus into .local/\n' >&2
  work=$(mktemp -d)
  trap 'rm -rf "$work"' EXIT
  chmod 755 "$work" # apt downloads as a user of its own
  if ! (cd "$work" && apt-get -qq download prometheus) >"$work/log" 2>&1; then
    # The lists of packages may be missing, as on a fresh machine.
    sudo=()
    [[ $EUID -eq 0 ]] || sudo=(sudo -n)
    { "${sudo[@]}" apt-get -qq -o DPkg::Lock::Timeout=300 update && (cd "$work" && apt-get -qq download prometheus); } \
      >"$work/log" 2>&1 || { cat "$work/log" >&2; die "Debian's package prometheus cannot be had (see above)"; }
  fi
  mkdir -p "$root/.local"
  dpkg -x "$work"/prometheus_*.deb "$work/tree"
  rm -rf "$home"
  mv "$work/tree" "$home"
fi
printf '%s\n' "$home/usr/bin"
