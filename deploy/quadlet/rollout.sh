#!/bin/sh
# What `make rollout ON=quadlet` runs. After `git pull`, model.container here names the new image, while the unit that is
# installed still runs the old one.
set -eu
cd "$(dirname "$0")"
units=${XDG_CONFIG_HOME:-$HOME/.config}/containers/systemd

case $1 in
  # beside the model, with its settings and on another port
  start)
    sed -e 's/^ContainerName=.*/ContainerName=model-canary/' -e 's/^PublishPort=.*/PublishPort=127.0.0.1:3002:3000/' \
      model.container >"$units/model-canary.container"
    [ ! -d "$units/model.container.d" ] || cp -R "$units/model.container.d/." "$units/model-canary.container.d"
    systemctl --user daemon-reload
    systemctl --user start model-canary
    ;;
  replace)
    cp model.container "$units/model.container"
    systemctl --user daemon-reload
    systemctl --user restart model
    ;;
  stop)
    systemctl --user stop model-canary
    rm -rf "$units/model-canary.container" "$units/model-canary.container.d"
    systemctl --user daemon-reload
    ;;
esac
