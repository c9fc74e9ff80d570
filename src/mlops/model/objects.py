"""From an import path and parameters in `params.yaml` to an object: import it, check its parameters, create it.

Estimators, steps and the estimators inside them go through here, so that a mistake in any of them gives the same error:
the key, the value and the closest match.
"""

from __future__ import annotations

import contextlib
import difflib
import functools
import importlib
import importlib.util
import inspect
import pkgutil
from collections.abc import Mapping
from types import ModuleType
from typing import Any

from mlops.core import hooks
from mlops.core.errors import UserError, described
from mlops.core.settings import IMPORT_PATH, PARAMS
from mlops.core.yamlfile import closest

# parameters that take another estimator or a function, where a text with a dot can only be an import path
NESTED = frozenset(
    {"estimator", "base_estimator", "final_estimator", "regressor", "score_func", "func", "inverse_func"}
)


def imported(path: str, key: str) -> Any:
    """What an import path names.

    Parameters
    ----------
    key : str
        Where `params.yaml` has it, for the error.

    Raises
    ------
    UserError
        Names the part that is missing, and the closest match.
    """
    module, _, name = path.rpartition(".")
    try:
        found = _module(module, path, key)
        return getattr(found, name)
    except ImportError as error:
        parent, _, missing = (error.name or "").rpartition(".")
        beside = _modules(parent) if parent else ["sklearn"]
        near = closest(missing, beside) if difflib.get_close_matches(missing, {*beside} - {missing}, 1) else ""
        hint = "" if parent or near else f"uv add {missing}, if that is a package to be installed"
        raise UserError(f"{PARAMS}: {key}: {path} cannot be imported: {error}{near}", hint) from None
    except AttributeError:
        # a class where a class was meant, and a function where a function was
        names = [each for each in dir(found) if each[0] != "_" and each[0].isupper() == name[:1].isupper()]
        if module.partition(".")[0] == hooks.PACKAGE:  # not what the team's file imports itself
            names = [each for each in names if getattr(getattr(found, each), "__module__", None) == module]
        raise UserError(f"{PARAMS}: {key}: {module} has no {name!r}{closest(name, names)}") from None


def _module(name: str, path: str, key: str) -> ModuleType:
    """A module; the team's own through `hooks`, which names the file and line of an error in it."""
    root, _, rest = name.partition(".")
    if root != hooks.PACKAGE or not rest:
        try:
            return importlib.import_module(name)
        except ImportError:
            raise
        except Exception as error:  # a module may raise anything
            raise UserError(f"{PARAMS}: {key}: {path} cannot be imported: {described(error)}") from None
    found = hooks.module(rest)
    if found is None:
        file = hooks.ROOM / f"{rest.replace('.', '/')}.py"
        raise UserError(f"{PARAMS}: {key}: {path} cannot be imported: there is no {file}")
    return found


def _modules(package: str) -> list[str]:
    """Public modules of a package, to find what was meant."""
    folders = getattr(importlib.import_module(package), "__path__", [])
    return [module.name for module in pkgutil.iter_modules(folders) if not module.name.startswith("_")]


def create(found: type, path: str, at: str, params: Mapping[str, Any], keys: Mapping[str, str], checked: str) -> Any:
    """An instance of a class with scikit-learn's API; a `random_state` that was left open is set to 0, inside it too.

    A parameter that takes an estimator or a function takes its import path too, and `estimator__C` sets a parameter
    inside it. A list becomes a tuple where the parameter's default is one, because YAML has no tuples.

    Parameters
    ----------
    at : str
        Where `params.yaml` has the class.
    params : mapping
        By name.
    keys : mapping of str to str
        Where `params.yaml` has each parameter.
    checked : str
        The key that an error names where scikit-learn refuses a value.

    Raises
    ------
    UserError
        Names the key, the value, and the closest match.
    """
    name = found.__name__
    known, open_ended = _known(found)
    deep = {each: value for each, value in params.items() if "__" in each and each not in known}
    own = {each: value for each, value in params.items() if each not in deep}
    for each in own:
        if each not in known and not open_ended:
            raise UserError(f"{PARAMS}: {keys[each]}: {name} takes no parameter {each!r}{closest(each, known)}")
    if "random_state" in known:
        own.setdefault("random_state", 0)
    defaults = {each.name: each.default for each in inspect.signature(found).parameters.values()}
    for each, value in own.items():
        own[each] = _nested(value, each, keys.get(each, at))
        if isinstance(value, list) and isinstance(defaults.get(each), tuple):
            own[each] = tuple(own[each])
    try:
        instance = found(**own)
    except TypeError as error:
        hint = "params: {estimator: sklearn.linear_model.Ridge}, or another" if "'estimator'" in str(error) else ""
        raise UserError(f"{PARAMS}: {at}: {path} cannot be created from its parameters: {error}", hint) from None
    try:
        inside = instance.get_params(deep=True) if deep else {}
        for each in deep:
            if each not in inside:
                problem = f"{name} takes no parameter {each!r}{closest(each, sorted(inside))}"
                raise UserError(f"{PARAMS}: {keys[each]}: {problem}")
        if deep:
            instance.set_params(**{each: _nested(value, each, keys[each]) for each, value in deep.items()})
        for each in _estimators(instance):
            if hasattr(each, "_parameter_constraints"):  # scikit-learn's own; others check when they are fitted
                each._validate_params()
    except (TypeError, ValueError) as error:
        raise UserError(f"{PARAMS}: {checked}: {error}") from None
    return instance


def _known(found: type) -> tuple[list[str], bool]:
    """Names of the parameters of a class, and whether it takes any other."""
    parameters = inspect.signature(found).parameters.values()
    open_ended = any(each.kind is each.VAR_KEYWORD for each in parameters)
    try:
        return sorted(found().get_params(deep=False)), open_ended
    except TypeError:  # it needs some
        return sorted(each.name for each in parameters if each.kind is not each.VAR_KEYWORD), open_ended


def _estimators(instance: Any) -> list[Any]:
    """An estimator and those inside it."""
    inside = instance.get_params(deep=True).values()
    return [instance, *(each for each in inside if hasattr(each, "get_params") and not isinstance(each, type))]


def _nested(value: Any, name: str, key: str) -> Any:
    """A value whose import paths are replaced by what they name: an estimator with its defaults, or a function."""
    if isinstance(value, list):
        return [_nested(each, name, key) for each in value]
    if not isinstance(value, str) or not IMPORT_PATH.fullmatch(value):
        return value
    if name.rpartition("__")[2] not in NESTED and importlib.util.find_spec(value.partition(".")[0]) is None:
        return value  # a text with a dot in it
    found = imported(value, key)
    if inspect.isclass(found):
        return create(found, value, key, {}, {}, key)
    with contextlib.suppress(TypeError, ValueError):  # some have no signature
        if "random_state" in inspect.signature(found).parameters:
            return functools.partial(found, random_state=0)
    return found
