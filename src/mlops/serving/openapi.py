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
    408: "The body did not arrive in time",
    413: "The body is too large",
    415: "The content type is not application/json",
    422: "A value is invalid, or a feature cannot be computed; row and field are given",
    429: "Too many requests at once",
}


def description(contract: Contract, release: Release, guarded: bool) -> dict[str, Any]:
    """OpenAPI 3.1, since JSON Schema can say no `null` in 3.0.

    Parameters
    ----------
    guarded : bool
        Whether a bearer token is asked for.
    """
    schemas: dict[str, Any] = {}

    def reference(adapter: Any, mode: Any) -> dict[str, str]:
        schema = adapter.json_schema(mode=mode, ref_template=REFERENCE)
        schemas.update(schema.pop("$defs", {}))
        schemas[schema["title"]] = schema
        return {"$ref": REFERENCE.format(model=schema["title"])}

    request = reference(rows.request_type(contract), "validation")
    predictions = reference(rows.answer_type(contract), "serialization")
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
        if status != 401 or guarded
    }
    security: dict[str, Any] = {"security": [{"token": []}]} if guarded else {}
    predict = {
        "summary": f"Predict {contract.target}, for one row or many",
        "operationId": "predict",
        "tags": ["model"],
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


def _plain(summary: str) -> dict[str, Any]:
    content = {"text/plain": {"schema": {"type": "string"}}}
    return {
        "summary": summary,
        "tags": ["operation"],
        "responses": {"200": {"description": summary, "content": content}},
    }
