"""Two versions compared by outcome: promote, abort, not yet, and what is said where labels are late."""

from __future__ import annotations

import gzip
import json
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Project, copied
from monitoring.logged import CLASSES

from mlops.model.metrics import Predictions
from mlops.monitoring.canary import metrics
from mlops.monitoring.losses import losses
from mlops.monitoring.matched import Labelled
from mlops.monitoring.measures import of_losses
from mlops.monitoring.outcomes import Outcome, decide, judge

OTHER = {"benign": "malignant", "malignant": "benign"}


def labelled(rng: Any, hours: int, wrong: float, per_hour: int = 60) -> Labelled:
    """Labels of a champion that errs in 10 % and of a canary with 30 % of the rows."""
    rows = hours * per_hour
    version = np.where(rng.random(rows) < 0.3, "2", "1").astype(object)
    y = np.where(rng.random(rows) < 0.4, "yes", "no").astype(object)
    error = rng.random(rows) < np.where(version == "2", wrong, 0.1)
    predicted = np.where(error, np.where(y == "yes", "no", "yes"), y).astype(object)
    known = (np.datetime64("2026-01-01", "us") + np.arange(rows) * np.timedelta64(3600 // per_hour, "s")).astype(
        "datetime64[us]"
    )
    return Labelled(y, known, Predictions(predicted, None), {}, known, version=version)


def both(one: Labelled, other: Labelled) -> Labelled:
    return Labelled(
        np.concatenate([one.y, other.y]),
        np.concatenate([one.known, other.known]),
        Predictions(np.concatenate([one.predictions.predicted, other.predictions.predicted]), None),
        {},
        np.concatenate([one.time, other.time]),
        version=np.concatenate([one.version, other.version]),
    )


def judged(names: list[str], rows: Labelled) -> list[Outcome]:
    return judge(of_losses(losses(names, rows.y, rows.predictions, CLASSES), rows), rows, "2", 0.05)


def answers(rng: Any, times: int, wrong: float, names: list[str], hours: int = 40) -> list[tuple[str, int | None]]:
    found = []
    for _ in range(times):
        rows = labelled(rng, hours, wrong)
        found.append(decide(judged(names, rows)))
    return found


def test_equal_versions_are_promoted_and_hardly_ever_aborted_though_looked_at_each_hour() -> None:
    found = [answer for answer, _ in answers(np.random.default_rng(0), 100, 0.1, ["accuracy", "specificity"], 100)]
    assert found.count("abort") <= 5
    assert found.count("promote") >= 80


def test_a_canary_with_twice_the_errors_is_aborted_within_hours() -> None:
    found = answers(np.random.default_rng(0), 20, 0.2, ["accuracy", "recall"])
    assert {answer for answer, _ in found} == {"abort"}
    assert np.median([hour for _, hour in found if hour is not None]) <= 20


def test_the_first_decision_stands() -> None:
    rows = labelled(np.random.default_rng(0), 60, 0.3)
    same = labelled(np.random.default_rng(1), 600, 0.1)
    later = (same.known + (rows.known[-1] - same.known[0]) + np.timedelta64(1, "h")).astype("datetime64[us]")
    together = both(rows, replace(same, known=later, time=later))
    first, all_ = (judged(["accuracy"], each) for each in (rows, together))
    assert decide(first) == decide(all_)
    assert decide(first)[0] == "abort"
    (loss,) = all_  # and what is proven stays so: the evidence of many good rows takes nothing away
    assert loss.harm[-1] == loss.harm.max()


def test_rows_from_before_the_canary_change_nothing_even_where_their_labels_come_later() -> None:
    rows = labelled(np.random.default_rng(0), 60, 0.3)
    before = labelled(np.random.default_rng(1), 600, 0.1)
    month = np.timedelta64(30 * 24, "h")
    early = replace(before, version=np.full(len(before), "1", dtype=object), time=before.time - month)
    together = both(replace(early, known=early.known - np.timedelta64(20, "D")), rows)
    order = np.argsort(together.known, kind="stable")
    together = Labelled(
        together.y[order],
        together.known[order],
        Predictions(together.predictions.predicted[order], None),
        {},
        together.time[order],
        version=together.version[order],
    )
    alone, with_early = (judged(["accuracy"], each) for each in (rows, together))
    assert decide(alone)[0] == decide(with_early)[0] == "abort"
    assert alone[0].rows == with_early[0].rows
    assert alone[0].harm[-1] == with_early[0].harm[-1]


def test_without_labels_nothing_is_decided_and_more_are_asked_for() -> None:
    rows = labelled(np.random.default_rng(0), 0, 0.1)
    (accuracy,) = judged(["accuracy"], rows)
    assert decide([accuracy]) == ("not yet", None)
    assert accuracy.needed > 1_000


def test_all_losses_must_be_safe_to_promote_and_those_that_may_abort_share_the_error() -> None:
    rows = labelled(np.random.default_rng(0), 1, 0.1)
    (any_,) = judged(["accuracy"], rows)

    def answer(*evidence: tuple[float, float]) -> str:
        return decide([any_._replace(harm=np.array([harm]), safety=np.array([safety])) for harm, safety in evidence])[0]

    assert answer((1, 30), (1, 10)) == "not yet"
    assert answer((1, 30), (1, 30)) == "promote"
    assert answer((30, 1), (1, 30)) == "not yet"
    assert answer((41, 30), (1, 30)) == "abort"


def test_the_answer_is_a_number_for_prometheus() -> None:
    versions = {role: {"version": role[0], "rows": 5, "labelled": 2} for role in ("champion", "canary")}
    for answer, number in {"promote": "1.0", "abort": "-1.0", "not yet": "0.0"}.items():
        text = metrics({"answer": answer, **versions})
        assert f'monitor_canary_verdict{{canary="c",champion="c"}} {number}\n' in text


# -- from the log to the exit code


def simulate(project: Project, wrong: float, labels: float) -> None:
    """Two days of requests, whose labels come after some hours."""
    rng = np.random.default_rng(0)
    (project.folder / "log").mkdir(exist_ok=True)
    known = []
    for hour in range(48):
        start = datetime(2026, 1, 1, tzinfo=UTC) + timedelta(hours=hour)
        lines = []
        for number in range(60):
            canary, y = rng.random() < 0.3, str(rng.choice(["benign", "malignant"]))
            predicted = OTHER[y] if rng.random() < (wrong if canary else 0.04) else y
            line = {
                "time": f"{start:%Y-%m-%dT%H}:{number:02}:00Z",
                "request_id": f"{hour}-{number}",
                "row": 0,
                "version": "1.1.0" if canary else "1.0.0",
                "model": "f" * 32,
                "features": {},
                "prediction": predicted,
                "probabilities": {predicted: 0.9, OTHER[predicted]: 0.1},
            }
            lines.append(json.dumps(line).encode() + b"\n")
            if rng.random() < labels:
                when = str(start + timedelta(hours=rng.exponential(3)))
                known.append((f"{hour}-{number}", 0, y, when, 20 + rng.normal() - (3 if predicted != y else 0)))
        path = project.folder / f"log/{start:%Y%m%dT%H%M%SZ}-{hour:012x}.jsonl.gz"
        path.write_bytes(gzip.compress(b"".join(lines)))
    table = pd.DataFrame(known, columns=["request_id", "row", "diagnosis", "known_at", "revenue"])
    table.to_csv(project.folder / "labels.csv", index=False)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("wrong", "labels", "code", "words"),
    [
        (0.04, 1.0, 0, "promote, since 2026-01-"),
        (0.15, 1.0, 1, "abort, since 2026-01-0"),
        (0.04, 0.02, 2, "few labels have arrived, so only technical health was judged"),
    ],
    ids=["equal", "worse", "late labels"],
)
def test_the_exit_code_is_the_answer(
    done: Project, tmp_path: Path, wrong: float, labels: float, code: int, words: str
) -> None:
    project = copied(done, tmp_path)
    figures = {"revenue": {"better": "higher"}}
    source = {"source": "labels.csv", "row": "row", "time": "known_at", "figures": figures}
    project.edit_params(lambda params: params.update(monitor={"labels": source}))
    project.edit_params(lambda params: params["evaluate"].update(costs={"false_negative": 10, "false_positive": 1}))
    simulate(project, wrong, labels)
    command = [sys.executable, "-m", "mlops.monitoring.canary", "log", "--champion", "1.0.0"]
    command += ["--metrics", "accuracy", "cost", "revenue"]
    found = project.run(*command, "--canary", "1.1.0", check=False)
    assert (found.returncode, words in found.stdout) == (code, True), found.stdout
    report = json.loads(project.read("build/canary/report.json"))
    assert report["canary"]["rows"] + report["champion"]["rows"] == 48 * 60
    compared = {each["metric"]: each for each in report["metrics"]}
    assert list(compared) == ["accuracy", "cost", "revenue"]
    assert compared["revenue"]["meaning"] == "higher is better; asymptotic test"
    assert compared["revenue"]["champion"] == pytest.approx(20 - 3 * 0.04, abs=0.5)
    assert compared["cost"]["margin"] == 0.5
    assert "monitor_canary_verdict{" in project.read("build/canary/canary.prom")
    unknown = project.run(*command, "--canary", "1.1.1", check=False)
    assert (unknown.returncode, unknown.stdout) == (
        3,
        "error: log holds no row of version 1.1.1; did you mean '1.1.0'?\n",
    )
