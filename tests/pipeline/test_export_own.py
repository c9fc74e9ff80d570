"""Estimators of the team's own that export themselves to ONNX, and what becomes of those that do so wrongly."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pyarrow as pa
import pytest
from conftest import Write
from onnx import helper, parser
from sklearn.linear_model import LogisticRegression
from test_export import TARGETS, exported

from mlops.core import hooks, paths
from mlops.core.errors import UserError
from mlops.data.tables import Column
from mlops.inference import contract as contracts
from mlops.inference import runtime
from mlops.model import metrics
from mlops.pipeline import export_equality, export_own

FILE = hooks.ROOM / "estimators.py"
OWN = "project.estimators.Own"
# logistic regression whose export a test writes
LOGISTIC = """
import numpy as np
from sklearn.linear_model import LogisticRegression


class Own(LogisticRegression):
    def __init__(self, C=1.0):
        super().__init__(C=C)
"""
GRAPH = """
    def to_onnx(self, n_features):
        import onnx.parser

        weights = ", ".join(map(repr, self.coef_[0].tolist()))
        return onnx.parser.parse_model(f'''
            <ir_version: 8, opset_import: ["" : 15]>
            sequential_7 (KIND[unk__6, {n_features}] dense_3_input) => (KIND[unk__6, 2] dense_4)
            <KIND[{n_features}, 1] kernel = {{{weights}}}, KIND[1] bias = {{{float(self.intercept_[0])!r}}}> {{
                dense_3 = MatMul (dense_3_input, kernel)
                sum = Add (dense_3, bias)
                second = Sigmoid (sum)
                one = Constant <value = KIND[1] {{1}}> ()
                first = Sub (one, second)
                dense_4 = Concat <axis = 1> (first, second)
            }}''')
"""


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    paths.PREPARED.mkdir(parents=True)


def made(team: Write, method: str) -> tuple[float, dict[str, Any], contracts.Contract, bytes]:
    team(estimators=LOGISTIC + method)
    return exported(OWN, {}, TARGETS["text"])


@pytest.mark.parametrize(("kind", "precision"), [("double", "double"), ("float", "single")])
def test_its_graph_follows_the_preprocessing_in_its_own_precision(team: Write, kind: str, precision: str) -> None:
    difference, found, contract, content = made(team, GRAPH.replace("KIND", kind))
    assert (contract.runtime, found["why"], found["precision"]) == ("onnx", None, precision)
    assert difference <= found["difference_below"] == (1e-9 if kind == "double" else 1e-5)
    # ONNX Runtime needs none of the team's code
    assert (contract.code, contract.packages, contract.trusted) == ({}, [], [])
    assert contract.model_packages == []  # set by the stage
    model = onnx.load_model_from_string(content)
    assert {each.version for each in model.opset_import if not each.domain} == {15}


def test_the_same_model_is_the_same_bytes_whatever_the_framework_calls_its_nodes(team: Write) -> None:
    graph = GRAPH.replace("KIND", "float")
    _, _, _, one = made(team, graph)
    for old, new in (("sequential_7", "sequential_8"), ("dense_3", "dense_5"), ("unk__6", "unk__9"), ("kernel", "w")):
        graph = graph.replace(old, new)
    renamed = graph.replace("return onnx.parser", "model = onnx.parser") + (
        "        model.producer_name, model.doc_string = 'framework 2.0 at /home/ada', 'made on Monday'\n"
        "        model.metadata_props.add(key='time', value='12:00')\n"
        "        model.graph.node[0].doc_string = 'traced in /home/ada/x.py'\n"
        "        return model\n"
    )
    _, _, _, other = made(team, renamed)
    assert one == other
    assert b"ada" not in other
    assert b"dense" not in one


def test_bytes_and_functions_of_a_framework_are_taken_too(team: Write) -> None:
    function = """
    def to_onnx(self, n_features):
        import onnx.parser

        weights = ", ".join(map(repr, self.coef_[0].tolist()))
        return onnx.parser.parse_model(f'''
            <ir_version: 8, opset_import: ["" : 15, "layers" : 1]>
            own (double[N, {n_features}] X) => (double[N, 2] P)
            <double[{n_features}, 1] kernel = {{{weights}}}, double[1] bias = {{{float(self.intercept_[0])!r}}}> {{
                P = layers.dense (X, kernel, bias)
            }}
            <domain: "layers", opset_import: ["" : 15]>
            dense (X, kernel, bias) => (P) {{
                product = MatMul (X, kernel)
                sum = Add (product, bias)
                opposite = Neg (sum)
                second = Sigmoid (sum)
                first = Sigmoid (opposite)
                P = Concat <axis = 1> (first, second)
            }}''').SerializeToString()
"""
    difference, found, contract, _ = made(team, function)
    assert (contract.runtime, found["why"]) == ("onnx", None)
    assert difference <= found["difference_below"] == 1e-9


WRONG = {
    "raises": (
        "\n    def to_onnx(self, n_features):\n        raise ValueError('no layer at /home/ada')\n",
        "it does not convert: Own.to_onnx raises ValueError",
    ),
    "returns something else": (
        "\n    def to_onnx(self, n_features):\n        return {}\n",
        "it does not convert: Own.to_onnx raises GraphError",
    ),
    "another model": (
        GRAPH.replace("KIND", "double").replace("self.intercept_[0])", "self.intercept_[0]) + 0.1"),
        "its predictions as ONNX differ",
    ),
    "an operator that the service does not run": (
        GRAPH.replace("KIND", "double").replace(
            "second = Sigmoid", "unused = RandomNormalLike (sum)\n second = Sigmoid"
        ),
        "it does not convert: as ONNX, the operator ai.onnx.RandomNormalLike is not on the list",
    ),
    "no method": ("", "it does not convert: Own has no method to_onnx, and skl2onnx raises MissingShapeCalculator"),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_one_that_exports_itself_wrongly_is_served_by_scikit_learn_with_the_reason(
    team: Write, wrong: str, capsys: pytest.CaptureFixture[str]
) -> None:
    method, why = WRONG[wrong]
    difference, found, contract, _ = made(team, method)
    assert contract.runtime == "scikit-learn"
    assert difference <= found["difference_below"] == 1e-9
    assert found["why"] == why
    assert "/home/ada" not in str(found)
    # the service runs the team's file, by its hash
    assert list(contract.code) == ["__init__.py", "estimators.py"]
    assert contract.packages == ["numpy", "scikit-learn"]
    assert f"{OWN}" in contract.trusted
    if wrong == "raises":
        assert f"warning: {FILE}, line 11: ValueError: no layer at /home/ada" in capsys.readouterr().out


def test_a_package_that_its_export_needs_and_that_is_not_installed_stops_the_stage(team: Write) -> None:
    with pytest.raises(UserError) as error:
        made(team, "\n    def to_onnx(self, n_features):\n        import net2onnx\n")
    assert str(error.value) == (
        f"{FILE}, line 11: ModuleNotFoundError: No module named 'net2onnx'\n  try: uv add net2onnx"
    )


def test_the_service_does_not_run_another_file_than_the_model_was_trained_with(team: Write, tmp_path: Path) -> None:
    _, _, contract, content = made(team, "")
    source = tmp_path / "src/project/estimators.py"
    team(estimators=f"{source.read_text()}\nraise SystemExit('this must not run')\n")
    with pytest.raises(UserError, match=f"{FILE} is not the file that the model was trained with"):
        runtime.loaded(content, contract)
    source.unlink()
    with pytest.raises(UserError, match=f"{FILE} is missing"):
        runtime.loaded(content, contract)


def test_subgraphs_are_renamed_consistently() -> None:
    body = parser.parse_graph("body () => (float[N, 2] inner) { inner = Identity (P) }")
    other = parser.parse_graph("body () => (float[N, 2] inner) { inner = Neg (P) }")
    whole = parser.parse_model(
        '<ir_version: 8, opset_import: ["" : 15]> own (float[N, 2] X) => (float[N, 2] Y) { P = Relu (X) }'
    )
    whole.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "always"))
    whole.graph.node.append(helper.make_node("If", ["always"], ["Y"], then_branch=body, else_branch=other))
    alone = export_own._alone(whole)
    X = np.array([[-1, 2]], dtype=np.float32)
    session = onnxruntime.InferenceSession(alone.SerializeToString())
    (found,) = session.run(None, {session.get_inputs()[0].name: X})
    assert found.tolist() == [[0, 2]]


def test_a_model_that_looks_at_other_rows_is_named_with_both_predictions(team: Write) -> None:
    team(
        estimators=LOGISTIC
        + "\n    def predict_proba(self, X):\n        return super().predict_proba(X - np.asarray(X).mean(axis=0))\n"
    )
    from project.estimators import Own

    table = pa.table({"a": np.arange(40.0) / 40})
    columns = [Column(name="a", kind="numeric", type="", unit=None, missing=0, distinct=0)]
    X = table.to_pandas()
    y = np.where(X["a"] > 0.5, "yes", "no")
    for kind, sound in ((LogisticRegression, True), (Own, False)):
        estimator = kind().fit(X, y)
        model = Alone(estimator)
        expected = metrics.predict_table(model, table, columns)
        if sound:
            export_equality.check_alone(model, table, columns, expected)
            continue
        with pytest.raises(UserError) as error:
            export_equality.check_alone(model, table, columns, expected)
        said = str(error.value)
        assert said.startswith(
            f"{FILE}, line 6: Own predicts a row differently alone and in a batch: test row 1 gets ["
        )
        assert (
            "in a batch of 40 rows\n  try: predict each row on its own; what is learned from other rows belongs in fit"
            in said
        )


class Alone(dict[str, Any]):
    """A model without preprocessing."""

    def __init__(self, estimator: Any) -> None:
        super().__init__(estimator=estimator)
        self.predict, self.predict_proba = estimator.predict, estimator.predict_proba
