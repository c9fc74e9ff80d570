"""Rows of JSON → columns of numbers: the schema of a request, made from the contract, and errors by row and field."""

from __future__ import annotations

import datetime
import difflib
import itertools
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Annotated, Any, Literal, NotRequired

import numpy as np
import pydantic
from pydantic import AfterValidator, ConfigDict, Field, TypeAdapter, ValidationError, WithJsonSchema, WrapValidator
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict

from mlops.inference.computed import FeatureError
from mlops.inference.contract import MOST_NUMBER, Contract, label_name
from mlops.inference.contract import Field as Column
from mlops.inference.runtime import Answer, Array

MOST_ROWS = 10_000
MOST_LETTERS = 10_000
MOST_BRACKETS = 1_000_000  # an object of two bytes takes 140 in memory
MOST_PROBLEMS = 20
MOST_NAME = 200
# some readers of JSON Schema let $ match before a last line break
TIME = r"^([01]?[0-9]|2[0-3]):[0-5][0-9](:[0-5][0-9](\.[0-9]{1,6})?)?$(?!\n)"

Rows = list[dict[str, Any]]
Problem = dict[str, Any]
Fields = tuple[tuple[str, Any], ...]  # of an object, as they were sent


class InvalidRequestError(Exception):
    """A request that does not fit.

    Attributes
    ----------
    status : int
        HTTP status, a 4xx.
    detail : list of dict
        Row, field and problem of each value, where it is about values.
    """

    def __init__(self, status: int, error: str, detail: Sequence[Problem] = ()) -> None:
        super().__init__(error)
        self.status, self.error, self.detail = status, error, list(detail)


def request_type(contract: Contract, lenient: bool = False) -> TypeAdapter[Any]:
    """The body of a request: ``{"rows": [{field: value, …}, …]}``.

    Parameters
    ----------
    lenient : bool
        Whether to look at values only, up to the first row that is wrong. For each field that is missing or unknown
        pydantic makes an error of its own, with a copy of the row: a small body could fill the memory with them.
    """
    row = row_type(contract, lenient)
    described = Field(min_length=1, max_length=MOST_ROWS, description="One or many.")
    rows = Annotated[list[row], described, pydantic.FailFast(lenient)]  # type: ignore[valid-type]
    return TypeAdapter(shape("Request", {"rows": rows}, lenient))


def row_type(contract: Contract, lenient: bool = False) -> Any:
    """One row of a request."""
    return shape("Row", {field.name: value_type(field) for field in contract.fields}, lenient)


def shape(name: str, fields: dict[str, Any], lenient: bool = False) -> Any:
    """A JSON object with these fields, and no others unless lenient; their names may be any text, so it is no class."""
    make: Any = TypedDict  # a type checker knows only literal fields
    found = make(name, fields, total=not lenient)
    found.__pydantic_config__ = ConfigDict(extra="ignore" if lenient else "forbid", strict=True)
    return found


def value_type(field: Column) -> Any:
    """The type of a value, with the range of the training rows as documentation."""
    described = ", ".join(filter(None, [field.unit, _range(field), *_corrections(field)])) or field.kind
    documented = Field(description=described, examples=[field.example])
    kind: Any
    if field.kind == "numeric":
        kind = Annotated[float, Field(ge=-most(field), le=most(field), allow_inf_nan=False)]
    elif field.kind == "boolean":
        kind = bool
    elif field.kind == "date":
        kind = Annotated[datetime.datetime, Field(strict=False), WrapValidator(_moment)]
    elif field.kind == "time":
        kind = Annotated[str, AfterValidator(_seconds), WithJsonSchema({"type": "string", "pattern": TIME})]
    elif field.values:
        kind = Literal[tuple(field.values)]
    else:
        kind = Annotated[str, Field(max_length=MOST_LETTERS)]
    return Annotated[kind | None if field.nullable else kind, documented]


def most(field: Column) -> float:
    """The largest absolute value that a numeric field takes."""
    return max([MOST_NUMBER, *(abs(each) for each in (field.low, field.high) if isinstance(each, float))])


def _range(field: Column) -> str | None:
    return None if field.low is None else f"{field.low} to {field.high} among the training rows"


def _corrections(field: Column) -> Iterator[str]:
    """What the service does to a value, for the description."""
    rule = field.clean
    if rule is None:
        return
    if rule.factor is not None:
        limit = f"above {rule.above:g}" if rule.above is not None else f"below {rule.below:g}"
        yield f"values {limit} are multiplied by {rule.factor:g}"
    if rule.outside is not None:
        sides = [
            f"below {rule.low:g}" if rule.low is not None else "",
            f"above {rule.high:g}" if rule.high is not None else "",
        ]
        effect = "clipped" if rule.outside == "clip" else "taken as missing"
        yield f"values {' or '.join(filter(None, sides))} are {effect}"


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


def _seconds(value: str) -> float:
    """Seconds since midnight of a time of day."""
    if not re.fullmatch(TIME, value):
        raise PydanticCustomError("time", "should be a time of day such as 11:38 or 11:38:36")
    time = datetime.time.fromisoformat(f"0{value}" if value[1] == ":" else value)
    microseconds = ((time.hour * 60 + time.minute) * 60 + time.second) * 1_000_000 + time.microsecond
    return microseconds / 1e6


class Reader:
    """Reads the bodies of requests.

    Parameters
    ----------
    contract : Contract
    """

    def __init__(self, contract: Contract) -> None:
        self.adapter = request_type(contract, lenient=True)
        self.row = TypeAdapter(row_type(contract))
        self.names = [field.name for field in contract.fields]
        self.texts = [field.name for field in contract.fields if field.kind in ("categorical", "text")]
        self.moments = [field.name for field in contract.fields if field.kind in ("date", "time")]
        self.quotes = sum(json.dumps(name).count('"') for name in self.names)

    def __call__(self, body: bytes) -> Rows:
        """The rows of a body.

        Raises
        ------
        InvalidRequestError
            400 if it is not JSON; 422 if a value is invalid or a field appears twice, with row and field; 413
            where it would take much memory to find that it does not.
        """
        check_brackets(body)
        try:
            rows: Rows = self.adapter.validate_json(body).get("rows", [])
        except ValidationError as error:
            raise self.refused(body, error) from None
        # In JSON a field may come twice, and the last one wins: a mistake that nobody would see, as is a field that the
        # model does not know. To compare the number of quotes with what was understood costs next to nothing, and is
        # exact unless a quote was escaped by its number.
        whole = {len(row) for row in rows} == {len(self.names)}
        if not whole or body.count(b'"') != self.expected_quotes(rows) or b"\\u0022" in body:
            found = misfits(self.problems(body))
            if found.detail:
                raise found
        return rows

    def expected_quotes(self, rows: Rows) -> int:
        """How many quotes a body with these rows has, where no field comes twice."""
        count = len('""') + len(rows) * self.quotes
        for name in self.texts:
            count += sum(2 + value.count('"') for row in rows if (value := row[name]) is not None)
        for name in self.moments:
            count += sum(2 for row in rows if row[name] is not None)
        return count

    def refused(self, body: bytes, error: ValidationError) -> InvalidRequestError:
        """Describe the errors that pydantic has found."""
        found = error.errors(include_url=False)
        if found[0]["type"] == "json_invalid":
            return InvalidRequestError(400, f"the body is not JSON: {found[0]['ctx']['error']}")
        outside = [_described(None, each) for each in found if len(each["loc"]) < 2]
        if found[0]["type"] == "too_long":  # not to be parsed once more
            return misfits(outside)
        return misfits(itertools.chain(outside, self.problems(body)))

    def problems(self, body: bytes) -> Iterator[Problem]:
        """What does not fit, row by row; only as many are looked for as are asked for."""
        # an object becomes a tuple of its fields, so that it differs from a list
        request = json.loads(body, object_pairs_hook=tuple, parse_int=float)
        if not isinstance(request, tuple):
            return
        sent = _known(request, ["rows"])
        if not sent:
            yield problem(None, "rows", "is missing")
        for number, row in enumerate(sent["rows"] if isinstance(sent.get("rows"), list) else ()):
            yield from self.problems_of(number, row)
        yield from strange(None, request, ["rows"])

    def problems_of(self, number: int, row: Any) -> Iterator[Problem]:
        """What does not fit in one row."""
        if not isinstance(row, tuple):
            yield problem(number, None, "input should be an object")
            return
        known = _known(row, self.names)
        try:
            self.row.validate_python(known)
        except ValidationError as error:
            yield from (_described(number, each) for each in error.errors(include_url=False))
        if len(row) > len(known):
            yield from strange(number, row, self.names)


def check_brackets(body: bytes) -> None:
    """Check that a body takes no more memory than its length.

    Raises
    ------
    InvalidRequestError
        413 if it has too many objects and arrays.
    """
    if len(body) > MOST_BRACKETS and body.count(b"{") + body.count(b"[") > MOST_BRACKETS:
        raise InvalidRequestError(413, f"the body has more than {MOST_BRACKETS:,} brackets")


def misfits(problems: Iterable[Problem]) -> InvalidRequestError:
    """The response to invalid values, which lists the first of them."""
    detail = list(itertools.islice(problems, MOST_PROBLEMS + 1))
    if len(detail) > MOST_PROBLEMS:
        why = f"more than {MOST_PROBLEMS} invalid values; the first {MOST_PROBLEMS} are listed"
    else:
        why = f"{len(detail)} invalid value{'s' if len(detail) != 1 else ''}"
    return InvalidRequestError(422, why, detail[:MOST_PROBLEMS])


def uncomputable(error: FeatureError) -> InvalidRequestError:
    """Rows for which a feature cannot be computed, with the name of the feature as the field."""
    return misfits(problem(row, name, why) for row, found in sorted(error.problems.items()) for name, why in found)


def _described(row: int | None, found: Any) -> Problem:
    """Row, field and description of an error that pydantic has found."""
    kind, why = found["type"], found["msg"]
    if kind == "missing":
        why = "is missing"
    elif kind == "too_short":
        why = "is empty; at least one row is required"
    elif kind in ("greater_than_equal", "less_than_equal"):
        why = f"is outside the limit {found['ctx'].get('ge', found['ctx'].get('le')):g}"
    elif found["input"] is None and row is not None:
        why = "is null, but the training data had no missing values in this column"
    else:
        why = why[0].lower() + why[1:]
    return problem(row, next(iter(found["loc"]), None), why)


def problem(row: int | None, field: Any, why: str) -> Problem:
    """What is wrong with a field of a row, or with the body."""
    return {"row": row, "field": field[:MOST_NAME] if isinstance(field, str) else field, "problem": why[:500]}


def _known(sent: Fields, names: Iterable[str]) -> dict[str, Any]:
    """The fields that have one of these names."""
    wanted = frozenset(names)
    return {name: value for name, value in sent if name in wanted}


def strange(row: int | None, sent: Fields, names: list[str]) -> Iterator[Problem]:
    """The fields that come twice, or have none of these names."""
    known = frozenset(names)
    for name, count in Counter(name for name, _ in sent if name in known).items():
        if count > 1:
            yield problem(row, name, "appears more than once")
    known_names = set(known)
    for name, _ in sent:
        if name not in known_names:
            known_names.add(name)
            near = difflib.get_close_matches(name[:MOST_NAME], names, 1) if row is not None else []
            hint = f"; did you mean {near[0]!r}?" if near else ""
            yield problem(row, name, f"is not a field of this model{hint}")


def columns(rows: Rows, contract: Contract) -> dict[str, Array]:
    """The rows as columns, not yet corrected; what is missing becomes NaN, NaT or None."""
    found: dict[str, Array] = {}
    numbers = [field.name for field in contract.fields if field.kind in ("numeric", "boolean", "time")]
    # all at once: of one row and 30 fields that takes a quarter of the time
    matrix = np.array([[row[name] for name in numbers] for row in rows], dtype=np.float64)
    found.update(zip(numbers, matrix.T, strict=True))
    for field in contract.fields:
        if field.name not in found:
            kind = "datetime64[us]" if field.kind == "date" else "object"
            found[field.name] = np.array([row[field.name] for row in rows], dtype=kind)
    return found


def check_finite(answer: Answer, contract: Contract) -> None:
    """Check that a model has not calculated with infinity, because a value was too large.

    Raises
    ------
    InvalidRequestError
        With the rows where it has.
    """
    numbers = answer.predicted if contract.classes is None else answer.probabilities
    if numbers is not None and not np.isfinite(numbers).all():
        rows = np.flatnonzero(~np.isfinite(numbers.reshape(len(numbers), -1)).all(axis=1))
        why = "has values too large for the model to compute a prediction"
        raise misfits(problem(int(row), None, why) for row in rows)


def answer_type(contract: Contract) -> TypeAdapter[Any]:
    """The body of an answer, for its description."""
    prediction: Any = float if contract.classes is None else Literal[tuple(contract.classes)]
    fields: dict[str, Any] = {"prediction": prediction}
    if contract.probabilities and contract.classes is not None:
        names = [label_name(label) for label in contract.classes]
        fields["probabilities"] = shape("Probabilities", dict.fromkeys(names, Annotated[float, Field(ge=0, le=1)]))
    about = contract.explanation
    if about.method is not None:
        names = [each.name for each in contract.inputs]
        explanation: dict[str, Any] = {} if contract.classes is None else {"of": prediction}
        explanation |= {"unit": Literal[about.unit], "base": float}
        explanation |= {"contributions": shape("Contributions", dict.fromkeys(names, float)), "score": float}
        fields["explanation"] = NotRequired[shape("Explanation", explanation)]
    whole = {"predictions": list[shape("Prediction", fields)], "version": str, "model": str, "request_id": str}  # type: ignore[misc]
    return TypeAdapter(shape("Answer", whole))


to_json = pydantic.TypeAdapter(Any).dump_json
