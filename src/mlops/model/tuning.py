"""Search for better parameters by cross-validation on the training rows: grid, random or Bayesian.

The folds follow the split: groups stay together, and validation follows training in time. Optuna proposes the trials,
with a fixed seed.
"""

from __future__ import annotations

from concurrent.futures import CancelledError
from typing import Any

import numpy as np
import optuna
from sklearn.model_selection import cross_val_score

from mlops.core import cluster
from mlops.core.errors import UserError
from mlops.core.settings import Interval, Settings, Tuning
from mlops.data.tables import Column
from mlops.model import metrics
from mlops.model.estimators import make_model
from mlops.model.resampling import Custom
from mlops.model.step_checks import fit_error
from mlops.model.training import folds


def tune(
    X: Any,
    y: metrics.Array,
    settings: Settings,
    columns: list[Column],
    order: metrics.Array | None,
    custom: Custom | None = None,
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Find the best parameters.

    Parameters
    ----------
    X : DataFrame of shape (n_samples, n_features)
    y : ndarray of shape (n_samples,)
    order : ndarray of shape (n_samples,) or None
        Group or time of every row, if the split uses one.
    custom : Custom, optional
        The project's own metrics, for these rows.

    Returns
    -------
    best : dict
        Parameters of the best trial; the earliest if several are equal.
    trials : list of dict
        Parameters, mean and standard deviation of the score over the folds (more is better), in order.
    """
    tuning = settings.tuning
    if tuning is None:
        return {}, []
    classes = (
        metrics.Classes.of(np.unique(y), settings.data.positive) if settings.data.task == "classification" else None
    )
    scorer = metrics.scorer(classes, tuning.metric, custom)
    parts = folds(y, settings, order, tuning.folds, tuning.seed)
    trials: list[dict[str, Any]] = []

    label = tuning.metric or ("rmse" if classes is None else "score")
    sign = 1 if metrics.greater_is_better(label, custom) else -1

    def objective(trial: optuna.Trial) -> float:
        tried = {name: _suggest(trial, name, values) for name, values in tuning.space.items()}
        model = make_model(settings, columns, tried)
        try:
            scores = cluster.again(lambda: cross_val_score(model, X, y, cv=parts, scoring=scorer, error_score="raise"))
        except (UserError, OSError, CancelledError):
            raise
        except Exception as error:  # estimators of other packages may raise any exception
            raise fit_error(settings, model, X, y, error, f"tuning.space: {tried}") from None
        if not np.isfinite(scores).all():
            fold = int(np.flatnonzero(~np.isfinite(scores))[0]) + 1
            raise UserError(
                f"params.yaml: tuning.metric: {label} is undefined on fold {fold} of {len(parts)} with one class only",
                "use metric: accuracy, or fewer folds",
            )
        # six decimals, so that rounding differences between machines do not change the search
        trials.append({"params": tried, "mean": round(float(scores.mean()), 6), "std": round(float(scores.std()), 6)})
        best = max(trial["mean"] for trial in trials)
        shown = ", ".join(f"{name}={value}" for name, value in tried.items())
        print(
            f"  trial {len(trials)}/{_n_trials(tuning)}: {shown}: "
            f"{label} {sign * trials[-1]['mean']:.4g} (best {sign * best:.4g})",
            flush=True,
        )
        return float(trials[-1]["mean"])

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    optuna.create_study(direction="maximize", sampler=_sampler(tuning)).optimize(objective, n_trials=_n_trials(tuning))
    return dict(max(trials, key=lambda trial: trial["mean"])["params"]), trials


def _n_trials(tuning: Tuning) -> int:
    if tuning.method == "grid":
        return int(np.prod([len(values) for values in tuning.space.values() if isinstance(values, list)]))
    return tuning.trials


def _sampler(tuning: Tuning) -> optuna.samplers.BaseSampler:
    if tuning.method == "grid":
        # values are suggested by their index, because Optuna accepts no lists or mappings as choices
        space = {name: list(range(len(values))) for name, values in tuning.space.items() if isinstance(values, list)}
        return optuna.samplers.GridSampler(space, seed=tuning.seed)
    if tuning.method == "random":
        return optuna.samplers.RandomSampler(seed=tuning.seed)
    return optuna.samplers.TPESampler(seed=tuning.seed)


def _suggest(trial: optuna.Trial, name: str, values: list[Any] | Interval) -> Any:
    if isinstance(values, list):
        return values[trial.suggest_categorical(name, range(len(values)))]
    if values.integer:
        return trial.suggest_int(name, int(values.low), int(values.high), log=values.log)
    value = trial.suggest_float(name, values.low, values.high, log=values.log)
    return min(max(float(f"{value:.4g}"), values.low), values.high)
