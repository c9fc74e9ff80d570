from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from mlops import contract as contracts
from mlops import inference
from mlops.contract import Contract
from mlops.inference import Encoded
from mlops.pipeline.export_graph import Graph
from mlops.stage import UserError, write_json


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
    answer = inference.loaded(model(), contract())({"size": SIZE, "town": TOWN})
    np.testing.assert_allclose(answer.probabilities[:, 1], [0.9, 0.1, 0.2, 0.3, 0.2])
    assert answer.predicted.tolist() == ["yes", "no", "no", "no", "no"]


def test_a_dictionary_of_categories_gives_the_same_as_each_by_itself() -> None:
    served = inference.loaded(model(), contract())
    encoded = Encoded(np.array([2, 0, -1, 1, 2]), ["B", "C", "A"])
    np.testing.assert_array_equal(
        served({"size": SIZE, "town": encoded}).probabilities, served({"size": SIZE, "town": TOWN}).probabilities
    )


@pytest.mark.parametrize(("positive", "labels"), [("yes", ["yes", "no", "yes"]), ("no", ["yes", "no", "no"])])
def test_the_threshold_decides_and_belongs_to_the_positive_class(positive: str, labels: list[str]) -> None:
    served = inference.loaded(model(), contract(positive=positive, threshold=0.3))
    answer = served({"size": np.array([0.9, 0.1, 0.3]), "town": np.array(["A", "A", "A"], dtype=object)})
    assert answer.predicted.tolist() == labels


@pytest.mark.parametrize("classes", [[False, True], [-1, 3], [1.0, 2.0]])
def test_labels_keep_their_type(classes: list[Any]) -> None:
    read = Contract.model_validate_json(contract(classes=classes).model_dump_json())
    answer = inference.loaded(model(), read)({"size": SIZE, "town": TOWN})
    found = answer.predicted.tolist()[0]
    assert (found, type(found)) == (classes[1], type(classes[1]))


@pytest.mark.parametrize(("runtime", "name"), [("onnx", "model.onnx"), ("scikit-learn", "model.skops")])
def test_a_damaged_or_missing_model_is_told(tmp_path: Path, runtime: str, name: str) -> None:
    write_json(contract(runtime=runtime).model_dump(), tmp_path / contracts.SCHEMA)
    with pytest.raises(UserError, match=f"{name} is missing"):
        inference.load(tmp_path)
    (tmp_path / name).write_bytes(model()[:-100])
    with pytest.raises(UserError, match=f"{name} is no whole"):
        inference.load(tmp_path)


def test_the_compiled_model_needs_neither_scikit_learn_nor_pandas_nor_arrow(tmp_path: Path) -> None:
    write_json(contract().model_dump(), tmp_path / contracts.SCHEMA)
    (tmp_path / "model.onnx").write_bytes(model())
    code = (
        "import sys, numpy as np; from pathlib import Path; from mlops import inference\n"
        "inference.load(Path(sys.argv[1]))[1]({'size': np.array([1.0]), 'town': np.array(['A'], dtype=object)})\n"
        "print(sorted({'sklearn', 'pandas', 'pyarrow', 'skops', 'onnx', 'skl2onnx'} & {*sys.modules}))"
    )
    ran = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == "[]"
