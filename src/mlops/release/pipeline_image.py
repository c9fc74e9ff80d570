"""`make pipeline-image`: the image of this commit in which a platform runs the stages of `dvc.yaml`.

It holds the files of the commit and the packages of `uv.lock`, without the development group. As for the image of a
release, all is installed here and the Containerfile only adds archives, so the base needs neither Git nor uv. No stage
and none of the team's code runs here, so the workflow that pushes the image may hold a token.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from mlops.core.errors import UserError, errors_in_words
from mlops.core.git import dirty, git
from mlops.release import builder as tools
from mlops.release import dependencies, publish
from mlops.release.archive import pack, precompile
from mlops.release.place import place

SOURCES = Path("deploy/pipelines")
CONTEXT = Path("build/pipeline-image")
HOME = "opt/pipeline"
PLATFORM = "linux/amd64"  # the one on which `dvc.lock` is the same everywhere


def main(publishing: bool, environment: Mapping[str, str] = os.environ) -> None:
    commit = git("rev-parse", "HEAD")
    if not publishing:
        build(commit, environment.get("BASE_IMAGE"))
        if target := environment.get("PUSH"):
            push(commit, target)
        return
    missing = [name for name in ("GITHUB_ACTOR", "GITHUB_REPOSITORY", "GITHUB_TOKEN") if not environment.get(name)]
    if missing:
        raise UserError(
            f"missing environment variables: {', '.join(missing)}", "make pipeline-image PUSH=registry/name"
        )
    at = place(environment, tagged=False)
    target = f"{at.name}-pipeline"
    with publish.signed_in(at):
        pushed = push(commit, target)
    if summary := environment.get("GITHUB_STEP_SUMMARY"):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(f"Image of the pipeline, for `{SOURCES}/settings.yaml`:\n\n```yaml\nimage: {pushed}\n```\n")


def build(commit: str, base: str | None) -> None:
    """Build the image of a commit under the name that `push` knows."""
    if dirty():
        print("note: uncommitted changes are ignored; the image holds the commit")
    builder = tools.find()
    shutil.rmtree(CONTEXT, ignore_errors=True)
    requirements = dependencies.export_pipeline(CONTEXT / "requirements.txt")
    dependencies.install(requirements, CONTEXT / "dependencies", PLATFORM)
    precompile(CONTEXT / "dependencies", f"{HOME}/dependencies")
    unpack(commit, CONTEXT / "project")
    sizes = {}
    for name in ("dependencies", "project"):
        sizes[name] = pack(CONTEXT / name, f"{HOME}/{name}", CONTEXT / f"{name}.tar") / 1e6
        shutil.rmtree(CONTEXT / name)
    for name in ("Containerfile", "task.sh"):
        shutil.copyfile(SOURCES / name, CONTEXT / name)
    tools.build(
        builder,
        CONTEXT,
        tags=[_local(commit)],
        platform=PLATFORM,
        arguments={"COMMIT": commit, **({"BASE_IMAGE": base} if base else {})},
        labels={"org.opencontainers.image.title": "model pipeline", "org.opencontainers.image.revision": commit},
    )
    print(
        f"image {_local(commit)}, by {builder}: {', '.join(f'{name} {size:,.0f} MB' for name, size in sizes.items())}"
    )


def push(commit: str, target: str) -> str:
    """Push the image of a commit to ``registry/name``, and return ``registry/name@sha256:…``."""
    digest = tools.push(tools.find(), _local(commit), f"{target}:commit-{commit}")
    pushed = f"{tools.repository(target)}@{digest}"
    print(f"pushed: {pushed}")
    print(f"next: write it into {SOURCES}/settings.yaml as image, and run make platform")
    return pushed


def _local(commit: str) -> str:
    return f"model-pipeline:{commit[:12]}"


def unpack(commit: str, folder: Path) -> None:
    """Write the files of a commit into a folder, and let DVC work there without Git."""
    folder.mkdir(parents=True)
    archive = subprocess.run(["git", "archive", "--format=tar", commit], capture_output=True, check=False)
    if archive.returncode:
        raise UserError(f"git archive failed: {archive.stderr.decode(errors='replace').strip()}")
    subprocess.run(["tar", "--extract", "--directory", str(folder)], input=archive.stdout, check=True)
    (folder / ".dvc/config.local").write_text("[core]\n    no_scm = true\n", encoding="utf-8")


if __name__ == "__main__":
    with errors_in_words():
        main(publishing=sys.argv[1:] == ["publish"])
