#!/usr/bin/env bash
# deploy/check-release.sh ARCHIVE: starts the `hongyan` of a release on a bare Debian that has nothing else installed.
#
# Needs root, and Debian's debootstrap, which this script installs. The Debian is made once, in .local/, and copied for each run. The
# network is this machine's: where REDIS_URL, MYSQL_URL, KAFKA_BOOTSTRAP_SERVERS and JWT_SECRET are set, as `./dev env`
# prints them, `hongyan` also makes the tables, serves, and takes a message.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
say() { printf '%s\n' "$*" >&2; }
die() { say "deploy/check-release.sh: $*"; exit 1; }

[[ $# == 1 && -f $1 ]] || die "wants the archive that ./dev release made"
[[ $EUID == 0 ]] || die "needs root, for chroot"
archive=$(realpath -- "$1")
port=${CHECK_PORT:-18480}

bare=$root/.local/bare-debian
if [[ ! -e $bare/etc/debian_version ]]; then
  command -v debootstrap >/dev/null ||
    { apt-get -qq update && apt-get -qq -y --no-install-recommends install debootstrap debian-archive-keyring; } >&2
  mkdir -p "$root/.local"
  rm -rf "$bare.new"
  debootstrap --variant=minbase bookworm "$bare.new" "${DEBIAN_MIRROR:-http://deb.debian.org/debian}" >&2
  mv "$bare.new" "$bare"
fi

here=$(mktemp -d)
server=''
finish() {
  [[ -z $server ]] || kill "$server" 2>/dev/null || true
  rm -rf "$here"
}
trap finish EXIT
cp -a "$bare/." "$here"
tar -xzf "$archive" -C "$here/opt"
folder=/opt/$(basename "$archive" .tar.gz)

# Only the named variables reach it, as uid 65532, which the images use too.
inside() { chroot --userspec=65532:65532 "$here" /usr/bin/env -i "${variables[@]}" "$folder/hongyan" "$@"; }

variables=()
inside --version
for file in LICENSE THIRD-PARTY.txt openapi.yaml; do
  [[ -s $here$folder/$file ]] || die "the archive has no $file"
done
variables=(REDIS_URL=redis://127.0.0.1/1 MYSQL_URL=mysql://a:b@127.0.0.1/hongyan KAFKA_BOOTSTRAP_SERVERS=127.0.0.1:9092
  JWT_SECRET=0123456789abcdef0123456789abcdef)
inside check-config >/dev/null
say "It starts, and check-config finds no fault."

if [[ -z ${REDIS_URL:-} || -z ${MYSQL_URL:-} || -z ${KAFKA_BOOTSTRAP_SERVERS:-} || -z ${JWT_SECRET:-} ]]; then
  say "Without REDIS_URL, MYSQL_URL, KAFKA_BOOTSTRAP_SERVERS and JWT_SECRET it was not asked to serve."
  exit 0
fi
variables=("REDIS_URL=$REDIS_URL" "MYSQL_URL=$MYSQL_URL" "KAFKA_BOOTSTRAP_SERVERS=$KAFKA_BOOTSTRAP_SERVERS"
  "JWT_SECRET=$JWT_SECRET" "HONGYAN_LISTEN=127.0.0.1:$port" "HONGYAN_INTERNAL_LISTEN=127.0.0.1:$((port + 1))"
  "HONGYAN_STOP_DELAY_SECONDS=0" "TMPDIR=/tmp")
inside migrate
chroot --userspec=65532:65532 "$here" /usr/bin/env -i "${variables[@]}" "$folder/hongyan" serve &
server=$!
ready() { curl -fsS --max-time 2 "http://127.0.0.1:$((port + 1))/ready" 2>/dev/null; }
for ((tries = 0; tries < 120; tries++)); do
  ready && break
  kill -0 "$server" 2>/dev/null || die "serve ended by itself"
  sleep 0.5
done
ready >/dev/null || die "not ready after a minute"
token=$(inside token 1)
sent=$(curl -fsS "http://127.0.0.1:$port/messages" -H "Authorization: Bearer $token" \
  -d '{"toId":"2","content":"from a bare Debian","msgType":1}')
for ((tries = 0; tries < 120; tries++)); do
  page=$(curl -fsS "http://127.0.0.1:$port/conversations/2/messages?limit=1" -H "Authorization: Bearer $token")
  [[ $page == *'"from a bare Debian"'*PERSISTED* || $page == *PERSISTED*'"from a bare Debian"'* ]] && break
  sleep 0.5
done
[[ $page == *PERSISTED* ]] || die "the message $sent is not in MySQL after a minute: $page"
kill -TERM "$server"
wait "$server" || die "it did not stop in order"
server=''
say "It made the tables, served, took a message to MySQL, and stopped in order."
