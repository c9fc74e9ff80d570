"""Labelled rows of a log as a table: what is broken, what is odd, and what is trained on."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from mlops.core.errors import UserError
from mlops.core.settings import Retrain, Settings
from mlops.data.tables import Catalogue, Column
from mlops.inference.contract import Contract, Field
from mlops.model.metrics import Predictions
from mlops.monitoring import batch as batches
from mlops.monitoring.batch import Batch
from mlops.monitoring.matched import Labelled

CONTRACT = Contract(
    task="classification",
    target="ill",
    classes=["no", "yes"],
    positive="yes",
    probabilities=False,
    runtime="onnx",
    fields=[
        Field(name="size", kind="numeric", nullable=False),
        Field(name="town", kind="categorical", nullable=True, values=["Bern", "Chur"]),
        Field(name="seen", kind="date", nullable=True),
        Field(name="smokes", kind="boolean", nullable=True),
    ],
)
KINDS = {"size": "numeric", "town": "categorical", "seen": "date", "smokes": "boolean", "ill": "categorical"}
CATALOGUE = Catalogue(
    source="data/raw/t.csv",
    rows=100,
    sha256="",
    columns=[
        Column(name=name, kind=kind, type="", unit=None, missing=0, distinct=None)  # type: ignore[arg-type]
        for name, kind in KINDS.items()
    ],
)


def settings(**monitor: Any) -> Settings:
    return Settings.model_validate(
        {
            "data": {"source": "data/raw/t.csv", "task": "classification", "target": "ill"},
            "validate": {},
            "split": {},
            "model": {"estimator": "sklearn.linear_model.LogisticRegression"},
            "tuning": None,
            "evaluate": {},
            "monitor": monitor,
        }
    )


def labelled(rows: int = 10, **columns: list[Any]) -> Labelled:
    """Rows in the wrong order, an hour apart."""
    text = np.array(["Bern", "Chur"] * rows, dtype=object)[:rows]
    given = {
        "size": np.arange(rows, dtype=float),
        "town": text,
        "seen": np.array(["2026-01-01T00:00:00"] * rows, dtype=object),
        "smokes": np.array([0.0, 1.0] * rows)[:rows],
        "ill": np.array(["no", "yes"] * rows, dtype=object)[:rows],
    }
    for name, values in columns.items():
        given[name] = np.array(values, dtype=given[name].dtype)
    order = np.arange(rows)[::-1]
    time = np.datetime64("2026-01-01", "us") + np.arange(rows) * np.timedelta64(1, "h")
    return Labelled(
        given["ill"][order],
        time[order],
        Predictions(given["ill"][order], None),
        {name: given[name][order] for name in KINDS if name != "ill"},
        time=time[order],
        request_id=np.array([f"id-{row}" for row in order], dtype=object),
        row=np.zeros(rows, dtype=np.int64),
    )


def built(rows: int = 10, **columns: list[Any]) -> tuple[Batch, list[Any]]:
    return batches.build(labelled(rows, **columns), CONTRACT, CATALOGUE, settings())


def test_rows_are_in_the_order_of_their_time_with_the_types_of_their_kinds() -> None:
    batch, problems = built(3)
    assert problems == []
    assert batch.request_id.tolist() == ["id-0", "id-1", "id-2"]
    assert batch.table["size"].to_pylist() == [0, 1, 2]
    assert [str(field.type) for field in batch.table.schema][1:] == ["string", "timestamp[us]", "bool", "string"]
    assert batches.check(batch, CONTRACT, CATALOGUE, settings()) == ([], [])


def test_a_value_that_does_not_fit_its_column_is_named_with_its_row() -> None:
    _, (problem,) = built(3, seen=["2026-01-01", "yesterday", "2026-01-02"])
    assert (problem.column, problem.what) == ("seen", "cannot be read as date")
    assert (problem.examples[0].request_id, problem.examples[0].value) == ("id-1", "'yesterday'")


@pytest.mark.parametrize(
    ("columns", "column", "rows", "value"),
    [
        ({"size": [1, np.nan, np.nan]}, "size", 2, "None"),
        ({"town": ["Bern", "Rome", None]}, "town", 1, "Rome"),
        ({"ill": ["no", "yes", "maybe"]}, "ill", 1, "maybe"),
    ],
    ids=["vanished", "category", "class"],
)
def test_what_the_model_has_never_seen_is_named_with_its_rows(
    columns: dict[str, list[Any]], column: str, rows: int, value: str
) -> None:
    batch, _ = built(3, **columns)
    ((problem,), _) = batches.check(batch, CONTRACT, CATALOGUE, settings())
    assert (problem.column, problem.rows, problem.examples[0].value) == (column, rows, value)


def test_a_log_without_a_field_cannot_be_trained_on() -> None:
    for option in ("leave_out", "pseudonymise"):
        with pytest.raises(UserError, match="does not hold 'town' as it was received"):
            batches.build(labelled(), CONTRACT, CATALOGUE, settings(log={option: ["town"]}))


def test_the_newest_rows_are_set_aside_and_of_the_others_the_newest_are_used() -> None:
    batch, _ = built(100)
    older, recent = batches.divide(batch, Retrain(recent_share=0.3, most_new_share=0.5), training=20)
    assert recent.table["size"].to_pylist() == list(range(70, 100))
    assert older.table["size"].to_pylist() == list(range(50, 70))  # as many as there are on main
    older, _ = batches.divide(batch, Retrain(recent_share=0.3, most_new_share=0.5), training=1000)
    assert len(older) == 70


def test_rows_of_one_moment_stay_together() -> None:
    batch, _ = built(10)
    batch.time[5:] = batch.time[5]
    older, recent = batches.divide(batch, Retrain(recent_share=0.1), training=1000)
    assert (len(older), len(recent)) == (5, 5)


def test_a_batch_that_one_request_fills_or_one_row_repeats_is_reported_with_its_share() -> None:
    batch, _ = built(100)
    assert batches.oddities(batch, corrected=0) == []
    batch.request_id[:90] = "bot"
    assert batches.oddities(batch, corrected=0) == ["90% of the rows come from one request: bot"]
    repeated, _ = built(100, size=[1.0] * 90 + list(range(10)), town=["Bern"] * 100, smokes=[0] * 100)
    notes = batches.oddities(repeated, corrected=2)
    assert notes[0] == "91% of the rows are copies of a single one: request id-0, row 0"
    assert notes[1:] == [
        "90% of the rows repeat the values of another row",
        "1 set of equal rows has different labels",
        "2 labels were corrected later; the last one counts",
    ]
