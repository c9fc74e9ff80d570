"""Fixtures for `tests/behaviour/`: the trained model, the prepared rows, and an example for the review's comment.

Behaviour tests ask what a model does, not what its code does: Ribeiro et al. 2020, *Beyond Accuracy: Behavioral Testing
of NLP Models with CheckList*, doi:10.18653/v1/2020.acl-main.442.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import pandas as pd
import pyarrow as pa
import pytest

from mlops.core import settings as settings_module
from mlops.core.paths import TEST, TRAIN
from mlops.core.report import EXAMPLE
from mlops.data import project as projects
from mlops.data import tables
from mlops.data.tables import Column
from mlops.model import metrics, modelfile

MOST_COLUMNS = 20
MOST_LETTERS = 60


class Model:
    """The trained model, which takes rows as they are in `train` and `test`.

    Attributes
    ----------
    estimator : object
        The fitted scikit-learn pipeline.
    """

    def __init__(self, estimator: Any, project: projects.Project, columns: list[Column], schema: pa.Schema) -> None:
        self.estimator, self._project, self._columns, self._schema = estimator, project, columns, schema

    def predict(self, rows: pd.DataFrame) -> pd.Series:
        """Predict the target.

        Parameters
        ----------
        rows : DataFrame of shape (n_samples, n_columns)
            Rows of `train` or `test`, altered or not; columns that the model does not use are ignored.

        Returns
        -------
        Series of shape (n_samples,)
            Labels, or numbers for a regression, with the index of `rows`.
        """
        return pd.Series(self._predictions(rows).predicted, index=rows.index, name="predicted")

    def predict_proba(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Predict the probability of each class.

        Returns
        -------
        DataFrame of shape (n_samples, n_classes)
            One column per class, with the index of `rows`.

        Raises
        ------
        TypeError
            If the model does not predict probabilities.
        """
        probabilities = self._predictions(rows).probabilities
        if probabilities is None:
            raise TypeError(f"{type(self.estimator[-1]).__name__} does not predict probabilities; use model.predict")
        return pd.DataFrame(probabilities, index=rows.index, columns=list(self.estimator.classes_))

    def _predictions(self, rows: pd.DataFrame) -> metrics.Predictions:
        table = self._project.append(as_table(rows, self._columns, self._schema))
        return metrics.predict_table(self.estimator, table, self._project.columns)


def as_table(rows: pd.DataFrame, columns: list[Column], schema: pa.Schema) -> pa.Table:
    """Convert rows to a prepared table, so that they reach the model as the test rows do."""
    missing = [column.name for column in columns if column.name not in rows.columns]
    if missing:
        raise ValueError(
            f"the rows have no column {', '.join(map(repr, missing[:5]))}; start from rows of train or test"
        )
    arrays = {}
    for column in columns:
        values, wanted = pa.array(rows[column.name], from_pandas=True), schema.field(column.name).type
        try:
            # an integer column times 1.1 holds fractions
            arrays[column.name] = values if pa.types.is_floating(values.type) else values.cast(wanted)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError):
            raise ValueError(f"the column {column.name!r} must be {column.kind}, got {values.type}") from None
    return pa.table(arrays)


class Project(NamedTuple):
    """What the fixtures share."""

    model: Model
    train: pd.DataFrame
    test: pd.DataFrame


@cache
def opened() -> Project:
    """Load the model and the rows: the columns of the table that the model or one of its features takes."""
    project = projects.open()
    settings = project.settings
    needed = {column.name for column in project.columns}
    needed.update(name for feature in project.features for name in feature.columns)
    columns = [column for column in project.source.columns if column.name in needed]
    names = [*(column.name for column in columns), settings.data.target]
    train, test = tables.read(TRAIN, names), tables.read(TEST, names)
    model = Model(modelfile.load(settings), project, columns, train.schema)
    return Project(model, train.to_pandas(), test.to_pandas())


@pytest.fixture(scope="session")
def model() -> Model:
    """The trained model; `predict` and `predict_proba` take rows of `train` or `test`."""
    return opened().model


@pytest.fixture
def train() -> pd.DataFrame:
    """The training rows: the columns that the model may use, and the target."""
    return opened().train.copy()


@pytest.fixture
def test() -> pd.DataFrame:
    """The test rows: the columns that the model may use, and the target."""
    return opened().test.copy()


@pytest.fixture
def example(request: pytest.FixtureRequest) -> Callable[[pd.DataFrame], None]:
    """``example(rows)`` shows the first of the rows where the test fails, and how many there are."""

    def show(rows: pd.DataFrame) -> None:
        if not len(rows):
            return
        hidden = hidden_columns()
        first = {str(name): _shown(rows[name].iloc[0]) for name in rows.columns if name not in hidden}
        shown = dict(list(first.items())[:MOST_COLUMNS])
        found = {"rows": len(rows), "row": shown, "left_out": len(first) - len(shown)}
        request.node.user_properties.append((EXAMPLE, found))
        print(f"{len(rows):,} rows, for example:", *(f"  {name}: {value}" for name, value in shown.items()), sep="\n")

    return show


@cache
def hidden_columns() -> frozenset[str]:
    """Columns whose values a comment must not show: keys and private ones, in `params.yaml` as in the table."""
    data = settings_module.load().data
    return frozenset([*data.key, *data.private])


def _shown(value: Any) -> str:
    if pd.isna(value):
        return "missing"
    text = f"{value:.4g}" if isinstance(value, float) else str(value)
    return text if len(text) <= MOST_LETTERS else text[: MOST_LETTERS - 1] + "…"
