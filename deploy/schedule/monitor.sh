#!/bin/sh
# Runs `make monitor` for the release that serves, in a checkout of the default branch, and leaves its metrics for Prometheus.
# The service's image holds no pandas; this needs git, make, curl and Python 3.11, and reaches the repository and a package
# registry. monitor.env names the repository and the log.
set -eu
umask 022

fail() {
  echo "error: $1" >&2
  exit 1
}

cd "${WORK:?names a folder for the checkout and the log}"
log=${LOG:-$PWD/log}

# the service says which release it is
version=$(curl --fail --silent --show-error --max-time 30 "${SERVICE:?names the service, such as http://model}/metrics" |
  sed -n 's/^model_info{\(.*,\)\{0,1\}version="\([0-9A-Za-z.+-]*\)".*/\2/p' | head -n 1)
[ -n "$version" ] || fail "$SERVICE does not say which version it serves"

[ -d checkout/.git ] || git clone --quiet "${REPOSITORY:?names the repository}" checkout
cd checkout
git fetch --quiet --tags --force origin
git rev-parse --quiet --verify "refs/tags/v$version" >/dev/null || fail "the repository has no release v$version"
git switch --quiet --discard-changes --detach origin/HEAD
# the files and packages of earlier releases take a gigabyte each
for old in build/releases/*; do
  [ ! -d "$old" ] || [ "$old" = "build/releases/v$version" ] || git worktree remove --force "$old"
done

[ -z "${LOG_FROM:-}" ] || make --silent fetch-log FROM="$LOG_FROM" LOG="$log"

found=build/monitor/monitor.prom
rm -f "$found"
# an alarm ends it with an error, too, but leaves its metrics
make --silent monitor LOG="$log" VERSION="$version" || [ -f "$found" ] || exit 1

if [ -n "${PUSH_URL:-}" ]; then
  curl --fail --silent --show-error --max-time 30 --request PUT --data-binary "@$found" "$PUSH_URL"
else
  # renamed when it is complete, because the node exporter may read at any time
  mkdir -p ../metrics
  cp "$found" ../metrics/monitor.prom.partial
  mv ../metrics/monitor.prom.partial ../metrics/monitor.prom
fi
