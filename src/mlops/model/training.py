"""The training rows as an estimator takes them, for the search and for the fit."""

from __future__ import annotations

import contextlib
import ctypes
import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import pyarrow as pa

from mlops.core import paths
from mlops.core.settings import Settings
from mlops.data import features, tables
from mlops.data import project as projects
from mlops.data.tables import Column
from mlops.model.estimators import check_estimator
from mlops.model.step_checks import filter_warnings

M_MMAP_THRESHOLD = -3  # in glibc's malloc.h


class Training(NamedTuple):
    """What a model learns from.

    Attributes
    ----------
    settings : Settings
    columns : list of Column
        The features.
    X : DataFrame of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    order : ndarray of shape (n_samples,) or None
        Each row's group or time, where the split goes by one.
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
    table = tables.read(paths.TRAIN)
    features.check(table, project.features, project.source)
    table = project.append(table)
    # a column without any value teaches nothing, and some estimators fail on it
    columns = [column for column in project.columns if table[column.name].null_count < table.num_rows]
    by = settings.split.group or settings.split.time
    order = table[by].to_numpy() if by else None
    return Training(settings, columns, project.X(table, columns), project.y(table), order)


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
    """Give memory back as soon as a table is freed; at millions of rows it decides whether a model fits."""
    pa.set_memory_pool(pa.system_memory_pool())
    # glibc would keep freed arrays below 32 MiB
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)
