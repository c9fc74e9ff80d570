"""A training as an MLflow run: parameters, metrics, hashes, commit, signature and the model file."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from mlops.core import files, hooks, journal, paths, room
from mlops.core.errors import UserError
from mlops.core.settings import Settings
from mlops.inference import contract as contracts
from mlops.inference.contract import Computed, Contract
from mlops.model import modelfile

# Set before MLflow is imported: no telemetry, and no retries for minutes when the server is unreachable.
os.environ.setdefault("MLFLOW_DISABLE_TELEMETRY", "true")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "2")
os.environ.setdefault("MLFLOW_HTTP_REQUEST_TIMEOUT", "20")
os.environ.setdefault("MLFLOW_TRACKING_URI", "sqlite:///mlflow.db")
os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", "mlops")
os.environ.setdefault("MLFLOW_UV_AUTO_DETECT", "false")  # uv.lock is in the commit that the run names

UV_LOCK = Path("uv.lock")
# in a model of MLflow: the folder that it adds to the path
CODE = "code"
TRACKED_FILES = {"data": paths.TABLE, "train": paths.TRAIN, "test": paths.TEST, "model": paths.MODEL}


def parameters(settings: Settings) -> dict[str, Any]:
    """`params.yaml` as flat MLflow parameters, with the parameters that a search found."""
    flat: dict[str, Any] = {}

    def walk(prefix: str, value: Any) -> None:
        if isinstance(value, dict) and value:
            for key, item in value.items():
                walk(f"{prefix}.{key}" if prefix else str(key), item)
        elif value not in (None, {}, []):
            flat[prefix] = value

    walk("", settings.model_dump(by_alias=True, exclude_unset=True))
    trials = json.loads(paths.TRIALS.read_text(encoding="utf-8"))
    if trials:
        walk("tuned", max(trials, key=lambda trial: trial["mean"])["params"])
    return flat


def numbers(evaluation: dict[str, Any], model_md5: str) -> dict[str, float]:
    """The metrics with their intervals, and the training time if training ran on this machine."""
    measured = {
        f"{name}{suffix}": each[key]
        for name, each in evaluation["metrics"].items()
        for key, suffix in (
            ("value", ""),
            ("low", "_low"),
            ("high", "_high"),
            ("train", "_train"),
            ("dummy", "_dummy"),
        )
        if each[key] is not None
    }
    trained = journal.noted("train", model_md5)
    return measured | ({"training_seconds": trained["seconds"]} if trained else {})


def hashes() -> dict[str, str]:
    """The datasets of the run, with the hashes in `dvc.lock`."""
    return {f"{name}.md5": files.tree_md5(path) for name, path in TRACKED_FILES.items()}


def requirements(settings: Settings, contract: Contract) -> list[str]:
    """Requirements of the model, pinned.

    Packages that only the team's code imports need not be installed here: jobs with a token do not run it.
    """
    owners = {"mlflow", "pandas", "scikit-learn", "skops"}
    model = settings.model
    named = (model.estimator, *(step.transformer for step in model.steps), *model.trusted)
    roots = {name.split(".")[0] for name in named} - {"sklearn", "mlops", hooks.PACKAGE, *sys.stdlib_module_names}
    if roots:  # finding a module's package requires the metadata of all packages
        packages = metadata.packages_distributions()
        for root in sorted(roots):
            if root not in packages:
                hint = f"uv add --group serving-scikit-learn {root}"
                raise UserError(f"the model needs the package {root}, which is not installed here", hint)
            owners |= set(packages[root])
    pins = {owner: metadata.version(owner) for owner in owners}
    if contract.model_packages:
        locked = {each["name"]: each["version"] for each in tomllib.loads(UV_LOCK.read_text("utf-8"))["package"]}
        for name in contract.model_packages:
            if name not in locked:
                raise UserError(f"{hooks.ROOM} needs the package {name}, which is not in {UV_LOCK}", f"uv add {name}")
            pins[name] = locked[name]
    return [f"{owner}=={pins[owner]}" for owner in sorted(pins)]


def record(settings: Settings, facts: dict[str, dict[str, Any]]) -> str:
    """Write one run to MLflow and return its id; a run that fails midway is marked as failed."""
    import mlflow
    from mlflow.models import Model

    contract = contracts.read()
    with mlflow.start_run() as active:
        mlflow.set_tags(facts["tags"])
        mlflow.log_params(facts["params"])
        mlflow.log_metrics(facts["metrics"])
        mlflow.log_artifact(str(paths.EVALUATION))
        Model.log(
            None,
            SimpleNamespace(save_model=save_model),
            name="model",
            flavor_name="sklearn",
            signature=signature(contract),
            settings=settings,
            contract=contract,
        )
    return str(active.info.run_id)


def signature(contract: Contract) -> Any:
    """Names and types of what the model takes and gives, from its contract: neither data nor the team's code is needed.

    The model in MLflow takes computed features as columns.
    """
    from mlflow.models import ModelSignature
    from mlflow.types import ColSpec, DataType, Schema

    kinds = {"numeric": DataType.double, "boolean": DataType.double, "time": DataType.double}
    kinds["date"] = DataType.datetime
    nullable = {field.name for field in contract.fields if field.nullable}
    inputs = [
        ColSpec(
            kinds.get(each.kind, DataType.string),
            each.name,
            required=not nullable & ({*each.columns} if isinstance(each, Computed) else {each.name}),
        )
        for each in contract.inputs
    ]
    labels = {bool: DataType.boolean, int: DataType.long, float: DataType.double, str: DataType.string}
    target = DataType.double if contract.classes is None else labels[type(contract.classes[0])]
    return ModelSignature(Schema(inputs), Schema([ColSpec(target)]))


def save_model(path: str, mlflow_model: Any, signature: Any, settings: Settings, contract: Contract) -> None:
    """Arrange the model file, and the team's files that define its classes, as `mlflow.sklearn` loads them.

    MLflow's function takes the model instead of the file and would write a file with another hash.
    """
    from mlflow import pyfunc

    folder = Path(path)
    folder.mkdir(parents=True)
    name = paths.MODEL.name
    shutil.copyfile(paths.MODEL, folder / name)
    (folder / "requirements.txt").write_text("\n".join(requirements(settings, contract)), encoding="utf-8")
    environment = {"python": platform.python_version(), "dependencies": ["-r requirements.txt"]}
    (folder / "python_env.yaml").write_text(json.dumps(environment), encoding="utf-8")  # JSON is valid YAML
    code = _copy_code(folder / CODE)
    pyfunc.add_to_model(
        mlflow_model, "mlflow.sklearn", model_path=name, python_env="python_env.yaml", predict_fn="predict", code=code
    )
    mlflow_model.add_flavor(
        "sklearn",
        pickled_model=name,
        sklearn_version=metadata.version("scikit-learn"),
        serialization_format="skops",
        skops_trusted_types=[*modelfile.TRUSTED, *settings.model.trusted, *modelfile.own_types()],
        code=code,
    )
    mlflow_model.signature = signature
    mlflow_model.model_size_bytes = paths.MODEL.stat().st_size
    mlflow_model.save(folder / "MLmodel")


def _copy_code(folder: Path) -> str | None:
    """Copy the files of `src/project/` that define the model's classes; None where it has none of its own."""
    files = {file for module in modelfile.own_modules() for file in room.files(module)}
    for file in sorted(files):
        target = folder / hooks.PACKAGE / file
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(hooks.ROOM / file, target)
    return folder.name if files else None
