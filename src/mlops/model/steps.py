"""The steps that learn, `model.steps` in `params.yaml`: from settings to transformers, and to their place in the model.

A step without `columns` stands between preprocessing and estimator and takes the whole matrix. One with `columns`
stands in the preprocessing, in the place of what these columns would get by default.
"""

from __future__ import annotations

import inspect
from itertools import groupby
from typing import Any

from mlops.core.errors import UserError
from mlops.core.settings import PARAMS, Settings, Step
from mlops.core.yamlfile import closest
from mlops.data.tables import Column
from mlops.inference.columns import filled
from mlops.model.objects import create, imported

Made = list[tuple[Step, Any]]
"""Each step with its transformer."""

METHODS = ("fit", "transform", "get_params", "__sklearn_tags__")


def make_steps(settings: Settings, tuned: dict[str, Any], key: str | None = None) -> Made:
    """The transformers with their parameters, checked; a `random_state` that was left open is set to 0.

    Parameters
    ----------
    tuned : dict
        Parameters that the tuning tries, by the names of `tuning.space`; those of the estimator are left alone.
    key : str, optional
        What an error names where scikit-learn refuses a value; by default the step's parameters.
    """
    made = []
    for place, step in enumerate(settings.model.steps):
        at = f"model.steps.{place}"
        found = imported(step.transformer, f"{at}.transformer")
        _check_transformer(found, step, f"{at}.transformer")
        own = {
            name.partition("__")[2]: (name, value) for name, value in tuned.items() if step_of(settings, name) is step
        }
        params = {**step.params, **{name: value for name, (_, value) in own.items()}}
        keys = dict.fromkeys(params, f"{at}.params") | {name: f"tuning.space.{full}" for name, (full, _) in own.items()}
        checked = key if key and own else f"{at}.params"
        made.append((step, create(found, step.transformer, f"{at}.transformer", params, keys, checked)))
    return made


def _check_transformer(found: Any, step: Step, key: str) -> None:
    """Check that something is a class that learns to transform rows, and leaves their number as it is."""
    path = step.transformer
    if inspect.isclass(found) and all(hasattr(found, name) for name in METHODS):
        return
    problem, hint = "is not a transformer of scikit-learn's API", "a class with the methods fit and transform"
    if hasattr(found, "fit_resample"):
        problem += ": it changes the number of rows, with fit_resample"
        hint = "model.params: {class_weight: balanced}, which weighs the rows instead"
    elif inspect.isclass(found) and hasattr(found, "fit_transform"):
        problem += ": it transforms only the rows that it was fitted on, and no new ones"
    elif inspect.isclass(found) and hasattr(found, "transform") and hasattr(found, "fit"):
        hint = "class Name(TransformerMixin, BaseEstimator), both of sklearn.base"
    raise UserError(f"{PARAMS}: {key}: {path} {problem}", hint)


def step_of(settings: Settings, name: str) -> Step | None:
    """The step that a name of `tuning.space` belongs to; None for a parameter of the estimator."""
    before, separator, _ = name.partition("__")
    return next((step for step in settings.model.steps if separator and step.key == before), None)


def check_step_name(settings: Settings, name: str, estimator: type) -> None:
    """Check that a tuned name with `__` in it is of a parameter inside the estimator, where it is of no step.

    Raises
    ------
    UserError
        Names the steps that there are.
    """
    before, separator, _ = name.partition("__")
    if not separator or before in inspect.signature(estimator).parameters:
        return
    steps = [step.key for step in settings.model.steps]
    there = closest(before, steps) if steps else "; model.steps is empty"
    raise UserError(f"{PARAMS}: tuning.space.{name}: there is no step {before!r}{there}")


def of_columns(settings: Settings, made: Made, columns: list[Column]) -> list[tuple[str, Any, str | list[str]]]:
    """The steps with columns, as entries of a `ColumnTransformer`; those with the same columns follow one another.

    Raises
    ------
    UserError
        Where a column is not among `columns`, or a step takes one column of text and is given several.
    """
    from sklearn.pipeline import Pipeline
    from sklearn.preprocessing import FunctionTransformer
    from sklearn.utils import get_tags

    known = {column.name for column in columns}
    some = sorted(
        ((step, transformer) for step, transformer in made if step.columns is not None),
        key=lambda each: first_place(settings, each[0]),
    )
    entries: list[tuple[str, Any, str | list[str]]] = []
    for names, group in groupby(some, key=lambda each: each[0].columns or []):
        chain = [(step.key, transformer) for step, transformer in group]
        at = f"model.steps.{[step.key for step in settings.model.steps].index(chain[0][0])}"
        for name in names:
            if name not in known:
                raise UserError(f"{PARAMS}: {at}.columns: {name!r} has no value in the training rows")
        whole: str | list[str] = names
        if not get_tags(chain[0][1]).input_tags.two_d_array:
            if len(names) > 1:
                problem = f"{type(chain[0][1]).__name__} takes one column of text, got {len(names)}"
                raise UserError(f"{PARAMS}: {at}.columns: {problem}", "a step for each column")
            whole = names[0]
            chain.insert(0, ("missing texts", FunctionTransformer(filled)))
        entries.append((f"step {' '.join(key for key, _ in chain)}", Pipeline(chain), whole))
    return entries


def first_place(settings: Settings, step: Step) -> int:
    """The place of the first step with the same columns."""
    return next(place for place, each in enumerate(settings.model.steps) if each.columns == step.columns)
