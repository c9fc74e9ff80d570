"""YAML files checked against a pydantic model: every mistake with its key, line, value and the closest match."""

from __future__ import annotations

import difflib
import json
import re
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.comments import CommentedMap, CommentedSeq
from ruamel.yaml.error import YAMLError

from mlops.core.errors import UserError
from mlops.core.files import atomic

Checked = TypeVar("Checked", bound=BaseModel)


class Section(BaseModel):
    """A part of `params.yaml` or `gate.yaml`; unknown keys are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


def read(path: str | Path, kind: type[Checked]) -> Checked:
    """Read a YAML file and check it against a model.

    Raises
    ------
    UserError
        If the file is missing, is not YAML, or is invalid; all problems are listed with their lines.
    """
    path = Path(path)
    try:
        text = path.read_text(encoding="utf-8")
        # plain lists and numbers, because parameters are stored in the model file
        document = YAML(typ="safe", pure=True).load(text)
    except FileNotFoundError:
        raise UserError(f"{path} is missing", f"git checkout -- {path}") from None
    except (YAMLError, ValueError) as error:  # such as the 31st of February
        raise UserError(f"{path} is not valid YAML: {error}") from None
    try:
        return kind.model_validate(document if document is not None else {})
    except ValidationError as error:
        with_lines = YAML(typ="rt").load(text)
        problems = {_describe(path, kind, problem, with_lines): None for problem in error.errors()}
        raise UserError("\n".join(problems)) from None


def _describe(path: Path, kind: type[BaseModel], problem: Any, document: Any) -> str:
    """One line such as ``params.yaml: split.test_size must be < 1, got 7 (line 23)``."""
    # pydantic includes the branches of a union in the location; params.yaml has only keys and indices
    location = []
    node: Any = document
    line = None
    for part in problem["loc"]:
        if isinstance(node, CommentedMap) and part in node:
            line = node.lc.key(part)[0] + 1
        elif isinstance(node, CommentedSeq) and isinstance(part, int) and part < len(node):
            line = node.lc.item(part)[0] + 1
        elif problem["type"] != "missing" or part != problem["loc"][-1]:
            continue
        location.append(str(part))
        node = node[part] if problem["type"] != "missing" or part != problem["loc"][-1] else None
    key = ".".join(location) or "the file"
    where = f" (line {line})" if line else ""
    allowed = str(problem.get("ctx", {}).get("error", "")) or problem["msg"]
    got = "" if isinstance(node, dict) or problem["type"] == "value_error" else f", got {_shown(node)}"
    if problem["type"] == "extra_forbidden" and problem["loc"] == ("gate",):
        return f"{path}: unknown key gate{where}; the gate is in gate.yaml"
    if problem["type"] == "extra_forbidden":
        known = _keys_beside(kind, problem["loc"])
        return f"{path}: unknown key {key}{where}{closest(location[-1], known)}"
    if problem["type"] == "missing":
        return f"{path}: {key} is missing"
    if problem["type"] == "union_tag_invalid":
        tag, options = problem["ctx"]["tag"], re.findall(r"'([^']*)'", problem["ctx"]["expected_tags"])
        return f"{path}: {key}: unknown {problem['ctx']['discriminator'][1:-1]} {tag}{where}{closest(tag, options)}"
    if problem["type"] == "literal_error":
        expected = problem["ctx"]["expected"]
        options = re.findall(r"'([^']*)'", expected)
        return f"{path}: {key} must be {expected}{got}{where}{closest(str(node), options)}"
    return f"{path}: {key}: {allowed[0].lower()}{allowed[1:]}{got}{where}"


def _shown(value: Any) -> str:
    return json.dumps(value, default=str, ensure_ascii=False)[:200]


def _keys_beside(kind: type[BaseModel], location: tuple[str | int, ...]) -> list[str]:
    """Keys that the file may have where pydantic's `location` ends."""
    schema = kind.model_json_schema()
    node = schema
    for part in location[:-1]:
        options = [node, *node.get("oneOf", []), *node.get("anyOf", [])]
        mapping = {
            tag: path for each in options for tag, path in each.get("discriminator", {}).get("mapping", {}).items()
        }
        if part in mapping:
            node = {"$ref": mapping[part]}
        else:
            inside = node.get("items") if isinstance(part, int) else node.get("properties", {}).get(part)
            node = inside or node  # otherwise the name of a branch of a union, which is not a key
        options = [node, *node.get("oneOf", []), *node.get("anyOf", [])]
        for option in options:
            if "$ref" in option and not any("discriminator" in each for each in options):
                node = schema["$defs"][option["$ref"].rsplit("/", 1)[-1]]
    return list(node.get("properties", {}))


def closest(name: str, known: list[str]) -> str:
    """``; did you mean 'test_size'?``, or the known names."""
    by_lower_case = {option.lower(): option for option in known}
    match = difflib.get_close_matches(name.lower(), by_lower_case, n=1, cutoff=0.6)
    if match:
        return f"; did you mean {by_lower_case[match[0]]!r}?"
    shown = ", ".join(known[:20]) + (", …" if len(known) > 20 else "")
    return f"; known: {shown}" if known else ""


def json_schema(kind: type[BaseModel]) -> dict[str, Any]:
    """JSON Schema of a file, for completion in editors."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **kind.model_json_schema()}


def write_schema(kind: type[BaseModel], path: Path) -> None:
    """Write the JSON Schema of a file."""
    with atomic(path) as partial:
        partial.write_text(json.dumps(json_schema(kind), indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
