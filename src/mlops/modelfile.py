"""The model file: scikit-learn pipelines in skops format, with the same bytes for the same model.

A pickle runs code while it is loaded, and its reviewers cannot read it. A skops file is data: a JSON tree of types and
arrays, of which only types on a list are built. So a model of a stranger's pull request can be loaded and scored.
"""

from __future__ import annotations

import io
import json
import time
import zipfile
from pathlib import Path
from typing import Any

from mlops.settings import Settings
from mlops.stage import UserError, atomic

MODEL = Path("models/model.skops")
LATENCY_CALLS = 50

# What skops raises where a file is cut, changed, of a later version, or of a package that is not installed
BROKEN = (zipfile.BadZipFile, AttributeError, ImportError, LookupError, RecursionError, TypeError, ValueError)

# What scikit-learn's own estimators hold beyond skops's list; each was read, none acts when it is built.
TRUSTED = (
    "mlops.columns.date_parts",
    "mlops.columns.filled",
    "numpy.dtype",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
)


def save(model: Any, settings: Settings, path: Path = MODEL) -> None:
    """Write a fitted model.

    Raises
    ------
    UserError
        Where it holds a type that `load` would refuse.
    """
    import skops.io

    content = canonical(skops.io.dumps(model))
    _check_types(content, settings, path)
    with atomic(path) as partial:
        partial.write_bytes(content)


def load(settings: Settings, path: Path = MODEL) -> Any:
    """Read a model file, building only types on the list.

    Raises
    ------
    UserError
        Where the file is missing or broken, or holds another type.
    """
    import skops.io

    try:
        content = path.read_bytes()
        trusted = _check_types(content, settings, path)
        return skops.io.loads(content, trusted=trusted)
    except FileNotFoundError:
        raise UserError(f"{path} is missing", "dvc repro train") from None
    except BROKEN as error:
        raise UserError(f"{path} is no whole model file: {error}", "dvc checkout, or dvc repro --force train") from None


def _check_types(content: bytes, settings: Settings, path: Path) -> list[str]:
    import skops.io

    found: list[str] = skops.io.get_untrusted_types(data=content)
    unknown = sorted(set(found) - {*TRUSTED, *settings.model.trusted})
    if unknown:
        listed = "".join(f"\n      - {name}" for name in unknown)
        raise UserError(
            f"{path} holds types that are not on the list of trusted ones: {', '.join(unknown)}",
            f"if they belong to {settings.model.estimator}, let params.yaml say so:\n    trusted:{listed}",
        )
    return found


def types(content: bytes) -> list[str]:
    """Types of a model file that `load` has let pass, beyond those that skops trusts by itself."""
    import skops.io

    return sorted(skops.io.get_untrusted_types(data=content))


def canonical(content: bytes) -> bytes:
    """Number the objects of a skops file by appearance, where skops writes their addresses in memory."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    schema = json.loads(files.pop("schema.json"))
    numbers: dict[int, int] = {}
    renamed: dict[str, bytes] = {}

    def visit(node: Any) -> None:
        if isinstance(node, list):
            for item in node:
                visit(item)
        elif isinstance(node, dict):
            if "__id__" in node:
                node["__id__"] = numbers.setdefault(node["__id__"], len(numbers))
            node.pop("_stop_words_id", None)  # an address too; a vectoriser that misses it makes it anew
            if node.get("file") in files:
                stem, _, ending = node["file"].partition(".")
                name = f"{numbers.setdefault(int(stem), len(numbers)) if stem.isdigit() else stem}.{ending}"
                renamed[name] = files[node["file"]]
                node["file"] = name
            for value in node.values():
                visit(value)

    visit(schema)
    buffer = io.BytesIO()
    # stored, not compressed: two builds of zlib may compress the same bytes differently
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in [*renamed.items(), ("schema.json", json.dumps(schema).encode())]:
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def measure_latency(model: Any, X: Any) -> dict[str, float]:
    """Milliseconds that one row takes: the median and the 95th percentile of some calls."""
    import numpy

    one = X.iloc[[0]]
    milliseconds = []
    for _ in range(LATENCY_CALLS):
        start = time.perf_counter()
        model.predict(one)
        milliseconds.append(1000 * (time.perf_counter() - start))
    median, p95 = numpy.percentile(milliseconds, [50, 95])
    return {"latency_ms": round(median, 3), "latency_ms_p95": round(p95, 3)}
