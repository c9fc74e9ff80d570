"""The API of the model, a BentoML service: `make serve` starts it on this machine, a release ships it in an image.

It does not start with a model other than the release's. The schema of its input is the exported model's contract.
"""

from __future__ import annotations

import html
import os
import sys
from collections import Counter
from typing import Any

import bentoml
from starlette.requests import Request
from starlette.responses import Response

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.inference import computed, provenance, runtime
from mlops.inference import contract as contracts
from mlops.inference.computed import FeatureError
from mlops.serving import rows
from mlops.serving.front import REQUEST_ID, Front, token
from mlops.serving.lean import Lean, settle
from mlops.serving.openapi import description

WORKERS = "SERVICE_WORKERS"

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")


def workers() -> int:
    """How many processes shall serve.

    Raises
    ------
    UserError
        Where it is no such number.
    """
    given = os.environ.get(WORKERS) or "1"
    if not (given.strip().isdecimal() and int(given) > 0):
        raise UserError(f"{WORKERS} must be an integer of at least 1, got {given!r}", f"{WORKERS}=1")
    return int(given)


try:
    COUNT, SECRET = workers(), token()
    RELEASE = provenance.read()
    provenance.check(RELEASE, paths.SERVICE)
    CONTRACT = contracts.read()
    computed.check_code(CONTRACT)
except UserError as error:
    sys.exit(f"error: {error}")


class Body(bentoml.IODescriptor):  # type: ignore[misc]
    """The body of a request as it came: the contract checks it, with errors by row and field."""

    body: bytes
    request_id: str

    @classmethod
    async def from_http_request(cls, request: Request, serde: Any) -> Body:
        return cls(body=await request.body(), request_id=request.scope[REQUEST_ID])


@bentoml.service(
    name="model",
    workers=COUNT,
    logging={"access": {"enabled": False}},
    service_class=Lean,
)
class Service:
    """Predictions of the released model."""

    def __init__(self) -> None:
        import prometheus_client as prometheus

        self.contract, self.model = runtime.load()
        self.read = rows.Reader(CONTRACT)
        self.rows = prometheus.Counter("model_rows_total", "Rows that were predicted", ["prediction"])
        self.refused = prometheus.Counter(
            "model_refused_requests_total", "Requests whose values did not fit", ["status"]
        )
        info = prometheus.Gauge(
            "model_info", "Release of the model", ["version", "commit", "model_md5"], multiprocess_mode="max"
        )
        # Prometheus asks without the token, so behind one the metrics name the version only
        info.labels(RELEASE.version, *("", "") if SECRET else (RELEASE.commit, RELEASE.model_md5)).set(1)
        settle()

    @bentoml.api(route="/predict", input_spec=Body)  # type: ignore[untyped-decorator]
    async def predict(self, body: bytes, request_id: str) -> Any:
        """Predict one row or many."""
        try:
            try:
                answer = self.model(rows.columns(self.read(body), self.contract))
            except FeatureError as error:
                raise rows.uncomputable(error) from None
            predictions = rows.answers(answer, self.contract)
        except rows.InvalidRequestError as refused:
            self.refused.labels(refused.status).inc()
            refusal = {"error": refused.error, "detail": refused.detail, "request_id": request_id}
            return Response(rows.to_json(refusal), refused.status, media_type="application/json")
        self.count(answer)
        found = {
            "predictions": predictions,
            "version": RELEASE.version,
            "model": RELEASE.model_md5,
            "request_id": request_id,
        }
        return Response(rows.to_json(found), media_type="application/json")

    def count(self, answer: runtime.Answer) -> None:
        """For Prometheus: rows by label; a number has none."""
        if self.contract.classes is None:
            self.rows.labels("").inc(len(answer.predicted))
            return
        for label, count in Counter(answer.predicted.tolist()).items():
            self.rows.labels(contracts.label_name(label)).inc(count)


Service.add_asgi_middleware(  # type: ignore[attr-defined]
    Front,
    pages={
        "/metadata": rows.to_json(RELEASE.model_dump()),
        "/docs.json": rows.to_json(description(CONTRACT, RELEASE, guarded=bool(SECRET))),
    },
    title="Predictions" if SECRET else html.escape(f"{CONTRACT.target} {RELEASE.version}"),
    token=SECRET,
)
