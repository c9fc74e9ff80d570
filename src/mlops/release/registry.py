"""`make release-register`: the released model as a version in MLflow's registry, with the alias champion.

The version belongs to the run of its training, found by the model's hash and taken only if its file has that hash.
Where nobody has recorded that training, it is recorded now. Run again, it finds its own version.
"""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from mlops import lineage, modelfile
from mlops import settings as settings_module
from mlops.pipeline import track  # sets what MLflow must be told before it is imported
from mlops.provenance import Release
from mlops.release.deploy import REFERENCE
from mlops.release.identity import identify
from mlops.release.tag import parse
from mlops.stage import UserError, errors_in_words

ALIAS = "champion"
VARIABLE = "MLFLOW_TRACKING_URI"
MOST_RUNS = 50


def register(release: Release, reference: str, name: str, champion: bool = True) -> str:
    """Enter a release into the registry, and return its version there.

    Parameters
    ----------
    release : Release
        What was released; the files here are the ones that it names.
    reference : str
        Its image, `name@sha256:…`.
    name : str
        Of the registered model.
    champion : bool, default=True
        Whether the alias is to point at it; a release candidate gets none.
    """
    import mlflow

    client = mlflow.MlflowClient()
    tags = {
        "version": release.version,
        "commit": release.commit,
        "model_md5": release.model_md5,
        "service_md5": release.service_md5,
        "image": reference,
    }
    there = [each.name for each in client.search_registered_models(f"name = '{name}'")]
    known = client.search_model_versions(f"name = '{name}'") if there else []
    same = [each for each in known if all(each.tags.get(key) == tags[key] for key in ("commit", "model_md5"))]
    if same:
        version = str(min(int(each.version) for each in same))
        for key, value in tags.items():
            client.set_model_version_tag(name, version, key, value)
    else:
        run = find_run(release) or record(release)
        version = str(mlflow.register_model(f"runs:/{run}/model", name, tags=tags).version)
    if champion:
        client.set_registered_model_alias(name, ALIAS, version)
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
            file = Path(path) / modelfile.MODEL.name
            if file.is_file() and lineage.md5(file) == release.model_md5:
                return str(run.info.run_id)
    return None


def record(release: Release) -> str:
    """Record the training that the files here are the outcome of, as the stage `track` does."""
    settings = settings_module.load()
    evaluation = json.loads(lineage.EVALUATION.read_text(encoding="utf-8"))
    facts = {
        "params": track.parameters(settings),
        "metrics": track.numbers(evaluation, release.model_md5),
        "tags": {"commit": release.commit, **track.hashes()},
    }
    return track.record(settings, facts)


def main(environment: Mapping[str, str] = os.environ) -> None:
    missing = [name for name in ("REFERENCE", "GITHUB_REF_NAME") if not environment.get(name)]
    if missing:
        raise UserError(f"not set in the environment: {', '.join(missing)}", "leave this to the workflow `release`")
    reference, tag = environment["REFERENCE"], environment["GITHUB_REF_NAME"]
    if not REFERENCE.fullmatch(reference):
        raise UserError(f"REFERENCE is no name@sha256:…: {reference!r}")
    candidate = parse(tag).is_candidate
    release = identify().model_copy(update={"version": tag.removeprefix("v")})
    import mlflow.exceptions

    name = environment.get("GITHUB_REPOSITORY", "").rpartition("/")[2] or "model"
    uri = os.environ[VARIABLE]
    credentials = urlsplit(uri).netloc.rpartition("@")[0]
    try:
        version = register(release, reference, name, champion=not candidate)
    except (mlflow.exceptions.MlflowException, OSError) as error:
        problem: Any = (str(error).splitlines() or [type(error).__name__])[0]
        problem = problem.replace(f"{credentials}@", "") if credentials else problem
        raise UserError(
            f"MLflow has not taken the model: {problem[:500]}", f"check {VARIABLE}; run the job again"
        ) from None
    print(f"{tag} is version {version} of {name} in MLflow" + ("" if candidate else f", and its {ALIAS}"))


if __name__ == "__main__":
    with errors_in_words():
        main()
