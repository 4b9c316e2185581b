#!/usr/bin/env bash
# Makes the files of a release for one kind of machine: the server `hongyan` in an archive, the notices of the code of
# others in it, a list of that code (SBOM), with --lambda the functions' zips, and the checksums.
#
# Called by `./dev release`, which puts cargo-zigbuild, cargo-cyclonedx, zig and a python3 on the path. zig
# links against glibc 2.17, whatever this machine has; that `hongyan` needs no newer one is checked all the same.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
newest=2.17 # glibc of CentOS 7, the oldest system that Rust itself supports

say() { printf '%s\n' "$*" >&2; }
die() { say "dev release: $*"; exit 1; }

machine=x86_64 lambda=''
for argument; do
  case $argument in
    --x86-64) machine=x86_64 ;;
    --arm64) machine=aarch64 ;;
    --lambda) lambda=yes ;;
    *) die "knows no $argument; it wants --x86-64 or --arm64, and --lambda for the functions' zips" ;;
  esac
done
[[ $(uname) == Linux ]] || die "makes archives with GNU tar; use Linux"
triple=$machine-unknown-linux-gnu
cd "$root"
"$root/deploy/rust-target.sh" "$triple" 'dev release'

# The version stands in Cargo.toml. A tag that says another one is a mistake, and nothing is built from it.
version=$(sed -n 's/^version = "\(.*\)"$/\1/p' Cargo.toml)
[[ $version =~ ^[0-9]+\.[0-9]+\.[0-9]+(-[0-9A-Za-z.]+)?$ ]] || die "Cargo.toml has no version: $version"
tags=$(git tag --points-at HEAD 'v*' 2>/dev/null || true)
[[ -z $tags ]] || grep -qxF "v$version" <<<"$tags" || die "the tag is ${tags//$'\n'/, }, and Cargo.toml has the version $version"
[[ -n ${HONGYAN_COMMIT:-} ]] || HONGYAN_COMMIT=$(git rev-parse --short=12 HEAD 2>/dev/null) || HONGYAN_COMMIT=unknown
# The same commit makes the same archive.
SOURCE_DATE_EPOCH=$(git log -1 --format=%ct 2>/dev/null) || SOURCE_DATE_EPOCH=315532800
export HONGYAN_COMMIT SOURCE_DATE_EPOCH

target=${CARGO_TARGET_DIR:-$root/target}
out=$target/release-files
name=hongyan-$version-linux-$machine
features=(--no-default-features --features hongyan/msk)
mkdir -p "$out"
# The lists, the notices and the archive are made in here.
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

# librdkafka's cmake build includes curl/curl.h although it does not use it: deploy/include has an empty one.
CFLAGS="-I$root/deploy/include${CFLAGS:+ $CFLAGS}" \
  cargo zigbuild --release --locked --package hongyan-runtime "${features[@]}" --target "$triple.$newest"
binary=$target/$triple/release/hongyan
needs=$(grep -aoE 'GLIBC_2\.[0-9]+' "$binary" | sort -uV | tail -n 1 | cut -d_ -f2)
[[ $(printf '%s\n' "$needs" "$newest" | sort -V | tail -n 1) == "$newest" ]] || die "hongyan needs glibc $needs, and not only $newest"

mkdir -p "$work/$name"
python3 deploy/notices.py "$triple" "${features[@]}" >"$work/$name/THIRD-PARTY.txt"

# cargo-cyclonedx writes one file a crate of the workspace, beside its Cargo.toml.
sbom=$name.cdx
remove_lists() { find . -path ./target -prune -o -name "$sbom.json" -exec rm {} +; }
trap 'remove_lists; rm -rf "$work"' EXIT
cargo cyclonedx --quiet --manifest-path runtime/Cargo.toml "${features[@]}" --target "$triple" --format json \
  --spec-version 1.5 --override-filename "$sbom"
python3 deploy/sbom.py "$triple" "${features[@]}" <"runtime/$sbom.json" >"$work/$sbom.json"
remove_lists
trap 'rm -rf "$work"' EXIT
mv "$work/$sbom.json" "$out/$sbom.json"

install -m 755 "$binary" "$work/$name/hongyan"
install -m 644 LICENSE README.md CHANGELOG.md docs/openapi.yaml "$work/$name/"
install -D -m 644 -t "$work/$name/deploy/systemd" deploy/systemd/*
tar --sort=name --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner -C "$work" -c "$name" |
  gzip -9n >"$out/$name.tar.gz"

if [[ -n $lambda ]]; then
  architecture=$machine
  [[ $machine == x86_64 ]] || architecture=arm64
  "$root/deploy/build.sh" "--${architecture/x86_64/x86-64}"
  for zip in "$target/lambda/$architecture"/*.zip; do
    cp "$zip" "$out/hongyan-$version-lambda-$architecture-$(basename "$zip")"
  done
fi

(cd "$out" && rm -f SHA256SUMS && sha256sum -- *"$version"* >SHA256SUMS)
say "hongyan $version ($HONGYAN_COMMIT) needs glibc $needs. The files are in $out:"
(cd "$out" && ls -l) >&2
echo "$out/$name.tar.gz"
