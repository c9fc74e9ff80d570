"""Training rows in the form that an estimator takes, for the search and the fit."""

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
    table = tables.read(paths.TRAIN)
    features.check(table, project.features, project.source)
    table = project.append(table)
    # a column without values is useless, and some estimators fail on it
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
    """Return memory to the system as soon as a table is freed, which large tables need."""
    pa.set_memory_pool(pa.system_memory_pool())
    # glibc keeps freed arrays below 32 MiB otherwise
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)
