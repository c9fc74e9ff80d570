"""An estimator of the team's own: that a sound one passes, and the error of each mistake."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Write
from sklearn.utils.estimator_checks import check_estimator as scikit_learns_check

from mlops.core import hooks, room
from mlops.core.errors import UserError
from mlops.core.settings import Settings
from mlops.data.tables import Column
from mlops.inference import bounds
from mlops.model import fitted, modelfile
from mlops.model.estimators import check_estimator, make_model

NEAREST = """
import numpy as np
from sklearn.base import BaseEstimator, ClassifierMixin
from sklearn.utils.validation import validate_data


class Nearest(ClassifierMixin, BaseEstimator):
    def __init__(self, shrink=0.0):
        self.shrink = shrink

    def fit(self, X, y):
        X, y = validate_data(self, X, y)
        self.classes_ = np.unique(y)
        self.means_ = np.array([X[y == each].mean(axis=0) for each in self.classes_]) * (1 - self.shrink)
        return self

    def predict_proba(self, X):
        X = validate_data(self, X, reset=False)
        distance = ((X[:, None] - self.means_) ** 2).sum(axis=2)
        weight = np.exp(distance.min(axis=1, keepdims=True) - distance)
        return weight / weight.sum(axis=1, keepdims=True)

    def predict(self, X):
        return self.classes_[self.predict_proba(X).argmax(axis=1)]
"""
SLOPE = """
import numpy as np
from sklearn.base import BaseEstimator, RegressorMixin


class Slope(RegressorMixin, BaseEstimator):
    def fit(self, X, y):
        self.coef_ = np.linalg.lstsq(X, y, rcond=None)[0]
        return self

    def predict(self, X):
        return X @ self.coef_
"""
ROWS = 60
COLUMNS = [Column(name=name, kind="numeric", type="", unit=None, missing=0, distinct=0) for name in ("a", "b")]
RNG = np.random.default_rng(0)
X = pd.DataFrame(RNG.normal(size=(ROWS, 2)), columns=["a", "b"])
LABELS = np.where(X["a"] > 0, "yes", "no")
FILE = hooks.ROOM / "estimators.py"


def settings(estimator: str = "project.estimators.Nearest", task: str = "classification", **model: Any) -> Settings:
    return Settings.model_validate(
        {
            "data": {"source": "data/raw/x.csv", "task": task, "target": "y"},
            "validate": {},
            "split": {},
            "model": {"estimator": estimator, **model},
            "tuning": None,
            "evaluate": {},
        }
    )


def checked(asked: Settings | None = None, y: np.ndarray[Any, Any] = LABELS) -> Any:
    """What `make check` and the stage `train` do before the fit on all rows, and that fit."""
    asked = asked or settings()
    check_estimator(asked)
    fitted.check(lambda: make_model(asked, COLUMNS), X, y, asked)
    return make_model(asked, COLUMNS).fit(X, y)


def refused(asked: Settings | None = None, y: np.ndarray[Any, Any] = LABELS) -> str:
    with pytest.raises(UserError) as error:
        checked(asked, y)
    return str(error.value)


def test_the_shipped_estimator_passes_scikit_learn_s_own_checks() -> None:
    from project.estimators import PriorCorrectedLogisticRegression

    results = scikit_learns_check(PriorCorrectedLogisticRegression(), on_skip=None)
    assert len(results) > 50
    assert {each["status"] for each in results} <= {"passed", "skipped"}


def test_the_shipped_estimator_is_calibrated_at_the_prevalence_of_use() -> None:
    from project.estimators import PriorCorrectedLogisticRegression

    rng = np.random.default_rng(1)

    def patients(ill: int, well: int) -> tuple[Any, Any]:
        X = np.concatenate([rng.normal(1, 1, (ill, 1)), rng.normal(0, 1, (well, 1))])
        return X, np.repeat(["malignant", "benign"], [ill, well])

    model = PriorCorrectedLogisticRegression(prevalence=0.02, C=1e6).fit(*patients(20_000, 20_000))
    seen, _ = patients(2_000, 98_000)
    column = list(model.classes_).index("malignant")
    assert column == 1
    assert model.predict_proba(seen)[:, column].mean() == pytest.approx(0.02, rel=0.05)
    with pytest.raises(ValueError, match="prevalence must be between 0 and 1, got 1"):
        PriorCorrectedLogisticRegression(prevalence=1).fit(*patients(5, 5))


@pytest.mark.parametrize(
    ("text", "name", "task"),
    [(NEAREST, "Nearest", "classification"), (SLOPE, "Slope", "regression")],
    ids=["classifier", "regressor"],
)
def test_a_sound_estimator_passes_and_comes_back_from_its_file_without_being_trusted_by_name(
    team: Write, tmp_path: Path, text: str, name: str, task: str
) -> None:
    team(estimators=text)
    asked = settings(f"project.estimators.{name}", task)
    y = LABELS if task == "classification" else X["a"].to_numpy() * 3
    model = checked(asked, y)
    path = tmp_path / "model.skops"
    modelfile.save(model, asked, path)
    assert asked.model.trusted == []
    assert modelfile.own_types(path) == [f"project.estimators.{name}"]
    assert modelfile.own_modules(path) == ["estimators"]
    np.testing.assert_array_equal(modelfile.load(asked, path).predict(X), model.predict(X))


MISTAKES = {
    "not importable": (
        "import numpy as np",
        "import numpy as np\nprint(unknown)",
        f"{FILE}, line 3: NameError: name 'unknown' is not defined",
    ),
    "a syntax error": ("return self\n", "return self)\n", f"{FILE}, line 15: SyntaxError: unmatched ')'"),
    "a package that is not installed": (
        "import numpy as np",
        "import numpy as np\nimport deepnet",
        f"{FILE}, line 3: ModuleNotFoundError: No module named 'deepnet'\n  try: uv add deepnet",
    ),
    "no class of that name": (
        "class Nearest(",
        "class Nearests(",
        "params.yaml: model.estimator: project.estimators has no 'Nearest'; did you mean 'Nearests'?",
    ),
    "no scikit-learn API": (
        "(ClassifierMixin, BaseEstimator)",
        "",
        f"{FILE}, line 7: Nearest has no method get_params, set_params\n  try: derive the class from sklearn",
    ),
    "no predict": ("def predict(", "def forecast(", f"{FILE}, line 7: Nearest has no method predict\n  try: derive"),
    "another task": (
        "ClassifierMixin",
        "RegressorMixin",
        "params.yaml: model.estimator: project.estimators.Nearest does not support classification (data.task)",
    ),
    "a parameter without a default": (
        "shrink=0.0",
        "shrink",
        f"{FILE}, line 8: Nearest.__init__: parameter 'shrink' has no default\n  try: shrink=…",
    ),
    "parameters without names": (
        "shrink=0.0",
        "shrink=0.0, **others",
        f"{FILE}, line 8: Nearest.__init__ takes **others, so its parameters have no names",
    ),
    "a parameter that is not stored": (
        "self.shrink = shrink",
        "self.shrink_ = shrink",
        f"{FILE}, line 8: Nearest.__init__ does not store its parameter 'shrink' as it is",
    ),
    "a parameter that is stored otherwise": (
        "self.shrink = shrink",
        "self.shrink = [shrink]",
        "so scikit-learn cannot clone the estimator\n  try: self.shrink = shrink, and compute with it in fit",
    ),
    "a constructor that fails": (
        "self.shrink = shrink",
        "self.shrink = shrink / 0",
        f"{FILE}, line 9: Nearest() raises ZeroDivisionError: float division by zero",
    ),
    "a fit that changes parameters": (
        "return self\n",
        "self.shrink = 0.5\n        return self\n",
        f"{FILE}, line 11: Nearest.fit changes the parameter 'shrink' from 0.0 to 0.5\n  try: store what fit computes",
    ),
    "a fit that is not deterministic": (
        "return self\n",
        "self.noise_ = np.random.default_rng().normal()\n        return self\n",
        f"{FILE}, line 11: Nearest.fit is not deterministic: with the same rows, noise_ gets another value",
    ),
    "a fit that fails": (
        "return self\n",
        "return len(self)\n",
        f"{FILE}, line 15: project.estimators.Nearest cannot be fitted: object of type 'Nearest' has no len()",
    ),
    "a function as an attribute": (
        "return self\n",
        "self.link_ = lambda x: x\n        return self\n",
        f"{FILE}, line 7: Nearest: the model file cannot hold the attribute link_, a function",
    ),
    "an open file as an attribute": (
        "return self\n",
        "self.log_ = open('/dev/null')\n        return self\n",
        "the model file cannot hold the attribute log_, a _io.TextIOWrapper: TypeError: cannot pickle",
    ),
    "an object of a package in a list": (
        "return self\n",
        "import decimal\n        self.exact_ = [decimal.Decimal(1)]\n        return self\n",
        "the model file cannot hold the attribute exact_, a list that holds a decimal.Decimal\n  try: keep numbers",
    ),
    "no classes_": (
        "self.classes_ = np.unique(y)",
        "self.classes_ = np.unique(y)[::-1]",
        f"{FILE}, line 11: Nearest.fit sets classes_ to ['yes', 'no'], expected ['no', 'yes']",
    ),
    "probabilities of one class": (
        "return weight / weight.sum(axis=1, keepdims=True)",
        "return (weight / weight.sum(axis=1, keepdims=True))[:, 1]",
        f"{FILE}, line 17: Nearest.predict_proba returns an array of shape ({ROWS},) for {ROWS} rows and 2 classes, "
        f"expected ({ROWS}, 2)\n  try: one column for each class",
    ),
    "probabilities that do not sum to 1": (
        "return weight / weight.sum(axis=1, keepdims=True)",
        "return weight",
        f"{FILE}, line 17: Nearest.predict_proba returns rows that are not probabilities with the sum 1",
    ),
    "places instead of labels": (
        "return self.classes_[self.predict_proba(X).argmax(axis=1)]",
        "return self.predict_proba(X).argmax(axis=1)",
        f"{FILE}, line 23: Nearest.predict returns [0, 1], expected values of classes_: ['no', 'yes']",
    ),
    "labels in a column": (
        "return self.classes_[self.predict_proba(X).argmax(axis=1)]",
        "return self.classes_[self.predict_proba(X).argmax(axis=1)].reshape(-1, 1)",
        f"{FILE}, line 23: Nearest.predict returns an array of shape ({ROWS}, 1) for {ROWS} rows, expected ({ROWS},)",
    ),
    "a predict that fails": (
        "return self.classes_[self.predict_proba(X).argmax(axis=1)]",
        "return self.labels[0]",
        f"{FILE}, line 24: predict raises AttributeError: 'Nearest' object has no attribute 'labels'",
    ),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_named_with_its_file_line_and_remedy(team: Write, mistake: str) -> None:
    old, new, message = MISTAKES[mistake]
    assert old in NEAREST
    team(estimators=NEAREST.replace(old, new))
    if mistake != "a fit that fails":
        assert message in refused()
        return
    asked = settings()
    check_estimator(asked)
    # on a sample this may be the sample's fault, so that the fit on all rows reports it
    fitted.check(lambda: make_model(asked, COLUMNS), X, LABELS, asked)
    with pytest.raises(TypeError) as error:
        make_model(asked, COLUMNS).fit(X, LABELS)
    assert message.startswith(str(hooks.raised_at(error.value)))


def test_an_estimator_in_a_file_that_does_not_exist_is_named_with_the_file(team: Write) -> None:
    team()
    said = refused()
    assert said.endswith("project.estimators.Nearest cannot be imported: there is no src/project/estimators.py")


def test_a_parameter_that_a_constructor_alters_only_for_some_values_is_named(team: Write) -> None:
    team(
        estimators=NEAREST.replace(
            "self.shrink = shrink", "self.shrink = shrink if isinstance(shrink, float) else [shrink]"
        )
    )
    said = refused(settings(params={"shrink": 2}))
    assert said.startswith(f"{FILE}, line 8: Nearest.__init__: RuntimeError: Cannot clone object Nearest(shrink=[2])")


def test_a_regressor_that_predicts_nothing_is_refused(team: Write) -> None:
    team(estimators=SLOPE.replace("return X @ self.coef_", "return X @ self.coef_ * np.nan"))
    said = refused(settings("project.estimators.Slope", "regression"), X["a"].to_numpy())
    assert said == f"{FILE}, line 11: Slope.predict returns values that are not finite numbers"


def test_a_large_table_is_checked_on_a_sample_with_rows_of_each_class() -> None:
    y = np.repeat(["often", "rare"], [99_995, 5])
    rows = fitted.sample(y, classify=True)
    assert len(rows) < 1_100
    assert (y[rows] == "rare").sum() == 5
    assert (np.diff(rows) > 0).all()
    numbers = fitted.sample(np.arange(100_000.0), classify=False)
    assert len(set(numbers)) == fitted.MOST_ROWS


def test_only_a_name_that_the_team_s_file_defines_itself_is_trusted(team: Write) -> None:
    team(estimators="from subprocess import Popen\nfrom os import system\nimport decimal\n" + NEAREST)
    assert room.module_of("project.estimators.Nearest") == "estimators"
    for name in ("Popen", "system", "decimal.Decimal", "np", "Nearest.fit", ""):
        assert room.module_of(f"project.estimators.{name}") is None
    for path in ("project.Nearest", "project.other.Nearest", "projects.estimators.Nearest", "sklearn.svm._classes.SVC"):
        assert room.module_of(path) is None


def test_a_model_file_cannot_build_what_the_team_s_file_only_imports(team: Write, tmp_path: Path) -> None:
    team(estimators="from decimal import Decimal as Nearest2\n" + NEAREST)
    path = tmp_path / "model.skops"
    modelfile.save(checked(), settings(), path)
    path.write_bytes(renamed(path.read_bytes(), "Nearest", "Nearest2"))
    with pytest.raises(UserError) as error:
        modelfile.load(settings(), path)
    assert f"holds a project.estimators.Nearest2, but {FILE} defines no class of that name" in str(error.value)


def renamed(content: bytes, old: str, new: str) -> bytes:
    """A model file that names another class."""
    import io
    import zipfile

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    files["schema.json"] = files["schema.json"].replace(f'"{old}"'.encode(), f'"{new}"'.encode())
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()


def test_an_attribute_in_the_file_cannot_take_the_place_of_a_method(team: Write) -> None:
    team(estimators=NEAREST)
    model = checked()
    bounds.check(model)
    model["estimator"].predict_proba = np.array([[1.0, 0.0]])
    with pytest.raises(bounds.AlteredError, match="predict_proba is a method, but the file has a value for it"):
        bounds.check(model)


def test_what_only_fit_and_to_onnx_import_is_not_needed_by_the_service(team: Write) -> None:
    text = NEAREST.replace(
        "        X, y = validate_data(self, X, y)\n",
        "        import optuna\n        X, y = validate_data(self, X, y)\n",
    )
    text += (
        "\n    def to_onnx(self, n_features):\n        import onnx\n\n    def plot(self):\n        import matplotlib\n"
    )
    team(estimators="from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import pandas\n" + text)
    assert room.packages("estimators") == ["matplotlib", "numpy", "sklearn"]
    assert room.distributions("estimators") == ["matplotlib", "numpy", "scikit-learn"]


def test_a_package_that_is_imported_but_not_installed_is_named_with_its_file(team: Write) -> None:
    team(estimators="def later():\n    import deepnet\n")
    with pytest.raises(
        UserError, match=re.escape(f"{FILE} imports deepnet, which is not installed\n  try: uv add deep")
    ):
        room.distributions("estimators")
