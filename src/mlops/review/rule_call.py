"""A rule of the team's own by its name: are the parameters right, and a process that calls it.

The process imports no more than the rule does, so that it starts quickly.
"""

from __future__ import annotations

import inspect
import json
import os
import pickle
import sys
import typing
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, ValidationError, create_model
from pydantic.errors import PydanticUserError
from ruamel.yaml import YAML

from mlops.core import hooks
from mlops.core.errors import UserError
from mlops.core.report import Verdict as Word
from mlops.core.report import shortened
from mlops.core.ruling import Evidence, Verdict
from mlops.core.yamlfile import closest
from mlops.review.rules.project import ProjectRule

MODULE = "rules"
FILE = hooks.ROOM / f"{MODULE}.py"


class Answer(BaseModel):
    """What the process writes: a verdict, or why there is none."""

    model_config = ConfigDict(extra="forbid", strict=True)

    verdict: Word
    reason: str
    value: FiniteFloat | None = None
    limit: FiniteFloat | None = None


def check(rules: list[Any], path: str | Path) -> None:
    """Check each row about a rule of the team's own against the function that it names.

    Parameters
    ----------
    rules : list of Rule
        The rows of the gate.
    path : str or Path
        The gate's file, for line numbers.

    Raises
    ------
    UserError
        Names every row whose function does not exist or does not take these parameters.
    """
    rows = [(number, rule) for number, rule in enumerate(rules) if isinstance(rule, ProjectRule)]
    if not rows:
        return
    found = hooks.load(MODULE, hooks.Rule)
    lines = YAML(typ="rt").load(Path(path).read_text(encoding="utf-8"))["rules"]
    problems = []
    for number, rule in rows:
        where = f" (line {lines.lc.item(number)[0] + 1})"
        problems += [f"{path}: rules.{number}{where}: {problem}" for problem in _problems(rule, found)]
    if problems:
        raise UserError("\n".join(problems))


def _problems(rule: ProjectRule, found: dict[str, hooks.Rule]) -> list[str]:
    if rule.function not in found:
        return [f"{FILE} defines no rule {rule.function!r}{closest(rule.function, list(found))}"]
    try:
        arguments(found[rule.function].function, rule.parameters)
    except UserError as error:
        return str(error).splitlines()
    return []


def arguments(function: Callable[..., Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a rule, checked against the annotations of its function.

    Raises
    ------
    UserError
        One line for each parameter that is unknown, missing or of another type.
    """
    name = f"project.{function.__name__}"
    try:
        hints = typing.get_type_hints(function, include_extras=True)
    except Exception as error:  # an annotation is code, and may raise anything
        raise UserError(f"{name}: an annotation cannot be resolved: {error}") from None
    taken = list(inspect.signature(function).parameters.values())
    if not taken or taken[0].kind not in (taken[0].POSITIONAL_ONLY, taken[0].POSITIONAL_OR_KEYWORD):
        raise UserError(f"{name} must take the evidence as its first argument")
    named = [each for each in taken[1:] if each.kind in (each.KEYWORD_ONLY, each.POSITIONAL_OR_KEYWORD)]
    reserved = [each.name for each in named if each.name in ProjectRule.model_fields]
    if reserved:
        raise UserError(f"{name}: a parameter cannot be called {reserved[0]!r}, which is a key of every row")
    fields: dict[str, Any] = {}
    # pydantic has names of its own, so the parameter's is an alias
    for number, each in enumerate(named):
        default = ... if each.default is inspect.Parameter.empty else each.default
        fields[f"parameter{number}"] = (hints.get(each.name, Any), Field(default, alias=each.name))
    extra: Any = "allow" if any(each.kind is each.VAR_KEYWORD for each in taken) else "forbid"
    try:
        kind = create_model("Parameters", __config__=ConfigDict(extra=extra, arbitrary_types_allowed=True), **fields)
        found = kind.model_validate(dict(given))
    except PydanticUserError as error:
        raise UserError(f"{name}: an annotation cannot be checked: {str(error).splitlines()[0]}") from None
    except ValidationError as error:
        known = [each.name for each in named]
        raise UserError("\n".join(_in_words(name, each, known) for each in error.errors())) from None
    checked = {each.name: getattr(found, f"parameter{number}") for number, each in enumerate(named)}
    return {**checked, **(found.model_extra or {})}


def _in_words(name: str, problem: Any, known: list[str]) -> str:
    key = ".".join(str(part) for part in problem["loc"])
    if problem["type"] == "extra_forbidden":
        return f"{name} has no parameter {key!r}{closest(key, known) if known else '; it has none'}"
    if problem["type"] == "missing":
        return f"{name} needs the parameter {key!r}"
    message = problem["msg"]
    return f"{name}: {key}: {message[0].lower()}{message[1:]}, got {json.dumps(problem['input'], default=str)[:100]}"


def failure(reason: str) -> Answer:
    """The answer where there is none."""
    return Answer(verdict="fail", reason=shortened(reason))


def _judge(name: str, parameters: dict[str, Any], seen: Evidence) -> Answer:
    """Call the function; whatever goes wrong is a failure in words."""
    try:
        found = hooks.load(MODULE, hooks.Rule)
        if name not in found:
            return failure(f"{FILE} defines no rule {name!r}{closest(name, list(found))}")
        function = found[name].function
        checked = arguments(function, parameters)
    except UserError as error:
        return failure(str(error).splitlines()[0])
    try:
        said = function(seen, **checked)
    except Exception as error:  # the team's code may raise anything
        return failure(f"project.{name} raised {type(error).__name__}: {error} ({hooks.place(error, MODULE)})")
    if not isinstance(said, Verdict):
        what = f"returned {said!r}"[:100]
        return failure(f"project.{name} {what}; it must return passed(…), failed(…) or inconclusive(…)")
    return Answer(verdict=said.verdict, reason=shortened(said.reason), value=said.value, limit=said.limit)


def main() -> None:
    """Read a question from standard input, and write the answer to standard output."""
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    # what the rule prints goes to the log
    os.dup2(2, 1)
    answers.write(_judge(*pickle.load(sys.stdin.buffer)).model_dump_json())  # noqa: S301  from the process above
    answers.close()


if __name__ == "__main__":
    main()
