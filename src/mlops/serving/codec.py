"""JSON → columns, and predictions → JSON, at a fraction of the time that `rows` takes.

msgspec checks types and limits while it parses. It stops at the first value that does not fit, so `rows.Reader` reads
what it refuses again and names every row and field. It accepts nothing that `rows.Reader` refuses.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
from pydantic import TypeAdapter, ValidationError

from mlops.inference.contract import Contract, Field, label_name
from mlops.inference.corrections import correct
from mlops.inference.runtime import Answer, Array
from mlops.serving import rows

NUMBERS, TEXTS, MOMENTS = ("numeric", "boolean"), ("categorical", "text"), ("date", "time")


class Decoder:
    """Reads the bodies of requests.

    Parameters
    ----------
    contract : Contract
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.read = rows.Reader(contract)
        fields = [(f"field_{number}", field) for number, field in enumerate(contract.fields)]
        self.fast = _decoder(fields)
        self.numbers = [field.name for _, field in fields if field.kind in NUMBERS]
        self.numbers_of = _getter([name for name, field in fields if field.kind in NUMBERS])
        self.texts = [(attrgetter(name), field.name) for name, field in fields if field.kind in TEXTS]
        self.moments = [(attrgetter(name), *_moments(field)) for name, field in fields if field.kind in MOMENTS]
        self.quotes = sum(json.dumps(field.name).count('"') for _, field in fields)
        self.corrects = any(field.clean is not None for _, field in fields)

    def __call__(self, body: bytes) -> tuple[Array, dict[str, Array]]:
        """The numeric and boolean fields, and the others.

        Returns
        -------
        numbers : ndarray of float64, of shape (n_samples, n_numbers)
            NaN where missing.
        others : dict of str to ndarray of shape (n_samples,)
            NaT or None where missing.

        Raises
        ------
        InvalidRequestError
            As `rows.Reader` does.
        """
        found = self.decoded(body)
        return self.thorough(body) if found is None else found

    def columns(self, numbers: Array, others: dict[str, Array]) -> dict[str, Array]:
        """The columns as `inference` takes them, corrected as `data.clean` says."""
        columns = {**dict(zip(self.numbers, numbers.T, strict=True)), **others}
        if self.corrects:
            correct(columns, self.contract)
        return columns

    def thorough(self, body: bytes) -> tuple[Array, dict[str, Array]]:
        """The same by `rows.Reader`, which names what does not fit."""
        columns = rows.columns(self.read(body), self.contract)
        n_samples = len(columns[self.contract.fields[0].name])
        numbers = np.empty((n_samples, len(self.numbers)))
        for place, name in enumerate(self.numbers):
            numbers[:, place] = columns.pop(name)
        return numbers, columns

    def decoded(self, body: bytes) -> tuple[Array, dict[str, Array]] | None:
        """The same by msgspec; None if anything about the body is unusual."""
        if self.fast is None or len(body) > rows.MOST_BRACKETS:
            return None
        try:
            found = self.fast.decode(body).rows
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        numbers = np.array([self.numbers_of(row) for row in found], dtype=np.float64)
        others: dict[str, Array] = {}
        quotes = len('""') + len(found) * self.quotes
        for get, name in self.texts:
            values = [get(row) for row in found]
            quotes += sum(2 + value.count('"') for value in values if value is not None)
            others[name] = np.array(values, dtype=object)
        for get, name, parse, dtype in self.moments:
            values = [get(row) for row in found]
            quotes += sum(2 for value in values if value is not None)
            try:
                others[name] = np.array(parse(values), dtype=dtype)
            except ValidationError:
                return None
        # a field that comes twice has more quotes, see `rows.Reader`
        if _count(body, b'"') != quotes or (b"\\" in body and b"\\u0022" in body):
            return None
        return numbers, others


class Encoder:
    """Writes the bodies of answers.

    Parameters
    ----------
    contract : Contract
    version, model : str
        Of the release.
    """

    def __init__(self, contract: Contract, version: str, model: str) -> None:
        self.contract = contract
        self.release = {"version": version, "model": model}
        self.probabilities = _probabilities([label_name(label) for label in contract.classes or []])

    def __call__(self, answer: Answer, request_id: str, why: list[dict[str, Any]] | None = None) -> bytes:
        """One object for each row, with its explanation if there are explanations."""
        predicted = answer.predicted.tolist()
        predictions: list[Any]
        if answer.probabilities is None or self.contract.classes is None:
            predictions = [{"prediction": each} for each in predicted]
        else:
            name = self.probabilities
            predictions = [
                {"prediction": each, "probabilities": name(row)}
                for each, row in zip(predicted, answer.probabilities.tolist(), strict=True)
            ]
        if why is not None:
            predictions = [{**each, "explanation": one} for each, one in zip(predictions, why, strict=True)]
        return msgspec.json.encode({"predictions": predictions, **self.release, "request_id": request_id})

    def joined(self, predictions: list[bytes], request_id: str) -> bytes:
        """The same of predictions that are JSON already."""
        more = msgspec.json.encode({**self.release, "request_id": request_id})
        return b'{"predictions":[%b],%b' % (b",".join(predictions), more[1:])


def _probabilities(names: list[str]) -> Callable[[list[float]], Any]:
    """A function that names the probabilities of a row."""
    try:
        named = msgspec.defstruct(
            "Probabilities", [(f"class_{n}", float, msgspec.field(name=name)) for n, name in enumerate(names)], gc=False
        )
    except ValueError:  # a quote or a backslash in a name
        return lambda row: dict(zip(names, row, strict=True))
    return lambda row: named(*row)


def _decoder(fields: list[tuple[str, Field]]) -> Any:
    """A decoder of requests with these fields; None if msgspec cannot have their names."""
    try:
        row = msgspec.defstruct(
            "Row",
            [(name, _type(field), msgspec.field(name=field.name)) for name, field in fields],
            forbid_unknown_fields=True,
            gc=False,  # a row holds no other objects that could hold it
        )
    except ValueError:  # a quote or a backslash in a name
        return None
    some = Annotated[list[row], msgspec.Meta(min_length=1, max_length=rows.MOST_ROWS)]  # type: ignore[valid-type]
    request = msgspec.defstruct("Request", [("rows", some)], forbid_unknown_fields=True)
    return msgspec.json.Decoder(request)


def _type(field: Field) -> Any:
    """The type of a value; `rows.value_type` without dates and times, which are still texts here."""
    kind: Any
    if field.kind == "numeric":
        most = rows.most(field)
        kind = Annotated[float, msgspec.Meta(ge=-most, le=most)]
    elif field.kind == "boolean":
        kind = bool
    elif field.kind in MOMENTS:
        kind = str
    elif field.values:
        kind = Literal[tuple(field.values)]
    else:
        kind = Annotated[str, msgspec.Meta(max_length=rows.MOST_LETTERS)]
    return kind | None if field.nullable else kind


def _moments(field: Field) -> tuple[str, Callable[[Any], Any], str]:
    """Name, parser and NumPy type of a column of dates or times."""
    values: Any = list[rows.value_type(field)]  # type: ignore[misc]
    adapter: TypeAdapter[Any] = TypeAdapter(values)
    return field.name, adapter.validate_python, "datetime64[us]" if field.kind == "date" else "float64"


def _getter(names: list[str]) -> Callable[[Any], Any]:
    """A function that returns these attributes as a tuple."""
    if len(names) < 2:  # attrgetter would return the only one by itself
        return lambda row: tuple(getattr(row, name) for name in names)
    return attrgetter(*names)


def _count(body: bytes, letter: bytes) -> int:
    """How often a byte occurs; NumPy is faster where there are many."""
    if len(body) < 4_000:
        return body.count(letter)
    return int(np.count_nonzero(np.frombuffer(body, dtype=np.uint8) == letter[0]))
