"""Rows of JSON → columns of numbers: the schema of a request, made from the contract, and errors by row and field."""

from __future__ import annotations

import datetime
import difflib
import json
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError, WrapValidator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from mlops.contract import MOST_NUMBER, Contract, Label
from mlops.contract import Field as Column
from mlops.inference import Answer, Array

MOST_ROWS = 10_000
MOST_LETTERS = 10_000
MOST_PROBLEMS = 20
MOST_NAME = 200

Rows = list[dict[str, Any]]


class RefusedError(Exception):
    """A request that does not fit.

    Attributes
    ----------
    status : int
        HTTP status, a 4xx.
    detail : list of dict
        Row, field and problem of each value, where it is about values.
    """

    def __init__(self, status: int, error: str, detail: Sequence[dict[str, Any]] = ()) -> None:
        super().__init__(error)
        self.status, self.error, self.detail = status, error, list(detail)


def request_type(contract: Contract) -> TypeAdapter[Any]:
    """The body of a request as pydantic checks it: ``{"rows": [{field: value, …}, …]}``."""
    row = shape("Row", {field.name: value_type(field) for field in contract.fields})
    rows = Annotated[list[row], Field(min_length=1, max_length=MOST_ROWS, description="One or many.")]  # type: ignore[valid-type]
    return TypeAdapter(shape("Request", {"rows": rows}))


def shape(name: str, fields: dict[str, Any]) -> Any:
    """A JSON object with these fields and no others; their names may be any text, so it is no class."""
    make: Any = TypedDict  # a type checker knows only literal fields
    found = make(name, fields)
    found.__pydantic_config__ = ConfigDict(extra="forbid", strict=True)
    return found


def value_type(field: Column) -> Any:
    """The type of a value, with the range of the training rows as documentation."""
    described = ", ".join(filter(None, [field.unit, _range(field)])) or field.kind
    documented = Field(description=described, examples=[field.example])
    kind: Any
    if field.kind == "numeric":
        most = max([MOST_NUMBER, *(abs(each) for each in (field.low, field.high) if isinstance(each, float))])
        kind = Annotated[float, Field(ge=-most, le=most, allow_inf_nan=False)]
    elif field.kind == "boolean":
        kind = bool
    elif field.kind == "date":
        kind = Annotated[datetime.datetime, Field(strict=False), WrapValidator(_moment)]
    elif field.values:
        kind = Literal[tuple(field.values)]
    else:
        kind = Annotated[str, Field(max_length=MOST_LETTERS)]
    return Annotated[kind | None if field.nullable else kind, documented]


def _range(field: Column) -> str | None:
    return None if field.low is None else f"{field.low} to {field.high} among the training rows"


def _moment(value: Any, parse: Callable[[Any], datetime.datetime]) -> datetime.datetime:
    """A date or a moment in text, as UTC without saying so; one without a time zone is in UTC, as in the table."""
    if not isinstance(value, str) or "-" not in value[1:]:  # pydantic would take seconds since 1970
        raise PydanticCustomError("date", "should be a date such as 2025-12-31 or 2025-12-31T23:59:00Z")
    moment = parse(value)
    if moment.tzinfo is None:
        return moment
    try:
        return moment.astimezone(datetime.UTC).replace(tzinfo=None)
    except OverflowError:
        raise PydanticCustomError("date", "should be of the years 1 to 9999 in UTC") from None


class Reader:
    """Reads the bodies of requests.

    Parameters
    ----------
    contract : Contract
    """

    def __init__(self, contract: Contract) -> None:
        self.adapter = request_type(contract)
        self.names = [field.name for field in contract.fields]
        self.texts = [field.name for field in contract.fields if field.kind in ("categorical", "text")]
        self.dates = [field.name for field in contract.fields if field.kind == "date"]
        self.quotes = sum(json.dumps(name).count('"') for name in self.names)

    def __call__(self, body: bytes) -> Rows:
        """The rows of a body.

        Raises
        ------
        RefusedError
            400 where it is no JSON; 422 where a value does not fit or a field comes twice, naming row and field.
        """
        try:
            rows: Rows = self.adapter.validate_json(body)["rows"]
        except ValidationError as error:
            raise self.refused(error) from None
        # In JSON a field may come twice, and the last one wins: a mistake that nobody would see. To compare the number
        # of quotes with what was understood costs nothing, and is exact unless a quote was escaped by its number.
        if body.count(b'"') != self.expected_quotes(rows) or b"\\u0022" in body:
            _refuse_twice(body)
        return rows

    def expected_quotes(self, rows: Rows) -> int:
        """How many quotes a body with these rows has, where no field comes twice."""
        count = len('""') + len(rows) * self.quotes
        for name in self.texts:
            count += sum(2 + value.count('"') for row in rows if (value := row[name]) is not None)
        for name in self.dates:
            count += sum(2 for row in rows if row[name] is not None)
        return count

    def refused(self, error: ValidationError) -> RefusedError:
        """What pydantic has found, in words."""
        problems = error.errors(include_url=False, include_context=True)
        if problems[0]["type"] == "json_invalid":
            return RefusedError(400, f"the body is not JSON: {problems[0]['ctx']['error']}")
        return misfits([_told(each, self.names) for each in problems[:MOST_PROBLEMS]], len(problems))


def misfits(detail: Sequence[dict[str, Any]], count: int) -> RefusedError:
    """Values that do not fit, of which the first are named."""
    values = f"{count} value{'s do' if count != 1 else ' does'} not fit"
    more = f"; the first {MOST_PROBLEMS} are named" if count > MOST_PROBLEMS else ""
    return RefusedError(422, values + more, detail[:MOST_PROBLEMS])


def _told(problem: Any, known: list[str]) -> dict[str, Any]:
    """Row, field, and what to do, of one problem that pydantic has found."""
    place = [*problem["loc"], None, None, None]
    inside = place[0] == "rows"
    row = place[1] if inside and isinstance(place[1], int) else None
    field = place[2] if row is not None and isinstance(place[2], str) else None
    kind, said = problem["type"], problem["msg"]
    if kind == "missing":
        said = "is missing" if field or inside else 'is missing: send {"rows": [{…}, …]}'
    elif kind == "extra_forbidden":
        near = difflib.get_close_matches(field[:MOST_NAME], known, 1) if field else []
        said = f"is no field of this model{f'; did you mean {near[0]!r}?' if near else ''}"
    elif kind in ("greater_than_equal", "less_than_equal"):
        said = f"is beyond {problem['ctx'].get('ge', problem['ctx'].get('le')):g}"
    elif problem.get("input") is None and field:
        said = "is null; this column was never empty, so the model cannot do without it"
    else:
        said = said[0].lower() + said[1:]
    return _problem(row, field if row is not None else place[0], said)


def _problem(row: int | None, field: Any, said: str) -> dict[str, Any]:
    return {"row": row, "field": field[:MOST_NAME] if isinstance(field, str) else field, "problem": said[:500]}


def _refuse_twice(body: bytes) -> None:
    """Find the fields that come twice, if there are any."""
    pairs = json.loads(body, object_pairs_hook=list, parse_int=str, parse_float=str, parse_constant=str)
    places = [(None, pairs), *enumerate(dict(pairs)["rows"])]
    counts = [(row, Counter(name for name, _ in fields)) for row, fields in places]
    detail = [_problem(row, name, "comes twice") for row, each in counts for name in each if each[name] > 1]
    if detail:
        raise misfits(detail, len(detail))


def columns(rows: Rows, contract: Contract) -> dict[str, Array]:
    """The rows as `inference` takes them; what is missing becomes NaN, NaT or None."""
    found: dict[str, Array] = {}
    numbers = [field.name for field in contract.fields if field.kind in ("numeric", "boolean")]
    # all at once: of one row and 30 fields that takes a quarter of the time
    matrix = np.array([[row[name] for name in numbers] for row in rows], dtype=np.float64)
    found.update(zip(numbers, matrix.T, strict=True))
    for field in contract.fields:
        if field.name not in found:
            kind = "datetime64[us]" if field.kind == "date" else "object"
            found[field.name] = np.array([row[field.name] for row in rows], dtype=kind)
    return found


def answers(answer: Answer, contract: Contract) -> list[dict[str, Any]]:
    """One object for each row.

    Raises
    ------
    RefusedError
        Where a value was so large that the model has calculated with infinity.
    """
    numbers = answer.predicted if contract.classes is None else answer.probabilities
    if numbers is not None and not np.isfinite(numbers).all():
        rows = np.flatnonzero(~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1))
        said = "its values are so large that the model has no answer"
        raise misfits([_problem(int(row), None, said) for row in rows[:MOST_PROBLEMS]], len(rows))
    predicted = answer.predicted.tolist()
    if answer.probabilities is None or contract.classes is None:
        return [{"prediction": each} for each in predicted]
    names = [label_name(label) for label in contract.classes]
    return [
        {"prediction": each, "probabilities": dict(zip(names, row, strict=True))}
        for each, row in zip(predicted, answer.probabilities.tolist(), strict=True)
    ]


def label_name(label: Label) -> str:
    """A label as the name of its probability."""
    return label if isinstance(label, str) else json.dumps(label)


def answer_type(contract: Contract) -> TypeAdapter[Any]:
    """The body of an answer, for its description."""
    prediction: Any = float if contract.classes is None else Literal[tuple(contract.classes)]
    fields: dict[str, Any] = {"prediction": prediction}
    if contract.probabilities and contract.classes is not None:
        names = [label_name(label) for label in contract.classes]
        fields["probabilities"] = shape("Probabilities", dict.fromkeys(names, Annotated[float, Field(ge=0, le=1)]))
    whole = {"predictions": list[shape("Prediction", fields)], "version": str, "model": str, "request_id": str}  # type: ignore[misc]
    return TypeAdapter(shape("Answer", whole))


to_json = pydantic.TypeAdapter(Any).dump_json
