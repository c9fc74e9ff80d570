"""The fixtures of behaviour tests: rows reach the model as the test rows do in the evaluation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
from conftest import Project, copied

from mlops.model import behaviour


@pytest.fixture
def opened(done: Project, monkeypatch: pytest.MonkeyPatch) -> behaviour.Project:
    monkeypatch.chdir(done.folder)
    behaviour.opened.cache_clear()
    return behaviour.opened()


def test_predictions_are_those_of_the_evaluation(opened: behaviour.Project) -> None:
    recorded = pq.read_table("reports/predictions.parquet")
    predicted, probabilities = opened.model.predict(opened.test), opened.model.predict_proba(opened.test)
    assert predicted.tolist() == recorded["predicted"].to_pylist()
    assert probabilities.columns.tolist() == ["benign", "malignant"]
    np.testing.assert_array_equal(probabilities["malignant"], recorded["probability of malignant"])


def test_results_have_the_index_of_the_rows(opened: behaviour.Project) -> None:
    some = opened.test.iloc[[5, 2]]
    assert opened.model.predict(some).index.tolist() == [5, 2]
    assert opened.model.predict_proba(some).index.tolist() == [5, 2]


def test_columns_may_be_altered_in_type_shuffled_and_added(opened: behaviour.Project) -> None:
    rows = opened.test.head()
    whole = rows.assign(**{"mean radius": rows["mean radius"].round().astype(int)})
    as_floats = rows.assign(**{"mean radius": rows["mean radius"].round()})
    expected = opened.model.predict_proba(as_floats)
    pd.testing.assert_frame_equal(opened.model.predict_proba(whole.assign(more="x").iloc[:, ::-1]), expected)
    missing = opened.model.predict_proba(rows.assign(**{"mean radius": None}))
    assert missing.notna().all(axis=None)


def test_a_column_that_is_missing_or_of_another_type_is_named(opened: behaviour.Project) -> None:
    with pytest.raises(ValueError, match="no column 'mean radius'; start from rows of train or test"):
        opened.model.predict(opened.test.drop(columns="mean radius"))
    with pytest.raises(ValueError, match="'mean radius' must be numeric, got"):
        opened.model.predict(opened.test.assign(**{"mean radius": "large"}))


def test_rows_hold_the_target_but_no_key_and_no_pseudonym(
    done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copied(done, tmp_path)
    data = {"key": ["mean smoothness"], "private": {"mean radius": "pseudonymise"}}
    project.edit_params(lambda params: params["data"].update(data))
    monkeypatch.chdir(project.folder)
    behaviour.opened.cache_clear()
    opened = behaviour.opened()
    assert opened.train.columns.tolist() == opened.test.columns.tolist()
    assert "diagnosis" in opened.test
    assert not {"mean smoothness", "mean radius"} & {*opened.test}


def test_a_test_that_alters_rows_alters_none_of_another(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path)
    (project.folder / "tests/behaviour/test_rows.py").write_text(
        "def test_rows(test):\n    test['mean radius'] = 0\n\n\n"
        "def test_others(test):\n    assert (test['mean radius'] > 0).all()\n",
        encoding="utf-8",
    )
    found = project.run("pytest", "tests/behaviour/test_rows.py", "--confcutdir=tests/behaviour")
    assert "2 passed" in found.stdout


def test_the_model_that_ships_behaves(done: Project) -> None:
    found = done.run("pytest", "tests/behaviour", "--confcutdir=tests/behaviour")
    assert "3 passed" in found.stdout
