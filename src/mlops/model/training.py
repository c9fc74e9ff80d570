"""Training rows in the form that an estimator takes, for the search and the fit."""

from __future__ import annotations

import contextlib
import ctypes
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.core.settings import Settings
from mlops.data import features, parts, tables
from mlops.data import project as projects
from mlops.data.tables import Column
from mlops.model.estimators import check_estimator
from mlops.model.step_checks import filter_warnings

M_MMAP_THRESHOLD = -3  # in glibc's malloc.h


class Training(NamedTuple):
    """Training data of a model.

    Attributes
    ----------
    settings : Settings
    columns : list of Column
        The features.
    X : DataFrame of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    order : ndarray of shape (n_samples,) or None
        Group or time of every row, if the split uses one.
    """

    settings: Settings
    columns: list[Column]
    X: Any
    y: Any
    order: Any


def read() -> Training:
    """Read and check the settings, the team's features and the training rows."""
    _return_freed_memory()
    project = projects.open()
    settings = project.settings
    check_estimator(settings)
    table = rows(settings)
    features.check(table, project.features, project.source)
    table = project.append(table)
    # a column without values is useless, and some estimators fail on it
    columns = [column for column in project.columns if table[column.name].null_count < table.num_rows]
    by = settings.split.group or settings.split.time
    order = table[by].to_numpy() if by else None
    return Training(settings, columns, project.X(table, columns), project.y(table), order)


def rows(settings: Settings) -> pa.Table:
    """The training rows, or the sample of them that `model.training_rows` asks for."""
    most = settings.model.training_rows
    return tables.read(paths.TRAIN) if most is None else parts.some(paths.TRAIN, most)


def folds(y: Any, settings: Settings, order: Any, number: int = 5, seed: int = 0) -> list[tuple[Any, Any]]:
    """Pairs of row numbers for training and validation; every class is in every training part.

    Parameters
    ----------
    order : ndarray of shape (n_samples,) or None
        Group or time of every row, if the split uses one.
    """
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold, TimeSeriesSplit

    rows = np.arange(len(y))
    classify = settings.data.task == "classification"
    try:
        if settings.split.method == "time":
            ranked = np.argsort(np.asarray(order), kind="stable")
            found = [(ranked[a], ranked[b]) for a, b in TimeSeriesSplit(number).split(ranked)]
        elif settings.split.method == "group":
            found = list(GroupKFold(number).split(rows, y, order))
        else:
            if classify and np.unique(y, return_counts=True)[1].min() < number:
                raise ValueError("the smallest class has fewer training rows than there are folds")
            splitter = StratifiedKFold if classify else KFold
            found = list(splitter(number, shuffle=True, random_state=seed).split(rows, y))
        for place, (train, _) in enumerate(found, 1):
            absent = np.setdiff1d(y, y[train]) if classify else y[:0]
            if len(absent):
                raise ValueError(f"class {absent[0].item()!r} has no training row in fold {place}")
    except ValueError as error:
        raise UserError(f"params.yaml: tuning.folds: {number}: {error}", "fewer folds") from None
    return found


@contextlib.contextmanager
def warnings_once() -> Iterator[None]:
    """Print each warning of the block once, in one line; a selector that is to keep too many columns is an error."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        filter_warnings()
        yield
    for message in {str(warning.message).splitlines()[0]: None for warning in caught}:
        print(f"  warning: {message}", flush=True)


def _return_freed_memory() -> None:
    """Return memory to the system as soon as a table is freed, which large tables need."""
    pa.set_memory_pool(pa.system_memory_pool())
    # glibc keeps freed arrays below 32 MiB otherwise
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)
