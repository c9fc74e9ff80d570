"""Find the step that prevents a model from being fitted, and check that fitted steps transform each row on its own.

A service transforms one row at a time. With a step that uses other rows of a batch, changes their number, or is not
deterministic, the predictions of the service would differ from the evaluated ones.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from mlops.core import hooks
from mlops.core.errors import UserError
from mlops.core.settings import PARAMS, Settings

# Training rows for the checks: transformed together, transformed one by one, and for two fits of a step
ROWS, ROWS_ALONE, ROWS_FITTED = 20, 5, 500
UNSEEN = "a word that nobody has seen"
# In standard deviations of a column; the same tolerance as for the exported model
TOLERANCE = 1e-5

# scikit-learn keeps every column in this case, and only warns
TOO_MANY = (r"k=\d+ is greater than n_features", r"Found n_features_to_select=\d+ > n_features")


class Part(NamedTuple):
    """A fitted step of a model: its name, its transformer, and its input rows."""

    key: str
    transformer: Any
    rows: Any


def filter_warnings() -> None:
    """Turn the warning of a selector that should keep more columns than exist into an error."""
    for message in TOO_MANY:
        warnings.filterwarnings("error", message=message)
    # its random_state is set, because each run would shuffle differently otherwise
    warnings.filterwarnings("ignore", message="`TargetEncoder.shuffle` and")


def fit_error(settings: Settings, model: Any, X: Any, y: Any, error: Exception, what: str) -> UserError:
    """The error for a model that cannot be fitted; it names the failing step, if there is one.

    Parameters
    ----------
    model : estimator
        Unfitted.
    error : Exception
        The error that `fit` raised.
    what : str
        What cannot be fitted if no step fails.
    """
    from sklearn.base import clone

    unexplained = UserError(f"{hooks.raised_at(error) or PARAMS}: {what} cannot be fitted: {error}")
    pipeline = getattr(model, "estimator", model)  # inside a FixedThresholdClassifier
    preprocessing = pipeline["preprocessing"]
    chains = [
        (transformer.steps, None, X[columns])
        for name, transformer, columns in preprocessing.transformers
        if name.startswith("step ")
    ]
    try:
        for steps, after, rows in chains:
            _fit(settings, steps, after, rows, y)
        try:
            matrix = clone(preprocessing).fit_transform(X, y)
        except Exception:  # not a step
            return unexplained
        _fit(settings, pipeline.steps[1:-1], pipeline["estimator"], matrix, y)
    except UserError as problem:
        return problem
    return unexplained


def _fit(settings: Settings, steps: list[tuple[str, Any]], after: Any, rows: Any, y: Any) -> None:
    """Fit steps in order, and raise an error at the first that fails."""
    from scipy.sparse import issparse
    from sklearn.base import clone
    from sklearn.utils import get_tags

    following = [*(transformer for _, transformer in steps), after][1:]
    for (key, transformer), next_one in zip(steps, following, strict=True):
        try:
            copy = clone(transformer)
            found = copy.fit_transform(rows, y) if hasattr(copy, "fit_transform") else copy.fit(rows, y).transform(rows)
        except Exception as error:  # transformers from anywhere may raise any exception
            text = str(error).splitlines()[0] if str(error) else type(error).__name__
            text = text.split(". ")[0] if isinstance(error, Warning) else text
            hint = "a step sklearn.impute.SimpleImputer before it" if "NaN" in text else ""
            raise _problem(settings, key, f"cannot be fitted: {text}", hint) from None
        if _length(found) != _length(rows):
            raise _problem(
                settings, key, f"turns {_length(rows):,} rows into {_length(found):,}, but must keep them all"
            )
        if issparse(found) and next_one is not None and not get_tags(next_one).input_tags.sparse:
            dense = {"encode": "onehot-dense", "sparse_output": "false", "sparse": "false"}
            hint = next((f"params: {{{name}: {value}}}" for name, value in dense.items() if hasattr(copy, name)), "")
            problem = f"returns a sparse matrix, which {type(next_one).__name__} does not accept"
            raise _problem(settings, key, problem, hint)
        rows = found


def check_steps(settings: Settings, model: Any, X: Any, y: Any) -> None:
    """Check that each fitted step is deterministic, and transforms a row alone as it does in a batch.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_features)
        The training rows, of which few are used.

    Raises
    ------
    UserError
        With the step and the size of the difference.
    """
    if not settings.model.steps:
        return
    pipeline = getattr(model, "estimator_", model)
    _check_unseen(settings, pipeline, X.iloc[:1])
    chosen = np.sort(np.random.default_rng(0).permutation(len(X))[:ROWS_FITTED])
    for part in parts(pipeline, X.iloc[chosen[:ROWS]]):
        _check_rows(settings, part)
    for part in parts(pipeline, X.iloc[chosen]):
        if not type(part.transformer).__module__.startswith("sklearn."):  # those are seeded
            _check_fit(settings, part, y[chosen])


def parts(pipeline: Any, X: Any) -> Iterator[Part]:
    """The fitted steps of a model, with their inputs for some rows."""
    preprocessing = pipeline["preprocessing"]
    for name, chain, columns in preprocessing.transformers_:
        if name.startswith("step "):
            rows = X[columns]
            for key, transformer in chain.steps:
                yield Part(key, transformer, rows)
                rows = transformer.transform(rows)
    if len(pipeline.steps) > 2:
        rows = preprocessing.transform(X)
        for key, transformer in pipeline.steps[1:-1]:
            yield Part(key, transformer, rows)
            rows = transformer.transform(rows)


def _check_unseen(settings: Settings, pipeline: Any, row: Any) -> None:
    """Check that the first step for columns accepts categories that no training row has."""
    for name, chain, columns in pipeline["preprocessing"].transformers_:
        if not name.startswith("step ") or isinstance(columns, str):
            continue
        texts = [column for column in columns if row[column].dtype.kind not in "fiubM"]
        key, first = chain.steps[0]
        try:
            if texts:
                first.transform(row[columns].assign(**dict.fromkeys(texts, UNSEEN)))
        except Exception as error:  # transformers of other packages may raise any exception
            hint = "params: {handle_unknown: ignore}" if hasattr(first, "handle_unknown") else ""
            if type(first).__name__ == "OrdinalEncoder":
                hint = "params: {handle_unknown: use_encoded_value, unknown_value: -1}"
            problem = f"refuses a category that no training row has: {str(error).splitlines()[0]}"
            raise _problem(settings, key, problem, hint) from None


def _check_rows(settings: Settings, part: Part) -> None:
    count = _length(part.rows)
    together = part.transformer.transform(part.rows)
    if _length(together) != count:
        problem = f"turns {count:,} rows into {_length(together):,}, but must keep them all"
        raise _problem(settings, part.key, problem)
    if difference(together, part.transformer.transform(part.rows)) > 0:
        raise _problem(settings, part.key, "returns different values for the same rows each time")
    for place in range(min(ROWS_ALONE, count)):
        row = slice(place, place + 1)
        try:
            alone = part.transformer.transform(_taken(part.rows, row))
        except Exception as error:  # transformers of other packages may raise any exception
            raise _problem(settings, part.key, f"cannot transform a row alone: {str(error).splitlines()[0]}") from None
        far = difference(together, alone, row)
        if far > TOLERANCE:
            size = f"by {far:.2g} standard deviations" if np.isfinite(far) else "or columns"
            problem = f"returns different values ({size}) for a row alone than for the same row in a batch"
            raise _problem(settings, part.key, problem, "use only what fit has stored, not statistics of the batch")


def _check_fit(settings: Settings, part: Part, y: Any) -> None:
    from sklearn.base import clone

    try:
        first, second = (clone(part.transformer).fit(part.rows, y).transform(part.rows) for _ in range(2))
    except Exception:  # few rows may not suffice for a fit; the fit on all rows has succeeded
        return
    if difference(first, second) > TOLERANCE:
        problem = "is not deterministic: two fits on the same rows differ"
        raise _problem(settings, part.key, problem, "a parameter random_state, which is set to 0 by default")


def difference(together: Any, other: Any, rows: slice = slice(None)) -> float:
    """The largest difference of rows, in standard deviations of a column; infinite for different shapes or texts."""
    whole = _array(together)
    ours, theirs = whole[rows], _array(other)
    if ours.shape != theirs.shape:
        return np.inf
    if ours.dtype.kind not in "fiub":
        return (
            0.0 if all(a == b or (a != a and b != b) for a, b in zip(ours.flat, theirs.flat, strict=True)) else np.inf
        )
    whole, ours, theirs = (values.astype(np.float64) for values in (whole, ours, theirs))
    same = (ours == theirs) | (np.isnan(ours) & np.isnan(theirs))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a column without any value
        unit = np.nanstd(whole, axis=0)
    unit = np.where(np.isfinite(unit) & (unit > 0), unit, 1.0)
    found = np.where(same, 0.0, np.abs(ours - theirs) / unit)
    return float(np.max(np.where(np.isnan(found), np.inf, found), initial=0.0))


def _array(values: Any) -> np.ndarray[Any, Any]:
    return np.asarray(values.toarray() if hasattr(values, "toarray") else values)


def _taken(rows: Any, which: slice) -> Any:
    return rows.iloc[which] if hasattr(rows, "iloc") else rows[which]


def _length(rows: Any) -> int:
    return int(rows.shape[0]) if hasattr(rows, "shape") else len(rows)


def _problem(settings: Settings, key: str, problem: str, hint: str = "") -> UserError:
    steps = settings.model.steps
    place = next((place for place, step in enumerate(steps) if step.key == key), None)
    where = "model.steps" if place is None else f"model.steps.{place}"
    return UserError(f"{PARAMS}: {where}: {key} {problem}", hint)
