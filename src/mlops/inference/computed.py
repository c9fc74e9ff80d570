"""The team's own features: load them from `src/project/features.py`, call them, and check their values by row.

Training and the service call the same functions through `compute`. It reports each row whose value cannot be computed,
or is missing although the row has all inputs, with the reason.
"""

from __future__ import annotations

import difflib
import inspect
import math
import reprlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from mlops.core import hooks
from mlops.core.errors import UserError, counted
from mlops.core.files import md5
from mlops.core.hooks import Feature
from mlops.inference.contract import Contract

MODULE = "features"
FILE = hooks.ROOM / f"{MODULE}.py"
NUMBERS = ("numeric", "boolean")

Array = np.ndarray[Any, Any]
Problems = dict[int, list[tuple[str, str]]]
"""Row → features and their problems."""


class FeatureError(Exception):
    """Rows for which a feature cannot be computed.

    Attributes
    ----------
    problems : dict of int to list of (str, str)
        By row, counted from 0: feature and problem.
    """

    def __init__(self, problems: Problems) -> None:
        super().__init__(f"{len(problems)} rows")
        self.problems = problems


class MisshapenError(ValueError):
    """A function does not return a column of its kind."""


def declared(wanted: Sequence[str] | None = None) -> tuple[Feature, ...]:
    """The features that the team has defined, with the checks that need no data.

    Parameters
    ----------
    wanted : sequence of str, optional
        Names of those to use, as in `data.features`; all by default.

    Raises
    ------
    UserError
        If the file cannot be imported, a name is unknown, or a function does not accept its columns.
    """
    if wanted is not None and not wanted:
        return ()
    found = hooks.load(MODULE, Feature)
    unknown = [name for name in wanted or () if name not in found]
    if unknown:
        near = difflib.get_close_matches(unknown[0], found, 1)
        meant = f"; did you mean {near[0]!r}?" if near else f"; it defines: {', '.join(found) or 'none'}"
        raise UserError(f"params.yaml: data.features: {FILE} has no feature {unknown[0]!r}{meant}")
    for feature in found.values():
        _check_declaration(feature)
    return tuple(feature for name, feature in found.items() if wanted is None or name in wanted)


def _check_declaration(feature: Feature) -> None:
    if not feature.columns or not all(isinstance(name, str) for name in feature.columns):
        example = '@feature("column", …) with the names of the columns that it is computed from'
        raise UserError(f"{place(feature)}: {feature.name} names no columns", example)
    try:
        inspect.signature(feature.function).bind(*feature.columns)
    except TypeError as error:
        count = len(feature.columns)
        given = counted(count, "column")
        raise UserError(
            f"{place(feature)}: {feature.name} does not take its {given}: {error}",
            "one argument for each column that @feature names, in their order",
        ) from None


def of(contract: Contract) -> tuple[Feature, ...]:
    """The features of an exported model, from the code that it was trained with.

    Raises
    ------
    UserError
        If that code is missing.
    """
    if not contract.features:
        return ()
    return declared([feature.name for feature in contract.features])


def check_code(contract: Contract, folder: Path | None = None) -> None:
    """Check that the team's code is the code that the model was trained with, before any of it runs.

    Parameters
    ----------
    folder : Path, optional
        Folder of its files; by default the folder from which `project` would be imported.

    Raises
    ------
    UserError
        With the file that is missing or differs.
    """
    folder = folder or hooks.folder() or hooks.ROOM
    for name, expected in contract.code.items():
        path = folder / name
        if not path.is_file() or md5(path) != expected:
            what = "is not the file that the model was trained with" if path.is_file() else "is missing"
            raise UserError(f"{hooks.ROOM / name} {what}", "make, or git checkout")


def place(feature: Feature, error: BaseException | None = None) -> str:
    """``src/project/features.py, line 12``: of the function, or of an error in the team's code."""
    code = getattr(inspect.unwrap(feature.function), "__code__", None)
    line = getattr(code, "co_firstlineno", None)
    file = Path(getattr(code, "co_filename", FILE)).name
    if error is not None and (found := hooks.raised_at(error)):
        return found
    return f"{hooks.ROOM / file}, line {line}" if line else str(hooks.ROOM / file)


def compute(features: Sequence[Feature], columns: Mapping[str, Array]) -> tuple[dict[str, Array], Problems]:
    """Compute the features of some rows.

    Parameters
    ----------
    columns : mapping of str to ndarray of shape (n_samples,)
        float64 for numeric and boolean columns (NaN where missing), datetime64[us] for dates, objects otherwise.

    Returns
    -------
    dict of str to ndarray of shape (n_samples,)
        float64 for numeric and boolean features, objects (None where missing) for categorical ones.
    dict of int to list of (str, str)
        Rows whose features cannot be used, with the feature and the reason.
    """
    found: dict[str, Array] = {}
    problems: Problems = {}
    with np.errstate(all="ignore"):  # values that are not finite are found below, by row
        for feature in features:
            given = [columns[name] for name in feature.columns]
            try:
                values = typed(feature, feature.function(*given), len(given[0]))
            except Exception:  # the team's code may raise anything
                values = _one_by_one(feature, given, problems)
            # one product instead of a check of each value: it is finite only if all values are finite and not huge
            if not (feature.kind == "numeric" and math.isfinite(values.dot(values))):
                _find_missing(feature, given, values, problems)
            found[feature.name] = values
    return found, problems


def typed(feature: Feature, values: Any, n_samples: int) -> Array:
    """The result of a function as a column of its kind.

    Raises
    ------
    MisshapenError
        With a description of the result.
    """
    if not isinstance(values, np.ndarray):
        kind = type(values)
        module = kind.__module__.partition(".")[0]
        name = kind.__name__ if module == "builtins" else f"{module} {kind.__name__}"
        raise MisshapenError(f"returns a {name} instead of a NumPy array")
    if values.shape != (n_samples,):
        raise MisshapenError(
            f"returns an array of shape {values.shape} for {counted(n_samples, 'row')}, expected ({n_samples},)"
        )
    if feature.kind in NUMBERS:
        if values.dtype == np.float64:
            return values
        if values.dtype.kind not in "biuf":
            raise MisshapenError(f"returns values of type {values.dtype}, but its kind is {feature.kind}: numbers")
        return values.astype(np.float64)
    if values.dtype.kind not in "OUT":
        raise MisshapenError(f"returns values of type {values.dtype}, but its kind is categorical: texts")
    texts = values.astype(object)
    odd = next((value for value in texts if not (isinstance(value, str) or is_missing(value))), None)
    if odd is not None:
        raise MisshapenError(f"returns {reprlib.repr(odd)}, but its kind is categorical: texts, None where missing")
    return np.array([None if is_missing(value) else str(value) for value in texts], dtype=object)


def is_missing(value: Any) -> bool:
    """None, NaN or NaT."""
    return value is None or bool(value != value)


def missing(values: Array) -> Array:
    """Mask of the missing values of a column."""
    if values.dtype.kind == "M":
        return np.asarray(np.isnat(values))
    if values.dtype.kind == "f":
        return np.asarray(np.isnan(values))
    return np.fromiter((is_missing(value) for value in values), dtype=bool, count=len(values))


def _one_by_one(feature: Feature, given: list[Array], problems: Problems) -> Array:
    """Compute a feature row by row, and note the rows for which the function raises an error."""
    rows = len(given[0])
    values = np.full(rows, np.nan) if feature.kind in NUMBERS else np.full(rows, None, dtype=object)
    for row in range(rows):
        one = [column[row : row + 1] for column in given]
        try:
            values[row] = typed(feature, feature.function(*one), 1)[0]
        except MisshapenError as error:
            problems.setdefault(row, []).append((feature.name, f"{error}; {inputs(feature, one)}"))
        except Exception as error:
            what = f"cannot be computed: {type(error).__name__}: {error}"[:200]
            problems.setdefault(row, []).append((feature.name, f"{what}; {inputs(feature, one)}"))
    return values


def _find_missing(feature: Feature, given: list[Array], values: Array, problems: Problems) -> None:
    """Note the rows with a missing or infinite value that have all inputs."""
    wrong = missing(values)
    if feature.kind in NUMBERS:
        infinite = np.isinf(values)
        if feature.kind == "boolean":
            infinite |= ~wrong & (values != 0) & (values != 1)
        wrong = wrong | infinite
    if not wrong.any():
        return
    for row in np.flatnonzero(wrong):
        noted = any(name == feature.name for name, _ in problems.get(int(row), []))
        one = [column[row : row + 1] for column in given]
        absent = any(missing(column)[0] for column in one)
        value = values[row]
        if noted or (absent and is_missing(value)):
            continue
        what = "is missing" if is_missing(value) else "is infinite" if np.isinf(value) else f"is {value:g}, not 0 or 1"
        problems.setdefault(int(row), []).append((feature.name, f"{what}; {inputs(feature, one)}"))


def inputs(feature: Feature, one: list[Array]) -> str:
    """``computed from mean area = 0.0``: the inputs of one row."""
    values = (f"{name} = {_shown(column[0])}" for name, column in zip(feature.columns, one, strict=True))
    return f"computed from {', '.join(values)}"


def _shown(value: Any) -> str:
    if is_missing(value):
        return "nothing"
    return reprlib.repr(value) if isinstance(value, str) else f"{value:g}" if isinstance(value, float) else str(value)
