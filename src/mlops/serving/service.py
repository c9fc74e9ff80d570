"""The API of the model, a BentoML service: `make serve` starts it on this machine, a release ships it in an image.

It does not start with a model other than the release's. The schema of its input is the exported model's contract.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import bentoml

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.inference import computed, provenance, runtime
from mlops.inference import contract as contracts
from mlops.serving import codec, prediction_log, protocol, rows
from mlops.serving.batcher import Batcher
from mlops.serving.explaining import Explaining
from mlops.serving.front import Front, token
from mlops.serving.lean import Lean, settle
from mlops.serving.openapi import description
from mlops.serving.start import workers

os.environ.setdefault("BENTOML_DO_NOT_TRACK", "true")

current = bentoml.get_current_service

try:
    COUNT, SECRET = workers(), token()
    RELEASE = provenance.read()
    provenance.check(RELEASE, paths.SERVICE)
    CONTRACT = contracts.read()
    computed.check_code(CONTRACT)
    prediction_log.check(RELEASE.log)
    DIALECT = protocol.dialect(CONTRACT, RELEASE.version)
    TABLE = os.environ.get("PREDICTIONS", "").strip()
    if TABLE:
        from mlops.serving import precomputed

        precomputed.check(CONTRACT)
except UserError as error:
    sys.exit(f"error: {error}")


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

        _, model = runtime.load()
        self.decode = codec.Decoder(CONTRACT)
        self.answer = Batcher(model, self.decode.columns, CONTRACT, self.count)
        self.encode = codec.Encoder(CONTRACT, RELEASE.version, RELEASE.model_md5)
        self.explain = Explaining(CONTRACT)
        self.rows = prometheus.Counter("model_rows_total", "Rows that were predicted", ["prediction"])
        self.refused = prometheus.Counter(
            "model_refused_requests_total", "Requests whose values did not fit", ["status"]
        )
        info = prometheus.Gauge(
            "model_info", "Release of the model", ["version", "commit", "model_md5"], multiprocess_mode="max"
        )
        # Prometheus asks without the token, so behind one the metrics name the version only
        info.labels(RELEASE.version, *("", "") if SECRET else (RELEASE.commit, RELEASE.model_md5)).set(1)
        self.log = prediction_log.opened(RELEASE.log, RELEASE.version, RELEASE.model_md5)
        self.by_key = None
        if TABLE:
            from mlops.serving import hybrid

            table = precomputed.Table(Path(TABLE), CONTRACT, RELEASE)
            self.by_key = hybrid.Hybrid(table, self.decode, self.answer, self.encode, self.count)
        settle()

    async def predict(self, body: bytes, request_id: str, explain: bool = False) -> tuple[int, bytes]:
        """Status and JSON of the answer to a request."""
        why = None
        try:
            if self.by_key is not None and b'"key"' in body and (found := await self.by_key(body, explain)):
                content = self.encode.joined(found.predictions, request_id)
                if self.log is not None:
                    self.log.put(request_id, found.body, content, len(found.fields), found.computed)
                return 200, content
            numbers, others = self.decode(body)
            if explain:
                await self.explain.check(len(numbers))
            answer = await self.answer(numbers, others)
            if explain:
                why = self.explain.as_json(await self.explain(self.decode.columns(numbers, others), answer))
        except rows.InvalidRequestError as refused:
            return self.refuse(refused, request_id)
        content = self.encode(answer, request_id)
        if self.log is not None:
            self.log.put(request_id, body, content, len(answer.predicted), answer.computed or {})
        return 200, content if why is None else self.encode(answer, request_id, why)

    def refuse(self, refused: rows.InvalidRequestError, request_id: str) -> tuple[int, bytes]:
        """Status and JSON of the answer to a request that does not fit."""
        self.refused.labels(refused.status).inc()
        refusal = {"error": refused.error, "detail": refused.detail, "request_id": request_id}
        return refused.status, rows.to_json(refusal)

    @bentoml.on_startup  # type: ignore[untyped-decorator]
    async def open(self) -> None:
        if self.log is not None:
            self.log.start()

    @bentoml.on_shutdown  # type: ignore[untyped-decorator]
    async def close(self) -> None:
        if self.log is not None:
            await self.log.close()

    def count(self, answer: runtime.Answer) -> None:
        """For Prometheus: rows by label; a number has none."""
        if CONTRACT.classes is None:
            self.rows.labels("").inc(len(answer.predicted))
            return
        for label, count in Counter(answer.predicted.tolist()).items():
            self.rows.labels(contracts.label_name(label)).inc(count)


OPTIONS: dict[str, Any] = {
    "pages": {
        "/metadata": rows.to_json(RELEASE.model_dump()),
        "/docs.json": rows.to_json(description(CONTRACT, RELEASE, guarded=bool(SECRET), keyed=bool(TABLE))),
    },
    "title": "Predictions" if SECRET else f"{CONTRACT.target} {RELEASE.version}",
    "token": SECRET,
}
if DIALECT is None:
    Service.add_asgi_middleware(  # type: ignore[attr-defined]
        Front, predict=lambda body, request_id, **more: current().predict(body, request_id, **more), **OPTIONS
    )
else:
    from mlops.serving.adapter import Adapter

    Service.add_asgi_middleware(Adapter, dialect=DIALECT, service=current, **OPTIONS)  # type: ignore[attr-defined]
