"""Which input each column of the preprocessed matrix was made of, so that contributions can be summed by input."""

from __future__ import annotations

from typing import Any

import numpy as np

from mlops.inference.columns import date_parts, filled, time_parts
from mlops.inference.explanation import UnexplainedError

# what each function makes of one column; those of NumPy work on each value
PARTS: dict[Any, int] = {None: 1, filled: 1, date_parts: 4, time_parts: 3}
PARTS |= dict.fromkeys((np.log1p, np.log, np.exp, np.sqrt, np.abs), 1)


def sources(pipeline: Any) -> list[str]:
    """The input of each column of the matrix that the estimator takes.

    Parameters
    ----------
    pipeline : sklearn.pipeline.Pipeline
        As `estimators.make_model` makes it, fitted.

    Raises
    ------
    UnexplainedError
        Names the step that combines columns.
    """
    preprocessing = pipeline["preprocessing"]
    found: list[str] = [""] * sum(places.stop - places.start for places in preprocessing.output_indices_.values())
    for name, transformer, columns in preprocessing.transformers_:
        if name == "remainder" or transformer == "drop":
            continue
        places = preprocessing.output_indices_[name]
        given = [columns] if isinstance(columns, str) else list(columns)
        alone = len(set(given)) == 1
        found[places] = given[:1] * (places.stop - places.start) if alone else through(transformer, given, name)
    for name, step in pipeline.steps[1:-1]:
        found = through(step, found, f"the step {name}")
    return found


def through(transformer: Any, given: list[str], name: str) -> list[str]:
    """The inputs of a transformer's output, from those of what it takes.

    Raises
    ------
    UnexplainedError
        If a column of the output is made of more than one, or this is not known.
    """
    from sklearn import impute, preprocessing
    from sklearn.feature_selection import SelectorMixin

    if isinstance(transformer, str):  # passthrough
        return given
    if hasattr(transformer, "steps"):
        for _, step in transformer.steps:
            given = through(step, given, name)
        return given
    if isinstance(transformer, SelectorMixin):
        return [given[place] for place in transformer.get_support(indices=True)]
    if isinstance(transformer, impute.SimpleImputer):
        marked = [] if transformer.indicator_ is None else transformer.indicator_.features_
        kept = transformer.keep_empty_features or not _empty(transformer.statistics_)
        if kept:
            return [*given, *(given[place] for place in marked)]
    if isinstance(transformer, preprocessing.OneHotEncoder):
        return _repeated(given, transformer._n_features_outs)
    if isinstance(transformer, preprocessing.FunctionTransformer) and transformer.func in PARTS:
        return _repeated(given, [PARTS[transformer.func]] * len(given))
    if isinstance(transformer, preprocessing.KBinsDiscretizer):
        return given if transformer.encode == "ordinal" else _repeated(given, transformer.n_bins_)
    by_column = (
        preprocessing.Binarizer,
        preprocessing.MaxAbsScaler,
        preprocessing.MinMaxScaler,
        preprocessing.OrdinalEncoder,
        preprocessing.PowerTransformer,
        preprocessing.QuantileTransformer,
        preprocessing.RobustScaler,
        preprocessing.StandardScaler,
    )
    if isinstance(transformer, by_column):
        return given
    raise UnexplainedError(f"{name} ({type(transformer).__name__}) combines columns")


def _empty(statistics: Any) -> bool:
    return any(value is None or value != value for value in statistics)


def _repeated(given: list[str], times: Any) -> list[str]:
    return [name for name, count in zip(given, times, strict=True) for _ in range(int(count))]
