"""The portable form predicts what the service does: every kind of column, and features traced into the graph."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow as pa
import pytest
from onnx import TensorProto, helper
from pipeline.test_export import COLUMNS, NUMBER, TARGETS, exported

from mlops.core import paths
from mlops.core.hooks import Feature
from mlops.inference import portable, runtime
from mlops.inference.contract import Computed, Contract, Correction, Field
from mlops.inference.portable_rows import InvalidRowsError
from mlops.pipeline import export_features, export_portable
from mlops.pipeline.export_features import UntraceableError
from mlops.pipeline.export_graph import Graph
from mlops.release.smoke import json_rows
from mlops.serving import codec

TRACED = {
    "arithmetic": lambda x, y: -(x**2) / (4 * np.pi * y) + abs(x) - 3,
    "reversed": lambda x, y: (1 / y) ** x - 2**y,
    "floor and rest": lambda x, y: x // y + x % 3,
    "functions": lambda x, y: (
        np.log1p(np.square(x)) + np.sqrt(np.fabs(y)) + np.exp(-np.abs(x)) + np.tanh(y) + np.sin(x)
    ),
    "logarithms": lambda x, y: np.log10(np.abs(x)) - np.log2(np.abs(y)) + np.expm1(x),
    "where": lambda x, y: np.where((x > 0) & ~(y < 1) | np.isnan(x), y, x / 2),
    "limits": lambda x, y: np.clip(x, -1, 1) + y.clip(0.5) + np.maximum(x, y) * np.minimum(x, 0),
    "truth": lambda x, y: (x > y) * 2.0 + (x != y).astype(float) + np.isfinite(1 / x),
    "truth of numbers": lambda x, y: np.logical_and(x, y) ^ (x >= 0.0),
    "of missing values": lambda x, y: np.where(np.isnan(y), -1.0, np.floor(y) + np.ceil(x) + np.rint(x) + np.sign(x)),
    "infinite": lambda x, y: np.where(np.isinf(x / y), 9.0, np.reciprocal(x)),
}
UNTRACEABLE = {
    "of all rows": (lambda x: x - np.mean(x), "uses np.mean"),
    "of all rows, by a method": (lambda x: x - x.mean(), "does more than elementwise NumPy (AttributeError)"),
    "sum": (lambda x: x - np.add.reduce(x), "uses np.add with reduce"),
    "branch": (lambda x: x if x > 0 else -x, "decides by the values of a column; np.where decides row by row"),
    "values": (lambda x: x + np.array(x), "needs the values of a column at once"),
    "other columns": (lambda x: x + np.arange(3), "combines a column with a ndarray"),
    "constant": (lambda x: np.ones(3), "does not compute its value from its columns"),
    "integers": (lambda x: x.astype(int), "converts a column to int64"),
    "no operator": (lambda x: np.arctan(x), "uses np.arctan"),
    "options": (lambda x: np.add(x, 1, where=False), "uses np.add with __call__, where"),
}


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.PREPARED.mkdir(parents=True)


def feature(function: Any, kind: Any = "numeric", **columns: str) -> Feature:
    names = tuple(columns.values()) or tuple(inspect.signature(function).parameters)
    return Feature("made", function, names, kind, None)


@pytest.mark.parametrize("function", TRACED.values(), ids=TRACED)
def test_a_function_of_numpy_and_its_nodes_compute_the_same(function: Any) -> None:
    graph = Graph()
    columns = {name: graph.add("Gather", "numbers", graph.constant([n]), axis=1) for n, name in enumerate("xy")}
    (made,) = export_features.added(graph, [feature(function)], columns)
    inputs = [helper.make_tensor_value_info("numbers", TensorProto.DOUBLE, [None, 2])]
    model = graph.model(inputs, made, TensorProto.DOUBLE, 1)
    rng = np.random.default_rng(0)
    special = [0.0, 1.0, -1.0, 0.5, 2.5, -2.5, np.nan, 1e-300, -7.0]
    x, y = np.concatenate([rng.normal(0, 2, (2, 200)), np.array(np.meshgrid(special, special)).reshape(2, -1)], axis=1)
    with np.errstate(all="ignore"):
        expected = np.asarray(function(x, y), dtype=np.float64)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"numbers": np.column_stack([x, y])})
    np.testing.assert_allclose(found[:, 0], expected, rtol=1e-12)


@pytest.mark.parametrize(("function", "why"), UNTRACEABLE.values(), ids=UNTRACEABLE)
def test_whatever_else_a_function_does_is_named(function: Any, why: str) -> None:
    with pytest.raises(UntraceableError) as refused:
        export_features.added(Graph(), [feature(function)], {"x": "numbers"})
    assert str(refused.value) == f"made {why}"


def test_a_feature_of_text_or_dates_is_no_number() -> None:
    with pytest.raises(UntraceableError, match=r"^made is computed from 'town', which is no number$"):
        export_features.added(Graph(), [feature(lambda x: x, x="town")], {"x": "numbers"})
    with pytest.raises(UntraceableError, match=r"^made is categorical, not a number$"):
        export_features.added(Graph(), [feature(lambda x: x, kind="categorical")], {"x": "numbers"})


def rows(contract: Contract) -> list[dict[str, Any]]:
    """The rows of the test's table as a client sends them, with a category that nobody has seen."""
    table = pa.table({name: values for name, (_, values) in COLUMNS.items()})
    found = json_rows(table.select([field.name for field in contract.fields]))
    for row in found:
        for field in contract.fields:
            if field.kind == "time" and row[field.name] is not None:
                row[field.name] = row[field.name][:8]
    found[0]["many"] = "nobody has seen it"
    return found


def served(content: bytes, contract: Contract, asked: list[dict[str, Any]]) -> runtime.Answer:
    """The answer of the service's own code to a request."""
    decode = codec.Decoder(contract)
    body = json.dumps({"rows": asked}).encode()
    return runtime.onnx_model(content, contract)(decode.columns(*decode(body)))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(
    ("estimator", "y", "model"),
    [
        ("sklearn.linear_model.LogisticRegression", TARGETS["three"], {}),
        ("sklearn.linear_model.LogisticRegression", TARGETS["truth"], {"positive": True, "threshold": 0.7}),
        ("sklearn.ensemble.HistGradientBoostingRegressor", NUMBER, {}),
    ],
    ids=["three classes", "threshold", "regression"],
)
def test_each_kind_of_column_is_encoded_as_the_service_does(estimator: str, y: Any, model: dict[str, Any]) -> None:
    _, found, contract, content = exported(estimator, {}, y, **model)
    assert found["runtime"] == "onnx"
    whole, described = export_portable.made(content, contract, [], lambda _: 0.0)
    assert whole == content
    expected = served(content, contract, rows(contract))
    ours = portable.Model(json.loads(json.dumps(described)), content)
    answer = ours.predict(rows(contract))
    assert answer.predicted.tolist() == expected.predicted.tolist()
    if expected.probabilities is not None:
        np.testing.assert_array_equal(answer.probabilities, expected.probabilities)

    # as a caller has them: a column of a data frame, dates and times of Python
    table = pa.table({name: values for name, (_, values) in COLUMNS.items()})
    by_column = ours.predict(table.slice(1).to_pandas()).predicted
    assert by_column.tolist() == expected.predicted[1:].tolist()
    assert ours.predict(table.slice(1).to_pylist()).predicted.tolist() == expected.predicted[1:].tolist()

    first = rows(contract)[0]
    wrong = {"count": None, "喫煙": 1, "joined": "yesterday", "called": "25:00", "never missing": "Z", "large": 4e38}
    with pytest.raises(InvalidRowsError) as refused:
        ours.predict([first, {**first, **wrong}])
    assert {field for _, field, _ in refused.value.problems} == set(wrong)
    assert {row for row, _, _ in refused.value.problems} == {1}


def test_features_are_computed_in_the_graph_also_beside_dates_and_categories() -> None:
    """The column `large` becomes a feature, computed from a field that the model itself does not take."""
    _, _, contract, _ = exported("sklearn.linear_model.LogisticRegression", {}, TARGETS["three"])
    raw = Field(
        name="raw",
        kind="numeric",
        nullable=False,
        example=1.0,
        only_for_features=True,
        clean=Correction(above=1e9, factor=0.1),
    )
    others = [field for field in contract.fields if field.name != "large"]
    # the graph takes the features last
    names = [each.name for each in contract.fields if each.kind in portable.NUMBERS and each.name != "large"]
    computed = Computed(name="large", kind="numeric", columns=["raw", "count"])
    changed = contract.model_copy(update={"fields": [raw, *others], "features": [computed]})
    _, _, reordered, moved = exported(
        "sklearn.linear_model.LogisticRegression",
        {},
        TARGETS["three"],
        {**{name: column for name, column in COLUMNS.items() if name != "large"}, "large": COLUMNS["large"]},
    )
    assert [each.name for each in changed.inputs if each.kind in portable.NUMBERS] == [*names, "large"]
    made = feature(lambda raw, count: np.where(raw == -7, np.inf, (raw - count) * 1e3), a="raw", b="count")
    whole, described = export_portable.made(moved, changed, [made], lambda _: 0.0)
    assert whole is not None, described
    asked = rows(contract)
    expected = served(moved, reordered, [{field.name: row[field.name] for field in reordered.fields} for row in asked])
    given = [
        {**{n: v for n, v in row.items() if n != "large"}, "raw": row["large"] / 1e3 + row["count"]} for row in asked
    ]
    model = portable.Model(described, whole)
    np.testing.assert_allclose(model.predict(given).probabilities, expected.probabilities, atol=1e-9)
    in_other_unit = [{**row, "raw": 1e10} for row in given[:2]]
    with pytest.raises(InvalidRowsError, match="row 0, 'large' is inf; computed from raw = -7"):
        portable.Model(described, whole).predict([{**given[0], "raw": -7}])
    assert model.typed(in_other_unit)["raw"].tolist() == [1e9, 1e9]


@pytest.mark.parametrize(
    ("function", "difference", "why"),
    [
        (lambda x: x + np.median(x), 0.0, "a feature has no ONNX form: made uses np.median"),
        (lambda x: x, 0.1, "a feature is not the same in ONNX: predictions differ"),
    ],
    ids=["untraceable", "other predictions"],
)
def test_a_feature_that_is_not_the_same_in_onnx_leaves_a_reason(function: Any, difference: float, why: str) -> None:
    _, _, contract, content = exported("sklearn.linear_model.LogisticRegression", {}, TARGETS["three"])
    made = feature(function, x="large")
    export_portable.write(*export_portable.made(content, contract, [made], lambda _: difference))
    assert json.loads((paths.PORTABLE / "contract.json").read_text()) == {"why": why}
    assert [file.name for file in paths.PORTABLE.iterdir()] == ["contract.json"]
