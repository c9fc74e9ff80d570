"""Answers that batch scoring has prepared, by key, from the table that `PREDICTIONS` names: `precompute` writes it.

A row of a request may have a member `key`. The values that a client sends always win: the table answers for them only
if they are the ones that were scored. For a key alone it answers with what was scored, and where another model made
the table, this one predicts from the values in it. Nothing of this is imported where `PREDICTIONS` is not set.
"""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote

import msgspec
import prometheus_client as prometheus

from mlops.core.errors import UserError, counted
from mlops.inference.contract import Contract
from mlops.inference.provenance import Release

KEY = "key"
MOST_KEY = 200  # letters
LOOK_SECONDS = 1.0  # between two looks for a new file
APPLICATION = 0x6D6C7072  # "mlpr", in the header of the file
FORMAT = 1
CACHE = 8_000  # KiB of pages that are held, whatever the size of the table
AT_ONCE = 500  # keys of a query
TABLES = """
CREATE TABLE about (content BLOB NOT NULL);
CREATE TABLE predictions (key TEXT NOT NULL, fields BLOB NOT NULL, computed BLOB, answer BLOB NOT NULL);
"""

logger = logging.getLogger("bentoml")


class About(msgspec.Struct):
    """What made a table.

    Attributes
    ----------
    version, commit, model_md5, service_md5 : str
        Of the release.
    fields : list of (str, str)
        Names and kinds of the model's fields.
    rows : int
    scored, until : float
        Seconds since 1970: when the rows were scored, and until when they may be used.
    """

    version: str
    commit: str
    model_md5: str
    service_md5: str
    fields: list[tuple[str, str]]
    rows: int
    scored: float
    until: float


class Entry(NamedTuple):
    """What the table has for a key, each in JSON.

    Attributes
    ----------
    fields : bytes
        The row as `/predict` takes it.
    computed : bytes or None
        The team's features, where there are any.
    answer : bytes
        The prediction as `/predict` answers it, and when it was made.
    """

    fields: bytes
    computed: bytes | None
    answer: bytes


def fields_of(contract: Contract) -> list[tuple[str, str]]:
    return [(field.name, field.kind) for field in contract.fields]


def moment(seconds: float) -> str:
    """A moment as in ISO 8601, in UTC."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def check(contract: Contract) -> None:
    """Check that a row may have a key.

    Raises
    ------
    UserError
        Where the model has a field of this name.
    """
    if any(field.name == KEY for field in contract.fields):
        raise UserError(f"PREDICTIONS needs the member {KEY!r} of a row, which is a field of this model", "unset it")


class Table:
    """The table at a path, which may be replaced at any time.

    A table that is missing, damaged or too old, or that was made for other fields, is ignored; one that another model
    made gives no answers. The log says so once.

    Parameters
    ----------
    path : Path
    contract : Contract
    release : Release
    """

    def __init__(
        self,
        path: Path,
        contract: Contract,
        release: Release,
    ) -> None:
        self.path, self.fields, self.release = path, fields_of(contract), release
        self.connection: sqlite3.Connection | None = None
        self.about: About | None = None
        self.why = ""  # it is not used
        self.looked, self.seen = float("-inf"), (0, 0, 0)
        gauge = prometheus.Gauge(
            "model_precomputed_until_timestamp_seconds",
            "Until when the table of predictions may be used; 0 if it answers nothing",
            multiprocess_mode="livemax",
        )
        self.until = gauge
        self.look()

    @property
    def answers(self) -> bool:
        """Whether the model of the service made it."""
        about = self.about
        return about is not None and (about.model_md5, about.service_md5) == (
            self.release.model_md5,
            self.release.service_md5,
        )

    def look(self) -> None:
        """Open the file if it is another one than at the last look, and close it if it has become too old."""
        now = time.monotonic()
        if now - self.looked < LOOK_SECONDS:
            return
        self.looked = now
        try:
            found = self.path.stat()
            seen = (found.st_ino, found.st_mtime_ns, found.st_size)
        except OSError as error:
            self.seen = (0, 0, 0)
            self.ignore(f"cannot be read: {error.strerror}")
            return
        if seen != self.seen:
            self.seen = seen
            self.open()
        if self.about is not None and time.time() > self.about.until:
            self.ignore(f"was to be used until {moment(self.about.until)}; score the rows again")

    def open(self) -> None:
        """Open the file."""
        self.close()
        try:
            # a file that nobody writes to needs no locks; `precompute` replaces it instead
            address = f"file:{quote(str(self.path.absolute()))}?mode=ro&immutable=1"
            self.connection = sqlite3.connect(address, uri=True, check_same_thread=False)
            about = self.read_about(self.connection)
        except (sqlite3.Error, msgspec.MsgspecError, UnicodeDecodeError, TypeError) as error:
            self.ignore(f"is not a table of predictions: {str(error)[:200]}")
            return
        if about.fields != self.fields:
            self.ignore(f"was made for other fields, by release {about.version}")
            return
        self.about, self.why = about, ""
        self.until.set(about.until if self.answers else 0)
        what = f"{counted(about.rows, 'key')}, scored {moment(about.scored)}, to be used until {moment(about.until)}"
        if self.answers:
            logger.info("predictions: %s answers: %s", self.path, what)
        else:
            made = f"by release {about.version}, model {about.model_md5}"
            served = f"{self.release.version}, model {self.release.model_md5}"
            logger.warning("predictions: %s was made %s, not by %s: the model answers", self.path, made, served)

    def read_about(self, connection: sqlite3.Connection) -> About:
        """What made the table."""
        application, form = (
            connection.execute(f"PRAGMA {name}").fetchone() for name in ("application_id", "user_version")
        )
        if (*application, *form) != (APPLICATION, FORMAT):
            raise sqlite3.DatabaseError("it was not written by `make score`, or by another version of it")
        connection.execute(f"PRAGMA cache_size = -{CACHE}")
        (content,) = connection.execute("SELECT content FROM about").fetchone()
        return msgspec.json.decode(content, type=About)

    def ignore(self, why: str) -> None:
        """Answer nothing until there is another file."""
        self.close()
        self.until.set(0)
        if why != self.why:
            self.why = why
            logger.warning("predictions: %s %s: the model answers", self.path, why)

    def close(self) -> None:
        if self.connection is not None:
            self.connection.close()
        self.connection = self.about = None

    def find(self, keys: Iterable[str]) -> dict[str, Entry]:
        """What the table has for these keys."""
        self.look()
        wanted = list(dict.fromkeys(keys))
        if self.connection is None:
            return {}
        found: dict[str, Entry] = {}
        try:
            for start in range(0, len(wanted), AT_ONCE):
                some = wanted[start : start + AT_ONCE]
                places = ",".join("?" * len(some))
                query = f"SELECT key, fields, computed, answer FROM predictions WHERE key IN ({places})"  # noqa: S608
                found |= {key: Entry(*entry) for key, *entry in self.connection.execute(query, some)}
        except sqlite3.Error as error:
            self.ignore(f"is damaged: {error}")
            return {}
        return found
