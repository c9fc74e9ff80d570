"""Reads the prediction log, file by file, so that memory does not grow with the log.

What clients sent is hostile, and files may be truncated, doubled, out of order or of another release. A line that is
not what the service writes is counted and left out.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec.structs import astuple

from mlops.core.errors import UserError
from mlops.inference.contract import Contract, label_name

Array = np.ndarray[Any, Any]

NAME = re.compile(r"(\d{8}T\d{6}Z-[0-9a-f]{12})\.jsonl(\.gz)?")
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,6})?Z").fullmatch
MOST_BYTES = 25_000_000  # of a line; the longest body that the service takes is shorter
CHUNK = 20_000  # lines
RowNumber = Annotated[int, msgspec.Meta(ge=0, lt=2**31)]
END = 8  # bytes of CRC and length


class Line(msgspec.Struct, gc=False):
    """What every row of the log has; `line_of` adds features and probabilities of a contract."""

    time: str
    request_id: str
    row: RowNumber
    model: str
    prediction: str | int | float | bool | None
    version: str = ""
    sample: float = 1.0


class WholeLine(Line, kw_only=True):
    """One row of the log of any release."""

    features: dict[str, Any]
    computed: dict[str, Any] = {}
    probabilities: dict[str, float] | None = None
    precomputed: str | None = None


@dataclass
class Rows:
    """Some rows of the log, as columns.

    Attributes
    ----------
    time : ndarray of datetime64[us], of shape (n_samples,)
        UTC.
    request_id : ndarray of object, of shape (n_samples,)
    row : ndarray of int64, of shape (n_samples,)
        Number in the request.
    columns : dict of str to ndarray of shape (n_samples,)
        float64 of numbers and booleans (NaN where missing), objects of the others (None where missing).
    predicted : ndarray of shape (n_samples,)
    probabilities : ndarray of shape (n_samples, n_classes) or None
    version : ndarray of object, of shape (n_samples,)
    """

    time: Array
    request_id: Array
    row: Array
    columns: dict[str, Array]
    predicted: Array
    probabilities: Array | None
    version: Array

    def __len__(self) -> int:
        return len(self.time)

    def some(self, which: Array) -> Rows:
        """Some of the rows."""
        return Rows(
            self.time[which],
            self.request_id[which],
            self.row[which],
            {name: values[which] for name, values in self.columns.items()},
            self.predicted[which],
            None if self.probabilities is None else self.probabilities[which],
            self.version[which],
        )


@dataclass
class Reading:
    """Reads a log, and counts what it leaves out.

    Parameters
    ----------
    folder : Path
    contract : Contract
        Of the release.
    model : str
        MD5 of the model; rows of other models are counted in `others`.
    versions : tuple of str
        Versions that are read instead, whatever their model; their classes must be those of the contract.
    """

    folder: Path
    contract: Contract
    model: str
    versions: tuple[str, ...] = ()
    others: Counter[str] = field(default_factory=Counter)
    unreadable: Counter[str] = field(default_factory=Counter)
    """Lines that are not what the service writes, by file."""
    damaged: list[str] = field(default_factory=list)
    """Files that end before their end."""
    asked: float = 0.0
    """Requests that were answered, estimated from the logged ones and the share that is logged."""

    def __iter__(self) -> Iterator[Rows]:
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(line_of(self.contract))
        for path in segments(self.folder):
            chunk: list[Any] = []
            for text in lines(path, self.damaged):
                try:
                    line = decoder.decode(text)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    line = None
                if line is None:
                    self.unreadable[path.name] += 1
                elif line.version not in self.versions if self.versions else line.model != self.model:
                    self.others[line.version] += 1
                else:
                    chunk.append(line)
                if len(chunk) == CHUNK:
                    yield from self.rows(path, chunk)
                    chunk = []
            yield from self.rows(path, chunk)

    def rows(self, path: Path, chunk: list[Any]) -> Iterator[Rows]:
        """The lines that fit the contract, as columns."""
        kept = [line for line in chunk if self.fits(line)]
        try:
            time = times(kept)
        except ValueError:  # such as the 31st of February
            kept = [line for line in kept if is_time(line)]
            time = times(kept)
        self.unreadable[path.name] += len(chunk) - len(kept)
        if not kept:
            return
        self.asked += sum(1 / line.sample for line in kept if line.row == 0)
        contract = self.contract
        columns = {}
        for parts, found in (
            ([(each.name, each.kind) for each in contract.fields], [astuple(line.features) for line in kept]),
            ([(each.name, each.kind) for each in contract.features], [astuple(line.computed) for line in kept]),
        ):
            for (name, kind), values in zip(parts, zip(*found, strict=True), strict=True):
                columns[name] = as_numbers(values) if kind in ("numeric", "boolean") else as_texts(values)
        probabilities = None
        if contract.probabilities and contract.classes:
            probabilities = np.array([astuple(line.probabilities) for line in kept], dtype=np.float64)
        yield Rows(
            time,
            np.array([line.request_id for line in kept], dtype=object),
            np.array([line.row for line in kept], dtype=np.int64),
            columns,
            np.array([line.prediction for line in kept], dtype=float if contract.classes is None else object),
            probabilities,
            np.array([line.version for line in kept], dtype=object),
        )

    def fits(self, line: Any) -> bool:
        """Whether the service may have written it."""
        if not TIME(line.time) or not 1e-6 <= line.sample <= 1:
            return False
        classes = self.contract.classes
        if classes is None:
            return isinstance(line.prediction, int | float) and not isinstance(line.prediction, bool)
        if line.prediction not in classes:
            return False
        if not self.contract.probabilities:
            return True
        return line.probabilities is not None and None not in astuple(line.probabilities)


def line_of(contract: Contract) -> type[msgspec.Struct]:
    """A row of a release's log: of its features and probabilities, and nothing that a client sent beside them.

    None is required, because rows of another release, which are counted, may have others.
    """

    def part(names: list[str], kind: Any) -> type[msgspec.Struct]:
        fields = [(f"part_{number}", kind, None) for number in range(len(names))]
        rename = {f"part_{number}": name for number, name in enumerate(names)}
        return msgspec.defstruct("Part", fields, rename=rename, gc=False)

    features = part([field.name for field in contract.fields], Any)
    computed = part([each.name for each in contract.features], Any)
    likely = part(
        [label_name(label) for label in contract.classes or []] if contract.probabilities else [], float | None
    )
    fields: list[tuple[str, Any] | tuple[str, Any, Any]] = [
        ("features", features),
        ("computed", computed, msgspec.field(default_factory=computed)),
        ("probabilities", likely | None, None),
    ]
    return msgspec.defstruct("LineOfRelease", fields, bases=(Line,), kw_only=True)


def times(lines: list[Any]) -> Array:
    """When the answers were ready."""
    return np.array([line.time[:-1] for line in lines], dtype="datetime64[us]")


def is_time(line: Any) -> bool:
    try:
        times([line])
    except ValueError:
        return False
    return True


def segments(folder: Path) -> list[Path]:
    """The files of a log in the order in which they were begun; of copies in other folders or of other names, one."""
    if not folder.is_dir():
        raise UserError(f"{folder} is not a folder", "LOG=the folder in which the service writes its prediction log")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*")):
        named = NAME.fullmatch(path.name)
        if named is None or not path.is_file():
            continue
        # of a service that was killed while it sealed, both are there; the sealed file is complete
        if named[1] not in found or (named[2] and found[named[1]].suffix != ".gz"):
            found[named[1]] = path
    contents: dict[Any, Path] = {}
    for name in sorted(found):
        contents.setdefault(checksum(found[name]), found[name])
    return list(contents.values())


def checksum(path: Path) -> bytes | Path:
    """The CRC and the length that end a sealed file; of one in use, its path."""
    if path.suffix != ".gz" or path.stat().st_size < END:
        return path
    with path.open("rb") as file:
        file.seek(-END, os.SEEK_END)
        return file.read()


def lines(path: Path, damaged: list[str]) -> Iterator[bytes]:
    """The complete lines of a file; an empty one for one that is too long. The name of a damaged file is added."""
    opener = gzip.open if path.suffix == ".gz" else open
    within = False  # a line that is too long
    try:
        with opener(path, "rb") as file:
            while line := file.readline(MOST_BYTES):
                ends = line.endswith(b"\n")
                if ends and not within:
                    yield line
                elif len(line) == MOST_BYTES and not within:
                    yield b""
                elif not (ends or within) and path.suffix == ".gz":  # one in use may end within a line
                    damaged.append(path.name)
                within = not ends
    except (EOFError, OSError, zlib.error):
        damaged.append(path.name)


def as_numbers(values: Sequence[Any]) -> Array:
    """float64; NaN for what is missing, left out or a pseudonym."""
    try:
        return np.array(values, dtype=np.float64)
    except (TypeError, ValueError, OverflowError):
        known = [float(value) if isinstance(value, int | float) and abs(value) < 1e300 else np.nan for value in values]
        return np.array(known, dtype=np.float64)


def as_texts(values: Sequence[Any]) -> Array:
    """Objects; None for what is missing."""
    found = np.empty(len(values), dtype=object)
    found[:] = [value if value is None or isinstance(value, str) else str(value) for value in values]
    return found
