"""Which files `make start` may write: those that are missing, or still are what the template or it wrote.

`data/start.json` holds a hash of each. `python -m mlops.core.started` updates the template's own, after a change
of its default project.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from mlops.core.errors import UserError, errors_in_words
from mlops.core.files import atomic, write_json

RECORD = Path("data/start.json")
PARAMS, GATE, CANVAS, README = "params.yaml", "gate.yaml", "docs/canvas.md", "README.md"
SUITES = Path("data/expectations")


def check(names: list[str]) -> None:
    """Refuse to write over an edit.

    Raises
    ------
    UserError
        Names the edited files, and how to let `make start` write them.
    """
    if found := edited(names):
        listed = ", ".join(found)
        raise UserError(
            f"{listed} {'was' if len(found) == 1 else 'were'} edited, and `make start` does not write over an edit",
            f"edit by hand; or, to start anew, `rm {' '.join(found)}` (Git keeps what was committed), then make start",
        )


def edited(names: list[str]) -> list[str]:
    """The files among these that are neither missing nor as the template or `make start` wrote them."""
    known = _read()
    return [name for name in names if Path(name).exists() and known.get(name) != hashed(Path(name))]


def write(files: dict[str, str]) -> None:
    """Write files, each atomically, and record them."""
    for name, text in files.items():
        with atomic(name) as partial:
            partial.write_text(text, encoding="utf-8")
    write_json(_read() | {name: hashed(Path(name)) for name in files}, RECORD)


def _read() -> dict[str, str]:
    if not RECORD.exists():
        return {}
    try:
        found = json.loads(RECORD.read_text(encoding="utf-8"))
    except json.JSONDecodeError as error:
        raise UserError(
            f"{RECORD} is not valid JSON: {error.msg} (line {error.lineno})", f"git checkout {RECORD}"
        ) from None
    return found if isinstance(found, dict) else {}


def hashed(path: Path) -> str:
    """SHA-256 of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


if __name__ == "__main__":
    with errors_in_words():
        suites = sorted(map(str, SUITES.glob("*.json")))
        write_json({name: hashed(Path(name)) for name in (PARAMS, GATE, CANVAS, README, *suites)}, RECORD)
