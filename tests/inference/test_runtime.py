from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pandas as pd
import pytest
import skops.io
from onnx import TensorProto, helper
from sklearn.ensemble import RandomForestRegressor

from mlops.core.errors import UserError
from mlops.core.files import write_json
from mlops.core.settings import Settings
from mlops.data.tables import Column
from mlops.inference import contract as contracts
from mlops.inference import onnxfile, runtime
from mlops.inference.contract import Contract
from mlops.inference.runtime import Encoded
from mlops.model.estimators import make_model
from mlops.pipeline import export_trees
from mlops.pipeline.export_graph import Graph
from mlops.pipeline.export_onnx import UnconvertibleError, convert


def contract(**changes: Any) -> Contract:
    fields = [
        {"name": "size", "kind": "numeric", "nullable": True},
        {"name": "town", "kind": "categorical", "nullable": True, "codes": ["A", "B"]},
    ]
    whole = {"task": "classification", "target": "y", "classes": ["no", "yes"], "probabilities": True}
    return Contract.model_validate({**whole, "runtime": "onnx", "fields": fields, **changes})


def model() -> bytes:
    """As the probability of yes the number, if the town is A; a tenth of its code otherwise."""
    graph = Graph()
    tenths = graph.add("Gather", graph.constant([0.0, 0.1, 0.2, 0.3]), "codes")
    is_first = graph.add("Equal", "codes", graph.constant([[0]]))
    yes = graph.add("Where", is_first, "numbers", tenths)
    both = graph.add("Concat", graph.add("Sub", graph.constant(1.0), yes), yes, axis=1)
    inputs = [
        helper.make_tensor_value_info("numbers", TensorProto.DOUBLE, [None, 1]),
        helper.make_tensor_value_info("codes", TensorProto.INT64, [None, 1]),
    ]
    return bytes(graph.model(inputs, both, TensorProto.DOUBLE, 2).SerializeToString())


SIZE = np.array([0.9, 0.9, 0.9, 0.9, 0.2])
TOWN = np.array(["A", "B", None, "C", "A"], dtype=object)


def test_a_missing_category_and_a_new_one_have_codes_of_their_own() -> None:
    answer = runtime.loaded(model(), contract())({"size": SIZE, "town": TOWN})
    np.testing.assert_allclose(answer.probabilities[:, 1], [0.9, 0.1, 0.2, 0.3, 0.2])
    assert answer.predicted.tolist() == ["yes", "no", "no", "no", "no"]


def test_a_dictionary_of_categories_gives_the_same_as_each_by_itself() -> None:
    served = runtime.loaded(model(), contract())
    encoded = Encoded(np.array([2, 0, -1, 1, 2]), ["B", "C", "A"])
    np.testing.assert_array_equal(
        served({"size": SIZE, "town": encoded}).probabilities, served({"size": SIZE, "town": TOWN}).probabilities
    )


@pytest.mark.parametrize(("positive", "labels"), [("yes", ["yes", "no", "yes"]), ("no", ["yes", "no", "no"])])
def test_the_threshold_decides_and_belongs_to_the_positive_class(positive: str, labels: list[str]) -> None:
    served = runtime.loaded(model(), contract(positive=positive, threshold=0.3))
    answer = served({"size": np.array([0.9, 0.1, 0.3]), "town": np.array(["A", "A", "A"], dtype=object)})
    assert answer.predicted.tolist() == labels


@pytest.mark.parametrize("classes", [[False, True], [-1, 3], [1.0, 2.0]])
def test_labels_keep_their_type(classes: list[Any]) -> None:
    read = Contract.model_validate_json(contract(classes=classes).model_dump_json())
    answer = runtime.loaded(model(), read)({"size": SIZE, "town": TOWN})
    found = answer.predicted.tolist()[0]
    assert (found, type(found)) == (classes[1], type(classes[1]))


@pytest.mark.parametrize(("form", "name"), [("onnx", "model.onnx"), ("scikit-learn", "model.skops")])
def test_a_damaged_or_missing_model_is_reported(tmp_path: Path, form: str, name: str) -> None:
    write_json(contract(runtime=form).model_dump(), tmp_path / contracts.SCHEMA)
    with pytest.raises(UserError, match=f"{name} is missing"):
        runtime.load(tmp_path)
    (tmp_path / name).write_bytes(model()[:-100])
    with pytest.raises(UserError, match=f"{name} is not a complete"):
        runtime.load(tmp_path)


def test_the_compiled_model_needs_neither_scikit_learn_nor_pandas_nor_arrow(tmp_path: Path) -> None:
    write_json(contract().model_dump(), tmp_path / contracts.SCHEMA)
    (tmp_path / "model.onnx").write_bytes(model())
    code = (
        "import sys, numpy as np; from pathlib import Path; from mlops.inference import runtime\n"
        "runtime.load(Path(sys.argv[1]))[1]({'size': np.array([1.0]), 'town': np.array(['A'], dtype=object)})\n"
        "print(sorted({'sklearn', 'pandas', 'pyarrow', 'skops', 'onnx', 'skl2onnx'} & {*sys.modules}))"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"


# Altered ONNX files


def parsed() -> Any:
    return onnx.load_from_string(model())


def chain(levels: int) -> bytes:
    """A tree in which every branch leads to a leaf and to the next branch."""
    nodes = np.arange(2 * levels + 1)
    leaf = nodes % 2 == 1
    leaf[-1] = True
    tree = export_trees.Tree(leaf, nodes + 2, nodes + 1, 0 * nodes, 0.0 * nodes, nodes < 0, 1.0 * nodes)
    graph = Graph()
    output = export_trees.leaves(graph, "numbers", [(0, tree)], 1)
    inputs = [helper.make_tensor_value_info("numbers", TensorProto.DOUBLE, [None, 1])]
    return bytes(graph.model(inputs, output, TensorProto.DOUBLE, 1).SerializeToString())


def older_tree(true_ids: list[int], **changes: Any) -> bytes:
    """A tree as skl2onnx writes it: three branches, four leaves."""
    graph = Graph()
    numbers = graph.add("Cast", "numbers", to=TensorProto.FLOAT)
    attributes = {
        "nodes_treeids": [0] * 7,
        "nodes_nodeids": [0, 1, 2, 3, 4, 5, 6],
        "nodes_featureids": [0] * 7,
        "nodes_values": [3.0, 2.0, 1.0, 0.0, 0.0, 0.0, 0.0],
        "nodes_modes": ["BRANCH_LEQ"] * 3 + ["LEAF"] * 4,
        "nodes_truenodeids": true_ids,
        "nodes_falsenodeids": [6, 5, 4, 0, 0, 0, 0],
        "target_treeids": [0] * 4,
        "target_nodeids": [3, 4, 5, 6],
        "target_ids": [0] * 4,
        "target_weights": [0.1, 0.2, 0.3, 0.4],
        "n_targets": 1,
        **changes,
    }
    output = graph.add("TreeEnsembleRegressor", numbers, domain="ai.onnx.ml", **attributes)
    inputs = [helper.make_tensor_value_info("numbers", TensorProto.DOUBLE, [None, 1])]
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx.ml", 3)]
    made = graph.model(inputs, output, TensorProto.FLOAT, 1, opset_imports=opsets)
    return bytes(made.SerializeToString())


NUMBER = {"task": "regression", "classes": None, "probabilities": False, "fields": [contract().fields[0].model_dump()]}
ROW = {"size": np.array([0.5])}

# Each ends the process that opens or asks it, or keeps it busy for ever
FATAL_ONNX = {
    "deep": (chain(100_000), "a tree has more than 1,000 levels, or is cyclic"),
    "cycle": (older_tree([1, 2, 1, 0, 0, 0, 0]), "a tree has more than 1,000 levels, or is cyclic"),
}

OPENED = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(open(sys.argv[1], "rb").read(), providers=["CPUExecutionProvider"])
session.run(None, {"numbers": numpy.array([[0.5]])})
"""


@pytest.mark.parametrize("name", FATAL_ONNX)
def test_a_tree_that_onnx_runtime_does_not_survive_is_refused(name: str, tmp_path: Path) -> None:
    content, said = FATAL_ONNX[name]
    (tmp_path / "model.onnx").write_bytes(content)
    asked = f"import signal; signal.alarm(10)\n{OPENED}"
    ran = subprocess.run([sys.executable, "-c", asked, str(tmp_path / "model.onnx")], capture_output=True, check=False)
    assert ran.returncode in (-signal.SIGSEGV, -signal.SIGALRM)
    with pytest.raises(
        UserError, match=f"model.onnx is not a complete ONNX model: {said}\n  try: dvc checkout --force"
    ):
        runtime.loaded(content, contract(**NUMBER))


def test_a_tree_of_many_levels_that_onnx_runtime_survives_is_answered() -> None:
    answer = runtime.loaded(chain(999), contract(**NUMBER))({"size": np.array([-1.0, 1.0])})
    assert answer.predicted.tolist() == [1998.0, 1.0]


def test_a_tree_as_skl2onnx_writes_it_is_answered() -> None:
    served = runtime.loaded(older_tree([1, 2, 3, 0, 0, 0, 0]), contract(**NUMBER))
    np.testing.assert_allclose(
        served({"size": np.array([0.5, 1.5, 2.5, 3.5])}).predicted, [0.1, 0.2, 0.3, 0.4], rtol=1e-6
    )


@pytest.mark.parametrize(
    ("true_ids", "changes", "said"),
    [
        ([9, 2, 3, 0, 0, 0, 0], {}, "refers to a node that does not exist"),
        ([-1, 2, 3, 0, 0, 0, 0], {}, "refers to a node that does not exist"),
        ([1, 2, 3, 0, 0, 0, 0], {"nodes_treeids": [0, 0, 0, 0, 0, 1, 0]}, "refers to a node that does not exist"),
        (
            [1 << 31, 2, 3, 0, 0, 0, 0],
            {"nodes_treeids": [0, 0, 0, 0, 0, 1, 0], "nodes_nodeids": [5, 1, 2, 3, 4, 0, 6]},
            "refers to a node that does not exist",
        ),
        ([1, 2, 3, 0], {}, "the attributes of a tree differ in length"),
        ([1, 2, 3, 0, 0, 0, 0], {"nodes_modes": ["LEAF"]}, "the attributes of a tree differ in length"),
    ],
    ids=["beyond", "before", "in another tree", "as a number of both", "short", "short modes"],
)
def test_a_tree_that_leads_nowhere_is_refused(true_ids: list[int], changes: dict[str, Any], said: str) -> None:
    with pytest.raises(onnxfile.OnnxError, match=said):
        onnxfile.check(older_tree(true_ids, **changes))


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("nodes_truenodeids", [5], "refers to a node that does not exist"),
        ("nodes_falseleafs", [0], "is cyclic"),
        ("nodes_trueleafs", [1, 1], "the attributes of a tree differ in length"),
    ],
)
def test_a_tree_as_the_exporter_writes_it_is_followed_too(name: str, value: list[int], said: str) -> None:
    made = onnx.load_from_string(chain(1))
    for attribute in made.graph.node[0].attribute:
        if attribute.name == name:
            del attribute.ints[:]
            attribute.ints.extend(value)
        if name == "nodes_truenodeids" and attribute.name == "nodes_trueleafs":
            attribute.ints[0] = 0
        if name == "nodes_falseleafs" and attribute.name == "nodes_falsenodeids":
            attribute.ints[0] = 0
    with pytest.raises(onnxfile.OnnxError, match=said):
        onnxfile.check(made.SerializeToString())


def elsewhere(tensor: Any) -> None:
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/passwd")


def nested(graph: Any, depth: int, last: Any) -> Any:
    for _ in range(depth):
        outer = onnx.GraphProto()
        outer.node.add(op_type="Scan").attribute.add(name="body", type=onnx.AttributeProto.GRAPH).g.CopyFrom(graph)
        graph = outer
    last.CopyFrom(graph)
    return last


REFUSED: dict[str, tuple[Callable[[Any], Any], str]] = {
    "operator": (lambda made: made.graph.node.add(op_type="Loop"), "the operator ai.onnx.Loop is not on the list"),
    "domain": (
        lambda made: made.graph.node.add(op_type="MatMul", domain="com.microsoft"),
        "the operator com.microsoft.MatMul is not on the list",
    ),
    "operator in a graph": (
        lambda made: nested(onnx.GraphProto(node=[onnx.NodeProto(op_type="If")]), 2, made.graph),
        "the operator ai.onnx.If is not on the list",
    ),
    "graphs in graphs": (lambda made: nested(onnx.GraphProto(), 9, made.graph), "graphs are nested more than 8 times"),
    "function": (lambda made: made.functions.add(name="MatMul"), "it defines functions"),
    "training": (lambda made: made.training_info.add(), "it defines functions"),
    "no graph": (lambda made: made.ClearField("graph"), "it has 0 graphs"),
    "another file": (lambda made: elsewhere(made.graph.initializer[0]), "a tensor is in another file"),
    "another file for an attribute": (
        lambda made: elsewhere(made.graph.node[0].attribute.add(name="value", type=4).t),
        "a tensor is in another file",
    ),
    "sparse tensor": (lambda made: made.graph.sparse_initializer.add(), "it contains a sparse tensor"),
    "sparse attribute": (
        lambda made: made.graph.node[0].attribute.add(name="value", type=11).sparse_tensor.dims.append(1),
        "it contains a sparse tensor",
    ),
    "attribute twice": (
        lambda made: [made.graph.node[0].attribute.add(name="axis", type=2, i=0) for _ in range(2)],
        "a node has the attribute axis twice",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_an_onnx_file_with_what_is_not_let_in_is_refused_before_it_is_opened(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnxruntime

    change, said = REFUSED[name]
    made = parsed()
    change(made)
    monkeypatch.setattr(onnxruntime, "InferenceSession", None)
    with pytest.raises(UserError, match=f"model.onnx is not a complete ONNX model: {said}\n"):
        runtime.loaded(made.SerializeToString(), contract())


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (model()[:-1], "it ends too early"),
        (b"\x08", "it ends too early"),
        (b"\x08" + b"\x80" * 10 + b"\x01", "it is damaged"),
        (b"\x0b", "it is damaged"),
        (b"\x38\x01", "it is damaged"),
    ],
    ids=["cut", "no number", "long number", "group", "number for a graph"],
)
def test_a_damaged_onnx_file_is_refused_in_words(content: bytes, said: str) -> None:
    with pytest.raises(onnxfile.OnnxError, match=said):
        onnxfile.check(content)


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"\x80" * 10 + b"\x01", "it is damaged"), (b"\x01\x80", "it ends too early"), (b"", "it ends too early")],
    ids=["long", "cut", "empty"],
)
def test_damaged_numbers_are_refused_in_words(content: bytes, said: str) -> None:
    with pytest.raises(onnxfile.OnnxError, match=said):
        onnxfile.numbers(memoryview(content))


def test_an_onnx_file_of_two_graphs_is_refused() -> None:
    with pytest.raises(onnxfile.OnnxError, match="it has 2 graphs"):
        onnxfile.check(model() + model())


def test_an_onnx_file_beyond_all_measure_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxfile, "MOST_BYTES", 100)
    with pytest.raises(onnxfile.OnnxError, match=r"it has [0-9]+ bytes; at most 100 are allowed"):
        onnxfile.check(model())


def test_no_damage_to_a_byte_or_an_end_makes_anything_but_an_error_in_words() -> None:
    whole = older_tree([1, 2, 3, 0, 0, 0, 0])
    rng = np.random.default_rng(0)
    for _ in range(3000):
        content = bytearray(whole[: rng.integers(len(whole)) if rng.random() < 0.2 else len(whole)])
        for place in rng.integers(max(len(content), 1), size=rng.integers(1, 4)):
            content[place : place + 1] = bytes(rng.integers(256, size=1).astype(np.uint8))
        with suppress(onnxfile.OnnxError):
            onnxfile.check(bytes(content))


def test_numbers_are_read_as_protocol_buffers_write_them() -> None:
    values = [0, 1, 127, 128, 300, 1 << 31, (1 << 63) - 1, -1, -(1 << 63)]
    node = helper.make_node("Split", ["x"], ["y"], values=values, floats=[1.0] * 9, last=5)
    read = onnxfile._node(memoryview(node.SerializeToString()), 1)
    assert read.ints["values"].tolist() == values
    packed = onnx.AttributeProto(name="values", type=7).SerializeToString() + b"\x42\x03\x01\xac\x02"
    content = b"\x2a" + bytes([len(packed)]) + packed
    assert onnxfile._node(memoryview(content), 1).ints["values"].tolist() == [1, 300]


def test_a_model_whose_operator_is_not_on_the_list_is_not_converted(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = pd.DataFrame({"size": np.arange(20.0)})
    fitted = make_model(
        Settings.model_validate(
            {
                "data": {"source": "data/raw/x.csv", "task": "regression", "target": "y"},
                "validate": {},
                "split": {},
                "model": {"estimator": "sklearn.linear_model.Ridge"},
                "tuning": None,
                "evaluate": {},
            }
        ),
        [Column(name="size", kind="numeric", type="", unit=None, missing=0, distinct=None)],
    ).fit(rows, rows["size"])
    convert(fitted, contract(**NUMBER), double=True)
    monkeypatch.setitem(onnxfile.OPERATORS, "", onnxfile.OPERATORS[""] - {"MatMul"})
    with pytest.raises(UnconvertibleError, match=r"as ONNX, the operator ai.onnx.MatMul is not on the list"):
        convert(fitted, contract(**NUMBER), double=True)


def test_a_served_scikit_learn_model_is_checked_too(tmp_path: Path) -> None:
    fitted = RandomForestRegressor(2).fit([[1.0], [2.0], [3.0]], [1.0, 2.0, 3.0])
    fitted.estimators_[0].n_features_in_ = 9
    content = skops.io.dumps(fitted)
    trusted = skops.io.get_untrusted_types(data=content)
    with pytest.raises(UserError, match=r"model.skops is not a complete model file: .* n_features_in_ is 9"):
        runtime.loaded(content, contract(runtime="scikit-learn", trusted=trusted))
