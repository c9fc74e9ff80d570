"""`.template.json`: the address of the template, and the version that this project has.

The version is recorded as the hash of a Git tree: it says what the files were, whatever becomes of a commit or tag.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import NamedTuple

from mlops.core.errors import UserError
from mlops.core.files import write_json
from mlops.core.git import git

PATH = ".template.json"
PLACEHOLDER = "/your-org/"
TREE = re.compile("[0-9a-f]{40}|[0-9a-f]{64}", re.ASCII)


class Record(NamedTuple):
    """What `.template.json` says.

    Attributes
    ----------
    repository : str
        Address of the template, for `git fetch`; empty if nobody has entered it.
    version : str
        The tag of the last update; for people.
    tree : str
        Hash of the tree of that version; empty before the first update of a project that `make start` did not make.
    workflows : str
        Hash of the tree whose `.github/workflows` this project has, where the last update had to leave them out.
    """

    repository: str = ""
    version: str = ""
    tree: str = ""
    workflows: str = ""

    def text(self) -> str:
        """The content of the file."""
        return json.dumps({key: value for key, value in self._asdict().items() if value}, indent=2) + "\n"


def parse(text: str) -> Record:
    """The record that a text holds.

    Raises
    ------
    UserError
        If it is not a JSON object of these keys.
    """
    try:
        found = json.loads(text)
    except json.JSONDecodeError as error:
        raise UserError(f"{PATH} is not valid JSON: {error.msg} (line {error.lineno})", f"git log {PATH}") from None
    if not isinstance(found, dict) or not all(isinstance(value, str) for value in found.values()):
        raise UserError(f"{PATH} must be an object of texts", f"git log {PATH}")
    if unknown := sorted(set(found) - set(Record._fields)):
        raise UserError(f"{PATH}: unknown key {unknown[0]!r}; known are {', '.join(Record._fields)}")
    record = Record(**found)
    for key in ("tree", "workflows"):
        if (value := getattr(record, key)) and not TREE.fullmatch(value):
            raise UserError(f"{PATH}: {key} is not the hash of a tree: {value[:50]!r}", f"git log {PATH}")
    return record._replace(repository="") if PLACEHOLDER in record.repository else record


def start() -> None:
    """Record what the project begins with, unless that is known: the files of the last commit.

    These are the template's if nobody has committed anything yet. If somebody has, no version of the template has this
    tree, and `make update` looks for another commit that is one.
    """
    path = Path(PATH)
    if not path.exists():
        return
    known = json.loads(path.read_text(encoding="utf-8"))
    tree = git("rev-parse", "--verify", "--quiet", "HEAD^{tree}", check=False)
    if tree and "tree" not in known:
        write_json({**known, "tree": tree}, path)
