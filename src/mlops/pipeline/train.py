"""Stage `train`: fit the model that `params.yaml` names on the training rows, after a search where one is asked for.

Out come the model file and the list of trials.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import time
import warnings
from typing import Any

# read when Arrow is imported; its other pools keep what a freed table took
os.environ["ARROW_DEFAULT_MEMORY_POOL"] = "system"

from mlops import lineage, modelfile, tables
from mlops import settings as settings_module
from mlops.estimators import check_estimator, make_model
from mlops.stage import UserError, run, write_json

M_MMAP_THRESHOLD = -3  # in glibc's malloc.h


def main() -> str:
    # glibc would keep freed arrays below 32 MiB, which are many where a table has millions of rows
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 1 << 20)
    settings = settings_module.load()
    catalogue = tables.read_catalogue()
    settings_module.check_columns(settings, catalogue.names, prepared=True)
    check_estimator(settings)
    columns = tables.feature_columns(settings, catalogue)
    table = tables.read(tables.TRAIN)
    # a column without any value here teaches nothing, and not every estimator bears it
    columns = [column for column in columns if table[column.name].null_count < table.num_rows]
    X, y = tables.features(table, columns), tables.target(table, settings)
    by = settings.split.group or settings.split.time
    order = table[by].to_numpy() if by else None
    del table  # X holds all that is needed; at millions of rows the difference counts
    start = time.perf_counter()
    tuned: dict[str, Any] = {}
    trials: list[dict[str, Any]] = []
    if settings.tuning:
        from mlops.tuning import tune
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        if settings.tuning:
            tuned, trials = tune(X, y, settings, columns, order)
        model = make_model(settings, columns, tuned)
        try:
            model.fit(X, y)
        except OSError:
            raise
        except Exception as error:  # estimators from anywhere raise anything
            raise UserError(f"params.yaml: model: {settings.model.estimator} cannot be fitted: {error}") from None
    for message in {str(warning.message).splitlines()[0]: None for warning in caught}:
        print(f"  warning: {message}", flush=True)
    seconds = time.perf_counter() - start
    modelfile.save(model, settings)
    write_json(trials, lineage.TRIALS)
    lineage.note("train", lineage.md5(modelfile.MODEL), seconds=round(seconds, 3), rows=len(y))
    searched = f" after {len(trials)} trials" if trials else ""
    return f"{settings.model.estimator} on {len(y):,} rows × {len(columns):,} columns{searched} → {modelfile.MODEL}"


if __name__ == "__main__":
    run("train", main)
