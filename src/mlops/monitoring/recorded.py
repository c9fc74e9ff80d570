"""The rows of a prediction log as they were received, in parts, so that memory does not grow with the log.

A model reads them as its service would: the same decoder, the same corrections. A row that does not fit is left out,
and the reason is counted.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np

from mlops.inference.contract import Contract, Field
from mlops.monitoring.log import RowNumber, lines, segments
from mlops.serving import codec, rows
from mlops.serving.rows import InvalidRequestError

Array = np.ndarray[Any, Any]

CHUNK, CHUNK_BYTES = 20_000, 64_000_000
BODY_BYTES = 900_000  # the fast decoder takes bodies of up to a megabyte
MOST_REASONS = 200


class Line(msgspec.Struct):
    """One row of the log, of any release."""

    request_id: str
    row: RowNumber
    model: str
    features: msgspec.Raw
    prediction: str | int | float | bool | None
    probabilities: dict[str, float] | None = None


@dataclass
class Log:
    """Reads a log, and counts what it leaves out."""

    folder: Path
    rows: int = 0
    unreadable: int = 0
    damaged: list[str] = field(default_factory=list)

    def __iter__(self) -> Iterator[list[Line]]:
        """Parts of the log, each of at most `CHUNK` lines."""
        decoder = msgspec.json.Decoder(Line)
        chunk: list[Line] = []
        size = 0
        for path in segments(self.folder):
            for text in lines(path, self.damaged):
                try:
                    chunk.append(decoder.decode(text))
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                    self.unreadable += 1
                    continue
                size += len(text)
                self.rows += 1
                if len(chunk) == CHUNK or size > CHUNK_BYTES:
                    yield chunk
                    chunk, size = [], 0
        if chunk:
            yield chunk


class Columns(NamedTuple):
    """Rows as columns.

    Attributes
    ----------
    columns : dict of str to ndarray of shape (n_fitting,)
        Of the rows that fit, corrected as `data.clean` says.
    fits : ndarray of bool, of shape (n_samples,)
    """

    columns: dict[str, Array]
    fits: Array


class Reader:
    """Reads rows as the service of a model would.

    Parameters
    ----------
    contract : Contract
    others : list of Field
        Fields of other models. Rows may hold those that the model does not take: its service would refuse the request,
        but without them the rows can be predicted.

    Attributes
    ----------
    refused, ignored : Counter of str
        Rows by reason: those that were left out, and those of which a field was.
    """

    def __init__(self, contract: Contract, others: list[Field]) -> None:
        names = {each.name for each in contract.fields}
        self.needed = [each.name for each in contract.fields]
        self.ours = frozenset(names)
        self.strange = [each for each in others if each.name not in names]
        fields = [*contract.fields, *self.strange]
        self.decode = codec.Decoder(contract.model_copy(update={"fields": fields}))
        self.alone = codec.Decoder(contract)
        self.row = msgspec.json.Decoder(dict[str, msgspec.Raw])
        self.refused: Counter[str] = Counter()
        self.ignored: Counter[str] = Counter()
        # what decides how a row is read, so that models that agree on it share the work
        self.form = sorted(
            (each.name, each.kind, each.nullable, str(each.values), str(each.clean), rows.most(each))
            for each in contract.fields
        )

    def __call__(self, chunk: list[Line]) -> Columns:
        """The rows of a part of the log."""
        parts: list[dict[str, Array]] = []
        fits = np.ones(len(chunk), dtype=bool)
        start = 0
        while start < len(chunk):
            end, size = start, 0
            while end < len(chunk) and end - start < rows.MOST_ROWS and (size < BODY_BYTES or end == start):
                size += len(memoryview(chunk[end].features)) + 1
                end += 1
            if size > BODY_BYTES and end - start > 1:
                end -= 1
            parts += self.body([bytes(line.features) for line in chunk[start:end]], fits[start:end])
            start = end
        if not parts:
            return Columns({}, fits)
        if len(parts) == 1:
            return Columns(parts[0], fits)
        return Columns({name: np.concatenate([part[name] for part in parts]) for name in self.needed}, fits)

    def body(self, features: list[bytes], fits: Array) -> list[dict[str, Array]]:
        """The columns of some rows, all at once where all of them fit; marks those that do not."""
        found = self.decode.decoded(body_of(features))
        if found is not None:
            for each in self.strange:
                self.note(self.ignored, f"{each.name} is not a column of this model", len(features))
            return [self.only(self.decode.columns(*found))]
        known = []
        for place, raw in enumerate(features):
            one = self.fitting(raw)
            fits[place] = one is not None
            known += [] if one is None else [one]
        if not known:
            return []
        together = self.alone.decoded(body_of(known))
        return [self.only(self.alone.columns(*(together or self.alone.thorough(body_of(known)))))]

    def fitting(self, raw: bytes) -> bytes | None:
        """A row with the model's fields; None where it does not fit."""
        try:
            row = self.row.decode(raw)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            self.note(self.refused, "the features are no JSON object")
            return None
        missing = [name for name in self.needed if name not in row]
        if missing:
            more = f" and {len(missing) - 1} more" if len(missing) > 1 else ""
            self.note(self.refused, f"{missing[0]}{more} is needed by this model, and not in the log")
            return None
        known = msgspec.json.encode({name: row[name] for name in self.needed})
        if self.alone.decoded(body_of([known])) is None:
            try:
                self.alone.thorough(body_of([known]))
            except InvalidRequestError as error:
                first: Mapping[str, Any] = (
                    error.detail[0] if error.detail else {"field": "the row", "problem": str(error)}
                )
                self.note(self.refused, f"{first['field']} {first['problem']}")
                return None
        for name in sorted(row.keys() - self.ours):
            self.note(self.ignored, f"{name[:100]} is not a column of this model")
        return known

    def only(self, columns: dict[str, Array]) -> dict[str, Array]:
        return {name: columns[name] for name in self.needed}

    def note(self, where: Counter[str], why: str, count: int = 1) -> None:
        """Count a reason; a log of many different ones does not fill the memory."""
        where[why if why in where or len(where) < MOST_REASONS else "other reasons"] += count


def body_of(features: list[bytes]) -> bytes:
    """The body of a request with these rows."""
    return b'{"rows":[' + b",".join(features) + b"]}"
