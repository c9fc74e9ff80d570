"""`retrain.json`: a retraining as data, from the job that reads the log to the job that may push.

The second one runs main's code only and makes the commit itself. So the schema is strict and bounded, and its texts are
never markup. Nothing here imports NumPy, because that job has none.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, StringConstraints, ValidationError

from mlops.core.errors import UserError, first_problem
from mlops.core.files import md5
from mlops.core.markdown import code, escaped, table
from mlops.core.part import Count, Part, Text
from mlops.core.report import Hash, Sha

FOLDER = Path("build/monitor/retrain")
NAME = "retrain.json"
RAW = "data/raw/production"
MOST_BYTES = 200_000
# A file of this size or smaller is committed to Git where no DVC remote is set
MOST_IN_GIT = 1_000_000
MOST_IN_REMOTE = 2_000_000_000
SHOWN = 10  # letters of the model's hash, in names

Day = Annotated[str, StringConstraints(pattern=r"^[0-9]{4}-[0-9]{2}-[0-9]{2}$")]


class Example(Part):
    """A row of the log."""

    request_id: Text
    row: Count
    value: Text


class Problem(Part):
    """What is wrong with a column."""

    column: Text
    what: Text
    rows: Count
    examples: Annotated[list[Example], Field(max_length=5)] = []


class DataFile(Part):
    """A file of rows."""

    role: Literal["more", "recent"]
    """`more` is trained on; `recent` is set aside."""
    rows: Count
    size: Count
    md5: Hash
    stored: Literal["git", "dvc"]

    def path(self, model: str) -> str:
        """Where it is in the repository."""
        return f"{RAW}/{model[:SHOWN]}{'-recent' if self.role == 'recent' else ''}.parquet"


class Proposal(Part):
    """A retraining, or why there is none."""

    version: Annotated[int, Field(ge=1, le=1)] = 1
    state: Literal["proposed", "waiting", "broken"]
    why: Text
    model: Hash
    """Of the deployed release, whose log was read: it names the epoch."""
    main: Sha
    """The commit that the rows were checked against."""
    first: Day | None = None
    last: Day | None = None
    """Days of the new rows."""
    alarms: Annotated[list[Text], Field(max_length=20)] = []
    notes: Annotated[list[Text], Field(max_length=20)] = []
    """What a reviewer should know of the rows."""
    problems: Annotated[list[Problem], Field(max_length=40)] = []
    files: Annotated[list[DataFile], Field(max_length=2)] = []
    training: Count = 0
    """Training rows on main."""

    @property
    def branch(self) -> str:
        return f"retrain/{self.model[:SHOWN]}"

    @property
    def pointed(self) -> dict[str, str]:
        """Hash → path of the files that DVC's remote holds."""
        return {each.md5: each.path(self.model) for each in self.files if each.stored == "dvc"}

    def rows(self, role: str) -> int:
        """Rows in the files of a role."""
        return sum(each.rows for each in self.files if each.role == role)

    @property
    def title(self) -> str:
        return f"Retrain on {self.rows('more'):,} new labelled rows"


def read(folder: Path = FOLDER) -> tuple[Proposal, dict[str, bytes]]:
    """Read a proposal and its files from an untrusted source.

    Returns
    -------
    Proposal
    dict of str to bytes
        Path in the repository → content, of the files for Git. Those for DVC's remote are checked, too.

    Raises
    ------
    UserError
        If it is missing, too large, violates the schema, or a file is not the one that it names.
    """
    path = folder / NAME
    if not path.is_file():
        raise UserError(f"{path} is missing", "make retrain LOG=folder")
    if path.stat().st_size > MOST_BYTES:
        raise UserError(f"{path} is larger than {MOST_BYTES:,} bytes")
    try:
        found = Proposal.model_validate_json(path.read_bytes())
    except ValidationError as error:
        raise UserError(f"{path} is no proposal: {first_problem(error)[:300]}") from None
    contents = {}
    for each in found.files:
        file = folder / Path(each.path(found.model)).name
        most = MOST_IN_GIT if each.stored == "git" else MOST_IN_REMOTE
        if each.size > most or file.is_symlink() or not file.is_file() or file.stat().st_size != each.size:
            raise UserError(f"{file} is missing, too large, or not the file that {path} names")
        if md5(file) != each.md5:
            raise UserError(f"{file} is not the file that {path} names: its hash differs")
        if each.stored == "git":
            contents[each.path(found.model)] = file.read_bytes()
    return found, contents


def pointer(file: DataFile, name: str) -> bytes:
    """The file that DVC keeps in Git instead of the data."""
    return f"outs:\n- md5: {file.md5}\n  size: {file.size}\n  hash: md5\n  path: {name}\n".encode()


def text(found: Proposal) -> str:
    """The proposal as Markdown, for a pull request or an issue."""
    parts = [f"**{escaped(found.why)}**"]
    if found.alarms:
        parts.append("Alarms: " + ", ".join(map(code, found.alarms)))
    if found.files:
        more, recent = found.rows("more"), found.rows("recent")
        share = more / max(1, more + found.training)
        parts.append(
            table(
                ["rows", "number", "use"],
                [
                    ["new, older part", f"{more:,}", f"training; {share:.0%} of the training rows"],
                    [
                        "new, newest part",
                        f"{recent:,}",
                        "recent window: both models are compared on it, none is trained on it",
                    ],
                    ["test rows", "as on main", "frozen"],
                ],
            )
        )
        parts.append(f"Predicted from {found.first} to {found.last} by the model {code(found.model[:SHOWN])}.")
    if found.problems:
        rows = [
            [
                code(each.column),
                escaped(each.what),
                f"{each.rows:,}" if each.rows else "",
                "<br>".join(
                    f"request {code(one.request_id)}, row {one.row}: {code(one.value)}" for one in each.examples
                ),
            ]
            for each in found.problems
        ]
        parts.append(table(["column", "problem", "rows", "for example"], rows))
    parts += [f"- ⚠️ {escaped(note)}" for note in found.notes]
    return "\n\n".join(parts) + "\n"


def write(found: Proposal, contents: dict[str, bytes], folder: Path = FOLDER) -> None:
    """Write a proposal, its text and its files; the JSON file last, because the others follow from it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / NAME).unlink(missing_ok=True)
    for old in folder.glob("*.parquet"):
        old.unlink()
    for name, content in contents.items():
        (folder / Path(name).name).write_bytes(content)
    (folder / "retrain.md").write_text(text(found), encoding="utf-8")
    document = json.dumps(found.model_dump(), indent=2, ensure_ascii=False)
    (folder / NAME).write_text(document + "\n", encoding="utf-8")
