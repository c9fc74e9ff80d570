"""The OpenAPI description of the service, with the fields of the model and an example that works."""

from __future__ import annotations

from typing import Any

from mlops.inference.contract import Contract
from mlops.inference.provenance import Release
from mlops.serving import rows

REFERENCE = "#/components/schemas/{model}"
REFUSALS = {
    400: "The body is not JSON",
    401: "The bearer token is missing or wrong",
    404: "A key has no prediction, and its row no fields",
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The content type is not application/json",
    422: "A value is invalid, or a feature cannot be computed; row and field are given",
    429: "Too many requests at once",
}


def description(contract: Contract, release: Release, guarded: bool, keyed: bool = False) -> dict[str, Any]:
    """OpenAPI 3.1, since JSON Schema can say no `null` in 3.0.

    Parameters
    ----------
    guarded : bool
        Whether a bearer token is asked for.
    keyed : bool
        Whether a row may be a key of a table of predictions.
    """
    schemas: dict[str, Any] = {}

    def reference(adapter: Any, mode: Any) -> dict[str, str]:
        schema = adapter.json_schema(mode=mode, ref_template=REFERENCE)
        schemas.update(schema.pop("$defs", {}))
        schemas[schema["title"]] = schema
        return {"$ref": REFERENCE.format(model=schema["title"])}

    request = reference(rows.request_type(contract), "validation")
    predictions = reference(rows.answer_type(contract), "serialization")
    if keyed:
        with_keys(schemas)
    schemas["Refusal"] = {
        "type": "object",
        "required": ["error", "detail", "request_id"],
        "properties": {
            "error": {"type": "string"},
            "detail": {
                "type": "array",
                "items": {
                    "type": "object",
                    "properties": {
                        "row": {"type": ["integer", "null"]},
                        "field": {"type": ["string", "integer", "null"]},
                        "problem": {"type": "string"},
                    },
                },
            },
            "request_id": {"type": "string"},
        },
    }
    refusal = {"application/json": {"schema": {"$ref": REFERENCE.format(model="Refusal")}}}
    refused = {
        str(status): {"description": why, "content": refusal}
        for status, why in REFUSALS.items()
        if (status != 401 or guarded) and (status != 404 or keyed)
    }
    security: dict[str, Any] = {"security": [{"token": []}]} if guarded else {}
    predict = {
        "summary": f"Predict {contract.target}, for one row or many",
        "operationId": "predict",
        "tags": ["model"],
        "parameters": [explain_parameter(contract)],
        "requestBody": {
            "required": True,
            "content": {"application/json": {"schema": request, "example": {"rows": [contract.example]}}},
        },
        "responses": {
            "200": {
                "description": "A prediction for each row",
                "content": {"application/json": {"schema": predictions}},
            },
            **refused,
        },
        **security,
    }
    metadata = {
        "summary": "Release, commit, hashes and metrics of the model",
        "operationId": "metadata",
        "tags": ["model"],
        "responses": {
            "200": {"description": "The release", "content": {"application/json": {"schema": {"type": "object"}}}},
            **{status: answer for status, answer in refused.items() if status == "401"},
        },
        **security,
    }
    return {
        "openapi": "3.1.0",
        "info": {
            "title": f"Predictions of {contract.target}",
            "version": release.version,
            "description": f"Commit `{release.commit[:10]}`, model `{release.model_md5}`, {contract.runtime}.",
        },
        "servers": [{"url": "."}],
        "paths": {
            "/predict": {"post": predict},
            "/metadata": {"get": metadata},
            "/livez": {"get": _plain("The process lives")},
            "/readyz": {"get": _plain("The model is loaded")},
            "/metrics": {"get": _plain("Metrics for Prometheus")},
        },
        "components": {
            "schemas": schemas,
            **({"securitySchemes": {"token": {"type": "http", "scheme": "bearer"}}} if guarded else {}),
        },
    }


def with_keys(schemas: dict[str, Any]) -> None:
    """Let a row have a key, or be one, and a prediction say when it was made."""
    described = "Answered from a table of predictions, for these values or for a key alone."
    key = {"anyOf": [{"type": "string", "minLength": 1}, {"type": "integer"}], "description": described}
    row, prediction = schemas["Row"], schemas["Prediction"]
    alone = {"type": "object", "properties": {"key": key}, "required": ["key"], "additionalProperties": False}
    row["properties"]["key"] = {**key, "anyOf": [*key["anyOf"], {"type": "null"}]}
    schemas["Row"] = {"title": "Row", "anyOf": [row, alone]}
    when = {"type": "string", "format": "date-time", "description": "When it was made, where the table answers."}
    prediction["properties"]["precomputed"] = when


def explain_parameter(contract: Contract) -> dict[str, Any]:
    """The parameter that asks for explanations, with the unit in which they add up."""
    about = contract.explanation
    if about.method is None:
        what = f"This model's predictions cannot be explained: {about.why}."
    else:
        of = "of the class in `of`, " if contract.classes else ""
        what = (
            "Whether to explain each prediction: by how much each input raises or lowers the score "
            f"({of}unit: {about.unit}) from its base. Base and contributions add up to the score."
        )
    schema = {"type": "boolean", "default": False}
    return {"name": "explain", "in": "query", "required": False, "description": what, "schema": schema}


def _plain(summary: str) -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "summary": summary,
        "tags": ["operation"],
        "responses": {"200": {"description": summary, "content": content}},
    }
