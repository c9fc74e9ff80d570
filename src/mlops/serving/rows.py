"""Rows of JSON → columns of numbers: the schema of a request, made from the contract, and errors by row and field."""

from __future__ import annotations

import datetime
import difflib
import json
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import numpy as np
import pydantic
from pydantic import ConfigDict, Field, TypeAdapter, ValidationError
from typing_extensions import TypedDict

from mlops.contract import Contract
from mlops.contract import Field as Column
from mlops.inference import Answer, Array

MOST_ROWS = 10_000
MOST_LETTERS = 10_000
MOST_PROBLEMS = 20

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
        kind = Annotated[float, Field(allow_inf_nan=False)]
    elif field.kind == "boolean":
        kind = bool
    elif field.kind == "date":
        kind = datetime.datetime
    elif field.values:
        kind = Literal[tuple(field.values)]
    else:
        kind = Annotated[str, Field(max_length=MOST_LETTERS)]
    return Annotated[kind | None if field.nullable else kind, documented]


def _range(field: Column) -> str | None:
    return None if field.low is None else f"{field.low} to {field.high} among the training rows"


def parse(body: bytes, adapter: TypeAdapter[Any]) -> Rows:
    """The rows of a request.

    Raises
    ------
    RefusedError
        400 where it is no JSON, 422 where a value does not fit; names row and field.
    """
    try:
        return adapter.validate_json(body)["rows"]  # type: ignore[no-any-return]
    except ValidationError as error:
        raise _refused(error, adapter) from None


def _refused(error: ValidationError, adapter: TypeAdapter[Any]) -> RefusedError:
    problems = error.errors(include_url=False, include_context=True)
    if problems[0]["type"] == "json_invalid":
        return RefusedError(400, f"the body is not JSON: {problems[0]['ctx']['error']}")
    schema = adapter.json_schema()
    known = list(schema.get("$defs", {}).get("Row", {}).get("properties", {}))
    detail = [_told(each, known) for each in problems[:MOST_PROBLEMS]]
    count = len(problems)
    values = f"{count} value{'s do' if count != 1 else ' does'} not fit"
    return RefusedError(
        422, values + (f"; the first {MOST_PROBLEMS} are named" if count > MOST_PROBLEMS else ""), detail
    )


def _told(problem: Any, known: list[str]) -> dict[str, Any]:
    """Row, field, and what to do, of one problem that pydantic has found."""
    place = [*problem["loc"], None, None, None]
    inside = place[0] == "rows"
    row = place[1] if inside and isinstance(place[1], int) else None
    field = place[2] if row is not None and isinstance(place[2], str) else None
    kind, said = problem["type"], problem["msg"]
    if kind == "missing":
        said = "is missing" if field or place[0] == "rows" else 'is missing: send {"rows": [{…}, …]}'
    elif kind == "extra_forbidden":
        near = difflib.get_close_matches(str(field), known, 1) if field else []
        said = f"is no field of this model{f'; did you mean {near[0]!r}?' if near else ''}"
    elif problem.get("input") is None and field:
        said = "is null; this column was never empty, so the model cannot do without it"
    else:
        said = said[0].lower() + said[1:]
    told = {"row": row, "field": field if row is not None else place[0], "problem": said[:500]}
    return {key: value[:200] if isinstance(value, str) and key == "field" else value for key, value in told.items()}


def columns(rows: Rows, contract: Contract) -> dict[str, Array]:
    """The rows as `inference` takes them."""
    found: dict[str, Array] = {}
    for field in contract.fields:
        values = [row[field.name] for row in rows]
        if field.kind in ("numeric", "boolean"):
            found[field.name] = np.array(values, dtype=np.float64)  # None becomes NaN
        elif field.kind == "date":
            found[field.name] = np.array([_utc(value) for value in values], dtype="datetime64[us]")
        else:
            found[field.name] = np.array(values, dtype=object)
    return found


def _utc(moment: datetime.datetime | None) -> datetime.datetime | None:
    """A moment without a time zone is in UTC, as in the table."""
    if moment is None or moment.tzinfo is None:
        return moment
    return moment.astimezone(datetime.UTC).replace(tzinfo=None)


def answers(answer: Answer, contract: Contract) -> list[dict[str, Any]]:
    """One object for each row."""
    predicted = answer.predicted.tolist()
    if answer.probabilities is None or contract.classes is None:
        return [{"prediction": each} for each in predicted]
    names = [label if isinstance(label, str) else json.dumps(label) for label in contract.classes]
    return [
        {"prediction": each, "probabilities": dict(zip(names, row, strict=True))}
        for each, row in zip(predicted, answer.probabilities.tolist(), strict=True)
    ]


def answer_type(contract: Contract) -> TypeAdapter[Any]:
    """The body of an answer, for its description."""
    prediction: Any = float if contract.classes is None else Literal[tuple(contract.classes)]
    fields: dict[str, Any] = {"prediction": prediction}
    if contract.probabilities and contract.classes is not None:
        names = [label if isinstance(label, str) else json.dumps(label) for label in contract.classes]
        fields["probabilities"] = shape("Probabilities", dict.fromkeys(names, Annotated[float, Field(ge=0, le=1)]))
    whole = {"predictions": list[shape("Prediction", fields)], "version": str, "model": str, "request_id": str}  # type: ignore[misc]
    return TypeAdapter(shape("Answer", whole))


to_json = pydantic.TypeAdapter(Any).dump_json
