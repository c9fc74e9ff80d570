"""Protocols whose requests hold rows of JSON in an envelope: SageMaker, Vertex AI, Azure ML and MLflow.

Values are passed on as they were written, and `rows` judges them: a translated request is refused where `/predict`
would refuse its rows.

References
----------
- Amazon SageMaker AI, "Custom Inference Code with Hosting Services"
- Vertex AI, "Custom container requirements for prediction"
- Azure Machine Learning, "Guidelines for deploying MLflow models" and "Azure Machine Learning inference HTTP server"
- MLflow, "Deploy MLflow Model as a Local Inference Server"
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec

from mlops.core.errors import UserError
from mlops.inference.contract import Contract
from mlops.serving import rows
from mlops.serving.adapter import Asked, Dialect, Headers, Route, words
from mlops.serving.front import PREDICT
from mlops.serving.protocol import PREDICT_ROUTE
from mlops.serving.rows import InvalidRequestError

HEALTH_ROUTE = "AIP_HEALTH_ROUTE"
READY = Route("/readyz")
ATTRIBUTES = b"x-amzn-sagemaker-custom-attributes"  # the only header that SageMaker passes on and back
MOST_COLUMNS = 1_000_000  # bytes; a name of three takes sixty in memory
NOTHING = msgspec.Raw(b"")
# a text that does not end takes in the rest, so that no quote in it is looked at twice
TEXT = rb'"(?:[^"\\]++|\\.)*+(?:"|\\?\Z)'
TEXTS, NAN = re.compile(TEXT, re.DOTALL), re.compile(rb"%b|NaN" % TEXT, re.DOTALL)
# MLflow's own names
CODES = {401: "UNAUTHENTICATED", 404: "RESOURCE_DOES_NOT_EXIST", 429: "REQUEST_LIMIT_EXCEEDED", 500: "INTERNAL_ERROR"}

ToRows = Callable[[bytes], bytes]
FromAnswer = Callable[[bytes, str], bytes]


class Split(msgspec.Struct, forbid_unknown_fields=True):
    """A data frame as pandas writes it with ``orient="split"``."""

    columns: msgspec.Raw
    data: msgspec.Raw
    index: msgspec.Raw = NOTHING


class Prediction(msgspec.Struct, omit_defaults=True):
    prediction: msgspec.Raw
    probabilities: msgspec.Raw | msgspec.UnsetType = msgspec.UNSET
    precomputed: str | None = None


class Answered(msgspec.Struct):
    """An answer of the service."""

    predictions: list[Prediction]
    version: str
    model: str
    request_id: str


class Predictions(msgspec.Struct):
    predictions: msgspec.Raw


def sagemaker(contract: Contract) -> Dialect:
    """As `/predict`: SageMaker prescribes no form. Its own algorithms take `instances`."""
    route = Route(PREDICT, asking({"rows": records, "instances": records}, lambda answer, _: answer))
    return Dialect(routes({"/invocations": route, "/ping": READY}), unchanged, id_header=ATTRIBUTES)


def vertex(contract: Contract) -> Dialect:
    """`instances` and `predictions`, at the paths that Vertex AI names.

    Raises
    ------
    UserError
        Where one of these is no path.
    """
    health, predict = place(HEALTH_ROUTE, "/health"), place(PREDICT_ROUTE, PREDICT)
    prediction = Route(PREDICT, asking({"instances": records}, only_predictions, ("parameters",)))

    def route(method: str, path: str) -> Route | None:
        # both may be one path, at which probes send GET
        if path == health and (method in ("GET", "HEAD") or health != predict):
            return READY
        return prediction if path == predict else None

    return Dialect(route, unchanged)


def azureml(contract: Contract) -> Dialect:
    """As Azure ML's own server answers for a model of MLflow: a data frame in, a list of labels or numbers out."""
    route = Route(PREDICT, asking({"input_data": split(contract)}, labels, ("params",), nan=True))

    def error(status: int, refusal: dict[str, Any]) -> tuple[int, bytes]:
        return status, rows.to_json({"message": words(refusal)})

    return Dialect(routes({"/score": route, "/": READY}), error)


def mlflow(contract: Contract) -> Dialect:
    """As `mlflow models serve` answers, and with probabilities, where there are any."""
    frames = {"dataframe_split": split(contract), "dataframe_records": records, "instances": records}
    route = Route(PREDICT, asking(frames, labels_and_more, ("params",), nan=True))

    def error(status: int, refusal: dict[str, Any]) -> tuple[int, bytes]:
        status = 400 if status == 422 else status
        return status, rows.to_json({"error_code": CODES.get(status, "BAD_REQUEST"), "message": words(refusal)})

    return Dialect(routes({"/invocations": route, "/ping": READY, "/health": READY}), error)


def routes(known: dict[str, Route]) -> Callable[[str, str], Route | None]:
    """These paths, whatever the method: the service's own path says which ones it takes."""
    return lambda _, path: known.get(path)


def place(variable: str, usual: str) -> str:
    """The path that the platform names in a variable."""
    path = os.environ.get(variable) or usual
    if not path.startswith("/"):
        raise UserError(f"{variable} must be a path, got {path!r}", f"{variable}={usual}")
    return path


def asking(
    forms: dict[str, ToRows], answer: FromAnswer, empty: tuple[str, ...] = (), nan: bool = False
) -> Callable[[bytes, Headers], Asked]:
    """A translator of requests with exactly one of some members, which hold the rows.

    Parameters
    ----------
    forms : dict of str to callable
        Name of a member → what makes an array of rows of it.
    answer : callable
        See `Asked`.
    empty : tuple of str
        Members that a request may have if they are empty: the model takes no parameters.
    nan : bool
        Whether to take NaN for null, as pandas' missing values are written.
    """
    members = [(name, msgspec.Raw, NOTHING) for name in (*forms, *empty)]
    decoder = msgspec.json.Decoder(msgspec.defstruct("Envelope", members, forbid_unknown_fields=True))
    form = " or ".join(f'{{"{name}": …}}' for name in forms)

    def ask(body: bytes, headers: Headers) -> Asked:
        rows.check_brackets(body)
        body = without_nan(body) if nan else body
        envelope = decoded(decoder, body, f"the body must be {form}")
        given = [name for name in forms if getattr(envelope, name)]
        if len(given) != 1:
            raise InvalidRequestError(422, f"the body must be {form}" + ", and only one of them" * (len(given) > 1))
        (name,) = given
        content = bytes(getattr(envelope, name))
        quoted = b'"%b"' % name.encode()
        if body.count(quoted) - content.count(quoted) > 1:
            raise rows.misfits([rows.problem(None, name, "appears more than once")])
        for each in empty:
            if bytes(getattr(envelope, each)) not in (b"", b"null", b"{}"):
                raise rows.misfits([rows.problem(None, each, "is not supported: the model takes rows only")])
        return Asked(b'{"rows":%b}' % forms[name](content), answer, name)

    return ask


def decoded(decoder: Any, content: bytes, form: str) -> Any:
    """What a decoder reads.

    Raises
    ------
    InvalidRequestError
        400 if it is not JSON, 422 if it has another form.
    """
    try:
        return decoder.decode(content)
    except msgspec.ValidationError as error:
        raise InvalidRequestError(422, f"{form}: {str(error)[: rows.MOST_NAME]}") from None
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidRequestError(400, f"the body is not JSON: {error}") from None


def without_nan(body: bytes) -> bytes:
    """The same JSON with null for NaN outside of texts."""
    if b"NaN" not in body:
        return body
    return NAN.sub(lambda found: b"null" if found[0] == b"NaN" else found[0], body)


def records(content: bytes) -> bytes:
    """Rows as they are: an array of objects."""
    return content


def split(contract: Contract) -> ToRows:
    """A function that makes rows of a data frame in the form `split`."""
    names = [each.name for each in contract.fields]
    frame, texts = msgspec.json.Decoder(Split), msgspec.json.Decoder(list[str])
    data: Any = msgspec.json.Decoder(list[tuple[(msgspec.Raw,) * len(names)]])  # type: ignore[misc]

    def to_rows(content: bytes) -> bytes:
        found = decoded(frame, content, "a data frame must have columns and data")
        if len(bytes(found.columns)) > MOST_COLUMNS:
            raise InvalidRequestError(413, f"the names of the columns have more than {MOST_COLUMNS:,} bytes")
        columns = decoded(texts, bytes(found.columns), "columns must be an array of texts")
        refused = rows.misfits(misnamed(columns, names))
        if refused.detail:
            raise refused
        content = bytes(found.data)
        if arrays(content) > rows.MOST_ROWS + 1:  # a value takes thirty times as much in memory
            raise rows.misfits([rows.problem(None, "data", f"has more than {rows.MOST_ROWS:,} rows")])
        lines = decoded(data, content, "each row of data must have a value for each column")
        return msgspec.json.encode([dict(zip(columns, line, strict=True)) for line in lines])

    return to_rows


def arrays(content: bytes) -> int:
    """How many arrays JSON has; exact where there are many."""
    count = content.count(b"[")
    return count if count <= rows.MOST_ROWS else TEXTS.sub(b"", content).count(b"[")


def misnamed(columns: list[str], names: list[str]) -> Iterator[rows.Problem]:
    """What is wrong with the columns of a data frame."""
    given = frozenset(columns)
    for name in names:
        if name not in given:
            yield rows.problem(None, name, "is missing")
    yield from rows.strange(None, tuple((name, None) for name in columns), names)


def only_predictions(answer: bytes, request_id: str) -> bytes:
    """Vertex AI passes on nothing but the predictions."""
    return msgspec.json.encode(msgspec.json.decode(answer, type=Predictions))


def labels(answer: bytes, request_id: str) -> bytes:
    """The predictions alone, as a list."""
    return msgspec.json.encode([each.prediction for each in msgspec.json.decode(answer, type=Answered).predictions])


def labels_and_more(answer: bytes, request_id: str) -> bytes:
    """The predictions as MLflow gives them, and beside them what only this service gives."""
    found = msgspec.json.decode(answer, type=Answered)
    more = {"version": found.version, "model": found.model, "request_id": found.request_id}
    if found.predictions[0].probabilities is not msgspec.UNSET:
        more["probabilities"] = [each.probabilities for each in found.predictions]  # type: ignore[assignment]
    if any(each.precomputed for each in found.predictions):
        more["precomputed"] = [each.precomputed for each in found.predictions]  # type: ignore[assignment]
    return msgspec.json.encode({"predictions": [each.prediction for each in found.predictions], **more})


def unchanged(status: int, refusal: dict[str, Any]) -> tuple[int, bytes]:
    """The platform passes on whatever the container answers."""
    return status, rows.to_json(refusal)
