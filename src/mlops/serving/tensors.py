"""The Open Inference Protocol, version 2, over HTTP, as KServe and Triton speak it.

Each field of the model is a tensor, and so is each output; rows are the first dimension. A request may hold its
tensors in Triton's binary form. Answers are JSON.

References
----------
- KServe, "Open Inference Protocol", `inference_rest.md`
- NVIDIA Triton, "Binary Tensor Data Extension"
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import numpy as np

from mlops.core.errors import UserError
from mlops.inference.contract import Contract, Field, Kind, label_name, probability_column
from mlops.serving import rows
from mlops.serving.adapter import Asked, Dialect, Headers, Route, words
from mlops.serving.envelopes import decoded
from mlops.serving.front import PREDICT, UNKNOWN
from mlops.serving.rows import InvalidRequestError

NAME = "MODEL_NAME"  # by which the platform asks for the model
LENGTH = b"inference-header-content-length"  # of the JSON before binary tensors
BINARY = b"application/octet-stream"

FLOATS = {"FP16": "<f2", "FP32": "<f4", "FP64": "<f8"}
INTEGERS = {
    f"{sign}INT{bits}": f"<{kind}{bits // 8}" for sign, kind in (("", "i"), ("U", "u")) for bits in (8, 16, 32, 64)
}
FORMATS = {**FLOATS, **INTEGERS, "BOOL": "?"}
ELEMENTS: dict[str, Any] = {
    **dict.fromkeys(FLOATS, float | None),
    **dict.fromkeys(INTEGERS, int | None),
    "BOOL": bool | None,
    "BYTES": str | None,
}
FLAT: dict[str, Any] = {name: msgspec.json.Decoder(list[kind]) for name, kind in ELEMENTS.items()}  # type: ignore[valid-type]
COLUMN: dict[str, Any] = {name: msgspec.json.Decoder(list[tuple[kind]]) for name, kind in ELEMENTS.items()}  # type: ignore[valid-type]
LABELS = {str: "BYTES", bool: "BOOL", int: "INT64", float: "FP64"}


class Binary(msgspec.Struct):
    binary_data_size: int | None = None


class Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: Binary | None = None
    data: msgspec.Raw = msgspec.Raw(b"")


class Output(msgspec.Struct):
    name: str


class Request(msgspec.Struct):
    inputs: list[Input]
    outputs: list[Output] | None = None
    id: str = ""


class Prediction(msgspec.Struct):
    prediction: Any
    probabilities: dict[str, float] = {}


class Answered(msgspec.Struct):
    """An answer of the service."""

    predictions: list[Prediction]


def kserve(contract: Contract, version: str) -> Dialect:
    """The protocol for this model.

    Raises
    ------
    UserError
        Where the name of the model cannot be part of a path.
    """
    name = os.environ.get(NAME, "").strip() or "model"
    if not re.fullmatch(r"[A-Za-z0-9._-]+", name):
        raise UserError(f"{NAME} may hold letters, digits and . _ - only, got {name!r}", f"{NAME}=model")
    server = rows.to_json({"name": "mlops", "version": version, "extensions": []})
    live, ready = rows.to_json({"live": True}), rows.to_json({"ready": True})
    known = {
        "/v2": Route("/metadata", document=server),
        "/v2/": Route("/metadata", document=server),
        "/v2/health/live": Route("/livez", document=live),
        "/v2/health/ready": Route("/readyz", document=ready),
    }
    for base in (f"/v2/models/{name}", f"/v2/models/{name}/versions/{version}"):
        known[base] = Route("/metadata", document=rows.to_json(metadata(contract, name, version)))
        known[f"{base}/ready"] = Route("/readyz", document=rows.to_json({"name": name, "ready": True}))
        known[f"{base}/infer"] = Route(PREDICT, asking(contract, name, version))

    def route(_: str, path: str) -> Route | None:
        return known.get(path) or (Route(UNKNOWN) if path.startswith("/v2/") else None)

    def error(status: int, refusal: dict[str, Any]) -> tuple[int, bytes]:
        why = f"not found; the only model is {name!r}, version {version!r}" if status == 404 else words(refusal)
        return 400 if status == 422 else status, rows.to_json({"error": why})

    return Dialect(route, error, kinds=frozenset((b"", BINARY)))


def metadata(contract: Contract, name: str, version: str) -> dict[str, Any]:
    """The names and types of all tensors."""
    inputs = [{"name": each.name, "datatype": datatypes(each.kind)[0], "shape": [-1]} for each in contract.fields]
    outputs = [{"name": each, "datatype": kind, "shape": [-1]} for each, kind in tensors(contract).items()]
    platform = "onnx_onnxv1" if contract.runtime == "onnx" else "sklearn_skops"
    return {"name": name, "versions": [version], "platform": platform, "inputs": inputs, "outputs": outputs}


def datatypes(kind: Kind) -> list[str]:
    """The types that a field accepts; the first one is named in the metadata."""
    if kind == "numeric":
        return ["FP64", *FLOATS, *INTEGERS]
    return ["BOOL" if kind == "boolean" else "BYTES"]


def tensors(contract: Contract) -> dict[str, str]:
    """Names and types of the outputs: the prediction, and a probability for each class."""
    if contract.classes is None:
        return {"prediction": "FP64"}
    shown = contract.classes if contract.probabilities else []
    return {"prediction": LABELS[type(contract.classes[0])]} | {probability_column(each): "FP64" for each in shown}


def asking(contract: Contract, name: str, version: str) -> Callable[[bytes, Headers], Asked]:
    """A translator of requests for this model."""
    fields = {each.name: each for each in contract.fields}
    requests = msgspec.json.Decoder(Request)
    answers = msgspec.json.Decoder(Answered)
    kinds = tensors(contract)
    classes = {probability_column(each): label_name(each) for each in contract.classes or []}

    def ask(body: bytes, headers: Headers) -> Asked:
        text, binary = parted(body, headers)
        rows.check_brackets(text)
        request = decoded(requests, text, "the body must be an inference request")
        wanted = [each.name for each in request.outputs or ()] or list(kinds)
        refused = rows.misfits(misnamed(request, wanted, fields, kinds))
        if refused.detail:
            raise refused
        columns = {each.name: values for each, values in read(request.inputs, binary, fields)}
        lines = [dict(zip(columns, line, strict=True)) for line in zip(*columns.values(), strict=True)]

        def answer(content: bytes, request_id: str) -> bytes:
            predictions = answers.decode(content).predictions
            outputs = []
            for each in wanted:
                label = classes.get(each)
                data = [one.probabilities[label] if label is not None else one.prediction for one in predictions]
                outputs.append({"name": each, "shape": [len(data)], "datatype": kinds[each], "data": data})
            shown = {"model_name": name, "model_version": version, "id": request.id or request_id}
            return msgspec.json.encode({**shown, "outputs": outputs})

        return Asked(msgspec.json.encode({"rows": lines}), answer, "inputs", request.id)

    return ask


def parted(body: bytes, headers: Headers) -> tuple[bytes, bytes]:
    """The JSON of a body, and the binary tensors after it."""
    length = headers.get(LENGTH)
    if length is None:
        return body, b""
    if not (length.isdigit() and len(length) < 10 and int(length) <= len(body)):
        raise InvalidRequestError(400, f"{LENGTH.decode()} must be the length of the JSON, at most {len(body)}")
    return body[: int(length)], body[int(length) :]


def misnamed(
    request: Request, wanted: list[str], fields: dict[str, Field], kinds: dict[str, str]
) -> Iterator[rows.Problem]:
    """Tensors that are missing, unknown, of another type or of another number of rows."""
    given = {each.name for each in request.inputs}
    yield from (rows.problem(None, name, "is missing") for name in fields if name not in given)
    yield from rows.strange(None, tuple((each.name, None) for each in request.inputs), list(fields))
    yield from (rows.problem(None, each, "is not an output of this model") for each in wanted if each not in kinds)
    # or a small request would ask for an endless answer
    if len(wanted) > len(kinds):
        yield rows.problem(None, "outputs", "names an output more than once")
    if given != fields.keys():
        return
    count = next(iter(request.inputs[0].shape), 0)
    for each in request.inputs:
        allowed = datatypes(fields[each.name].kind)
        if each.datatype not in allowed:
            yield rows.problem(None, each.name, f"has datatype {each.datatype[:20]}, expected {allowed[0]}")
        elif each.shape not in ([count], [count, 1]) or not 0 < count <= rows.MOST_ROWS:
            yield rows.problem(
                None, each.name, f"must have the shape [n] or [n, 1] with n from 1 to {rows.MOST_ROWS:,}, as all inputs"
            )


def read(inputs: list[Input], binary: bytes, fields: dict[str, Field]) -> Iterator[tuple[Input, list[Any]]]:
    """Each input with its values, one for each row."""
    start, count = 0, inputs[0].shape[0]
    for each in inputs:
        size = None if each.parameters is None else each.parameters.binary_data_size
        if size is None:
            values = from_json(each)
        else:
            content = binary[start : start + size] if size >= 0 else b""
            start += len(content)
            values = from_binary(each, content, size)
        if len(values) != count:
            raise misfit(each, f"has {len(values)} values, but the shape {each.shape}")
        yield each, values
    if start != len(binary):
        raise InvalidRequestError(400, f"the body has {len(binary) - start} bytes that belong to no input")


def from_json(tensor: Input) -> list[Any]:
    """The values of a tensor in JSON, flat or as a column."""
    content = bytes(tensor.data)
    if not content:
        raise misfit(tensor, "has no data")
    if tensor.datatype != "BYTES" and content.count(b",") > rows.MOST_ROWS:  # each takes 32 bytes
        raise misfit(tensor, f"has more values than the shape {tensor.shape}")
    nested = re.match(rb"\s*\[\s*\[", content)
    try:
        values = (COLUMN if nested else FLAT)[tensor.datatype].decode(content)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise misfit(tensor, f"has data that are not {tensor.datatype}: {error}") from None
    return [value for (value,) in values] if nested else list(values)


def from_binary(tensor: Input, content: bytes, size: int) -> list[Any]:
    """The values of a tensor in bytes, little-endian; a text follows its length in four bytes."""
    if len(content) != size:
        raise misfit(tensor, f"has {len(content)} bytes of data, but a binary_data_size of {size}")
    if tensor.datatype != "BYTES":
        dtype = np.dtype(FORMATS[tensor.datatype])
        if size % dtype.itemsize:
            raise misfit(tensor, f"has {size} bytes of data, which are no whole number of {tensor.datatype}")
        values = np.frombuffer(content, dtype)
        if np.isinf(values).any():
            raise misfit(tensor, "has values that are not finite")
        return list(values.tolist())  # NaN becomes null
    found: list[str] = []
    start = 0
    while start < size:
        length = int.from_bytes(content[start : start + 4], "little")
        text = content[start + 4 : start + 4 + length]
        if len(text) != length or len(found) == rows.MOST_ROWS:
            raise misfit(tensor, "has data that are not texts after their lengths")
        try:
            found.append(text.decode())
        except UnicodeDecodeError as error:
            raise misfit(tensor, f"is not UTF-8: {error}") from None
        start += 4 + length
    return found


def misfit(tensor: Input, why: str) -> InvalidRequestError:
    """The response to one invalid tensor."""
    return rows.misfits([rows.problem(None, tensor.name, why)])
