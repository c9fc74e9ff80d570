"""Gradient boosting that trains on a Dask cluster: LightGBM's own estimators for it, by name.

`lightgbm.DaskLGBMClassifier` and `lightgbm.DaskLGBMRegressor` hold the training rows in the workers' memory together,
each worker its partitions. Preprocessing is fitted on a sample and applied by partition. The model file holds the local
form of the estimator, which needs no cluster.
"""

from __future__ import annotations

import os
import re
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from mlops.core import cluster, paths
from mlops.core.errors import UserError, described
from mlops.core.settings import PARAMS, Settings
from mlops.data import project as projects
from mlops.data import tables
from mlops.data.parts import Parts
from mlops.data.project import Project
from mlops.data.tables import Column
from mlops.model.estimators import check_estimator, make_model

# Rows on which preprocessing is fitted: the share of a category is known to 0.1 %
PREPARED_ON = 250_000
# What the workers tell one another, which LightGBM keeps in the model
PLACES = ("machines", "local_listen_port", "num_machines", "time_out")


def is_distributed(settings: Settings) -> bool:
    """Whether the estimator trains on a cluster."""
    return settings.model.estimator.startswith("lightgbm.Dask")


def check(settings: Settings) -> None:
    """Refuse what such an estimator cannot be asked for.

    Raises
    ------
    UserError
        With what to do instead.
    """
    name = settings.model.estimator
    local = name.replace("Dask", "")
    if settings.tuning:
        raise UserError(f"{PARAMS}: tuning: {name} is not searched", f"search with {local} and model.training_rows")
    if settings.model.threshold is not None:
        raise UserError(f"{PARAMS}: model.threshold: {name} has none", local)
    if settings.model.training_rows is not None:
        raise UserError(f"{PARAMS}: model.training_rows: {name} trains on all rows", f"remove it, or {local}")
    if cluster.address() is None:
        hint = f"export {cluster.ADDRESS}=tcp://…, or {local}, with model.training_rows where the table is too large"
        why = f"{name} trains on a Dask cluster, and ${cluster.ADDRESS} is not set"
        raise UserError(f"{PARAMS}: model.estimator: {why}", hint)
    if not paths.TRAIN.is_dir():
        raise UserError(f"{PARAMS}: model.estimator: {name} trains on partitions, and data.source is one table", local)


def fit(settings: Settings) -> tuple[Any, int, int]:
    """Fit the model; gives it with the numbers of rows and columns.

    Partitions go to the workers in turn. Two runs on several workers differ, because Dask may move them.

    Raises
    ------
    UserError
        Where LightGBM or the cluster fails; a worker that dies ends the training.
    """
    check(settings)
    check_estimator(settings)
    project = projects.open()
    train = Parts(paths.TRAIN, project.append)
    sample = tables.some(train, PREPARED_ON)
    columns = [column for column in project.columns if sample[column.name].null_count < sample.num_rows]
    model = make_model(settings, columns, {})
    preparing = model[:-1].fit(project.X(sample, columns), project.y(sample))
    width = preparing.transform(project.X(sample.slice(0, 1), columns)).shape[1]
    client = cluster.connected()
    workers = sorted(client.scheduler_info(n_workers=-1)["workers"])
    matrix = partial(_matrix, str(Path.cwd()), project, columns, preparing, train)
    files = [(file, rows) for file, rows in zip(train.files, train.rows, strict=True) if rows]
    if len(files) < len(workers):
        raise UserError(f"{paths.TRAIN} has {len(files)} partitions for {len(workers)} workers", "fewer workers")
    held = [
        client.submit(matrix, file, workers=[workers[number % len(workers)]], pure=False)
        for number, (file, _) in enumerate(files)
    ]
    X, y = (_array(held, [rows for _, rows in files], place, width if place == 0 else None) for place in (0, 1))
    estimator = model[-1].set_params(client=client)
    try:
        estimator.fit(X, y)
    except Exception as error:  # LightGBM, Dask and the network raise anything
        raise UserError(
            f"{PARAMS}: model: the training of {settings.model.estimator} failed: {described(error)}",
            "the same command again, if a worker died, which LightGBM does not survive; else the workers' own log",
        ) from None
    model.steps[-1] = (model.steps[-1][0], _without_places(estimator.to_local()))
    return model, train.num_rows, len(columns)


def _without_places(local: Any) -> Any:
    """The local estimator with its attributes sorted, without the addresses and ports at which its workers met."""
    booster = local.booster_
    text = re.sub(rf"^\[(?:{'|'.join(PLACES)}):.*\]\n", "", booster.model_to_string(), flags=re.MULTILINE)
    booster.model_from_string(text)
    for known in (vars(local), local._other_params, booster.params):
        # LightGBM copies attributes in the order of a set
        kept = {name: known[name] for name in sorted(known) if name not in PLACES}
        known.clear()
        known.update(kept)
    return local


def _matrix(
    folder: str, project: Project, columns: list[Column], preparing: Any, train: Parts, file: Path
) -> tuple[Any, Any]:
    """Run by the worker: the features and the target of a partition."""
    os.chdir(folder)
    rows: pa.Table = train.read(file)
    return np.asarray(preparing.transform(project.X(rows, columns))), project.y(rows)


def _array(held: list[Any], rows: list[int], place: int, width: int | None) -> Any:
    """Features or target of all partitions as a Dask array, each where its partition is."""
    import dask.array
    from dask import delayed

    shapes = [(count,) if width is None else (count, width) for count in rows]
    # the type of labels matters to nobody
    kind = np.dtype(np.float64) if width else np.dtype(object)
    pieces = [
        dask.array.from_delayed(delayed(_piece)(future, place), shape, dtype=kind)
        for future, shape in zip(held, shapes, strict=True)
    ]
    return dask.array.concatenate(pieces)


def _piece(both: tuple[Any, Any], place: int) -> Any:
    return both[place]
