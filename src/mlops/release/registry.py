"""Models as versions in MLflow's registry: `challenger` is what main holds, `champion` what was released last.

`make register` enters the model of a merge, `make release-register` that of a tag. The version belongs to the run of
its training, found by the model's hash and taken only if its file has that hash. Where nobody has recorded that
training, it is recorded now. Run again, it finds its own version.
"""

from __future__ import annotations

import json
import os
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlops.core import files, paths
from mlops.core import settings as settings_module
from mlops.core.errors import UserError, errors_in_words
from mlops.core.lock import outputs, read_lock
from mlops.inference.provenance import Release
from mlops.model import tracking  # sets environment variables that MLflow reads when it is imported
from mlops.release.deploy import REFERENCE
from mlops.release.identity import identify
from mlops.release.tag import parse

CHAMPION, CHALLENGER = "champion", "challenger"
VARIABLE = "MLFLOW_TRACKING_URI"
RELEASE_ONLY = ("REFERENCE", "GITHUB_REF_NAME")
MOST_RUNS = 50


def register(release: Release, name: str, alias: str | None, image: str | None = None) -> str:
    """Enter a model into the registry, and return its version there.

    A release takes over the version that its model got at the merge. Releases of the same model from other commits
    are versions of their own.

    Parameters
    ----------
    release : Release
        What is here; the files are the ones that it names.
    name : str
        Of the registered model.
    alias : str or None
        What is to point at the version; a release candidate gets none.
    image : str or None
        Of a release, `name@sha256:…`; None at a merge.
    """
    import mlflow

    client = mlflow.MlflowClient()
    tags = {"commit": release.commit, "model_md5": release.model_md5, "service_md5": release.service_md5}
    if image:
        tags |= {"version": release.version, "image": image}
    there = [each.name for each in client.search_registered_models(f"name = '{name}'")]
    known = client.search_model_versions(f"name = '{name}'") if there else []
    same = [each for each in known if each.tags.get("model_md5") == release.model_md5]
    if image:
        same = [each for each in same if each.tags.get("commit") == release.commit or "image" not in each.tags]
    if same:
        version = str(max(int(each.version) for each in same))
        for key in tags if image else ():
            client.set_model_version_tag(name, version, key, tags[key])
    else:
        run = find_run(release) or record(release)
        version = str(mlflow.register_model(f"runs:/{run}/model", name, tags=tags).version)
    if alias:
        client.set_registered_model_alias(name, alias, version)
    return version


def find_run(release: Release) -> str | None:
    """The run that trained the model, if MLflow has one with the very file; that of the same commit before others."""
    import mlflow

    experiment = mlflow.get_experiment_by_name(os.environ["MLFLOW_EXPERIMENT_NAME"])
    if experiment is None:
        return None
    found = mlflow.MlflowClient().search_runs(
        [experiment.experiment_id],
        filter_string=f"tags.`model.md5` = '{release.model_md5}' and attributes.status = 'FINISHED'",
        max_results=MOST_RUNS,
        order_by=["attributes.start_time DESC"],
    )
    for run in sorted(found, key=lambda run: run.data.tags.get("commit") != release.commit):
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = mlflow.artifacts.download_artifacts(f"runs:/{run.info.run_id}/model", dst_path=folder)
            except (mlflow.exceptions.MlflowException, OSError):
                continue  # a run whose files were removed is no evidence; the next one may be
            file = Path(path) / paths.MODEL.name
            if file.is_file() and files.md5(file) == release.model_md5:
                return str(run.info.run_id)
    return None


def record(release: Release) -> str:
    """Record the training that the files here are the outcome of, as the stage `track` does."""
    settings = settings_module.load()
    evaluation = json.loads(paths.EVALUATION.read_text(encoding="utf-8"))
    facts = {
        "params": tracking.parameters(settings),
        "metrics": tracking.numbers(evaluation, release.model_md5),
        "tags": {"commit": release.commit, **hashes()},
    }
    return tracking.record(settings, facts)


def hashes() -> dict[str, str]:
    """What the training was about, as `track` records it, from `dvc.lock`: the tables are not needed here."""
    made = outputs(read_lock())
    return {f"{name}.md5": made[str(path)]["md5"] for name, path in tracking.TRACKED_FILES.items()}


def main(arguments: list[str], environment: Mapping[str, str] = os.environ) -> None:
    released = arguments == ["release"]
    missing = [name for name in RELEASE_ONLY if released and not environment.get(name)]
    if missing:
        raise UserError(f"missing environment variables: {', '.join(missing)}", "leave this to the workflow `release`")
    image = environment["REFERENCE"] if released else None
    if image and not REFERENCE.fullmatch(image):
        raise UserError(f"REFERENCE is not of the form name@sha256:…: {image!r}")
    release = identify()
    alias: str | None = CHALLENGER
    if released:
        tag = environment["GITHUB_REF_NAME"]
        release = release.model_copy(update={"version": tag.removeprefix("v")})
        alias = None if parse(tag).is_candidate else CHAMPION
    import mlflow.exceptions

    name = environment.get("GITHUB_REPOSITORY", "").rpartition("/")[2] or "model"
    credentials = urlsplit(environment[VARIABLE]).netloc.rpartition("@")[0]
    try:
        version = register(release, name, alias, image)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        problem: Any = (str(error).splitlines() or [type(error).__name__])[0]
        problem = problem.replace(f"{credentials}@", "") if credentials else problem
        raise UserError(
            f"MLflow did not accept the model: {problem[:500]}", f"check {VARIABLE}; run the job again"
        ) from None
    what = f"v{release.version}" if released else f"the model of {release.commit[:10]}"
    print(f"{what} is version {version} of {name} in MLflow" + (f", and its {alias}" if alias else ""))


if __name__ == "__main__":
    with errors_in_words():
        main(sys.argv[1:])
