#!/bin/sh
# What `make rollout ON=compose` runs. After `git pull`, .env names the new image, while the model still runs the old one.
set -eu
cd "$(dirname "$0")"

case $1 in
  # beside the model, with its settings and on another port
  start) docker compose run --detach --no-deps --name model-canary --publish 127.0.0.1:3002:3000 model ;;
  replace) docker compose up --detach --wait --no-deps model ;;
  stop)
    docker stop --time 60 model-canary
    docker rm model-canary
    ;;
esac
