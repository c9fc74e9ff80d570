"""Stage `profile`: describe the training rows, and no others, on one HTML page.

Statistics use all training rows, or of a partitioned table a random sample; charts and relations use a sample of these,
taken at a fixed stride. The page contains no
script and loads nothing. Its text is beside the charts, not in them, so that every alphabet is displayed.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jinja2
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.core import paths
from mlops.core.errors import counted, run
from mlops.core.files import atomic
from mlops.core.settings import Settings
from mlops.data import project as projects
from mlops.data import tables
from mlops.data.tables import Catalogue, Column
from mlops.pipeline import profile_figures as figures
from mlops.pipeline.profile_figures import Array, Target, number, percent, text

TEMPLATE = Path(__file__).with_name("profile.html.jinja")

# rows used for charts and relations, for rank correlations, and for words
SAMPLE, PAIR_ROWS, TEXT_ROWS = 100_000, 5_000, 20_000
# rows of a partitioned table: a quantile's standard error is at most 0.05 % of the rows
MOST_ROWS = 1_000_000
# how many are shown: columns in detail and in the heatmap, classes with a colour, values or words of a column, pairs
CARDS, HEATMAP, CLASSES, VALUES, PAIRS = 50, 30, 6, 6, 12
# most columns in the correlations, because the cost grows with the square of their number
CORRELATED = 1000
# shares from which the notes report target leakage, nearly constant, mostly missing, and nearly identical columns
LEAKAGE, CONSTANT, MISSING, SAME = 0.95, 0.99, 0.5, 0.99

Description = dict[str, Any]


def main() -> str:
    project = projects.open()
    table = project.table(paths.TRAIN)
    known = table if isinstance(table, pa.Table) else tables.some(table, MOST_ROWS)
    page = profile(known, project.catalogue, project.settings) | {"all_rows": table.num_rows}
    with atomic(paths.PROFILE) as partial:
        partial.write_text(render(page), encoding="utf-8")
    of = f" of {table.num_rows:,}" if page["all_rows"] > page["rows"] else ""
    size = f"{page['rows']:,}{of} training rows × {len(page['columns']) + 1:,} columns"
    return f"{size}, {counted(len(page['notes']), 'note')} → {paths.PROFILE}"


def render(page: Description) -> str:
    """Render the page as HTML, with every text of the table escaped."""
    environment = jinja2.Environment(
        autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters |= {"percent": percent, "number": number, "text": text}
    return environment.from_string(TEMPLATE.read_text(encoding="utf-8")).render(page)


def profile(table: pa.Table, catalogue: Catalogue, settings: Settings) -> Description:
    """Describe a table of training rows.

    Parameters
    ----------
    table : pyarrow.Table of shape (n_samples, n_columns)
        The training rows.
    catalogue : Catalogue
        The kind and unit of each column. Its counts cover all rows, so they are not used.

    Returns
    -------
    dict
        The content of the page; features first, sorted by relation to the target.
    """
    stride = math.ceil(table.num_rows / SAMPLE)
    sample = table if stride == 1 else table.take(pa.array(range(0, table.num_rows, stride)))
    target = read_target(table, sample, settings)
    roles = dict.fromkeys(settings.data.key, "key") | dict.fromkeys(settings.data.private, "pseudonym")
    roles |= {column.name: "feature" for column in tables.feature_columns(settings, catalogue)}
    columns: list[Description] = []
    for column in catalogue.columns:
        if column.name != settings.data.target:
            role = roles.get(column.name, "determines the split")
            described = describe(column, table[column.name], sample[column.name], target, role == "feature")
            columns.append({**described, "role": role, "number": len(columns) + 1})
    columns.sort(key=lambda column: (column["role"] != "feature", -(column["relation"] or 0)))
    features = [column for column in columns if column["role"] == "feature"]
    page = {
        "source": catalogue.source,
        "task": settings.data.task,
        "rows": table.num_rows,
        "sampled": sample.num_rows,
        "stride": stride,
        "text_rows": TEXT_ROWS,
        "classes": target.classes,
        "target": describe_target(catalogue[settings.data.target], table[settings.data.target], target),
        "columns": columns,
        "features": features,
        "cards": [column for column in features if column["filled"]][:CARDS],
        "correlations": correlate(features, sample),
    }
    return page | {"notes": notes(page)}


def read_target(table: pa.Table, sample: pa.Table, settings: Settings) -> Target:
    """The target of the sampled rows."""
    name = settings.data.target
    if settings.data.task == "regression":
        y = figures.floats(sample[name])
        return Target(y, middle=(float(np.quantile(y, 0.05)), float(np.quantile(y, 0.95))))
    classes = [value for value, _ in figures.most_frequent(table[name], table.num_rows)[0]]
    distinct, code = figures.codes(sample[name])
    y = np.array([classes.index(value) for value in distinct])[code]
    labels = [text(value) for value in classes]
    positive = text(settings.data.positive)
    return Target(y, labels, labels.index(positive) if positive in labels else None)


def describe_target(column: Column, values: pa.ChunkedArray, target: Target) -> Description:
    """The frequency of each class, or the distribution of the numbers."""
    described = _outline(column, values)
    if not target.classes:
        return described | spread(figures.ordered(values), target.y, None, number)
    counts = [count for _, count in figures.most_frequent(values, len(values))[0]]
    return described | {"counts": list(zip(target.classes, counts, strict=True)), "distinct": len(counts)}


def describe(
    column: Column, values: pa.ChunkedArray, sampled: pa.ChunkedArray, target: Target, feature: bool
) -> Description:
    """Statistics of a column, and for a feature its charts and its relation to the target.

    Values of a column that is not a feature (a key, a pseudonym) are not shown.
    """
    described = _outline(column, values)
    if not described["filled"]:
        return described
    if not feature:
        return described | {"distinct": pc.count_distinct(values).as_py()}
    if column.kind == "text":
        lengths, sampled_lengths = figures.ordered(pc.utf8_length(values)), figures.floats(pc.utf8_length(sampled))
        described |= spread(lengths, sampled_lengths, target, number)
        # distinct texts are not counted, because that would take three times their memory
        return described | {"distinct": None, "top": 0.0} | informative_words(sampled, target)
    if column.kind in ("numeric", "date", "time"):
        rising = figures.ordered(values)
        shown = {"numeric": number, "time": figures.time_of_day}.get(column.kind) or _moments(rising)
        described |= spread(rising, figures.floats(sampled), target, shown)
        absent = np.isnan(figures.floats(sampled))
        if absent.any():
            described["facts"]["target where missing"] = of_rows(target, absent)["says"]
    else:
        described |= frequent_values(values, sampled, target)
    described["relation"] = figures.explained(figures.groups(sampled, 20), target)
    # twenty intervals are too coarse for a column that determines the target at a threshold
    finest = figures.groups(sampled, min(max(len(sampled) // 4, 1), 1000))
    return described | {"decides": figures.explained(finest, target)}


def _outline(column: Column, values: pa.ChunkedArray) -> Description:
    missing = values.null_count
    if pa.types.is_floating(values.type):
        missing += pc.sum(pc.is_nan(values)).as_py() or 0
    return {
        "name": column.name,
        "kind": column.kind,
        "unit": column.unit,
        "filled": len(values) - missing,
        "missing": missing / len(values),
        "distinct": 0,
        "relation": None,
        "decides": None,
        "facts": {},
        "shape": "",
        "charts": [],
        "values": [],
    }


def _moments(rising: Array) -> Callable[[float], str]:
    """Return the formatter for the dates of a column: with the time for a span of few days, unless all are midnight."""
    day = 24 * 3600 * 10**6
    unit = "D" if rising[-1] - rising[0] > 10 * day or not (rising % day).any() else "m"
    return lambda microseconds: figures.moment(microseconds, unit)


def spread(rising: Array, sampled: Array, target: Target | None, shown: Callable[[Any], str]) -> Description:
    """Statistics and histograms of numbers or dates: of all rows, and of each class or with the mean target.

    Parameters
    ----------
    rising : ndarray of shape (n_filled,)
        All values, in rising order.
    sampled : ndarray of shape (n_sampled,)
        The values for the charts, NaN where missing.
    target : Target of n_sampled rows, optional
    shown : callable
        Turns a value into text.
    """
    shares = {"min": 0, "5%": 0.05, "25%": 0.25, "median": 0.5, "75%": 0.75, "95%": 0.95, "max": 1}
    facts = {name: shown(figures.quantile(rising, share)) for name, share in shares.items()}
    if shown is number:
        facts |= {"mean": number(figures.mean(rising)), "std": number(figures.deviation(rising))}
    runs, whole = figures.runs(rising), rising.dtype.kind == "i"
    axis = figures.axis(rising)
    present = ~np.isnan(sampled)
    x = sampled[present]
    bars = axis.bars(x)

    def chart(label: str, colour: str, chosen: Any, median: Any) -> Description:
        shape = figures.steps(np.bincount(bars[chosen], minlength=len(axis.edges) - 1))
        return {"label": label, "colour": colour, "path": shape, "median": shown(median), "at": axis.at(median)}

    charts, trend = [chart("all rows", "all", slice(None), figures.quantile(rising, 0.5))], None
    if target and target.classes:
        y = target.y[present]
        for code, label in enumerate(target.classes[:CLASSES]):
            if (y == code).any():
                charts.append(chart(label, f"k{code}", y == code, figures.quantile(np.sort(x[y == code]), 0.5)))
    elif target:
        trend = figures.trend(x, target.y[present], axis)
    return {
        "facts": facts,
        "distinct": len(runs),
        "top": int(np.diff(runs, append=len(rising)).max()) / len(rising),
        # row numbers written by a program: distinct integers with few gaps
        "counts_rows": whole and len(runs) == len(rising) > max((int(rising[-1]) - int(rising[0])) / 2, 20),
        "shape": charts[0]["path"],
        "charts": charts,
        "trend": trend,
        "axis": [sign * cut + shown(end) for sign, cut, end in zip("≤≥", axis.cut, axis.ends, strict=True)],
        "logarithmic": axis.logarithmic,
        "cut": any(axis.cut),
    }


def of_rows(target: Target, rows: Array) -> Description:
    """The target of some rows: the share of each class, or the mean and its position among all."""
    if not target.classes:
        mean = figures.mean(target.y[rows])
        return {"at": figures.along(mean, *target.middle), "says": number(mean)}
    counts = np.bincount(target.y[rows], minlength=len(target.classes))
    shares = (counts / counts.sum()).tolist()
    named = int(counts.argmax()) if target.positive is None else target.positive
    parts = [round(100 * share, 1) for share in (*shares[:CLASSES], sum(shares[CLASSES:]))]
    return {"parts": parts, "says": f"{percent(shares[named])} {target.classes[named]}"}


def frequent_values(values: pa.ChunkedArray, sampled: pa.ChunkedArray, target: Target) -> Description:
    """The most frequent values with the target of their rows; one entry each for other values and for missing ones."""
    filled = len(values) - values.null_count
    frequent, distinct = figures.most_frequent(values, VALUES)
    known, code = figures.codes(sampled)
    place = {value: number for number, (value, _) in enumerate(frequent)}
    # rank of a frequent value; other values share the next number, missing ones the last
    row = np.array([*(place.get(value, VALUES) for value in known), VALUES + 1])[code]
    counted = [(number, text(value), False, count) for number, (value, count) in enumerate(frequent)]
    if distinct > VALUES:
        rest = filled - sum(count for _, count in frequent)
        counted.append((VALUES, f"{distinct - VALUES:,} others", True, rest))
    if values.null_count:
        counted.append((VALUES + 1, "missing", True, values.null_count))
    shown: list[Description] = []
    for at, label, is_rest, count in counted:
        outcome = of_rows(target, row == at) if (row == at).any() else {"says": "not in the sample"}
        shown.append({"label": label, "rest": is_rest, "share": count / len(values), **outcome})
    shape = figures.steps(np.array([count for *_, count in counted]))
    return {"distinct": distinct, "top": frequent[0][1] / filled, "shape": shape, "values": shown}


def informative_words(sampled: pa.ChunkedArray, target: Target) -> Description:
    """The words with the strongest relation to the target among the 100 most frequent; the first gives the relation."""
    step = math.ceil(len(sampled) / TEXT_ROWS)
    target = target._replace(y=target.y[::step])
    texts = pc.utf8_slice_codeunits(sampled.combine_chunks()[::step], 0, 2000).to_pylist()
    rows: defaultdict[str, list[int]] = defaultdict(list)
    for row, content in enumerate(texts):
        for word in set(re.findall(r"[^\W_]+(?:['’-][^\W_]+)*", (content or "").casefold())):
            rows[word].append(row)
    words = []
    several = (word for word in rows if len(rows[word]) >= 4)
    for word in sorted(several, key=lambda word: (-len(rows[word]), word))[:100]:
        group = np.zeros(len(texts), int)
        group[rows[word]] = 1
        words.append((figures.explained(group, target) or 0.0, word))
    words = sorted(words, key=lambda pair: -pair[0])[:VALUES]
    shown = [
        {"label": text(word), "rest": False, "share": len(rows[word]) / len(texts)}
        | of_rows(target, np.array(rows[word]))
        for _, word in words
    ]
    relation = words[0][0] if words else None
    return {"values": shown, "relation": relation, "decides": relation}


def correlate(features: list[Description], sample: pa.Table) -> Description | None:
    """Rank correlations between numeric features: the strongest pairs, and a heatmap of the top columns."""
    numeric = [column for column in features if column["kind"] == "numeric" and column["distinct"] > 1][:CORRELATED]
    if len(numeric) < 2:
        return None
    step = math.ceil(sample.num_rows / PAIR_ROWS)
    r = figures.rank_correlations(
        np.column_stack([figures.floats(sample[column["name"]])[::step] for column in numeric])
    )
    first, second = np.triu_indices(len(numeric), 1)
    strength = np.abs(r[first, second])
    strongest = np.argsort(-strength, kind="stable")[:PAIRS]
    drawn = sorted(range(len(numeric))[:HEATMAP], key=lambda index: numeric[index]["number"])
    return {
        "columns": len(numeric),
        "rows": math.ceil(sample.num_rows / step),
        "pairs": [
            (numeric[i]["name"], numeric[j]["name"], float(r[i, j]))
            for i, j in zip(first[strongest], second[strongest], strict=True)
        ],
        "same": int((strength >= SAME).sum()),
        "names": [numeric[index]["name"] for index in drawn],
        "matrix": (np.round(r[np.ix_(drawn, drawn)], 2) + 0.0).tolist(),
    }


def notes(page: Description) -> list[Description]:
    """Findings to check before training, warnings first."""
    there = [column for column in page["features"] if column["filled"]]
    classes = page["target"].get("counts", [])
    found: list[Description] = []

    def note(kind: str, title: str, says: str, columns: list[Description] | None = None) -> None:
        """Add a note, unless it is about columns and there are none."""
        if columns is None or columns:
            found.append({"kind": kind, "title": title, "says": says, "columns": columns or []})

    note(
        "warning",
        "Possible target leakage",
        f"Each column explains at least {percent(LEAKAGE)} of the target on its own. If it is not known before the "
        "target, add it to data.drop.",
        [column for column in there if (column["decides"] or 0) >= LEAKAGE],
    )
    if page["target"]["distinct"] == 1:
        note(
            "warning", "The target does not vary", "It is the same in every training row, so there is nothing to learn."
        )
    rare = [f"{label} ({count})" for label, count in classes if count < 10]
    if rare:
        note(
            "warning", "Rare classes", f"Fewer than 10 training rows: {', '.join(rare[:10])}{', …' * (len(rare) > 10)}"
        )
    note(
        "warning",
        "Empty columns",
        "Missing in every training row. Add them to data.drop.",
        [column for column in page["features"] if not column["filled"]],
    )
    note(
        "warning",
        "Identifies rows",
        "The value is unique in nearly every row, so a model learns nothing general from it. Add the column to "
        "data.key or data.drop, or to data.types if it is text.",
        [
            column
            for column in there
            if column.get("counts_rows")
            or (column["kind"] == "categorical" and column["distinct"] > max(0.9 * column["filled"], 20))
        ],
    )
    if classes and page["target"]["distinct"] > 1 and classes[0][1] >= 0.9 * page["rows"]:
        share = percent(classes[0][1] / page["rows"])
        note("note", "Unbalanced classes", f"A model that always predicts {classes[0][0]} has an accuracy of {share}.")
    note(
        "note",
        "Constant",
        "All rows have the same value, so there is nothing to learn.",
        [c for c in there if c["top"] == 1],
    )
    note(
        "note",
        "Nearly constant",
        f"One value in at least {percent(CONSTANT)} of the rows.",
        [column for column in there if CONSTANT <= column["top"] < 1],
    )
    note(
        "note",
        "Mostly missing",
        f"Missing in more than {percent(MISSING)} of the rows.",
        [column for column in there if column["missing"] > MISSING],
    )
    if page["correlations"] and page["correlations"]["same"]:
        same = page["correlations"]["same"]
        note(
            "note",
            "Nearly identical columns",
            f"{counted(same, 'pair of columns has', 'pairs of columns have')} a rank correlation of at least {SAME}. "
            "See the correlations below.",
        )
    if len(page["features"]) > page["rows"]:
        note("note", "More features than rows", "Some features will appear related to the target by chance.")
    return found


if __name__ == "__main__":
    run("profile", main)
