"""Check that a class of `src/project/` keeps to scikit-learn's API, before anything is fitted.

scikit-learn's own `check_estimator` asks for much more, on tables of its own, and belongs in a team's tests. Here are
the rules without which it could not be cloned, tuned or named in `params.yaml`; `mlops.model.fitted` checks the rest.
"""

from __future__ import annotations

import inspect
from pathlib import Path
from typing import Any

from mlops.core import hooks
from mlops.core.errors import UserError, described

METHODS = ("fit", "predict", "get_params", "set_params")
BASE = "derive the class from sklearn.base.ClassifierMixin or RegressorMixin, and from BaseEstimator"


def is_own(path: str) -> bool:
    """Whether an import path leads into `src/project/`."""
    return path.partition(".")[0] == hooks.PACKAGE


def place(kind: Any, method: str = "") -> str:
    """``src/project/estimators.py, line 12: NAME``: where a class, or a method of it, is defined."""
    function = getattr(getattr(kind, method, None), "__code__", None)
    try:
        line = function.co_firstlineno if function else inspect.getsourcelines(kind)[1]
        file = function.co_filename if function else inspect.getsourcefile(kind) or ""
    except (OSError, TypeError):  # it is not from a file
        return str(kind.__name__)
    return f"{hooks.ROOM / Path(file).name}, line {line}: {kind.__name__}" + (f".{method}" if method else "")


def check_class(kind: Any) -> None:
    """Check that a class has the methods of an estimator, and stores its parameters as they are.

    Raises
    ------
    UserError
        Names the file, the line and the rule.
    """
    if not inspect.isclass(kind):
        raise UserError(f"{hooks.ROOM}: {kind!r} is not a class", BASE)
    lacking = [name for name in METHODS if not callable(getattr(kind, name, None))]
    if lacking:
        raise UserError(f"{place(kind)} has no method {', '.join(lacking)}", BASE)
    own = [] if kind.__init__ is object.__init__ else list(inspect.signature(kind.__init__).parameters.values())
    parameters = own[1:]
    for parameter in parameters:
        if parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            raise UserError(
                f"{place(kind, '__init__')} takes {parameter}, so its parameters have no names",
                "name each parameter in the signature, with its default",
            )
        if parameter.default is parameter.empty:
            raise UserError(
                f"{place(kind, '__init__')}: parameter {parameter.name!r} has no default", f"{parameter.name}=…"
            )
    try:
        made = kind()
    except Exception as error:  # the team's code may raise anything
        raise UserError(
            f"{hooks.raised_at(error) or place(kind)}: {kind.__name__}() raises {described(error)}"
        ) from None
    for parameter in parameters:
        if getattr(made, parameter.name, parameter.empty) is not parameter.default:
            raise UserError(
                f"{place(kind, '__init__')} does not store its parameter {parameter.name!r} as it is, "
                "so scikit-learn cannot clone the estimator",
                f"self.{parameter.name} = {parameter.name}, and compute with it in fit",
            )


def check_clone(estimator: Any) -> None:
    """Check that scikit-learn can clone an estimator with the parameters that it has.

    Raises
    ------
    UserError
        Names the constructor and the parameter.
    """
    from sklearn.base import clone

    try:
        clone(estimator)
    except Exception as error:  # the team's code may raise anything
        raise UserError(f"{place(type(estimator), '__init__')}: {described(error)}") from None
