#!/usr/bin/env bash
# deploy/rust-target.sh TRIPLE COMMAND: installs Rust's standard library for TRIPLE where it is missing. COMMAND is the name
# in the messages.
set -euo pipefail

triple=$1 command=$2
die() { printf '%s: %s\n' "$command" "$*" >&2; exit 1; }

[[ ! -d $(rustc --print sysroot)/lib/rustlib/$triple/lib ]] || exit 0
command -v rustup >/dev/null || die "the Rust of this machine has no standard library for $triple, and there is no rustup \
that could add it. Install Rust with https://rustup.rs, or that library with your package manager."
printf 'Installing Rust'\''s standard library for %s\n' "$triple" >&2
rustup --quiet target add "$triple" || die "rustup cannot add the target $triple (see above). With network, type: rustup \
target add $triple"
