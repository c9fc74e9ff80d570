#!/bin/sh
# Scores a file into the table from which the service answers by key, with the model of the release that serves, in a checkout
# of its tag. The service's image holds no PyArrow; this needs git, make, curl and Python 3.11, and reaches the repository and
# a package registry. score.env names the repository, the rows and the column with the keys.
set -eu
umask 022

fail() {
  echo "error: $1" >&2
  exit 1
}

cd "${WORK:?names a folder for the checkout}"
: "${ROWS:?names the rows, a .parquet or .csv}" "${KEY:?names the column with the keys}" "${PREDICTIONS:?names the table, a .sqlite}"

# the service says which release it is
version=$(curl --fail --silent --show-error --max-time 30 "${SERVICE:?names the service, such as http://model}/metrics" |
  sed -n 's/^model_info{\(.*,\)\{0,1\}version="\([0-9A-Za-z.+-]*\)".*/\2/p' | head -n 1)
[ -n "$version" ] || fail "$SERVICE does not say which version it serves"

[ -d checkout/.git ] || git clone --quiet "${REPOSITORY:?names the repository}" checkout
cd checkout
git fetch --quiet --tags --force origin
git rev-parse --quiet --verify "refs/tags/v$version" >/dev/null || fail "the repository has no release v$version"
git switch --quiet --discard-changes --detach "refs/tags/v$version"

# pulled by their hashes where there is a remote, or else made again
make --silent setup
[ -z "$(.venv/bin/dvc remote list)" ] || .venv/bin/dvc pull --quiet --allow-missing || true
make --silent pipeline >/dev/null

make --silent score IN="$ROWS" OUT="$PREDICTIONS" KEY="$KEY" HOURS="${HOURS:-36}"
