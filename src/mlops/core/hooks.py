"""The team's own code: what `src/project/` defines, found by its decorators.

A decorator notes on the function what the pipeline must know of it, and returns the function itself, so that it can be
called and tested as any other. Nothing here imports NumPy: jobs with a token import this package without it.
"""

from __future__ import annotations

import importlib
import importlib.util
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, TypeVar, overload

from mlops.core.errors import UserError

PACKAGE = "project"
ROOM = Path("src") / PACKAGE

Function = TypeVar("Function", bound=Callable[..., Any])
Hook = TypeVar("Hook")


@dataclass(frozen=True)
class Feature:
    """A feature computed from columns, row by row."""

    name: str
    function: Callable[..., Any]
    columns: tuple[str, ...]
    kind: Literal["numeric", "boolean", "categorical"]
    unit: str | None


@dataclass(frozen=True)
class Metric:
    """A metric of predictions against the truth."""

    name: str
    function: Callable[..., Any]
    greater_is_better: bool | None
    columns: tuple[str, ...]
    needs: Literal["predict", "probability"]
    per_row: bool
    task: Literal["binary", "multiclass", "regression"] | None
    unit: str | None


def feature(
    *columns: str, kind: Literal["numeric", "boolean", "categorical"] = "numeric", unit: str | None = None
) -> Callable[[Function], Function]:
    """Declare a function of columns as a feature of the model; its name becomes the feature's.

    Parameters
    ----------
    *columns : str
        Columns of the table, in the order of the function's arguments.
    kind : {'numeric', 'boolean', 'categorical'}
        What the function returns.
    unit : str, optional
        Unit of measurement, for the profile and the catalogue.
    """

    def declare(function: Function) -> Function:
        return _declared(function, Feature(function.__name__, function, columns, kind, unit))

    return declare


@overload
def metric(function: Function) -> Function: ...


@overload
def metric(
    *,
    greater_is_better: bool | None = ...,
    columns: Sequence[str] = ...,
    needs: Literal["predict", "probability"] = ...,
    per_row: bool = ...,
    task: Literal["binary", "multiclass", "regression"] | None = ...,
    unit: str | None = ...,
) -> Callable[[Function], Function]: ...


def metric(
    function: Function | None = None,
    *,
    greater_is_better: bool | None = None,
    columns: Sequence[str] = (),
    needs: Literal["predict", "probability"] = "predict",
    per_row: bool = False,
    task: Literal["binary", "multiclass", "regression"] | None = None,
    unit: str | None = None,
) -> Any:
    """Declare a function ``(y_true, y_pred)`` as a metric; its name becomes the metric's.

    The function returns a number. For its interval it is called with resampled rows; a function that takes
    `sample_weight`, as scikit-learn's do, is called with the number of times that each row was drawn.

    Parameters
    ----------
    greater_is_better : bool
        Whether a greater value means a better model.
    columns : sequence of str, optional
        Further columns of the table that the function takes, in the order of its further arguments.
    needs : {'predict', 'probability'}
        What the second argument holds. With two classes, `y_true` and `y_pred` are 1 for `data.positive` and 0
        otherwise, and probabilities are those of `data.positive`, of shape (n_samples,). With more classes, labels are
        as in the table, and probabilities have shape (n_samples, n_classes), in the order of the sorted labels, which a
        function with an argument `labels` is given.
    per_row : bool
        Whether the function returns one value for each row, whose mean is the metric. Such a metric costs next to
        nothing to resample.
    task : {'binary', 'multiclass', 'regression'}, optional
        The only kind of task that the metric is for; on a table of another kind it is left out, and the log says so.
    unit : str, optional
        Unit of measurement, shown beside the name.
    """

    def declare(function: Function) -> Function:
        name = function.__name__
        given = tuple(columns) if isinstance(columns, list | tuple) else columns
        return _declared(function, Metric(name, function, greater_is_better, given, needs, per_row, task, unit))  # type: ignore[arg-type]

    return declare if function is None else declare(function)


@dataclass(frozen=True)
class Rule:
    """A rule of the gate, which `gate.yaml` names as `project.` and its name."""

    name: str
    function: Callable[..., Any]


def rule(function: Function) -> Function:
    """Declare a function as a rule of the gate: a row `{rule: project.NAME, …}` of `gate.yaml` calls it.

    The function takes the evidence (`mlops.Evidence`) and the further keys of the row as parameters, which are checked
    against its annotations. It returns ``passed(reason)``, ``failed(reason)`` or ``inconclusive(reason)``.
    """
    return _declared(function, Rule(function.__name__, function))


@dataclass(frozen=True)
class RowFilter:
    """A function that says which rows are kept."""

    name: str
    function: Callable[..., Any]
    columns: tuple[str, ...]


def keep_rows(*columns: str) -> Callable[[Function], Function]:
    """Declare a function that says for each row whether it is kept.

    Parameters
    ----------
    *columns : str
        Columns of the table, in the order of the function's arguments, which are pandas Series. The function returns
        True for the rows to keep. It cannot change a value, because the service would not do the same.
    """

    def declare(function: Function) -> Function:
        return _declared(function, RowFilter(function.__name__, function, columns))

    return declare


def _declared(function: Function, hook: Any) -> Function:
    function.__hook__ = hook  # type: ignore[attr-defined]
    return function


def module(name: str) -> ModuleType | None:
    """Import a module of `src/project/`; None where the team has none of that name.

    Raises
    ------
    UserError
        Names the file and line at which the import fails.
    """
    path = f"{PACKAGE}.{name}"
    try:
        return importlib.import_module(path)
    except ModuleNotFoundError as error:
        if error.name in (PACKAGE, path):
            return None
        raise _broken(name, error) from None
    except Exception as error:  # the team's code may raise anything
        raise _broken(name, error) from None


def load(name: str, kind: type[Hook]) -> dict[str, Hook]:
    """The hooks that a module of `src/project/` defines, by name, in the order of their definition."""
    found = module(name)
    declared = [getattr(value, "__hook__", None) for value in vars(found).values()] if found else []
    return {hook.name: hook for hook in declared if isinstance(hook, kind)}  # type: ignore[attr-defined]


def folder() -> Path | None:
    """The folder that `project` would be imported from; nothing of it is imported here."""
    found = importlib.util.find_spec(PACKAGE)
    return Path(found.origin).parent if found and found.origin else None


def raised_at(error: BaseException) -> str | None:
    """``src/project/estimators.py, line 12``: the last line of the team's code that an error passed through, if any."""
    places = [(frame.filename, frame.lineno) for frame in traceback.extract_tb(error.__traceback__)]
    if isinstance(error, SyntaxError) and error.filename:
        places.append((error.filename, error.lineno))
    room = folder()
    own = [(path, line) for path, line in places if room is not None and Path(path).is_relative_to(room)]
    return f"{ROOM / Path(own[-1][0]).relative_to(room or '')}, line {own[-1][1]}" if own else None


def place(error: Exception, name: str) -> str:
    """File and line of the team's code in which an error arose, or else the file of a module."""
    return raised_at(error) or f"{ROOM.joinpath(*name.split('.'))}.py"


def _broken(name: str, error: Exception) -> UserError:
    """The import error, with the last line of the team's code that it passed through."""
    hint = f"uv add {error.name}" if isinstance(error, ModuleNotFoundError) and error.name else ""
    text = error.msg if isinstance(error, SyntaxError) else error  # whose own text repeats the line
    return UserError(f"{place(error, name)}: {type(error).__name__}: {text}", hint)
