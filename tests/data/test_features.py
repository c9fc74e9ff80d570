"""The team's features: declared, appended to tables, and each mistake found with file, line, function and a row."""

from __future__ import annotations

import datetime

import numpy as np
import pyarrow as pa
import pytest
from conftest import Write

from mlops.core.errors import UserError
from mlops.core.settings import Settings
from mlops.data import features, project
from mlops.data.tables import Catalogue, Column
from mlops.inference import computed
from mlops.inference.computed import declared

HEAD = "import numpy as np\nfrom mlops import feature\n\n"
N = 300


def column(name: str, kind: str, missing: int = 0) -> Column:
    return Column.model_validate(
        {"name": name, "kind": kind, "type": "", "unit": None, "missing": missing, "distinct": None}
    )


CATALOGUE = Catalogue(
    source="x",
    rows=N,
    sha256="",
    columns=[
        column("length", "numeric"),
        column("width", "numeric", missing=30),
        column("used", "boolean"),
        column("sold", "date"),
        column("town", "categorical", missing=3),
        column("price", "numeric"),
    ],
)


def table() -> pa.Table:
    rng = np.random.default_rng(0)
    width = rng.uniform(1, 2, N)
    town = np.array(["A", "B"], dtype=object)[rng.integers(0, 2, N)]
    start = datetime.datetime(2026, 1, 1)
    return pa.table(
        {
            "length": rng.uniform(1, 2, N),
            "width": pa.array(width, mask=np.arange(N) % 10 == 3),
            "used": rng.random(N) < 0.5,
            "sold": pa.array([start + datetime.timedelta(days=int(day)) for day in range(N)], pa.timestamp("us")),
            "town": pa.array(town, mask=np.arange(N) % 100 == 7),
            "price": rng.uniform(1, 2, N),
        }
    )


def settings(**data: object) -> Settings:
    given = {"source": "data/raw/x.csv", "task": "regression", "target": "price", **data}
    model = {"estimator": "sklearn.linear_model.Ridge"}
    whole = {"data": given, "validate": {}, "split": {}, "model": model, "tuning": None, "evaluate": {}}
    return Settings.model_validate(whole)


def refusal(**data: object) -> str:
    """What is wrong with the features that the team has written."""

    def checked() -> None:
        opened = project.opened(settings(**data), CATALOGUE)
        features.check(table(), opened.features, opened.source)

    with pytest.raises(UserError) as error:
        checked()
    return str(error.value)


GOOD = f"""{HEAD}
@feature("length", "width", unit="m²")
def area(length, width):
    return length * width

@feature("used", kind="boolean")
def new(used):
    return used == 0

@feature("sold")
def month(sold):
    return sold.astype("datetime64[M]").astype(int) % 12 + 1

@feature("town", "used", kind="categorical")
def place(town, used):
    return np.where(town == "A", "ours", None) if False else np.array(
        [None if t is None else t.lower() + str(int(u)) for t, u in zip(town, used)], dtype=object
    )
"""


def test_features_of_every_kind_are_columns_of_the_table_and_of_the_catalogue(team: Write) -> None:
    team(features=GOOD)
    opened = project.opened(settings(), CATALOGUE)
    features.check(table(), opened.features, opened.source)
    whole = opened.append(table())
    assert whole.column_names == [*table().column_names, "area", "new", "month", "place"]
    np.testing.assert_allclose(
        whole["area"].to_numpy(), table()["length"].to_numpy() * table()["width"].to_numpy(), equal_nan=True
    )
    assert whole["area"].null_count == 30
    assert whole["new"].type == pa.bool_()
    assert whole["new"].to_pylist() == [not used for used in table()["used"].to_pylist()]
    assert whole["month"].to_pylist()[:32:31] == [1.0, 2.0]
    assert whole["place"].null_count == 3
    assert set(whole["place"].drop_null().to_pylist()) == {"a0", "a1", "b0", "b1"}
    area = opened.catalogue["area"]
    assert (area.kind, area.type, area.unit, area.missing) == ("numeric", "double", "m²", 30)
    names = ["length", "width", "used", "sold", "town", "area", "new", "month", "place"]
    assert [each.name for each in opened.columns] == names
    X = opened.X(whole)
    assert X.columns.tolist() == names
    assert (X["new"].dtype, X["area"].dtype) == (np.float64, np.float64)
    assert opened.y(whole).tolist() == table()["price"].to_pylist()


def test_the_settings_choose_among_the_features(team: Write) -> None:
    team(features=GOOD)
    assert [each.name for each in declared()] == ["area", "new", "month", "place"]
    assert [each.name for each in declared(["place", "area"])] == ["area", "place"]
    assert declared([]) == ()
    said = refusal(features=["aera"])
    assert said.startswith(
        "params.yaml: data.features: src/project/features.py has no feature 'aera'; did you mean 'area'?"
    )


def test_a_project_without_features_is_as_it_was(team: Write) -> None:
    team()
    opened = project.opened(settings(), CATALOGUE)
    assert opened.features == ()
    assert opened.catalogue == CATALOGUE
    assert opened.append(table()) == table()


def test_features_may_be_slices_and_what_is_neither_is_named(team: Write) -> None:
    team(features=GOOD)
    with_slices = settings().model_dump(by_alias=True)
    with_slices["evaluate"]["slices"] = ["area", "town"]
    project.opened(Settings.model_validate(with_slices), CATALOGUE)
    with_slices["evaluate"]["slices"] = ["areas"]
    with pytest.raises(UserError, match=r"evaluate.slices: the table has no column 'areas'; did you mean 'area'\?"):
        project.opened(Settings.model_validate(with_slices), CATALOGUE)


@pytest.mark.parametrize(
    ("code", "said", "hint"),
    [
        (
            "@feature('lenght')\ndef f(x):\n    return x",
            "has no column 'lenght'; did you mean 'length'?",
            "data.features: []",
        ),
        ("@feature('price')\ndef f(x):\n    return x", "f: 'price' is not known when a prediction", "another column"),
        ("@feature('length')\ndef width(x):\n    return x", "the table has a column of this name", "another name"),
        ("@feature()\ndef f():\n    return 1", "f names no columns", "@feature("),
        (
            "@feature('length', 'used')\ndef f(x):\n    return x",
            "f does not take its 2 columns",
            "one argument for each",
        ),
    ],
    ids=["misspelt", "target", "name-taken", "no-columns", "arguments"],
)
def test_a_declaration_that_does_not_fit_the_table_is_refused(team: Write, code: str, said: str, hint: str) -> None:
    team(features=HEAD + code)
    message = refusal()
    assert message.startswith("src/project/features.py, line 4: ")
    assert said in message
    assert "\n  try: " in message
    assert hint in message.partition("\n  try: ")[2]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("x - x.mean()", "f looks at other rows: among fewer rows it gives"),
        ("x - x.min()", "f looks at other rows: alone it gives 0, not "),
        ("np.cumsum(x)", "f depends on the order of the rows: in another order it gives"),
        ("np.diff(x, prepend=0)", "f depends on the order of the rows"),
        ("np.where(np.arange(len(x)) == 0, 0.0, x) if len(x) == 1 else x", "f looks at other rows: alone it gives"),
        ("x + np.random.random(len(x))", "f is not deterministic: called twice, it gives"),
        ("x[1:]", "f returns an array of shape (299,) for 300 rows, expected (300,)"),
        ("x.reshape(-1, 1)", "f returns an array of shape (300, 1) for 300 rows"),
        ("x.mean()", "f returns a numpy float64 instead of a NumPy array"),
        ("x.tolist()", "f returns a list instead of a NumPy array"),
        ("__import__('pandas').Series(x)", "f returns a pandas Series instead of a NumPy array"),
        ("x.astype(str)", "f returns values of type <U32, but its kind is numeric: numbers"),
        ("np.log(x - 1.5)", "f is missing; computed from length = "),
        ("1 / (x > 1.5)", "f is infinite; computed from length = "),
        ("x / 0", "f is infinite; computed from length = "),
        ("np.array([int('x') for _ in x])", "f raises ValueError: invalid literal for int()"),
        ("np.multiply(x, 2, out=x)", "f raises ValueError: output array is read-only: it changes its input"),
    ],
)
def test_a_function_that_is_none_of_its_own_row_is_refused_before_training(team: Write, line: str, said: str) -> None:
    team(features=f"{HEAD}@feature('length')\ndef f(x):\n    return {line}\n")
    message = refusal()
    assert message.startswith("src/project/features.py, line ")
    assert said in message
    assert "length = 1." in message or "it changes its input" in message
    assert "row" in message or "it changes its input" in message
    assert "\n  try: " in message


@pytest.mark.parametrize(
    ("kind", "line", "said"),
    [
        ("boolean", "x * 2", "not 0 or 1; computed from used = 1"),
        ("categorical", "x", "returns values of type float64, but its kind is categorical: texts"),
        ("categorical", "np.array([1, 2] * 150, dtype=object)", "returns 1, but its kind is categorical: texts"),
        ("categorical", "np.full(len(x), None)", "is missing; computed from used = "),
    ],
)
def test_a_result_of_another_kind_is_refused(team: Write, kind: str, line: str, said: str) -> None:
    team(features=f"{HEAD}@feature('used', kind='{kind}')\ndef f(x):\n    return {line}\n")
    assert said in refusal()


def test_an_error_below_the_function_names_the_line_where_it_happens_and_a_row(team: Write) -> None:
    helper = "def digits(text):\n    return float(text)\n"
    code = (
        "from project.shared import digits\n@feature('town')\ndef f(x):\n    return np.array([digits(t) for t in x])\n"
    )
    team(shared=helper, features=HEAD + code)
    message = refusal()
    assert message.startswith("src/project/shared.py, line 2: f raises ValueError")
    assert "as in row 1: computed from town = 'A'" in message or "as in row 1: computed from town = 'B'" in message


def test_a_row_without_an_input_may_have_no_value(team: Write) -> None:
    team(features=f"{HEAD}@feature('width')\ndef f(x):\n    return np.log(x)\n")
    opened = project.opened(settings(), CATALOGUE)
    features.check(table(), opened.features, opened.source)
    assert opened.append(table())["f"].null_count == 30


def test_a_file_that_cannot_be_imported_is_reported_with_its_line(team: Write) -> None:
    team(features=HEAD + "import nothing_of_that_name\n")
    message = refusal()
    assert message.startswith("src/project/features.py, line 4: ModuleNotFoundError")
    assert "try: uv add nothing_of_that_name" in message
    team(features=HEAD + "def f(:\n")
    assert refusal().startswith("src/project/features.py, line 4: SyntaxError")


def test_a_table_with_a_row_that_has_no_value_is_refused_when_it_is_read(team: Write) -> None:
    team(features=f"{HEAD}@feature('length')\ndef f(x):\n    return 1 / (x - 1.25)\n")
    opened = project.opened(settings(), CATALOGUE)
    one = table().slice(0, 2).set_column(0, "length", pa.array([1.5, 1.25]))
    with pytest.raises(UserError) as error:
        opened.append(one)
    assert str(error.value).startswith(
        "src/project/features.py, line 4: f is infinite; computed from length = 1.25, in row 2 of 2\n  try: "
    )


def test_rows_that_cannot_be_computed_are_named_and_the_others_are_computed(team: Write) -> None:
    team(features=f"{HEAD}@feature('town')\ndef f(x):\n    return np.array([{{'A': 1.0, 'B': 2.0}}[t] for t in x])\n")
    found, problems = computed.compute(declared(), {"town": np.array(["A", "C", "B"], dtype=object)})
    assert problems == {1: [("f", "cannot be computed: KeyError: 'C'; computed from town = 'C'")]}
    np.testing.assert_array_equal(found["f"], [1.0, np.nan, 2.0])
