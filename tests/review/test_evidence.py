"""The evidence: measured anew, on rows that neither model has learned, from files that are held to their word."""

from __future__ import annotations

import datetime
import json
import math
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from conftest import Project, copied
from sklearn.linear_model import LogisticRegression

from mlops.core import paths
from mlops.core import settings as settings_module
from mlops.core.errors import UserError
from mlops.core.git import git
from mlops.core.lock import read_lock
from mlops.core.report import Behaviour, Influence, Policy, Report
from mlops.data import project as projects
from mlops.data import tables
from mlops.data.tables import Catalogue, Column
from mlops.model import metrics, modelfile
from mlops.model.metrics import Classes
from mlops.review import gate
from mlops.review import policy as policies
from mlops.review.baseline import Baseline, find
from mlops.review.build_report import build_report, served
from mlops.review.evidence import (
    Findings,
    check_outputs,
    check_recorded,
    fresh_rows,
    gather,
    known_rows,
    left_behind,
    score_baseline,
)

RESAMPLES = 200


@pytest.fixture
def here(done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Project:
    """A copy of a project that has run, which is the current folder of a machine that is no runner."""
    project = copied(done, tmp_path)
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("CI", raising=False)
    return project


def main_branch() -> Baseline:
    return find(git("rev-parse", "HEAD"), settings_module.load())


def gathered(main: Baseline, *, moved: tuple[str, ...] = (), dirty: bool = False) -> Findings:
    found = gather(projects.open(), main, list(moved), dirty, RESAMPLES)
    # the behaviour tests run in a process of their own, after this
    return found._replace(evidence=found.evidence._replace(behaviour=Behaviour(passed=3, failures=0)))


def judged(found: Findings) -> Policy:
    return gate.judge(policies.load(), found.evidence, {}, datetime.date(2026, 1, 1))


def test_a_change_of_nothing_passes_and_makes_a_report(here: Project) -> None:
    main = main_branch()
    found = gathered(main)
    one = found.evidence
    assert one.baseline_problem is None
    assert (one.rows, one.leaked, one.misrecorded, one.first) == (143, 0, [], False)
    assert all(not pair.losses.any() for pair in one.pairs.values())
    assert {each.column for each in one.slices} == {"mean radius"}
    assert sum(each.rows for each in one.slices) == 143
    assert one.drift is not None
    assert {each.change.effect for each in one.drift} == {0.0}
    assert one.model_bytes == paths.MODEL.stat().st_size
    assert one.validation is not None
    policy = judged(found)
    assert (policy.verdict, policy.blocks) == ("pass", False), [each.why for each in policy.results]
    empty = Report(head="0" * 40, base="1" * 40, dirty=False, touched=True, verdict="fail", blocks=True)
    settings = settings_module.load()
    report = Report.model_validate(build_report(empty, settings, main, policies.load(), found, policy).model_dump())
    assert [each.metric for each in report.metrics][:2] == ["roc_auc", "average_precision"]
    assert report.rows is not None
    assert (report.rows.train, report.rows.test) == (426, 143)
    assert all(each.before == each.after for each in report.lineage)
    assert report.charts[0].title == "ROC curve"
    assert report.influence == Influence(rows=143, columns=31)
    (size,) = (each for each in report.cost if each.name == "model file")
    assert size.before == size.after == paths.MODEL.stat().st_size
    assert report.served is not None
    assert report.served == report.served_before
    assert (report.served.runtime, report.served.within, report.served.why) == ("onnx", 1e-9, None)
    assert report.served.size == Path("models/service/model.onnx").stat().st_size


EXPORTED = {"runtime": "scikit-learn", "precision": "double", "difference_below": 1e-12, "bytes": 7, "why": "so"}


@pytest.mark.parametrize(
    "content",
    [
        None,
        b"",
        b"{",
        b"[]",
        b"null",
        b"\xff",
        json.dumps({**EXPORTED, "runtime": "pickle"}).encode(),
        json.dumps({**EXPORTED, "difference_below": "wide"}).encode(),
        json.dumps({**EXPORTED, "difference_below": math.inf}).encode(),
        json.dumps({**EXPORTED, "bytes": -1}).encode(),
        json.dumps({"runtime": "onnx"}).encode(),
    ],
)
def test_what_main_served_by_other_code_is_not_known_and_stops_nothing(content: bytes | None) -> None:
    assert served(content) is None


def test_why_it_is_no_onnx_is_reported_in_one_line_that_a_report_takes() -> None:
    found = served(json.dumps({**EXPORTED, "why": "it does\nnot\u202e convert" + "!" * 500}).encode())
    assert found is not None
    assert found.why is not None
    assert found.why.startswith("it does not\ufffd convert!")
    assert len(found.why) == 300


# what was recorded


def test_an_edited_metric_is_named(here: Project) -> None:
    path = Path("reports/metrics.json")
    recorded = json.loads(path.read_text(encoding="utf-8"))
    true = recorded["recall"]
    path.write_text(json.dumps({**recorded, "recall": true + 1e-4}), encoding="utf-8")
    assert gathered(main_branch()).evidence.misrecorded == [f"recall is {true:.6g}, recorded as {true + 1e-4}"]


@pytest.mark.parametrize("value", [None, "0.9", True, [1], {}])
def test_a_metric_that_is_no_number_is_named(here: Project, value: Any) -> None:
    path = Path("reports/metrics.json")
    recorded = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**recorded, "recall": value}), encoding="utf-8")
    assert misrecorded() == [f"recall is {recorded['recall']:.6g}, recorded as {value}"]


def misrecorded() -> list[str]:
    """What is wrong with the record of the model that is here."""
    project = projects.open()
    settings, test = project.settings, project.read(paths.TEST)
    model = modelfile.load(settings)
    said = metrics.predict(model, project.X(test))
    return check_recorded(test, said, settings, Classes.of(np.asarray(model.classes_), settings.data.positive))


def test_predictions_of_another_model_or_of_other_rows_are_named(here: Project) -> None:
    path = Path("reports/predictions.parquet")
    table = pq.read_table(path)
    path.unlink()  # it is a link into the cache
    other = pc.if_else(pc.equal(pa.array(range(table.num_rows)), 7), "malignant", "benign")
    pq.write_table(table.set_column(table.column_names.index("predicted"), "predicted", other), path)
    assert misrecorded() == ["the recorded predictions differ"]
    pq.write_table(table.slice(1), path)
    assert misrecorded() == ["142 predictions are recorded for 143 test rows"]
    pq.write_table(table, path)
    assert misrecorded() == []


@pytest.mark.parametrize("content", ["", "{", "[]", "7", "null", '"recall"'])
@pytest.mark.parametrize("name", ["reports/metrics.json", "reports/predictions.parquet"])
def test_a_record_that_is_broken_or_gone_is_said(here: Project, name: str, content: str) -> None:
    Path(name).unlink()
    if content:
        Path(name).write_text(content, encoding="utf-8")
    assert misrecorded() == ["reports/metrics.json or predictions.parquet is missing or broken"]


# leaked and known rows


def some(table: pa.Table, start: int, stop: int) -> pa.Table:
    return table.slice(start, stop - start)


def test_test_rows_that_are_training_rows_are_counted(here: Project) -> None:
    main = main_branch()
    train, test = tables.read(paths.TRAIN), tables.read(paths.TEST)
    Path(paths.TRAIN).unlink()
    tables.write(pa.concat_tables([train, some(test, 10, 17)]), paths.TRAIN)
    found = gathered(main).evidence
    assert found.leaked == 7
    assert found.rows == 143


def test_a_row_is_known_again_whatever_other_rows_are_missing() -> None:
    """Whole numbers beside missing ones become decimals in pandas, and booleans become objects."""
    day = datetime.datetime(2026, 1, 1)
    columns: dict[str, list[Any]] = {
        "n": [1, 2, None],
        "x": [0.5, None, 1.5],
        "b": [True, None, False],
        "s": ["a", None, "c"],
        "d": [day, None, day.replace(year=2027)],
    }
    types = {"n": pa.int64(), "x": pa.float64(), "b": pa.bool_(), "s": pa.string(), "d": pa.timestamp("us")}
    table = pa.table({name: pa.array(values, types[name]) for name, values in columns.items()})
    names = table.column_names
    for number in range(3):
        assert known_rows(some(table, number, number + 1), table, names).tolist() == [True]
    assert known_rows(table, some(table, 0, 1), names).tolist() == [True, False, False]
    for name in names:
        changed = table.set_column(names.index(name), name, table[name].take(pa.array([1, 2, 0])))
        assert known_rows(table, changed, names).tolist() == [False] * 3
    # a column that only one table has, or that is none of the prepared ones, hides nothing
    numbered = table.append_column("row number", pa.array([7, 8, 9]))
    assert known_rows(numbered, table, [*names, "row number"]).all()
    assert known_rows(numbered, table.append_column("row number", pa.array([0, 0, 0])), names).all()


def test_rows_that_main_s_model_has_learned_are_left_out_of_the_comparison(here: Project) -> None:
    main = main_branch()
    assert main.train is not None
    test = tables.read(paths.TEST)
    known = main._replace(train=pa.concat_tables([main.train, some(test, 0, 40)]))
    found = gathered(known)
    assert found.evidence.rows == 143 - 40
    assert found.evidence.baseline_problem is None
    assert sum(each.rows for each in found.evidence.slices) == 143 - 40
    rows, problem = fresh_rows(test, known)
    assert rows.tolist() == list(range(40, 143))
    assert problem is None


def test_no_comparison_is_made_where_main_s_model_has_learned_most_of_the_rows(here: Project) -> None:
    main = main_branch()
    assert main.train is not None
    known = main._replace(train=pa.concat_tables([main.train, some(tables.read(paths.TEST), 0, 72)]))
    found = gathered(known)
    assert found.evidence.rows == 143
    assert found.evidence.baseline_problem == (
        "main's model was trained on 72 of the 143 test rows, so it cannot be compared; "
        "check whether the split has changed"
    )
    policy = judged(found)
    assert {each.verdict for each in policy.results if "no_worse" in each.rule} == {"fail"}


# main's model on this table


def test_no_model_on_main_is_said_and_only_then_undecided(here: Project) -> None:
    main = main_branch()._replace(model=None, train=None, problem="main has no trained model yet", first=True)
    policy = judged(gathered(main))
    message = {each.verdict for each in policy.results if each.rule in ("no_worse", "slices_no_worse", "drift")}
    assert message == {"inconclusive"}
    assert not policy.blocks
    policy = judged(gathered(main._replace(first=False, problem="main's model cannot be loaded: it is damaged")))
    assert policy.blocks


def without(catalogue: Catalogue, name: str) -> Catalogue:
    return catalogue.model_copy(update={"columns": [each for each in catalogue.columns if each.name != name]})


def test_a_column_that_main_s_model_needs_and_that_is_gone_or_of_another_kind_is_named(here: Project) -> None:
    main, catalogue, test = main_branch(), tables.read_catalogue(), tables.read(paths.TEST)
    classes = Classes(np.array(["benign", "malignant"]), 1)
    gone = without(catalogue, "worst area")
    said = score_baseline(test.drop(["worst area"]), main, gone, classes)
    assert said == (None, "main's model needs the column worst area, which the table no longer has", None)
    columns = [
        each.model_copy(update={"kind": "categorical"}) if each.name == "worst area" else each
        for each in catalogue.columns
    ]
    said = score_baseline(test, main, catalogue.model_copy(update={"columns": columns}), classes)
    assert said == (None, "main's model needs worst area as numeric, but it is now categorical", None)
    said = score_baseline(test, main, catalogue, Classes(np.array(["benign", "suspicious"]), 1))
    assert said == (None, "main's model predicts classes that the table no longer has", None)


def test_a_new_column_does_not_keep_main_s_model_from_being_scored(here: Project) -> None:
    main, catalogue, test = main_branch(), tables.read_catalogue(), tables.read(paths.TEST)
    new = Column(name="new", kind="text", type="string", unit=None, missing=0, distinct=1)
    more = catalogue.model_copy(update={"columns": [new, *catalogue.columns]})
    table = test.append_column("new", pa.array(["x"] * test.num_rows))
    said, problem, latency = score_baseline(table, main, more, Classes(np.array(["benign", "malignant"]), 1))
    assert problem is None
    assert said is not None
    assert said.predicted.shape == (143,)
    assert latency is not None
    assert latency > 0


def test_a_class_that_is_new_in_the_table_has_no_probability_by_main_s_model(here: Project) -> None:
    main, catalogue, test = main_branch(), tables.read_catalogue(), tables.read(paths.TEST)
    classes = Classes(np.array(["benign", "doubtful", "malignant"]), 2)
    said, problem, _ = score_baseline(test, main, catalogue, classes)
    assert problem is None
    assert said is not None
    assert said.probabilities is not None
    assert said.probabilities.shape == (143, 3)
    assert not said.probabilities[:, 1].any()
    assert np.allclose(said.probabilities.sum(axis=1), 1)


def test_a_model_that_fails_on_the_table_is_reported_and_not_a_crash(here: Project) -> None:
    main, catalogue, test = main_branch(), tables.read_catalogue(), tables.read(paths.TEST)
    broken = main._replace(model=LogisticRegression())  # not fitted
    said, problem, _ = score_baseline(test, broken, catalogue, Classes(np.array(["benign", "malignant"]), 1))
    assert said is None
    assert str(problem).startswith("main's model cannot score this table: NotFittedError: ")


# slices, outputs, runners


def test_a_slice_that_the_change_takes_away_is_still_looked_at(here: Project) -> None:
    main = main_branch()
    here.edit_params(lambda params: params["evaluate"].update(slices=["mean texture"]))
    columns = {each.column for each in gathered(main).evidence.slices}
    assert columns == {"mean radius", "mean texture"}
    here.edit_params(lambda params: params["evaluate"].update(slices=[]))
    assert {each.column for each in gathered(main).evidence.slices} == {"mean radius"}


def test_an_output_with_another_hash_is_named(here: Project) -> None:
    lock = read_lock()
    assert check_outputs(lock) == []
    for name in ("models/model.skops", "reports/metrics.json"):
        content = Path(name).read_bytes()
        Path(name).unlink()
        Path(name).write_bytes(content + b" ")
    Path("models/service/more").write_bytes(b"")
    Path("reports/plots/roc.csv").unlink()
    assert sorted(check_outputs(lock)) == [
        "evaluate: reports/metrics.json has another hash",
        "evaluate: reports/plots has another hash",
        "export: models/service has another hash",
        "train: models/model.skops has another hash",
    ]


def test_files_in_git_that_the_pipeline_would_write_otherwise_are_named_by_their_stage(here: Project) -> None:
    lock = read_lock()
    assert left_behind(lock) == []
    Path("models/CARD.md").write_text("a better model", encoding="utf-8")
    Path("reports/plots/roc.csv").unlink()
    Path("reports/notes.md").write_text("of no stage", encoding="utf-8")
    Path("README.md").write_text("of no stage", encoding="utf-8")
    assert sorted(left_behind(lock)) == ["card: models/CARD.md", "evaluate: reports/plots/roc.csv"]
    assert left_behind({}) == []


def test_a_model_that_cannot_predict_the_rows_is_one_error_and_no_traceback(here: Project) -> None:
    settings = settings_module.load()
    train = tables.read(paths.TRAIN).to_pandas()
    few = train[["mean radius", "mean texture"]].to_numpy()
    modelfile.save(LogisticRegression().fit(few, train[settings.data.target]), settings)
    with pytest.raises(UserError, match=r"^this change's model cannot predict: ValueError: X has 31 features, but "):
        gathered(main_branch())


def test_a_runner_has_nothing_that_waits_to_be_committed(here: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    """A change could leave a runner's files dirty, and its stale lock would then be waited for and not refused."""
    main = main_branch()
    on_a_laptop = gathered(main, moved=("train",), dirty=True)
    assert next(each for each in judged(on_a_laptop).results if each.rule == "lock").verdict == "inconclusive"
    monkeypatch.setenv("CI", "true")
    on_a_runner = gathered(main, moved=("train",), dirty=True)
    assert next(each for each in judged(on_a_runner).results if each.rule == "lock").blocks


# other tasks and other models


def wide(n: int, task: str) -> pa.Table:
    """Numbers, words, dates and truths with gaps, and a target."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=n)
    day = datetime.datetime(2026, 1, 1)
    gap = rng.uniform(size=n) < 0.1
    target = x + rng.normal(size=n) if task == "regression" else np.array(["a", "b", "c"])[np.digitize(x, [-0.5, 0.5])]
    return pa.table(
        {
            "x": pa.array(x, mask=gap),
            "word": pa.array(np.array(["p", "q", "r"])[rng.integers(0, 3, n)], mask=gap),
            "truth": pa.array(x > 0, mask=gap),
            "day": pa.array([day + datetime.timedelta(days=int(i)) for i in range(n)], pa.timestamp("us"), mask=gap),
            "y": pa.array(target),
        }
    )


def prepare(project: Project, task: str, estimator: str, test_rows: int | None = None) -> None:
    """Run the pipeline's stages on another table, with another estimator."""
    table = wide(400, task)
    Path("data/raw").mkdir(parents=True, exist_ok=True)
    pq.write_table(table, "data/raw/wide.parquet")

    def change(params: Any) -> None:
        params["data"] = {"source": "data/raw/wide.parquet", "task": task, "target": "y", "features": []}
        params["validate"]["suite"] = None
        params["split"] = {"method": "random", "test_size": 0.25, "seed": 0}
        params["model"] = {"estimator": estimator, "params": {}}
        params["evaluate"]["slices"] = ["word", "truth", "day", "x"]

    project.edit_params(change)
    metric = "rmse" if task == "regression" else "accuracy"
    rules = [
        {"rule": "no_worse", "metric": metric, "margin": 0.5},
        {"rule": "slices_no_worse", "metric": metric, "margin": 0.5},
        {"rule": "drift"},
        {"rule": "leakage"},
        {"rule": "recorded"},
        {"rule": "calibration", "at_most": 0.9},
    ]
    project.edit_gate(lambda gate: gate.update(rules=rules))
    for stage in ("ingest", "validate", "split", "tune", "train", "export", "evaluate"):
        project.stage(stage)


@pytest.mark.e2e
@pytest.mark.parametrize(
    ("task", "estimator", "calibrated"),
    [
        ("regression", "sklearn.linear_model.Ridge", "fail"),
        ("classification", "sklearn.linear_model.LogisticRegression", "pass"),
        ("classification", "sklearn.linear_model.RidgeClassifier", "fail"),
    ],
)
def test_other_tasks_and_models_without_probabilities_are_compared_on_any_kind_of_column(
    here: Project, task: str, estimator: str, calibrated: str
) -> None:
    for name in ("data/prepared", "models", "reports"):
        for path in Path(name).glob("*.*"):
            if path.is_file() or path.is_symlink():
                path.unlink()
    prepare(here, task, estimator)
    settings = settings_module.load()
    model, train = modelfile.load(settings), tables.read(paths.TRAIN)
    main = Baseline("0" * 40, {}, projects.open(), model, train, "cache")
    found = gather(projects.open(), main, [], False, RESAMPLES)
    assert found.evidence.baseline_problem is None
    assert {each.column for each in found.evidence.slices} == {"word", "truth", "day", "x"}
    assert all(not pair.losses.any() for pair in found.evidence.pairs.values())
    verdicts = {each.rule: each.verdict for each in judged(found).results}
    # models that differ in nothing pass, whatever their kind; only what has no probabilities has no calibration
    assert verdicts == {
        **dict.fromkeys(("no_worse", "slices_no_worse", "drift", "leakage", "recorded"), "pass"),
        "calibration": calibrated,
    }


def test_no_test_rows_at_all_are_a_failure_and_not_a_crash(here: Project) -> None:
    main = main_branch()
    test = tables.read(paths.TEST)
    Path(paths.TEST).unlink()
    tables.write(test.slice(0, 0), paths.TEST)
    found = gathered(main)
    assert found.evidence.rows == 0
    assert math.isinf(found.evidence.latency_ms)
    policy = judged(found)
    assert {each.why for each in policy.results} == {"there are no test rows"}
    assert policy.blocks
