#!/bin/sh
# Copies the sealed files of the prediction log to a bucket: every five minutes, and once more when it is stopped.
# A name is unique and a sealed file never changes, so what the bucket has is not sent again, and nothing is replaced.
# bucket.env holds LOG_BUCKET=bucket/folder and the credentials; deploy/README.md says what these must allow.
set -eu

# in a cluster each pod has a folder of its own, and lists only that
target="${LOG_BUCKET:?names no bucket/folder}/${POD:+$POD/}"
# a server that is not Amazon's has an address, and no bucket in the name of its host
provider=AWS
[ -z "${AWS_ENDPOINT_URL:-}" ] || provider=Other

ship() {
  rclone copy "${LOG_FOLDER:-/var/log/model}" ":s3:$target" \
    --config /dev/null --include '*.jsonl.gz' --ignore-existing --retries 1 --log-level INFO --stats 0 \
    --s3-provider "$provider" --s3-region "${AWS_DEFAULT_REGION:-us-east-1}" \
    --s3-env-auth --s3-no-check-bucket --s3-no-head ||
    echo 'error: not all of the prediction log was copied; the next attempt follows' >&2
}

waiting=
trap 'kill $waiting 2>/dev/null || true; ship; exit 0' TERM INT
while true; do
  ship
  sleep "${SHIP_SECONDS:-300}" &
  waiting=$!
  wait $waiting
done
