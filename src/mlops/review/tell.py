"""From findings to a report: numbers rounded, texts cut, lists bounded."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlops import contract, lineage, modelfile, tables
from mlops.metrics import greater_is_better
from mlops.policy import Gate
from mlops.review import changes
from mlops.review.baseline import Baseline, hash_of
from mlops.review.compare import Paired
from mlops.review.evidence import VALIDATION, Findings, md5
from mlops.review.gate import finite
from mlops.review.git import show
from mlops.review.report import Baseline as BaselineReport
from mlops.review.report import (
    Change,
    Comparison,
    Cost,
    Estimate,
    Policy,
    Report,
    Rows,
    Served,
    Slice,
    Validation,
    shortened,
)
from mlops.settings import Settings

FAILURES = Path("reports/validation_failures.json")


def tell(
    empty: Report, settings: Settings, baseline: Baseline, gate: Gate, findings: Findings, policy: Policy
) -> Report:
    """Fill a report."""
    evidence = findings.evidence
    model = lineage.md5(modelfile.MODEL)
    theirs = hash_of(baseline.lock, "train", modelfile.MODEL)
    outputs = {out["path"]: out for out in baseline.lock.get("train", {}).get("outs", [])}
    size = outputs.get(str(modelfile.MODEL), {}).get("size")
    trained = lineage.noted("train", model).get("seconds")
    return empty.model_copy(
        update={
            "verdict": policy.verdict,
            "blocks": policy.blocks,
            "policy": policy,
            "baseline": BaselineReport(
                commit=baseline.commit,
                model_md5=theirs,
                origin=baseline.origin,
                problem=shortened(evidence.baseline_problem) if evidence.baseline_problem else None,
            ),
            "target": shortened(settings.data.target),
            "estimator": shortened(settings.model.estimator),
            "rows": Rows(train=tables.read(tables.TRAIN).num_rows, test=evidence.rows),
            "confidence": gate.confidence,
            "metrics": [compared(pair, gate.confidence) for pair in evidence.pairs.values()][:12],
            "slices": [
                Slice(
                    column=shortened(each.column),
                    name=shortened(each.name),
                    rows=each.rows,
                    metrics=[compared(pair, gate.confidence) for pair in each.pairs.values()][:12],
                )
                for each in evidence.slices[:60]
            ],
            "wear": changes.wear(baseline.commit, baseline.lock),
            "validation": validation(),
            "cost": [
                Cost(name="training", unit="s", before=None, after=trained),
                Cost(
                    name="model file",
                    unit="bytes",
                    before=None if size is None else float(size),
                    after=float(evidence.model_bytes),
                ),
                Cost(name="one row", unit="ms", before=findings.baseline_latency_ms, after=evidence.latency_ms),
            ],
            "served": served(lineage.EXPORTED.read_bytes() if lineage.EXPORTED.exists() else None),
            "served_before": served(show(baseline.commit, lineage.EXPORTED)),
            "charts": findings.charts[:3],
            "lineage": [
                Change(
                    name="table", before=hash_of(baseline.lock, "ingest", tables.TABLE), after=lineage.md5(tables.TABLE)
                ),
                Change(
                    name="training rows",
                    before=hash_of(baseline.lock, "split", tables.TRAIN),
                    after=lineage.md5(tables.TRAIN),
                ),
                Change(
                    name="test rows",
                    before=hash_of(baseline.lock, "split", tables.TEST),
                    after=lineage.md5(tables.TEST),
                ),
                Change(name="model", before=theirs, after=model),
                Change(
                    name="what is served",
                    before=hash_of(baseline.lock, "export", contract.FOLDER),
                    after=md5(contract.FOLDER),
                ),
            ],
        }
    )


def compared(pair: Paired, confidence: float) -> Comparison:
    """A metric of both models."""
    low, high = pair.difference(confidence)
    return Comparison(
        metric=pair.metric,
        greater_is_better=greater_is_better(pair.metric),
        baseline=finite(pair.baseline),
        candidate=finite(pair.candidate),
        difference=Estimate(value=finite(pair.candidate - pair.baseline), low=finite(low), high=finite(high)),
        worse=finite(pair.worse()) if pair.losses.any() else None,
        detectable=finite(pair.detectable(confidence)),
    )


def served(content: bytes | None) -> Served | None:
    """What a `reports/export.json` says of the form that is served; None where there is none, or one of other code."""
    try:
        found: dict[str, Any] = json.loads(content or b"{}")
        return Served(
            runtime=found["runtime"],
            precision=found["precision"],
            within=float(found["difference_below"]),
            size=found["bytes"],
            why=None if found["why"] is None else shortened(found["why"]),
        )
    except (ValueError, KeyError, TypeError):
        return None


def validation() -> Validation | None:
    """What `validate` found, with its failures in words."""
    if not VALIDATION.exists():
        return None
    found = json.loads(VALIDATION.read_text(encoding="utf-8"))
    failures = json.loads(FAILURES.read_text(encoding="utf-8")) if FAILURES.exists() else []
    told = [
        shortened(f"{', '.join(each['columns']) or 'the table'}: {each['expected']} ({each['severity']})")
        for each in failures[:20]
    ]
    return Validation(expectations=found["expectations"], passed=found["passed"], failed=told)
