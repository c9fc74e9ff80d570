"""Builds the report from the findings: it rounds numbers, shortens texts and bounds lists."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from mlops.core import files, journal, paths
from mlops.core.git import show
from mlops.core.lock import hash_of, outputs
from mlops.core.paths import VALIDATION
from mlops.core.report import (
    MOST_METRICS,
    Change,
    CleaningStep,
    Comparison,
    Cost,
    Estimate,
    Policy,
    Recent,
    Recipe,
    Recipes,
    Report,
    Rows,
    Served,
    Slice,
    Validation,
    shortened,
)
from mlops.core.report import Baseline as BaselineReport
from mlops.core.settings import Settings
from mlops.data import tables
from mlops.review import changes, charts, decisions
from mlops.review import gate as gate_module
from mlops.review.baseline import Baseline
from mlops.review.compare import Paired
from mlops.review.evidence import Findings
from mlops.review.gate import finite
from mlops.review.policy import Gate
from mlops.review.rules.comparison import SlicesNoWorse
from mlops.review.rules.slices import GroupGap, WorstSlice

FAILURES = Path("reports/validation_failures.json")


def build_report(
    empty: Report, settings: Settings, baseline: Baseline, gate: Gate, findings: Findings, policy: Policy
) -> Report:
    """Fill an empty report with the findings and the verdict of the gate."""
    evidence = findings.evidence
    model = files.md5(paths.MODEL)
    main_model = hash_of(baseline.lock, paths.MODEL)
    size = outputs(baseline.lock).get(str(paths.MODEL), {}).get("size")
    trained = journal.noted("train", model).get("seconds")
    return empty.model_copy(
        update={
            "verdict": policy.verdict,
            "blocks": policy.blocks,
            "policy": policy,
            "baseline": BaselineReport(
                commit=baseline.commit,
                model_md5=main_model,
                origin=baseline.origin,
                problem=shortened(evidence.baseline_problem) if evidence.baseline_problem else None,
            ),
            "target": shortened(settings.data.target),
            "estimator": shortened(settings.model.path),
            "rows": Rows(train=tables.read(paths.TRAIN).num_rows, test=evidence.rows),
            "elsewhere": evidence.elsewhere,
            "believed": evidence.believed,
            "confidence": gate.confidence,
            "metrics": [compared(pair, gate.confidence) for pair in evidence.pairs.values()],
            "redefined": [shortened(name) for name in findings.redefined],
            "lost": [shortened(name) for name in findings.lost[:MOST_METRICS]],
            "recent": recent(evidence.recent, gate.confidence),
            "recipes": recipes(evidence, gate.confidence),
            "slices": [
                Slice(
                    column=shortened(each.column),
                    name=shortened(each.name),
                    rows=each.rows,
                    metrics=[compared(pair, gate.confidence) for pair in each.pairs.values()],
                )
                for each in evidence.slices[:60]
            ],
            "wear": changes.wear(baseline.commit, baseline.lock),
            "validation": validation(),
            "behaviour": evidence.behaviour,
            "cleaning": cleaning(baseline.commit),
            "influence": findings.influence,
            "decisions": decisions.compare(evidence.judged, settings.data.key, gate.examples),
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
            "served": served(paths.EXPORTED.read_bytes() if paths.EXPORTED.exists() else None),
            "served_before": served(show(baseline.commit, paths.EXPORTED)),
            "charts": findings.charts[:3],
            "bars": charts.slices(
                evidence.slices,
                [rule.metric for rule in gate.rules if isinstance(rule, SlicesNoWorse | WorstSlice | GroupGap)],
            ),
            "lineage": [
                Change(name="table", before=hash_of(baseline.lock, paths.TABLE), after=files.tree_md5(paths.TABLE)),
                Change(
                    name="training rows",
                    before=hash_of(baseline.lock, paths.TRAIN),
                    after=files.tree_md5(paths.TRAIN),
                ),
                Change(
                    name="test rows",
                    before=hash_of(baseline.lock, paths.TEST),
                    after=files.tree_md5(paths.TEST),
                ),
                Change(name="model", before=main_model, after=model),
                Change(
                    name="served files",
                    before=hash_of(baseline.lock, paths.SERVICE),
                    after=files.tree_md5(paths.SERVICE),
                ),
            ],
        }
    )


def recent(found: gate_module.Recent, confidence: float) -> Recent | None:
    """The comparison on the recent window; None where there is none."""
    if not found.rows:
        return None
    problem = None if found.problem is None else shortened(found.problem)
    metrics = [compared(pair, confidence) for pair in found.pairs.values()]
    return Recent(rows=found.rows, metrics=metrics, problem=problem)


def recipes(evidence: gate_module.Measurements, confidence: float) -> Recipes | None:
    """The recipes in the order of the metrics; None without `cross_validation` in the gate."""
    found = evidence.recipes
    if found is None:
        return None
    metrics = []
    for each in (found.found[name] for name in evidence.pairs if name in found.found):
        low, high = each.difference(confidence)
        difference = Estimate(value=finite(each.candidate - each.baseline), low=finite(low), high=finite(high))
        metrics.append(Recipe(metric=each.metric, difference=difference))
    problem = None if found.problem is None else shortened(found.problem)
    return Recipes(rows=found.rows, folds=found.folds, repeats=found.repeats, metrics=metrics, problem=problem)


def compared(pair: Paired, confidence: float) -> Comparison:
    """Compare a metric of both models."""
    low, high = pair.difference(confidence)
    return Comparison(
        metric=pair.metric,
        greater_is_better=pair.greater_is_better,
        baseline=finite(pair.baseline),
        candidate=finite(pair.candidate),
        difference=Estimate(value=finite(pair.candidate - pair.baseline), low=finite(low), high=finite(high)),
        worse=finite(pair.worse()) if pair.losses.any() else None,
        detectable=finite(pair.detectable(confidence)),
        unit=shortened(pair.unit),
        resamples=pair.resamples,
    )


def served(content: bytes | None) -> Served | None:
    """Read `reports/export.json`: how the model is served; None if it is missing or has another format."""
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
    """Read the results of `validate`, with a sentence for each failed expectation."""
    if not VALIDATION.exists():
        return None
    found = json.loads(VALIDATION.read_text(encoding="utf-8"))
    failures = json.loads(FAILURES.read_text(encoding="utf-8")) if FAILURES.exists() else []
    failed = [
        shortened(f"{', '.join(each['columns']) or 'the table'}: {each['expected']} ({each['severity']})")
        for each in failures[:20]
    ]
    return Validation(expectations=found["expectations"], passed=found["passed"], failed=failed)


def cleaning(base: str) -> list[CleaningStep]:
    """What each step of cleaning did, here and on main."""
    here: dict[str, Any] = {}
    there: dict[str, Any] = {}
    for path in (paths.CATALOGUE, paths.SPLIT):
        here |= _steps(path.read_bytes() if path.exists() else None)
        there |= _steps(show(base, path))
    return [
        CleaningStep(
            step=shortened(name),
            effect=shortened((here.get(name) or there[name])["effect"]),
            rows=here[name]["rows"] if name in here else None,
            before=there[name]["rows"] if name in there else None,
        )
        for name in list(dict.fromkeys([*here, *there]))[:60]
    ]


def _steps(content: bytes | None) -> dict[str, Any]:
    """The steps in a catalogue or a split, by what they do; none where there is no file, or one of other code."""
    try:
        return {
            str(each["step"]): {**each, "rows": int(each["rows"])} for each in json.loads(content or b"{}")["cleaning"]
        }
    except (ValueError, KeyError, TypeError):
        return {}
