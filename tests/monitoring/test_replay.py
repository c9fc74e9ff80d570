"""Recorded rows through two models: numbers, categories, costs in a column, hostile lines, in parts of any size."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from monitoring.logged import CONTRACT, line, segment

from mlops.core.settings import Costs
from mlops.inference.contract import Contract, Field
from mlops.inference.runtime import Answer
from mlops.model.costs import cost_metric
from mlops.model.metrics import Classes
from mlops.monitoring import recorded
from mlops.monitoring.recorded import Log
from mlops.monitoring.replay import Replay, Side, replay
from mlops.monitoring.replay_costs import Pricing
from mlops.monitoring.replay_slices import Slices

MAIN = "a" * 32
FIELDS = [
    Field(name="size", kind="numeric", nullable=True),
    Field(name="town", kind="categorical", nullable=True),
    Field(name="amount", kind="numeric", nullable=True),
]
CLASSES = CONTRACT.model_copy(update={"fields": FIELDS, "features": []})
NUMBER = Contract(task="regression", target="price", probabilities=False, runtime="onnx", fields=FIELDS)


def classifier(limit: float) -> Any:
    """A model that says yes from a size on, and is sure by how far it is away."""

    def model(columns: Any) -> Answer:
        likely = 1 / (1 + np.exp(limit - np.nan_to_num(columns["size"])))
        labels = np.where(likely >= 0.5, "yes", "no").astype(object)
        return Answer(labels, np.column_stack([1 - likely, likely]))

    return model


def number(factor: float) -> Any:
    return lambda columns: Answer(factor * np.nan_to_num(columns["size"]), None)


def side(model: Any, contract: Contract = CLASSES) -> Side:
    return Side(MAIN, contract, model, nullcontext)


def logged(folder: Path, count: int = 100, contract: Contract = CLASSES, model: Any = None) -> None:
    """Two files with rows of sizes 0, 0.1, …, with what the model answers."""
    given = []
    for place in range(count):
        features = {"size": place / 10, "town": ["a", "b", None][place % 3], "amount": float(place)}
        answer = (model or classifier(5))({"size": np.array([place / 10])})
        row = line(place, features=features, computed={}, prediction=answer.predicted[0], probabilities=None)
        if answer.probabilities is not None:
            row["probabilities"] = dict(zip(["no", "yes"], answer.probabilities[0].tolist(), strict=True))
        given.append(row)
    segment(folder, 1, *given[: count // 2])
    segment(folder, 2, *given[count // 2 :])


TRAIN = pa.table({"size": [0.0, 2.0, 4.0, 6.0, 8.0], "town": ["a", "a", "b", "b", "c"]})


def run(folder: Path, main: Side, change: Side, pricing: Pricing | None = None, **options: Any) -> Replay:
    slices = Slices(["size", "town", "unknown"], TRAIN, [change.contract, main.contract])
    pricing = pricing or Pricing(None, (), None, None)
    return replay(Log(folder), main, change, [], slices, pricing, **options)


@pytest.mark.parametrize("chunk", [1, 7, 20_000])
def test_results_do_not_depend_on_the_size_of_the_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int
) -> None:
    monkeypatch.setattr(recorded, "CHUNK", chunk)
    logged(tmp_path)
    found = run(tmp_path, side(classifier(5)), side(classifier(7)))
    assert found.tally.moves == {("no", "no"): 50, ("yes", "no"): 20, ("yes", "yes"): 30}
    assert (found.tally.compared, found.tally.changed, found.tally.differ) == (100, 20, 0)
    assert found.slices.rows == {
        ("size", "< 2"): 20,
        ("size", "2 to 4"): 20,
        ("size", "4 to 6"): 20,
        ("size", "≥ 6"): 40,
        ("town", "a"): 34,
        ("town", "b"): 33,
        ("town", "missing"): 33,
    }
    assert found.slices.changed["size", "4 to 6"] == 10
    assert found.slices.changed["size", "≥ 6"] == 10
    assert found.slices.unknown == ["unknown"]
    largest = sorted(found.tally.largest, reverse=True)
    assert largest[0].request_id == "id-60"
    assert largest[0].value_before == pytest.approx(1 / (1 + np.exp(-1)))
    assert len(largest) == 10


def test_of_numbers_a_decision_is_the_part_between_the_edges(tmp_path: Path) -> None:
    logged(tmp_path, contract=NUMBER, model=number(1))
    found = run(tmp_path, side(number(1), NUMBER), side(number(2), NUMBER), edges=np.array([5.0]))
    assert found.tally.moves == {("< 5", "< 5"): 25, ("< 5", "≥ 5"): 25, ("≥ 5", "≥ 5"): 50}
    assert found.tally.difference == pytest.approx(sum(place / 10 for place in range(100)))
    assert found.tally.differ == 0
    assert sorted(found.tally.largest, reverse=True)[0].request_id == "id-99"


def test_main_s_own_rows_that_it_predicts_otherwise_are_counted(tmp_path: Path) -> None:
    logged(tmp_path)
    found = run(tmp_path, side(classifier(5.001)), side(classifier(7)))
    assert found.tally.of_main == 100
    assert found.tally.differ > 90
    other = Side("b" * 32, CLASSES, classifier(5.001), nullcontext)
    assert run(tmp_path, other, side(classifier(7))).tally.of_main == 0


def test_amounts_of_a_column_are_prices(tmp_path: Path) -> None:
    logged(tmp_path)
    classes = Classes(np.array(["no", "yes"]), 1)
    cost, columns = cost_metric(Costs(false_negative="amount", false_positive=1), classes)
    found = run(tmp_path, side(classifier(5)), side(classifier(7)), Pricing(cost, columns, classes, None))
    likely = 1 / (1 + np.exp(5 - np.arange(100) / 10))
    amount = np.arange(100)
    decided = [np.arange(100) >= 50, np.arange(100) >= 70]
    expected = [np.where(each, 1 - likely, likely * amount).sum() for each in decided]
    assert found.pricing.sums["main"] == [100, pytest.approx(expected[0]), pytest.approx(expected[1])]
    without = Slices([], TRAIN, [CLASSES])
    fewer = CLASSES.model_copy(update={"fields": FIELDS[:2]})
    pricing = Pricing(cost, columns, classes, None)
    narrow = side(classifier(5), fewer)
    replay(Log(tmp_path), narrow, narrow, [], without, pricing)
    assert pricing.sums == {}
    assert pricing.priceless == "the log has no column 'amount', which holds amounts"


@pytest.mark.parametrize(
    "hostile",
    [
        b"{}\n",
        b"not json\n",
        b"[" * 50_000 + b"\n",
        b'{"request_id":"x","row":1,"model":"m","prediction":"yes","features":' + b"[" * 50_000 + b"\n",
    ],
    ids=["empty", "text", "deep", "deep features"],
)
def test_a_line_that_the_service_does_not_write_costs_itself_only(tmp_path: Path, hostile: bytes) -> None:
    logged(tmp_path)
    segment(tmp_path, 3, hostile, line(7, features={"size": 1.0, "town": "a", "amount": 1.0}))
    found = run(tmp_path, side(classifier(5)), side(classifier(7)))
    assert found.log.unreadable == 1
    assert found.tally.compared == 101


@pytest.mark.parametrize(
    ("features", "why"),
    [
        ({"size": "large", "town": "a", "amount": 1}, "size input should be a valid number"),
        ({"size": 1e300, "town": "a", "amount": 1}, "size is outside the limit 3e+38"),
        ({"size": 1, "town": 5, "amount": 1}, "town input should be a valid string"),
        ({"town": "a"}, "size and 1 more is needed by this model, and not in the log"),
        ([1, 2], "the features are no JSON object"),
        ("text", "the features are no JSON object"),
    ],
    ids=["text", "huge", "number", "missing", "list", "string"],
)
def test_a_row_that_does_not_fit_is_counted_with_the_reason(tmp_path: Path, features: Any, why: str) -> None:
    logged(tmp_path)
    segment(tmp_path, 3, line(7, features=features), line(8, features={"size": 1.0, "town": "a", "amount": 1.0}))
    found = run(tmp_path, side(classifier(5)), side(classifier(7)))
    assert found.tally.compared == 101
    assert found.unfit == {"main": {why: 1}, "change": {why: 1}}


def test_reasons_of_a_hostile_log_do_not_fill_the_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorded, "MOST_REASONS", 5)
    features = {"size": 1.0, "town": "a", "amount": 1.0}
    segment(tmp_path, 1, *(line(place, features={**features, f"more {place}": 1}) for place in range(50)))
    found = run(tmp_path, side(classifier(5)), side(classifier(7)))
    assert found.tally.compared == 50
    assert len(found.ignored["main"]) == 6
    assert found.ignored["main"]["other reasons"] == 45


def test_a_model_that_overflows_loses_the_row_only(tmp_path: Path) -> None:
    logged(tmp_path)

    def overflowing(columns: Any) -> Answer:
        answer = classifier(7)(columns)
        likely = answer.probabilities.copy()  # type: ignore[union-attr]
        likely[columns["size"] == 3] = np.nan
        return Answer(answer.predicted, likely)

    found = run(tmp_path, side(classifier(5)), side(overflowing))
    assert found.tally.compared == 99
    assert found.unfit["change"] == {"the model makes no finite number of it": 1}
