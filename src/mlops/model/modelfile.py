"""The model file: scikit-learn pipelines in skops format, with the same bytes for the same model.

Loading a pickle runs code that reviewers cannot read. A skops file is data: a JSON tree of types and arrays. Only types
on an allowlist are built, and arrays are checked before compiled code uses them, so the review can load and score a
model from an untrusted pull request. Classes that a file of `src/project/` defines are allowed, because Git has them.
"""

from __future__ import annotations

import io
import json
import signal
import subprocess
import sys
import time
import zipfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from mlops.core import hooks, paths, room
from mlops.core.errors import UserError
from mlops.core.files import atomic
from mlops.core.settings import Settings
from mlops.data import tables

LATENCY_CALLS = 50
# Limits for trying out types that cannot be checked here
ROWS_TRIED, SECONDS_TRIED = 1_000, 300

# Errors of skops for a file that is truncated, altered, of a later version, or of a package that is not installed
BROKEN = (
    zipfile.BadZipFile,
    ArithmeticError,
    AttributeError,
    ImportError,
    LookupError,
    MemoryError,
    RecursionError,
    TypeError,
    ValueError,
)

# Types in scikit-learn's estimators beyond skops's list. Their code was reviewed and has no side effects when they are
# built. `mlops.inference.bounds` checks the arrays that compiled code uses; types it cannot check are not on this list.
TRUSTED = (
    "functools.partial",
    "mlops.inference.columns.date_parts",
    "mlops.inference.columns.filled",
    "mlops.inference.columns.time_parts",
    "numpy.dtype",
    "numpy.mean",
    "scipy._lib.array_api_compat.numpy._aliases.asarray",
    "scipy.interpolate._bsplines.BSpline",
    "sklearn._loss.loss.HalfTweedieLossIdentity",
    "sklearn.calibration._CalibratedClassifier",
    "sklearn.calibration._SigmoidCalibration",
    "sklearn.ensemble._hist_gradient_boosting.predictor.TreePredictor",
    "sklearn.feature_selection._mutual_info.mutual_info_classif",
    "sklearn.feature_selection._mutual_info.mutual_info_regression",
    "sklearn.feature_selection._univariate_selection.chi2",
    "sklearn.feature_selection._univariate_selection.f_classif",
    "sklearn.feature_selection._univariate_selection.f_regression",
    "sklearn.feature_selection._univariate_selection.r_regression",
    "sklearn.gaussian_process._gpc._BinaryGaussianProcessClassifierLaplace",
    "sklearn.gaussian_process.kernels.ConstantKernel",
    "sklearn.gaussian_process.kernels.Product",
    "sklearn.gaussian_process.kernels.RBF",
    "sklearn.metrics._dist_metrics.EuclideanDistance64",
    "sklearn.neighbors._kd_tree.KDTree",
    "sklearn.neural_network._stochastic_optimizers.AdamOptimizer",
    "sklearn.tree._tree.Tree",
)

# Allowed only by `model.trusted`, but checked like those on the list
CHECKED = (
    "scipy.sparse._csc.csc_matrix",
    "scipy.sparse._csr.csr_matrix",
    "sklearn.neighbors._ball_tree.BallTree",
)


def save(model: Any, settings: Settings, path: Path = paths.MODEL) -> None:
    """Write a fitted model.

    Raises
    ------
    UserError
        If it contains a type or an array that `load` would reject.
    """
    import skops.io

    content = canonical(skops.io.dumps(model))
    _check_types(content, settings, path)
    _check_arrays(model, path)
    with atomic(path) as partial:
        partial.write_bytes(content)


def load(settings: Settings, path: Path = paths.MODEL) -> Any:
    """Read a model file; only types on the list are built, and their arrays must be consistent.

    Raises
    ------
    UserError
        If the file is missing or damaged, contains another type, or would crash the process that predicts with it.
    """
    import skops.io

    try:
        content = path.read_bytes()
        _check_size(content)
        trusted = _check_types(content, settings, path)
        unchecked = {*trusted} - {*TRUSTED, *CHECKED}
        if unchecked:
            _try(path, trusted, sorted(unchecked))
        model = skops.io.loads(content, trusted=trusted)
        _check_arrays(model, path)
    except FileNotFoundError:
        raise UserError(f"{path} is missing", "dvc repro train") from None
    except BROKEN as error:
        problem = f"{path} is not a complete model file: {str(error) or type(error).__name__}"
        raise UserError(problem, "dvc checkout, or dvc repro --force train") from None
    return model


def _check_size(content: bytes) -> None:
    """Check that loading a file takes no more memory than its size; `save` does not compress."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if sum(info.file_size for info in archive.infolist()) > len(content):
            raise zipfile.BadZipFile("its content is larger than the file")


def _check_arrays(model: Any, path: Path) -> None:
    from mlops.inference import bounds  # with all types of scikit-learn on its list

    try:
        bounds.check(model)
    except bounds.AlteredError as error:
        raise UserError(
            f"{path} would crash the process that predicts with it: {error}",
            "dvc checkout, or dvc repro --force train; if that does not help, find out who changed the file",
        ) from None


def _try(path: Path, trusted: list[str], unchecked: list[str]) -> None:
    """Load a file and predict some prepared rows with it in another process.

    Compiled code of other packages uses arrays that cannot be checked here: LightGBM crashes the process that loads a
    tree with an invalid child.
    """
    ended = "does not end"
    # an error raised there is raised again here, where it is reported
    with suppress(subprocess.TimeoutExpired):
        command = [sys.executable, "-P", "-m", "mlops.model.modelfile", str(path), *trusted]
        code = subprocess.run(command, capture_output=True, check=False, timeout=SECONDS_TRIED).returncode
        if code == 0:
            return
        ended = f"ends with {signal.Signals(-code).name if code < 0 else f'exit code {code}'}"
    raise UserError(
        f"{path} cannot be used: a process that loads it and predicts with it {ended}; "
        f"it contains types whose content is not checked: {', '.join(unchecked)}",
        "dvc checkout, or dvc repro --force train; if that does not help, find out who changed the file",
    )


def _trial(path: str, *trusted: str) -> None:
    """Run by the other process; Python exceptions are ignored."""
    import skops.io

    from mlops.data import features, parts
    from mlops.inference.computed import declared

    with suppress(Exception):
        model = skops.io.loads(Path(path).read_bytes(), trusted=trusted)
        wanted = set(model.feature_names_in_)
        catalogue = tables.read_catalogue()
        computed = [feature for feature in declared() if feature.name in wanted]
        columns = [*catalogue.columns, *features.described(computed, catalogue, set())]
        for source in (paths.TEST, paths.TRAIN):
            file = parts.files(source)[0] if source.is_dir() else source
            rows, _ = features.appended(tables.read(file).slice(0, ROWS_TRIED), computed, catalogue)
            model.predict(tables.features(rows, [column for column in columns if column.name in wanted]))


def _check_types(content: bytes, settings: Settings, path: Path) -> list[str]:
    unknown = untrusted(content, settings)
    gone = [name for name in unknown if name.startswith(f"{hooks.PACKAGE}.")]
    if gone:
        file = hooks.ROOM.joinpath(*gone[0].split(".")[1:-1])
        raise UserError(
            f"{path} holds a {gone[0]}, but {file}.py defines no class of that name",
            "dvc repro --force train, or git checkout the code that the model was trained with",
        )
    if unknown:
        listed = "".join(f"\n      - {name}" for name in unknown)
        raise UserError(
            f"{path} contains types that are not trusted: {', '.join(unknown)}",
            f"if they belong to {settings.model.estimator} or its steps, let params.yaml say so:\n    trusted:{listed}",
        )
    return types(content)


def untrusted(content: bytes, settings: Settings) -> list[str]:
    """Types of a model file that `load` would refuse, sorted; nothing is imported or built."""
    trusted = {*TRUSTED, *settings.model.trusted}
    return [name for name in types(content) if name not in trusted and room.module_of(name) is None]


def types(content: bytes) -> list[str]:
    """Types of a model file beyond those that skops trusts by default, sorted; nothing is imported or built."""
    import skops.io

    return sorted(skops.io.get_untrusted_types(data=content))


def own_types(path: Path = paths.MODEL) -> list[str]:
    """Types of a model file that `src/project/` defines, sorted; nothing is imported or built."""
    content = path.read_bytes()
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        if f'"{hooks.PACKAGE}.'.encode() not in archive.read("schema.json"):
            return []  # before skops is imported, which takes a second
    return [name for name in types(content) if room.module_of(name) is not None]


def own_modules(path: Path = paths.MODEL) -> list[str]:
    """The modules of `src/project/` that define them, such as ``estimators``, sorted."""
    return sorted({str(room.module_of(name)) for name in own_types(path)})


def canonical(content: bytes) -> bytes:
    """Replace the memory addresses that skops writes as ids with numbers in order of appearance."""
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
            node.pop("_stop_words_id", None)  # an address too; the vectoriser recreates it if it is missing
            if node.get("file") in files:
                stem, _, ending = node["file"].partition(".")
                name = f"{numbers.setdefault(int(stem), len(numbers)) if stem.isdigit() else stem}.{ending}"
                renamed[name] = files[node["file"]]
                node["file"] = name
            for value in node.values():
                visit(value)

    visit(schema)
    buffer = io.BytesIO()
    # not compressed, because two builds of zlib may compress the same bytes differently
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in [*renamed.items(), ("schema.json", json.dumps(schema).encode())]:
            archive.writestr(zipfile.ZipInfo(name), data)
    return buffer.getvalue()


def measure_latency(model: Any, X: Any) -> dict[str, float]:
    """Latency of one row in milliseconds: the median and the 95th percentile of several calls."""
    import numpy

    one = X.iloc[[0]]
    milliseconds = []
    for _ in range(LATENCY_CALLS):
        start = time.perf_counter()
        model.predict(one)
        milliseconds.append(1000 * (time.perf_counter() - start))
    median, p95 = numpy.percentile(milliseconds, [50, 95])
    return {"latency_ms": round(median, 3), "latency_ms_p95": round(p95, 3)}


if __name__ == "__main__":
    _trial(*sys.argv[1:])
