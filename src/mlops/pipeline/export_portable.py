"""The portable form of a model: one ONNX file from raw fields to predictions, and a contract for any language.

Dates, times and categories are encoded by the client as the contract says; the team's features become part of the
graph. A model has this form only if ONNX Runtime serves it, all of its features convert, and both predict the same rows
equally. Otherwise the contract says why not.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import onnx
import onnx.compose
from onnx import TensorProto, helper

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.core.files import write_json
from mlops.core.hooks import Feature
from mlops.inference import onnxfile, portable
from mlops.inference.contract import Contract
from mlops.inference.portable_rows import InvalidRowsError
from mlops.pipeline import export_features
from mlops.pipeline.export_equality import TOLERANCE
from mlops.pipeline.export_features import UntraceableError
from mlops.pipeline.export_graph import Graph

PREFIX = "model_"


def made(
    content: bytes, contract: Contract, features: Sequence[Feature], differs: Callable[[portable.Model], float]
) -> tuple[bytes | None, dict[str, Any]]:
    """The portable model, or None; and its contract.

    Parameters
    ----------
    content : bytes
        The served model.
    differs : callable
        Returns the largest difference between the predictions of a portable model and of the served one.
    """
    if contract.runtime != "onnx":
        return None, {"why": "the model is not served as ONNX"}
    try:
        whole = with_features(content, contract, features)
        onnxfile.check(whole)
        described = describe(contract)
        difference = differs(portable.Model(described, whole))
    except UntraceableError as error:
        return None, {"why": f"a feature has no ONNX form: {error}"}
    except onnxfile.OnnxError as error:
        return None, {"why": f"with its features, {error}"}
    except InvalidRowsError:
        return None, {"why": "a feature is not the same in ONNX: it has no value for a test row"}
    except (ImportError, MemoryError, OSError, UserError):
        raise  # caused by this machine
    except Exception as error:  # onnx and ONNX Runtime may raise any exception
        return None, {"why": f"its features do not run in ONNX ({type(error).__name__})"}
    if difference > TOLERANCE:
        return None, {"why": "a feature is not the same in ONNX: predictions differ"}
    return whole, described


def describe(contract: Contract) -> dict[str, Any]:
    """The contract of the portable model: what to send, and how to encode it."""
    kept = {"task", "target", "unit", "classes", "positive", "threshold"}
    found: dict[str, Any] = contract.model_dump(include=kept, exclude_none=True)
    dumped = {"name", "kind", "unit", "nullable", "values", "low", "high", "example", "clean"}
    found["fields"] = [field.model_dump(include=dumped, exclude_none=True) for field in contract.fields]
    numbers = [(each.name, "value") for each in contract.fields if each.kind in portable.NUMBERS]
    for kind, parts in portable.PARTS.items():
        numbers += [(each.name, part) for each in _direct(contract, kind) for part in parts]
    found["numbers"] = [{"field": name, "part": part} for name, part in numbers]
    coded = [each for each in _direct(contract, "categorical") if each.codes is not None]
    found["codes"] = [{"field": each.name, "categories": each.codes} for each in coded]
    found["features"] = [each.model_dump(include={"name", "kind", "columns"}) for each in contract.features]
    return found


def _direct(contract: Contract, kind: str) -> list[Any]:
    """Fields of a kind that the model itself takes."""
    return [field for field in contract.fields if field.kind == kind and not field.only_for_features]


def with_features(content: bytes, contract: Contract, features: Sequence[Feature]) -> bytes:
    """The served model behind nodes that compute the features; the same bytes where there are none.

    Its inputs are the `numbers` and `codes` that `describe` lists; its outputs the served model's and, with features,
    their values, float64 of shape (n_samples, n_features).

    Raises
    ------
    UntraceableError
        If a feature has no ONNX form.
    """
    if not features:
        return content
    model = onnx.load_from_string(content)
    described = describe(contract)
    numbers = [each["field"] for each in described["numbers"] if each["part"] == "value"]
    graph = Graph()
    column = {name: graph.add("Gather", "numbers", graph.constant([n]), axis=1) for n, name in enumerate(numbers)}
    values = export_features.added(graph, features, column)
    direct = [column[field.name] for field in contract.fields if field.name in column and not field.only_for_features]
    derived = list(range(len(numbers), len(described["numbers"])))
    rest = [graph.add("Gather", "numbers", graph.constant(derived), axis=1)] if derived else []
    inner = graph.add("Concat", *direct, *values, *rest, axis=1)
    shown = graph.add("Concat", *values, axis=1)
    inputs = [helper.make_tensor_value_info("numbers", TensorProto.DOUBLE, [None, len(described["numbers"])])]
    io_map = [(inner, f"{PREFIX}numbers")]
    versions = {"opset_imports": model.opset_import, "ir_version": model.ir_version}
    first = graph.model(inputs, inner, TensorProto.DOUBLE, len(direct) + len(values) + len(derived), **versions)
    first.graph.output.append(helper.make_tensor_value_info(shown, TensorProto.DOUBLE, [None, len(values)]))
    if described["codes"]:
        width = len(described["codes"])
        first.graph.input.append(helper.make_tensor_value_info("codes", TensorProto.INT64, [None, width]))
        first.graph.node.append(helper.make_node("Identity", ["codes"], ["coded"]))
        first.graph.output.append(helper.make_tensor_value_info("coded", TensorProto.INT64, [None, width]))
        io_map.append(("coded", f"{PREFIX}codes"))
    second = onnx.compose.add_prefix(model, PREFIX)
    answer = second.graph.output[0].name
    whole = onnx.compose.merge_models(first, second, io_map=io_map, outputs=[answer, shown])
    outputs = sorted(whole.graph.output, key=lambda output: output.name != answer)
    del whole.graph.output[:]
    whole.graph.output.extend(outputs)
    opsets = {each.domain: each.version for each in whole.opset_import}
    del whole.opset_import[:]
    whole.opset_import.extend(helper.make_opsetid(domain, opsets[domain]) for domain in sorted(opsets))
    return bytes(whole.SerializeToString(deterministic=True))


def write(content: bytes | None, contract: dict[str, Any], folder: Path = paths.PORTABLE) -> None:
    """Write the folder atomically."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        if content is not None:
            (partial / portable.MODEL).write_bytes(content)
        write_json(contract, partial / portable.CONTRACT)
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
