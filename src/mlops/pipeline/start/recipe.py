"""Task, positive class and split for a table: with the columns' roles, all of `params.yaml`."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.core.errors import UserError, counted
from mlops.core.settings import Kind, Settings
from mlops.core.yamlfile import closest
from mlops.data import tables
from mlops.data.tables import Catalogue
from mlops.pipeline import ingest, split
from mlops.pipeline.profile_figures import percent
from mlops.pipeline.start import columns as on_columns
from mlops.pipeline.start import first_model
from mlops.pipeline.start.columns import Roles, described
from mlops.pipeline.start.reading import Source

TEST_SIZE = 0.25
MOST_CLASSES = 20
# words for the class that a binary model is made to find
POSITIVE = re.compile(
    r"(?i)^(1|1\.0|true|yes|y|t|positive|pos|malignant|bad|default|fraud|spam|churn(ed)?|died|dead|sick|ill|disease|"
    r"diseased|abnormal|failure|fail(ed)?|good|won|win|success|survived|approved|case|event|present|[>≥].*)$"
)
# share of copies from which equal rows are no mistake
NATURAL = 0.05


class Plan(NamedTuple):
    """What `make start` decided.

    Attributes
    ----------
    params : dict
        Content of `params.yaml`.
    reasons : dict of str to str
        Key, with dots → why.
    table : pyarrow.Table
        Prepared as `ingest` will do it.
    catalogue : Catalogue
        Of that table.
    """

    params: dict[str, Any]
    reasons: dict[str, str]
    table: pa.Table
    catalogue: Catalogue

    @property
    def settings(self) -> Settings:
        return Settings.model_validate(self.params)


def plan(name: str | dict[str, str], source: Source, target: str, task: str | None = None) -> Plan:
    """Decide everything for a table, and try it out in memory.

    Parameters
    ----------
    name : str or dict
        `data.source`.
    task : str, optional
        classification or regression; found from the target if it is left out.

    Raises
    ------
    UserError
        If no model can be trained on this table.
    """
    if target not in source.columns:
        raise UserError(f"the table has no column {target!r}{closest(target, list(source.columns))}")
    if target not in source.table.column_names:
        raise UserError(f"the target {target!r} holds lists or objects, which no model predicts", "another column")
    if source.table.num_columns == 1:
        raise UserError(f"the table has the column {target!r} and no other to learn from", "check the delimiter")
    missing = source.table[target].null_count
    labelled = source.table.filter(pc.is_valid(source.table[target]))
    kinds = dict(source.kinds)
    task, why = _task(labelled[target], target, kinds[target], task)
    if labelled.num_rows < ingest.MIN_ROWS:
        left = f" with a value of {target!r}" if missing else ""
        found = counted(labelled.num_rows, "row")
        raise UserError(f"the table has {found}{left}; at least {ingest.MIN_ROWS} are required", "a larger table")
    reasons = {**source.reasons, "data.task": why}
    data: dict[str, Any] = {"source": name, "task": task, "target": target}
    if task == "classification":
        positive, reasons["data.positive"] = _positive(labelled, target)
        data |= {} if positive is None else {"positive": positive}
    roles = on_columns.roles(labelled, kinds, target, task)
    reasons |= roles.reasons
    clean = dict(source.keys.get("clean", {}))
    if missing:
        clean = {"missing_target": "drop", **clean}
        share = percent(missing / source.table.num_rows)
        reasons["data.clean.missing_target"] = f"{counted(missing, 'row')} ({share}) without a target teach nothing"
    drop = {**dict.fromkeys(source.keys.get("drop", []), "lists or objects, which no model accepts"), **roles.drop}
    hidden = {target, *roles.key, *drop}
    features = [each for each in labelled.column_names if each not in hidden]
    if not features:
        raise UserError(f"no column is left to predict {target!r} from: {described(drop)}", "a table with features")
    copied = on_columns.copies(labelled, [target, *features])
    if copied and not roles.key:
        many = counted(copied, "row is an exact copy", "rows are exact copies")
        if copied > NATURAL * labelled.num_rows:
            reasons["data.clean.functions"] = f"{many}, which stay: with so few values, two rows may well be equal"
        else:
            reasons["data.clean.duplicates"] = f"{many} of another row"
            clean["duplicates"] = {"keep": "first"}
    data["key"] = roles.key
    if drop:
        data["drop"] = list(drop)
        reasons["data.drop"] = described(drop)
    if roles.suspects:
        listed = ", ".join(f"{each} ({percent(share)})" for each, share in roles.suspects.items())
        reasons["data.features"] = (
            f"CHECK: drop what is known only after the target; these explain most of it alone: {listed}"
        )
    data |= {key: value for key, value in source.keys.items() if key not in ("clean", "drop")}
    data["features"] = []
    data["clean"] = {**clean, "functions": []}
    params: dict[str, Any] = {"data": data, "validate": {"suite": None}}
    params |= {"split": {}, "model": {}, "tuning": None, "evaluate": {"slices": [], "metrics": []}}
    return _complete(params, reasons, source, roles, features)


def _complete(
    params: dict[str, Any], reasons: dict[str, str], source: Source, roles: Roles, features: list[str]
) -> Plan:
    """Add what needs the prepared table: split, estimator and slices."""
    task, target = params["data"]["task"], params["data"]["target"]
    params["model"] = first_model.linear(task)
    params["split"] = {"method": "random", "test_size": TEST_SIZE}
    settings = Settings.model_validate(params)
    dropped = settings.data.dropped
    raw = {name: values for name, values in source.columns.items() if name not in dropped}
    table, described_table = ingest.prepare(raw, source.origin, settings)
    identity = None
    if tables.IDENTITY in table.column_names:  # of rows before a value was corrected
        identity = table[tables.IDENTITY].to_numpy()
        table = table.drop_columns([tables.IDENTITY])
    catalogue = Catalogue.model_validate(described_table)
    kinds: dict[str, Kind] = {column.name: column.kind for column in catalogue.columns}
    params["split"], reasons["split.method"], sides = _split(params, table, roles, identity)
    settings = Settings.model_validate(params)
    used = [name for name in features if name not in settings.hidden]
    if not used:
        raise UserError(f"no column is left to predict {target!r} from", "a table with features")
    train = table.filter(pa.array(sides.train))
    related = on_columns.relations(train, kinds, used, target, task)
    params["evaluate"]["slices"], reasons["evaluate.slices"] = on_columns.slices(
        table, kinds, used, related, sides.test.mean()
    )
    params["model"], reasons["model.estimator"] = first_model.choose(params, train, catalogue)
    return Plan(params, reasons, table, catalogue)


def _task(values: pa.ChunkedArray, target: str, kind: Kind, asked: str | None) -> tuple[str, str]:
    """Classification or regression, and why."""
    if not len(values):
        raise UserError(f"the target {target!r} is missing in every row", "another column, or a table with its values")
    distinct = pc.count_distinct(values).as_py()
    if distinct == 1:
        raise UserError(f"the target {target!r} is {values[0].as_py()!r} in every row, so there is nothing to learn")
    if kind in ("date", "time"):
        raise UserError(
            f"the target {target!r} holds {kind}s, which no model predicts", "a number, such as days until it"
        )
    if kind == "text" or (kind == "categorical" and distinct > max(MOST_CLASSES, 0.1 * len(values))):
        raise UserError(
            f"the target {target!r} is free text: {distinct:,} different values in {counted(len(values), 'row')}",
            "a column with a few classes, or numbers",
        )
    if asked:
        return asked, "as you asked"
    if kind != "numeric":
        return "classification", f"{target} has {distinct} classes"
    numbers = np.asarray(values.cast(pa.float64()).to_numpy())
    whole = bool((numbers == np.round(numbers)).all())
    few = distinct <= (MOST_CLASSES if len(values) > 20 * distinct else 2)
    if whole and few and (distinct == 2 or numbers.max() - numbers.min() < 2 * distinct):
        other = "" if distinct == 2 else "; if they are amounts: make start … TASK=regression"
        return "classification", f"{target} has {distinct} whole numbers as values{other}"
    return "regression", f"{target} has {distinct:,} different numbers"


def _positive(table: pa.Table, target: str) -> tuple[Any, str]:
    """The class that precision and recall refer to; None for more than two classes."""
    classes = on_columns.values_of(table, target)
    if len(classes) > 2:
        return None, ""
    rare = classes[-1]
    counts = pc.sum(pc.equal(table[target], rare)).as_py()
    named = [value for value in classes if POSITIVE.match(str(value).strip())]
    share = percent(counts / table.num_rows)
    if len(named) == 1:
        other = percent(1 - counts / table.num_rows)
        return named[0], f"the class to find, by its name; {share if named[0] == rare else other} of the rows"
    return rare, f"the rarer class, {share} of the rows; recall and precision are about it"


def _split(
    params: dict[str, Any], table: pa.Table, roles: Roles, identity: Any
) -> tuple[dict[str, Any], str, split.Sides]:
    """By time or group where the table has one, otherwise by a hash of each row."""
    problems = []
    tried: list[tuple[dict[str, Any], str]] = []
    if roles.time:
        at = _cutoff(table[roles.time])
        also = f"; {roles.group} may be a group (method group), too" if roles.group else ""
        why = f"the model will predict rows that come after those it knows, so the newest by {roles.time} test it{also}"
        tried.append(({"method": "time", "test_size": TEST_SIZE, "time": roles.time, "cutoff": at}, why))
    if roles.group:
        groups = pc.count_distinct(table[roles.group]).as_py()
        why = f"rows of one {roles.group} are alike ({groups:,} in {table.num_rows:,} rows), so each stays on one side"
        tried.append(({"method": "group", "test_size": TEST_SIZE, "group": roles.group}, why))
    classify = params["data"]["task"] == "classification"
    method = "stratified" if classify else "random"
    why = "no column says when a row happened or what it belongs to"
    tried.append(({"method": method, "test_size": TEST_SIZE}, why))
    for section, reason in tried:
        even = ""
        settings = Settings.model_validate(params | {"split": section})
        if method == "stratified" and section["method"] == method:
            section["seed"] = split.best_seed(table, settings)
            even = "; this seed of the first 100 gives the most even share of each class"
            settings = Settings.model_validate(params | {"split": section})
        try:
            sides = split.assign(table, settings, identity)
            if section["method"] != method and min(sides.test.sum(), sides.train.sum()) < ingest.MIN_ROWS:
                raise UserError(f"method {section['method']} leaves fewer than {ingest.MIN_ROWS} rows on a side")
            if classify:
                split.check_classes(table, sides, settings)
        except UserError as error:
            if section["method"] == method:
                raise
            problems.append(f"method {section['method']} fails: {str(error).splitlines()[0]}")
            continue
        if problems:
            reason = f"{'; '.join(problems)}, so a hash decides the side of each row"
        return section, reason + even, sides
    raise AssertionError("the last split raises what is wrong")


def _cutoff(values: pa.ChunkedArray) -> str:
    """The time from which rows are test rows."""
    date = pa.types.is_timestamp(values.type)
    at = pc.quantile(values.cast(pa.int64()) if date else values, 1 - TEST_SIZE, interpolation="nearest")[0]
    return str(at.cast(pa.timestamp("us")).as_py().isoformat() if date else at.as_py())
