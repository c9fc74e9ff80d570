"""Risk and columns of production rows against a reference, without and with a change."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from monitoring import logged
from monitoring.logged import CLASSES

from mlops.core.settings import Monitor
from mlops.inference.contract import Field
from mlops.model.metrics import Predictions, parts
from mlops.monitoring import risk, windows
from mlops.monitoring.collect import Collected, Sample
from mlops.monitoring.matched import Labelled
from mlops.monitoring.reference import Reference
from mlops.monitoring.risk import Risk
from mlops.monitoring.sequential import Detector, upper_bound
from mlops.monitoring.windows import PREDICTION, Compared

FIELDS = [Field(name="size", kind="numeric", nullable=False), Field(name="town", kind="categorical", nullable=False)]
CONTRACT = logged.CONTRACT.model_copy(update={"fields": FIELDS, "features": []})
DAYS = np.datetime64("2026-01-01", "D") + np.arange(60)


def drawn(rng: Any, rows: int, wrong: float = 0.1) -> tuple[Any, Predictions, dict[str, Any]]:
    y = np.where(rng.random(rows) < 0.4, "yes", "no").astype(object)
    flipped = np.where(y == "yes", "no", "yes").astype(object)
    predicted = np.where(rng.random(rows) < wrong, flipped, y)
    probability = np.where(predicted == "yes", 0.9, 0.1)
    columns = {"size": rng.normal(size=rows), "town": rng.choice(np.array(["a", "b"], dtype=object), rows)}
    return y, Predictions(predicted, np.column_stack([1 - probability, probability])), columns


def reference(rng: Any, rows: int = 2_000) -> Reference:
    y, predictions, columns = drawn(rng, rows)
    table = pa.table({name: pa.array(values) for name, values in columns.items()})
    return Reference(None, CONTRACT, "m", table, table, y, predictions, CLASSES, [])  # type: ignore[arg-type]


def labelled(rng: Any, change: int | None = None, wrong: float = 0.25, rows: int = 100) -> Labelled:
    """Labels of each day; from a day on, more predictions are wrong."""
    shares = np.where((np.arange(len(DAYS)) >= (len(DAYS) if change is None else change)).repeat(rows), wrong, 0.1)
    y, _, columns = drawn(rng, len(shares), 0.0)
    flipped = np.where(y == "yes", "no", "yes").astype(object)
    predicted = np.where(rng.random(len(shares)) < shares, flipped, y)
    probabilities = np.where((predicted == "yes")[:, None], [0.1, 0.9], [0.9, 0.1])
    return Labelled(y, DAYS.repeat(rows).astype("datetime64[us]"), Predictions(predicted, probabilities), columns)


def watched(rng: Any, rows: Labelled, slices: tuple[str, ...] = ()) -> dict[tuple[str, str], Risk]:
    names = ["roc_auc", "accuracy", "recall", "log_loss"]
    found = risk.watch(reference(rng), in_parts(rows), Monitor(), DAYS, names, list(slices))
    return {(each.metric, each.part): each for each in found}


def in_parts(rows: Labelled, size: int = 1_234) -> list[Labelled]:
    """The rows as the log has them: in parts, and in another order than their labels."""
    order = np.random.default_rng(1).permutation(len(rows))
    return [
        Labelled(
            rows.y[at],
            rows.known[at],
            parts(rows.predictions, at),
            {name: values[at] for name, values in rows.columns.items()},
        )
        for at in np.split(order, range(size, len(rows), size))
    ]


def test_without_a_change_there_is_no_alarm() -> None:
    rng = np.random.default_rng(0)
    for _ in range(10):
        found = watched(rng, labelled(rng), ("town",))
        assert not any(each.alarm for each in found.values())
    assert found.keys() == {
        (metric, part) for metric in ("accuracy", "recall", "log_loss") for part in ("all rows", "town a", "town b")
    }


def test_metrics_and_slices_share_one_budget_and_each_day_is_looked_at_once() -> None:
    known, rows = reference(np.random.default_rng(0)), labelled(np.random.default_rng(1), 30, 0.2)
    rows = Labelled(rows.y, rows.known, rows.predictions, {"town": rows.columns["town"]})
    found = risk.watch(known, [rows], Monitor(), DAYS, ["accuracy"], ["town"])
    assert len(found) == 3
    whole = found[0]
    before = (known.y != known.predictions.predicted).astype(float)
    after = (rows.y != rows.predictions.predicted).astype(float)
    assert whole.limit == upper_bound(before, 0.05 / 3)
    detector = Detector(whole.limit, 20 * 365.25 * 3)
    evidence = []
    for day in np.split(after, len(DAYS)):
        detector.look(day)
        evidence.append(detector.value / detector.looks)
    assert whole.evidence == pytest.approx(evidence)
    assert whole.mean == pytest.approx(after[-100:].mean())


def test_a_model_that_becomes_worse_alarms_after_some_days_and_keeps_its_alarm() -> None:
    rng = np.random.default_rng(0)
    found = watched(rng, labelled(rng, change=30))[("accuracy", "all rows")]
    assert found.alarm is not None
    assert DAYS[30] < np.datetime64(found.alarm) <= DAYS[38]
    assert found.evidence[29] < 1 <= found.evidence[-1]
    assert found.reference == pytest.approx(0.1, abs=0.03)
    assert found.limit < found.mean < 0.35, "of the newest rows, not of all"
    assert found.reference < found.limit < 0.15


def test_a_slice_that_becomes_worse_is_named() -> None:
    rng = np.random.default_rng(0)
    rows = labelled(rng, change=20, wrong=0.5)
    better = labelled(rng)
    keep = rows.columns["town"] == "a"
    mixed = Labelled(
        np.where(keep, rows.y, better.y),
        rows.known,
        Predictions(
            np.where(keep, rows.predictions.predicted, better.predictions.predicted),
            np.where(keep[:, None], rows.predictions.probabilities, better.predictions.probabilities),  # type: ignore[arg-type]
        ),
        rows.columns,
    )
    found = watched(rng, mixed, ("town",))
    assert found[("accuracy", "town a")].alarm
    assert not found[("accuracy", "town b")].alarm


def test_labels_that_have_not_come_say_nothing() -> None:
    rng = np.random.default_rng(0)
    rows = labelled(rng, rows=0)
    found = watched(rng, rows, ("town", "size"))
    assert all(each.alarm is None and each.rows == 0 and np.isnan(each.mean) for each in found.values())


# columns


def compared(rng: Any, shift: float = 0.0, rows: int = 200, days: int = 30) -> dict[tuple[str, int], Compared]:
    known = reference(rng)
    found = Collected()
    for day in DAYS[:days]:
        _, predictions, columns = drawn(rng, rows)
        columns["size"] = columns["size"] + shift
        found.samples[day] = Sample(rng.integers(0, 2**63, rows), rng.integers(0, 2**63, rows), columns, *predictions)
        found.rows[day] = rows
    return {(each.column, each.days): each for each in windows.compare(known, found, Monitor())}


def test_columns_without_a_change_do_not_warn() -> None:
    rng = np.random.default_rng(0)
    assert not any(each.warns for _ in range(10) for each in compared(rng).values())


def test_a_column_that_moves_warns_with_its_size() -> None:
    rng = np.random.default_rng(0)
    found = compared(rng, shift=1.0)
    warned = {key for key, each in found.items() if each.warns}
    assert warned == {("size", days) for days in windows.DAYS} | {(windows.TOGETHER, days) for days in (7, 28)}
    change = found[("size", 7)].change
    assert change is not None
    assert change.effect == pytest.approx(0.38, abs=0.05)
    assert found[("size", 7)].rows == 1_400
    assert (PREDICTION, 1) in found


def test_a_change_that_is_significant_and_small_does_not_warn() -> None:
    rng = np.random.default_rng(0)
    found = compared(rng, shift=0.15, rows=4_000)[("size", 28)]
    assert found.change is not None
    assert found.change.p_value < 1e-6
    assert not found.warns


def test_too_few_rows_say_nothing() -> None:
    found = compared(np.random.default_rng(0), shift=5.0, rows=20)
    assert found[("size", 1)].change is None
    assert not found[("size", 1)].warns
    assert found[("size", 7)].warns
