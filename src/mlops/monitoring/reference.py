"""What the release recorded: its test rows, with the predictions and the labels that it was evaluated with.

A release that was retrained has a recent window, whose rows no model was trained on. They take the place of the test
rows, which are from before the change that the retraining follows.
"""

from __future__ import annotations

import json
from contextlib import chdir
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.core.files import tree_md5
from mlops.core.lock import outputs, read_lock
from mlops.data import project as projects
from mlops.data import tables
from mlops.data.project import Project
from mlops.inference import contract as contracts
from mlops.inference.contract import Contract, probability_column
from mlops.model import modelfile
from mlops.model.metrics import Classes, Predictions, predict_table

Array = np.ndarray[Any, Any]


class Reference(NamedTuple):
    """The test rows of the release, or those of its recent window.

    Attributes
    ----------
    model : str
        MD5 of the model.
    train, test : pyarrow.Table
        With the computed features.
    y : ndarray of shape (n_samples,)
    predictions : Predictions
    classes : Classes or None
        None for a regression.
    metrics : list of str
        Of the evaluation.
    """

    project: Project
    contract: Contract
    model: str
    train: pa.Table
    test: pa.Table
    y: Array
    predictions: Predictions
    classes: Classes | None
    metrics: list[str]

    @property
    def slices(self) -> list[str]:
        """Columns of `evaluate.slices` that the log has."""
        return [name for name in self.project.settings.evaluate.slices if name in self.inputs]

    @property
    def inputs(self) -> list[str]:
        """Columns that the log has."""
        return [part.name for part in self.contract.inputs]


def of_release(folder: Path) -> Reference:
    """Read the reference in the folder of a release, after checking its hashes.

    Raises
    ------
    UserError
        If there is no such folder, a file is missing, or is not the one in `dvc.lock`.
    """
    if not folder.is_dir():
        raise UserError(
            f"there is no folder {folder} with the files of a release", "make monitor LOG=folder VERSION=1.4.0"
        )
    with chdir(folder):
        return read(projects.open())


def read(project: Project) -> Reference:
    """Read the reference in the current folder, after checking its hashes.

    Raises
    ------
    UserError
        If a file is missing, or is not the one in `dvc.lock`.
    """
    expected = {path: out["md5"] for path, out in outputs(read_lock()).items()}
    for path in (paths.MODEL, paths.TRAIN, paths.TEST, paths.RECENT, paths.PREDICTIONS, paths.EVALUATION):
        if not path.exists():
            raise UserError(f"{path} is missing", "make, or dvc pull")
        if tree_md5(path) != expected.get(str(path)):
            raise UserError(f"{path} is not the file in dvc.lock", "make, or dvc checkout --force")
    contract = contracts.read()
    test = project.read(paths.TEST)
    predictions = predicted(contract)
    recent = project.read(paths.RECENT)
    if recent.num_rows:
        test, predictions = recent, predict_table(modelfile.load(project.settings), recent, project.columns)
    classes = None if contract.classes is None else Classes.of(np.array(contract.classes), contract.positive)
    return Reference(
        project,
        contract,
        expected[str(paths.MODEL)],
        project.read(paths.TRAIN),
        test,
        project.y(test),
        predictions,
        classes,
        list(json.loads(paths.EVALUATION.read_bytes())["metrics"]),
    )


def predicted(contract: Contract) -> Predictions:
    """The recorded predictions of the test rows."""
    recorded = tables.read(paths.PREDICTIONS)
    probabilities = None
    if contract.classes is not None and contract.probabilities:
        columns = [recorded[probability_column(label)].to_numpy() for label in contract.classes]
        probabilities = np.column_stack(columns)
    return Predictions(recorded["predicted"].to_numpy(zero_copy_only=False), probabilities)
