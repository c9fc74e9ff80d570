"""`params.yaml` as typed settings, validated and described by a JSON Schema.

Every stage calls `load` first, so a mistake in any section stops the pipeline before it computes. An error names the
key and its line, the value, the allowed values and the closest match.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal, Self
from urllib.parse import parse_qs, urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Discriminator,
    Field,
    FiniteFloat,
    PositiveFloat,
    Tag,
    model_validator,
)

from mlops.core.errors import UserError
from mlops.core.logoptions import LogOptions
from mlops.core.yamlfile import Section, closest, read, write_schema

PARAMS = Path("params.yaml")
SCHEMA = Path("params.schema.json")

BUILT_IN = (
    *("roc_auc", "average_precision", "accuracy", "balanced_accuracy", "precision", "recall", "specificity", "f1"),
    *("log_loss", "brier_score", "precision_macro", "f1_macro", "roc_auc_ovr", "rmse", "mse", "mae", "r2"),
)
LOWER_IS_BETTER = frozenset({"log_loss", "brier_score", "mse", "rmse", "mae"})

Share = Annotated[float, Field(gt=0, lt=1)]

Kind = Literal["numeric", "categorical", "boolean", "date", "time", "text"]
Task = Literal["classification", "regression"]
# A name that a table, MLflow and a rule of the gate can hold
METRIC_NAME = r"^[A-Za-z][A-Za-z0-9_]{0,59}$"
SECRET_QUERY_KEYS = re.compile(r"(?i)token|secret|password|passwd|sig(nature)?$|api_?key|credential")


def without_credentials(source: str) -> str:
    """Reject a URL that contains a password or token, because everybody with access to Git can read `params.yaml`."""
    url = urlsplit(source)
    if url.password or (url.username and url.scheme in ("http", "https")):
        raise ValueError("contains a user name or password, which belong in the environment")
    for key in parse_qs(url.query):
        if SECRET_QUERY_KEYS.search(key):
            raise ValueError(f"contains the credential {key!r}; credentials belong in the environment")
    return source


IMPORT_PATH = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)+")


def import_path(path: str) -> str:
    """Accept ``package.module.Name`` only."""
    if not IMPORT_PATH.fullmatch(path):
        raise ValueError(f"must be an import path such as sklearn.linear_model.LogisticRegression, got {path!r}")
    return path


class Query(Section):
    """A SQL query as the source of the table."""

    sql: str = Field(min_length=1)
    """The query; one row of its result is one row of the table."""
    url_env: str = Field("DATABASE_URL", pattern=r"^[A-Z_][A-Z0-9_]*$")
    """Name of the environment variable with the SQLAlchemy URL."""


Source = Annotated[
    Annotated[str, Field(min_length=1), AfterValidator(without_credentials), Tag("text")]
    | Annotated[Query, Tag("mapping")],
    Discriminator(lambda value: "mapping" if isinstance(value, dict | Query) else "text"),
]


def raw_file(name: str) -> str:
    """Accept a file below `data/raw` only, where DVC detects changes."""
    if not name.startswith("data/raw/") or {"", ".", ".."} & {*name.split("/")}:
        raise ValueError(f"must be a file below data/raw, got {name!r}")
    return name


RawFile = Annotated[str, AfterValidator(raw_file)]


class Rescale(Section):
    """Values in another unit, recognised by their size."""

    above: PositiveFloat | None = None
    """Values above this are multiplied by `factor`."""
    below: PositiveFloat | None = None
    """Values below this are multiplied by `factor`."""
    factor: PositiveFloat
    """Factor that converts such a value to the column's unit."""

    @model_validator(mode="after")
    def _towards_the_limit(self) -> Self:
        if (self.above is None) == (self.below is None):
            raise ValueError("needs either above or below: the limit from which a value is in the other unit")
        if self.above is not None and self.factor >= 1:
            raise ValueError(f"factor must be < 1 for values above a limit, got {self.factor:g}")
        if self.below is not None and self.factor <= 1:
            raise ValueError(f"factor must be > 1 for values below a limit, got {self.factor:g}")
        return self


class Range(Section):
    """Limits of a column's values, and what happens to values outside."""

    low: FiniteFloat | None = None
    """Smallest value inside; no limit by default."""
    high: FiniteFloat | None = None
    """Largest value inside; no limit by default."""
    outside: Literal["drop", "clip", "missing"]
    """`drop` the row, `clip` the value to the nearest limit, or make it `missing`."""

    @model_validator(mode="after")
    def _limits(self) -> Self:
        if self.low is None and self.high is None:
            raise ValueError("needs low, high or both")
        if self.low is not None and self.high is not None and self.low > self.high:
            raise ValueError(f"low must not be above high, got low {self.low:g} and high {self.high:g}")
        return self


class Duplicates(Section):
    """Rows that appear more than once."""

    subset: list[str] = []
    """Columns that make two rows duplicates; all of them where it is empty."""
    keep: Literal["first", "last", "refuse"] = "first"
    """Which row stays, or `refuse` to stop the pipeline."""


class Clean(Section):
    """Cleaning steps, which run in the order of these keys."""

    missing_target: Literal["refuse", "drop"] = "refuse"
    """Rows without a target: stop the pipeline, or drop them."""
    rescale: dict[str, Rescale] = {}
    """Unit fixes by column; the service applies them, too."""
    ranges: dict[str, Range] = {}
    """Limits by column; the service applies `clip` and `missing`, too."""
    functions: list[str] | None = None
    """Names of the functions in `src/project/cleaning.py` to use; all by default, none where it is empty."""
    duplicates: Duplicates | None = None
    """Rows that appear more than once; they stay by default."""
    outliers: dict[str, PositiveFloat] = {}
    """Drop training rows further than this many interquartile ranges from the quartiles of the training rows."""


class Labels(Section):
    """Another table that holds the target."""

    source: Source
    """As `data.source`."""
    on: list[str] = []
    """Key columns of both tables, `data.key` by default. They are not features."""
    target: str | None = None
    """Column of the labels; by default it has the name in `data.target`."""
    conflict: Literal["refuse", "first", "last", "drop"] = "refuse"
    """Two different labels of a row: stop, take the first or last one (by `time`, or in the order of the file), or
    treat the label as missing."""
    time: str | None = None
    """Column that says when a label became known; with split method `time`, training rows whose label became known
    after the cutoff are left out."""
    as_of: Annotated[str | None, BeforeValidator(lambda value: None if value is None else str(value))] = None
    """Labels that became known after this moment (ISO 8601) are ignored."""

    @model_validator(mode="after")
    def _needs_time(self) -> Self:
        if self.as_of and not self.time:
            raise ValueError("as_of needs time: the column that says when a label became known")
        return self


class Data(Section):
    """The source of the table and the meaning of its columns."""

    source: Source
    """`sklearn:NAME`, a file or glob below `data/raw`, a URL (http, s3, …), or a SQL query.

    The extension selects CSV, Parquet or JSON Lines. A name that ends in `/` is a folder whose Parquet files are the
    partitions of a table larger than memory."""
    task: Task
    """`classification` predicts a class, `regression` a number."""
    target: str
    """Column to predict."""
    positive: str | int | float | bool | None = None
    """Binary classification: the class to which precision, recall and similar metrics refer."""
    key: list[str] = []
    """Columns that identify a row; they are not features. Without a key, its content identifies a row."""
    drop: list[str] = []
    """Columns that are removed from the table."""
    private: dict[str, Literal["drop", "pseudonymise"]] = {}
    """Personal columns: `drop` removes them, `pseudonymise` replaces values by a hash whose key is in the environment
    variable `PSEUDONYM_KEY`."""
    types: dict[str, Kind] = {}
    """Types of columns whose inferred type is wrong."""
    units: dict[str, str] = {}
    """Units of measurement, shown in the catalogue and the plots."""
    labels: Labels | None = None
    """Another table that holds the target."""
    more: list[RawFile] = []
    """Further rows, for training only: files below `data/raw` with the features and the target.

    They change no row's side of the split."""
    recent: list[RawFile] = []
    """The newest labelled rows, in such files. No model is trained on them, and both are compared on them."""
    clean: Clean = Clean()
    """Cleaning steps that run before the split."""
    missing_values: list[str] = []
    """Further texts that mean 'missing' in a CSV; empty cells, `NA`, `NaN`, `null` and similar ones always do."""
    delimiter: str = Field(",", min_length=1, max_length=1)
    """Character that separates the columns of a CSV."""
    encoding: str = "utf-8"
    """Character encoding of a CSV."""
    features: list[str] | None = None
    """Names of the functions in `src/project/features.py` to use; all of them by default, none where it is empty."""
    timeout: PositiveFloat = 60
    """Seconds without a response after which reading a URL fails."""

    @property
    def partitioned(self) -> bool:
        """Whether the table is a folder of partitions, which are never all in memory."""
        return isinstance(self.source, str) and self.source.endswith("/")

    @property
    def dropped(self) -> set[str]:
        """Columns of the source that the table does not have."""
        return {*self.drop, *(name for name, rule in self.private.items() if rule == "drop")}


class Validate(Section):
    """Validation of the table."""

    suite: str | None = Field(None, pattern=r"^data/expectations/[^/]+\.json$")
    """A Great Expectations suite below `data/expectations`; `make expectations` drafts one."""


class Split(Section):
    """How rows are split into training and test."""

    method: Literal["random", "stratified", "time", "group"] = "random"
    """How rows are assigned; `stratified` also checks the share of every class on both sides."""
    test_size: Share = 0.25
    """Share of test rows."""
    seed: int = Field(0, ge=0)
    """Seed of the assignment. Choose it once, before you look at results."""
    time: str | None = None
    """Method `time`: column with the time of a row."""
    cutoff: Annotated[str | None, BeforeValidator(lambda value: None if value is None else str(value))] = None
    """Method `time`: rows from this time on (ISO 8601) are test rows."""
    group: str | None = None
    """Method `group`: rows with the same value in this column stay on the same side."""

    @model_validator(mode="after")
    def _companions(self) -> Self:
        needs = {"time": self.time, "group": self.group}
        if self.method in needs and not needs[self.method]:
            raise ValueError(f"method {self.method} requires split.{self.method}, the name of a column")
        for method, column in needs.items():
            if column and self.method != method:
                raise ValueError(f"split.{method} requires method {method}, not {self.method}")
        if self.cutoff and self.method != "time":
            raise ValueError(f"split.cutoff requires method time, not {self.method}")
        return self


class Step(Section):
    """A transformer that learns from the training rows, between preprocessing and estimator."""

    transformer: Annotated[str, AfterValidator(import_path)]
    """Import path of a class with scikit-learn's API, such as `sklearn.decomposition.PCA`."""
    params: dict[str, Any] = {}
    """Its parameters; one that takes an estimator or a function takes an import path."""
    columns: list[str] | None = Field(None, min_length=1)
    """Columns whose default preprocessing it replaces; without them it transforms the whole matrix after it.

    Steps with the same columns follow one another."""
    name: str | None = Field(None, pattern=r"^[a-z](_?[a-z0-9])*$")
    """Its name in `tuning.space` (`pca__n_components`) and in reports; by default the class in lower case."""

    @property
    def key(self) -> str:
        """The name that it goes by."""
        return self.name or self.transformer.rpartition(".")[2].lower()


class Model(Section):
    """The estimator, and the steps before it."""

    steps: list[Step] = Field([], max_length=20)
    """Transformers between preprocessing and estimator, in order: selection, extraction, encoding."""
    estimator: Annotated[str, AfterValidator(import_path)]
    """Import path of a class with scikit-learn's API, such as `sklearn.linear_model.LogisticRegression`.

    `project.estimators.NAME` is a class of your own in `src/project/estimators.py`."""
    params: dict[str, Any] = {}
    """Parameters of the estimator."""
    threshold: Share | None = None
    """Binary classification: predict `data.positive` from this probability on (default 0.5)."""
    training_rows: int | None = Field(None, ge=100)
    """Search and fit on at most this many training rows, a random sample that is the same on each run; all by default.

    For tables larger than memory."""
    trusted: list[str] = []
    """Types that the model file may contain, from outside scikit-learn, NumPy, SciPy and `src/project`."""

    @property
    def path(self) -> str:
        """The import paths of the steps and of the estimator, in the order in which they see a row."""
        return " → ".join([*(step.transformer for step in self.steps), self.estimator])

    @model_validator(mode="after")
    def _steps_agree(self) -> Self:
        lists: dict[str, list[str]] = {}
        names: set[str] = set()
        for step in self.steps:
            if step.key in ("preprocessing", "estimator"):
                raise ValueError(f"a step cannot be named {step.key}, as the model has another part of that name")
            if step.key in names:
                raise ValueError(f"two steps are named {step.key}; give one of them another name")
            names.add(step.key)
            for column in step.columns or []:
                if lists.setdefault(column, step.columns or []) != step.columns:
                    raise ValueError(f"two steps take the column {column!r}, but not the same list of columns")
            if len({*(step.columns or [])}) < len(step.columns or []):
                raise ValueError(f"the step {step.key} names a column twice")
        return self


class Interval(Section):
    """A range of parameter values."""

    low: FiniteFloat
    high: FiniteFloat
    log: bool = False
    """Sample on a logarithmic scale."""
    integer: bool = False
    """Sample integers only."""

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low must be below high, got low {self.low:g} and high {self.high:g}")
        if self.log and self.low <= 0:
            raise ValueError(f"low must be > 0 on a logarithmic scale, got {self.low:g}")
        return self


class Tuning(Section):
    """A search for better parameters by cross-validation on the training rows."""

    method: Literal["grid", "random", "bayesian"]
    metric: str | None = None
    """Metric to optimise; by default the first metric of the task."""
    space: dict[
        str,
        Annotated[
            Annotated[list[Any], Tag("values")] | Annotated[Interval, Tag("range")],
            Discriminator(lambda value: "range" if isinstance(value, dict | Interval) else "values"),
        ],
    ] = Field(min_length=1)
    """Parameter name → list of values, or a range with `low` and `high`.

    A parameter of a step goes by the step's name: `pca__n_components`."""
    trials: int = Field(20, ge=1)
    """Number of parameter sets to try; `grid` tries all."""
    folds: int = Field(5, ge=2)
    seed: int = Field(0, ge=0)

    @model_validator(mode="after")
    def _grid_is_finite(self) -> Self:
        for name, values in self.space.items():
            if self.method == "grid" and isinstance(values, Interval):
                raise ValueError(f"method grid requires a list of values for {name}, not a range")
            if values == []:
                raise ValueError(f"{name} has no values to try")
        return self


class MetricPath(Section):
    """A metric that a library has."""

    metric: Annotated[str, AfterValidator(import_path)]
    """Import path of a function `(y_true, y_pred)`, such as `sklearn.metrics.fbeta_score`."""
    params: dict[str, Any] = {}
    """Its further arguments, such as `beta: 2`."""
    name: str | None = Field(None, pattern=METRIC_NAME)
    """Name in tables and in `gate.yaml`; by default the function's."""
    greater_is_better: bool | None = None
    """Only for functions outside scikit-learn, and for those whose name does not tell."""
    needs: Literal["predict", "probability"] | None = None
    """What the second argument holds; known for scikit-learn's functions."""

    @property
    def shown(self) -> str:
        return self.name or self.metric.rpartition(".")[2]


class Costs(Section):
    """What each outcome of a binary decision costs: a number, or the numeric column that holds the row's own amount."""

    false_negative: FiniteFloat | str = 0.0
    """A row of `data.positive` that is missed."""
    false_positive: FiniteFloat | str = 0.0
    """A false alarm."""
    true_positive: FiniteFloat | str = 0.0
    """A row of `data.positive` that is found; negative where it is a gain."""
    true_negative: FiniteFloat | str = 0.0
    """A row of the other class that is left alone."""


class Cost(Section):
    """What a decision costs; the most specific entry that fits a row counts."""

    actual: str | int | float | bool | None = None
    """Class of the row; any where it is left out."""
    predicted: str | int | float | bool | None = None
    """Class that is predicted; any other than the row's where it is left out."""
    cost: FiniteFloat | str
    """A number, or the numeric column that holds the row's own amount."""


class Evaluate(Section):
    """Evaluation of the model on the test rows."""

    metrics: (
        list[
            Annotated[
                Annotated[str, Tag("name")] | Annotated[MetricPath, Tag("mapping")],
                Discriminator(lambda value: "mapping" if isinstance(value, dict | MetricPath) else "name"),
            ]
        ]
        | None
    ) = None
    """Metrics beside the usual ones: names of functions in `src/project/metrics.py`, and import paths with parameters.

    Where no function is named, all of that file are used; `[]` uses none."""
    costs: (
        Annotated[
            Annotated[Costs, Tag("mapping")] | Annotated[list[Cost], Tag("list")],
            Discriminator(lambda value: "list" if isinstance(value, list) else "mapping"),
        ]
        | None
    ) = None
    """Costs of wrong decisions, which make the metric `cost`: the mean cost of a row.

    Two classes: `{false_negative: 10, false_positive: 1}`. More: a list, as of `{actual: a, predicted: b, cost: 5}`."""

    confidence: Share = 0.95
    """Coverage of the bootstrap intervals."""
    resamples: int = Field(1000, ge=100, le=100_000)
    """Number of bootstrap resamples of the test rows."""
    slices: list[str] = []
    """Columns whose values (categories, or quartiles of numbers) are evaluated separately."""
    seed: int = Field(0, ge=0)


def _ordered(limits: tuple[float, float]) -> tuple[float, float]:
    if limits[0] >= limits[1]:
        raise ValueError("must be two numbers, the lower one first")
    return limits


class Figure(Section):
    """A business figure: a numeric column of the labels' table."""

    better: Literal["higher", "lower"]
    """Which values are better, for `make canary`."""
    range: Annotated[tuple[FiniteFloat, FiniteFloat], AfterValidator(_ordered)] | None = None
    """Lowest and highest value that `make canary` counts; it cuts others. Without it, its test is asymptotic."""


class GroundTruth(Section):
    """A table of labels: what turned out to be true of logged predictions."""

    source: Source
    """As `data.source`; a file may be anywhere."""
    target: str | None = None
    """Column of the labels; by default it has the name in `data.target`."""
    request_id: str = "request_id"
    """Column of the request's `X-Request-ID`."""
    row: str | None = None
    """Column of the row's number in its request; every request has one row if it is left out."""
    time: str
    """Column that says when a label became known. Labels count from then on, so that the test may be looked at every
    day; of several labels of a row, the last one counts."""
    figures: dict[str, Figure] = {}
    """Numeric columns that are shown as means per version, and compared by `make canary`."""


class Retrain(Section):
    """When `make retrain` proposes a retraining, and with which rows."""

    when: Literal["never", "alarm", "labels"] = "never"
    """`alarm`: after an alarm of `make monitor`; `labels`: as soon as there are enough new labels."""
    least_rows: int = Field(200, ge=20)
    """New labelled rows below which nothing is proposed."""
    cool_down_days: float = Field(14, ge=0, allow_inf_nan=False)
    """Days since the last retraining before which nothing is proposed."""
    most_new_share: Share = 0.5
    """Largest share of the new rows among the training rows; the newest ones are used."""
    recent_share: Share = 0.3
    """Share of the new rows, the newest ones, that no model is trained on and both are compared on."""


def _inside(path: str) -> str:
    if Path(path).is_absolute() or ".." in Path(path).parts:
        raise ValueError("must be a folder of this repository, such as data/raw/replay")
    return path


class Monitor(Section):
    """What production reports, and what follows from it."""

    log: LogOptions = LogOptions()
    """The prediction log of the service."""
    labels: GroundTruth | None = None
    """The labels; without them, only rows and predictions are compared."""
    false_alarm_years: PositiveFloat = 20
    """Mean time to a false alarm, with one look a day; and to a false warning."""
    least_rows: int = Field(100, ge=1)
    """Rows with a label, or rows of a window, below which nothing is said."""
    least_effect: Share = 0.1
    """Changes of a column that are smaller than this are shown, but not warned of: a distance of distributions."""
    retrain: Retrain = Retrain()
    """The pull request that retrains the model with what production has shown."""
    replay: Annotated[str, AfterValidator(_inside)] | None = None
    """Folder of this repository with a prediction log, such as `data/raw/replay`, in Git or tracked by DVC. Each review
    predicts its rows again.

    The comment of a pull request shows request ids of it, so it must be data that its readers may see."""


class Settings(Section):
    """All of `params.yaml`; the sections that the pipeline reads are required, because DVC tracks them."""

    data: Data
    validate_: Validate = Field(alias="validate")
    split: Split
    model: Model
    tuning: Tuning | None
    evaluate: Evaluate
    monitor: Monitor = Monitor()

    @model_validator(mode="after")
    def _sections_agree(self) -> Self:
        if self.model.threshold is not None and self.data.positive is None:
            raise ValueError("model.threshold requires data.positive, the class that it applies to")
        twice = {*self.data.more} & {*self.data.recent}
        if twice:
            raise ValueError(f"data.recent: {min(twice)} is in data.more, too, so the model would be trained on it")
        if self.data.task == "regression":
            for key, value in {
                "split.method": "stratified" if self.split.method == "stratified" else None,
                "model.threshold": self.model.threshold,
                "data.positive": self.data.positive,
            }.items():
                if value is not None:
                    raise ValueError(f"{key}: {value} requires task classification, not regression")
        return self

    @property
    def hidden(self) -> set[str]:
        """Columns of the table that no model sees: target, keys, pseudonyms, and those of the split."""
        names = [self.data.target, *self.data.key, *self.data.private, self.split.time, self.split.group]
        if self.data.labels is not None:
            names += [*self.data.labels.on, self.data.labels.time]
        return {name for name in names if name is not None}


def load(path: str | Path = PARAMS) -> Settings:
    """Read and check `params.yaml`.

    Raises
    ------
    UserError
        If the file is missing, is not YAML, or is invalid; all problems are listed.
    """
    return read(path, Settings)


def check_columns(
    settings: Settings, columns: list[str], *, prepared: bool = False, features: list[str] | None = None
) -> None:
    """Check that every column named in `params.yaml` is one of `columns`.

    Parameters
    ----------
    columns : list of str
        Columns of the source, or of a prepared table, which has no dropped columns.
    features : list of str, optional
        Names of computed features, which slices and steps may be of, too. Where they are not known, neither is checked.

    Raises
    ------
    UserError
        Names every key with an unknown column, and the closest known column.
    """
    data, split = settings.data, settings.split
    joined = [] if data.labels is None else [data.target, *filter(None, [data.labels.time])]
    columns = [*columns, *joined]
    kept = [name for name in columns if name not in data.dropped]
    if prepared:
        columns = [*columns, *data.dropped]
    seen = [name for name in kept if name not in settings.hidden]
    named: list[tuple[str, str | None, list[str]]] = [
        ("data.target", data.target, kept),
        ("split.time", split.time, kept),
        ("split.group", split.group, kept),
        *(("data.key", name, kept) for name in data.key),
        *(("data.drop", name, columns) for name in data.drop),
        *(("data.private", name, columns) for name in data.private),
        *(("data.types", name, columns) for name in data.types),
        *(("data.units", name, columns) for name in data.units),
        *(("data.labels.on", name, kept) for name in getattr(data.labels, "on", [])),
        *(("data.clean.rescale", name, kept) for name in data.clean.rescale),
        *(("data.clean.ranges", name, kept) for name in data.clean.ranges),
        *(("data.clean.outliers", name, kept) for name in data.clean.outliers),
        *(("data.clean.duplicates.subset", name, kept) for name in getattr(data.clean.duplicates, "subset", [])),
        *(("evaluate.costs", name, kept) for name in cost_columns(settings.evaluate.costs)),
    ]
    if features is not None:
        named += [
            (f"model.steps.{place}.columns", name, [*seen, *features])
            for place, step in enumerate(settings.model.steps)
            for name in step.columns or []
        ]
        named += [("evaluate.slices", name, [*kept, *features]) for name in settings.evaluate.slices]
    problems = [
        f"{PARAMS}: {key}: the table has no column {name!r}{closest(name, known)}"
        for key, name, known in named
        if name is not None and name not in known
    ]
    if data.target in data.key:
        problems.append(f"{PARAMS}: data.target: {data.target!r} cannot also be a key")
    if problems:
        raise UserError("\n".join(problems))


def cost_columns(costs: Costs | list[Cost] | None) -> list[str]:
    """Columns that hold amounts."""
    given = list(costs.model_dump().values()) if isinstance(costs, Costs) else [each.cost for each in costs or []]
    return list(dict.fromkeys(value for value in given if isinstance(value, str)))


if __name__ == "__main__":
    write_schema(Settings, SCHEMA)
