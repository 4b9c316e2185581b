#!/usr/bin/env bash
# Checks the files that deploy `hongyan serve` without AWS: the Dockerfile with hadolint, the manifests of deploy/kubernetes as kustomize renders them
# against the schemas of Kubernetes, and the systemd unit. tests/tests/docs/deployments.rs compares them with the code.
#
# Needs python3 with venv and kustomize, kubectl or Go; without systemd-analyze, as on macOS, the unit is not checked.
set -euo pipefail

root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd)
die() { printf 'deploy/check-manifests.sh: %s\n' "$*" >&2; exit 1; }
have() { command -v "$1" >/dev/null 2>&1; }

tools=$("$root/deploy/python-env.sh" "$root/deploy/manifests.txt" manifests)
# DL3008: the packages of Debian's stable release keep their version but for security fixes, which a pin would refuse.
# DL3022: `--from=files` is a build context that the caller names, and no stage.
"$tools/bin/hadolint" --ignore DL3008 --ignore DL3022 "$root/Dockerfile" || die "see above: Dockerfile"

if have kustomize; then
  render() { kustomize build "$1"; }
elif have kubectl; then
  render() { kubectl kustomize "$1"; }
else
  have go || die "kustomize, kubectl or Go is missing"
  [[ -x $root/.local/bin/kustomize ]] ||
    GOBIN=$root/.local/bin go install sigs.k8s.io/kustomize/kustomize/v5@v5.7.1 || die "Go cannot build kustomize"
  render() { "$root/.local/bin/kustomize" build "$1"; }
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
for name in migrate app several; do
  render "$root/deploy/kubernetes/$name" >"$work/$name.yaml"
  "$tools/bin/python" -m kubernetes_validate --strict "$work/$name.yaml" || die "see above: deploy/kubernetes/$name"
done

if have systemd-analyze; then
  # The binary need not be installed here.
  sed 's#^ExecStart=/usr/local/bin/hongyan#ExecStart=/bin/true#' "$root/deploy/systemd/hongyan.service" >"$work/hongyan.service"
  systemd-analyze verify "$work/hongyan.service" || die "see above: deploy/systemd/hongyan.service"
fi
