# One task of a platform, in the image of `make pipeline-image`: sh /opt/pipeline/task STAGE --run NAME --graph HASH
set -eu
work=$(mktemp -d)
cp -R /opt/pipeline/project/. "$work"
cd "$work"
if ! command -v python >/dev/null; then # the stages of dvc.yaml say python
  mkdir "$work/.bin"
  ln -s "$(command -v python3)" "$work/.bin/python"
  export PATH="$work/.bin:$PATH"
fi
export PYTHONPATH="$work/src:/opt/pipeline/dependencies" PYTHONSAFEPATH=1 GX_ANALYTICS_ENABLED=false
exec python3 -m mlops.pipeline.platforms.task "$@"
