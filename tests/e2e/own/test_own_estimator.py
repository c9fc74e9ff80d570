"""An estimator of the team's own from end to end: a commit that touches its file and `params.yaml` alone."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import ROOT, Project, copied
from serving.served import identify, serving

from mlops.core.report import Report, read
from project.features import irregularity

FILE = "src/project/estimators.py"
NEAREST = '''

class Nearest(ClassifierMixin, BaseEstimator):
    """The class whose mean is nearest, with probabilities from the distances."""

    def __init__(self, softness: float = 1.0) -> None:
        self.softness = softness

    def fit(self, X, y):
        X, y = validate_data(self, X, y)
        self.classes_ = np.unique(y)
        self.means_ = np.array([X[y == label].mean(axis=0) for label in self.classes_])
        return self

    def predict_proba(self, X):
        X = validate_data(self, X, reset=False)
        distance = np.sqrt(((X[:, None] - self.means_) ** 2).sum(axis=2))
        weight = np.exp((distance.min(axis=1, keepdims=True) - distance) / self.softness)
        return weight / weight.sum(axis=1, keepdims=True)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]
'''
IMPORTS = """from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import validate_data
"""


def add(project: Project, text: str) -> None:
    path = project.folder / FILE
    before = path.read_text(encoding="utf-8")
    assert "import numpy as np\n" in before
    path.write_text(before.replace("import numpy as np\n", f"import numpy as np\n{IMPORTS}") + text, encoding="utf-8")


def choose(project: Project, name: str, **sections: Any) -> None:
    def change(params: Any) -> None:
        params["model"].update(estimator=f"project.estimators.{name}", params={})
        params.update(sections)

    project.edit_params(change)


@pytest.fixture(scope="module")
def trained(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose model is of a class that does not convert, found by a search."""
    project = copied(done, tmp_path_factory.mktemp("own"))
    project.git("branch", "base")
    add(project, NEAREST)
    choose(project, "Nearest", tuning={"method": "grid", "space": {"softness": [0.5, 1.0]}, "folds": 3})
    assert sorted(project.git("status", "--porcelain").split()) == ["M", "M", "params.yaml", FILE]
    project.run("dvc", "repro")
    project.commit("an estimator of our own")
    return identify(project)


def review(project: Project) -> tuple[Report, str]:
    said = project.run(sys.executable, "-P", "-m", "mlops.review", "--base", "base", check=False).stdout
    assert "Traceback" not in said
    return read(project.folder / "build/review/report.json"), said


def test_it_is_tuned_trained_and_served_by_scikit_learn_with_the_reason(trained: Project) -> None:
    trials = json.loads(trained.read("reports/tuning.json"))
    assert sorted(trial["params"]["softness"] for trial in trials) == [0.5, 1.0]
    exported = json.loads(trained.read("reports/export.json"))
    assert exported["runtime"] == "scikit-learn"
    assert exported["why"].startswith("it does not convert: Nearest has no method to_onnx")
    assert json.loads(trained.read("reports/metrics.json"))["roc_auc"] > 0.95
    contract = json.loads(trained.read("models/service/schema.json"))
    assert {"__init__.py", "estimators.py"} <= contract["code"].keys()
    assert contract["packages"] == ["numpy", "scikit-learn"]
    assert "Data and pipelines are up to date." in trained.run("dvc", "repro").stdout
    # DVC notices a change of its code
    stale = trained.run("dvc", "status").stdout
    assert "up to date" in stale
    text = trained.read(FILE)
    (trained.folder / FILE).write_text(text + "\n# edited\n", encoding="utf-8")
    assert "train:" in trained.run("dvc", "status").stdout
    (trained.folder / FILE).write_text(text, encoding="utf-8")


def test_a_review_compares_with_main_s_model_of_main_s_class(trained: Project, tmp_path: Path) -> None:
    project = copied(trained, tmp_path)
    project.git("branch", "--force", "base")
    text = project.read(FILE)
    # main's model has no such attribute, and this change's class needs it
    text = text.replace("self.means_", "self.centres_").replace("distance.min(", "1.0 * distance.min(")
    (project.folder / FILE).write_text(text, encoding="utf-8")
    project.run("dvc", "repro")
    project.commit("rename an attribute")
    report, said = review(project)
    assert report.problem is None, said
    assert report.baseline is not None
    assert report.baseline.problem is None, said
    assert {each.difference.value for each in report.metrics} == {0}


def test_it_is_served_over_http_and_scores_a_file_as_evaluation_has_recorded(trained: Project, tmp_path: Path) -> None:
    rows = pd.read_parquet(trained.folder / "data/prepared/test.parquet")
    recorded = list(pd.read_parquet(trained.folder / "reports/predictions.parquet")["predicted"])
    with serving(trained, tmp_path / "bentoml") as served:
        answer = served.predict(*rows.drop(columns="diagnosis").to_dict(orient="records")).json()
        assert [each["prediction"] for each in answer["predictions"]] == recorded
        alone = served.predict(rows.drop(columns="diagnosis").iloc[0].to_dict()).json()
        assert alone["predictions"][0] == answer["predictions"][0]
    given, scored = trained.folder / "data/prepared/test.parquet", tmp_path / "scored.parquet"
    trained.run(sys.executable, "-m", "mlops.serving.score", str(given), str(scored))
    assert list(pd.read_parquet(scored)["prediction"]) == recorded


def test_a_service_whose_class_is_another_one_does_not_start(trained: Project, tmp_path: Path) -> None:
    project = copied(trained, tmp_path)
    (project.folder / FILE).write_text(project.read(FILE) + "\nprint('altered')\n", encoding="utf-8")
    given = project.folder / "data/prepared/test.parquet"
    command = (sys.executable, "-m", "mlops.serving.score", str(given), str(tmp_path / "scored.parquet"))
    stopped = project.run(*command, check=False)
    assert stopped.returncode != 0
    assert f"error: {FILE} is not the file that the model was trained with" in stopped.stdout
    assert "altered" not in stopped.stdout


def test_the_bento_holds_its_file_and_the_registry_gets_it_without_running_it(trained: Project, tmp_path: Path) -> None:
    project = copied(trained, tmp_path)
    script = (
        "import sys\nfrom pathlib import Path\nfrom mlops.release import identity, image\n"
        "image.FOLDER.mkdir(parents=True)\n(image.FOLDER / 'requirements.txt').write_text('numpy\\n')\n"
        "image.bento(identity.identify(), Path(sys.argv[1]))\nassert 'project' not in sys.modules"
    )
    # bentoml needs uv, which `make` may have put there
    path = f"{ROOT / '.uv/bin'}{os.pathsep}{project.environment['PATH']}"
    project.run(sys.executable, "-c", script, str(tmp_path / "bento"), PATH=path)
    source = tmp_path / "bento/src/project"
    assert (source / "estimators.py").read_bytes() == (ROOT / FILE).read_bytes().replace(
        b"import numpy as np\n", f"import numpy as np\n{IMPORTS}".encode()
    ) + NEAREST.encode()

    # MLflow loads the model elsewhere, from what the registry was given
    record = (
        "import os, sys\nfrom mlops.inference.provenance import Release\nfrom mlops.release import identity, registry\n"
        "import mlflow\nversion = registry.register(identity.identify(), 'm', 'champion')\n"
        "assert 'project' not in sys.modules\nprint('version', version)"
    )
    store = {"MLFLOW_TRACKING_URI": f"sqlite:///{tmp_path / 'store.db'}"}
    assert "version 1" in project.run(sys.executable, "-c", record, **store).stdout
    (tmp_path / "elsewhere").mkdir()
    predict = (
        "import mlflow, pandas, sys\nmodel = mlflow.pyfunc.load_model('models:/m@champion')\n"
        "rows = pandas.read_parquet(sys.argv[1])\n"
        "rows = rows[model.metadata.get_input_schema().input_names()]\n"
        "print(list(model.predict(rows)) == list(pandas.read_parquet(sys.argv[2])['predicted']))\n"
        "import project.estimators\nprint('from', project.estimators.__file__)"
    )
    rows = pd.read_parquet(project.folder / "data/prepared/test.parquet")
    rows["irregularity"] = irregularity(rows["mean perimeter"], rows["mean area"])
    rows.to_parquet(given := tmp_path / "test.parquet")
    recorded = shutil.copy(project.folder / "reports/predictions.parquet", tmp_path)
    done = project.run(sys.executable, "-P", "-c", predict, str(given), str(recorded), **store, PYTHONPATH="")
    assert "True" in done.stdout, done.stdout
    assert f"{project.folder}/src" not in done.stdout.partition("from")[2]


def test_the_shipped_estimator_is_chosen_by_its_name_alone_and_runs_in_onnx_runtime(
    done: Project, tmp_path: Path
) -> None:
    project = copied(done, tmp_path)
    choose(project, "PriorCorrectedLogisticRegression")
    said = project.stage("train").stdout
    project.stage("export")
    assert "project.estimators.PriorCorrectedLogisticRegression on 426 rows" in said
    exported = json.loads(project.read("reports/export.json"))
    assert (exported["runtime"], exported["precision"], exported["why"]) == ("onnx", "double", None)
    assert "estimators.py" not in json.loads(project.read("models/service/schema.json")).get("code", {})


def test_one_that_looks_at_other_rows_stops_the_export_with_a_row(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path)
    look = "        X = validate_data(self, X, reset=False)\n        X = X - X.mean(axis=0)\n"
    add(project, NEAREST.replace("        X = validate_data(self, X, reset=False)\n", look))
    choose(project, "Nearest")
    project.stage("train")
    stopped = project.stage("export", check=False)
    assert stopped.returncode != 0
    assert "Nearest predicts a row differently alone and in a batch: test row 1 gets [" in stopped.stdout
    assert "Traceback" not in stopped.stdout
