"""What federation and protection cost: one table of models on the same test rows with intervals, and one of noise.

`python -m federated.compare` may read all tables, because the example's rows are public; pooled training exists only
here. Local and pooled models are federations of one holder, so that all models differ in nothing but their rows.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

os.environ.update(FLWR_TELEMETRY_ENABLED="0", OPENBLAS_NUM_THREADS="1")

import flwr  # noqa: F401  sets its logger, which is quiet here
import numpy as np
import pyarrow as pa
import pyarrow.csv

from federated import table
from federated.inprocess import InProcessGrid
from federated.model import Array, standardised
from federated.server import federate, write_text
from federated.settings import HERE, defaults, hospitals

RESAMPLES = 2000
NOISE, DRAWS = (0.0, 0.5, 1.0, 2.0, 4.0), 20


def variants(tables: list[str], config: dict[str, Any], folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Each model with its name, the federation first."""

    def run(paths: list[str], **changes: Any) -> dict[str, Any]:
        asked = {**config, "hospitals": len(paths), "quorum": min(len(paths), int(config["quorum"])), **changes}
        return federate(InProcessGrid(paths), {**asked, "own-table": paths[0]})

    yield "federated", run(tables)
    pooled = folder / "pooled.csv"
    names = table.read(tables[0]).column_names
    pyarrow.csv.write_csv(pa.concat_tables([table.read(each).select(names) for each in tables]), pooled)
    yield "pooled: all rows in one place", run([str(pooled)])
    for path in tables:
        name = "the coordinator" if path == tables[0] else Path(path).stem
        yield f"local: {name} alone", run([path])
    yield "federated, trimmed mean", run(tables, strategy="trimmed")
    yield "federated, SecAgg+", run(tables, protection="secagg")


def noisy(tables: list[str], config: dict[str, Any], X: Array, y: Array) -> str:
    """A Markdown table of differential privacy: the scores over several draws of the noise."""
    lines = ["| noise multiplier | ε at δ = 0.00001 | ROC AUC | accuracy | log loss |", "|---|---|---|---|---|"]
    for noise in NOISE:
        found = []
        for seed in range(DRAWS if noise else 1):
            changes = {"protection": "dp", "hospitals": len(tables), "noise": noise, "seed": seed}
            result = federate(InProcessGrid(tables), {**config, **changes})
            found.append(scores(y, predict(result, X)))
        low, middle, high = np.quantile(found, [0.05, 0.5, 0.95], axis=0)
        cells = [f"{middle[n]:.3f}" + (f" ({low[n]:.3f} to {high[n]:.3f})" if noise else "") for n in range(3)]
        epsilon = result["protection"].get("epsilon")
        lines.append(f"| {noise:g} | {'none' if epsilon is None else f'{epsilon:.3g}'} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def predict(result: dict[str, Any], X: Array) -> Array:
    """Probability of the positive class."""
    log_odds = standardised(X, np.array(result["mean"]), np.array(result["scale"])) @ np.array(result["coefficients"])
    return 1 / (1 + np.exp(-(log_odds + result["intercept"])))


def scores(y: Array, p: Array) -> Array:
    """Area under the ROC curve, accuracy and log loss."""
    order = np.argsort(p, kind="stable")
    _, place, count = np.unique(p[order], return_inverse=True, return_counts=True)
    ranks = np.empty(len(p))
    ranks[order] = (np.cumsum(count) - (count - 1) / 2)[place]
    positives = y.sum()
    auc = (ranks[y == 1].sum() - positives * (positives + 1) / 2) / (positives * (len(y) - positives))
    likelihood = np.clip(np.where(y == 1, p, 1 - p), 1e-15, None)
    return np.array([auc, ((p > 0.5) == y).mean(), -np.log(likelihood).mean()])


def resamples(y: Array) -> Iterator[Array]:
    """Rows of each bootstrap sample, the same for every model, so that differences are paired."""
    rng = np.random.default_rng(0)
    drawn = 0
    while drawn < RESAMPLES:
        rows = rng.integers(0, len(y), len(y))
        if 0 < y[rows].sum() < len(y):
            drawn += 1
            yield rows


def compared(models: list[tuple[str, dict[str, Any]]], X: Array, y: Array) -> str:
    """A Markdown table: each model's scores with 95 % intervals, and the paired difference of the log loss."""
    samples = list(resamples(y))
    lines = [
        "| model | rows | ROC AUC | accuracy | log loss | log loss minus the federated model's |",
        "|---|---|---|---|---|---|",
    ]
    reference = None
    for name, result in models:
        p = predict(result, X)
        point, drawn = scores(y, p), np.array([scores(y[rows], p[rows]) for rows in samples])
        reference = (point, drawn) if reference is None else reference
        cells = [interval(value, drawn[:, number]) for number, value in enumerate(point)]
        difference = interval(point[2] - reference[0][2], drawn[:, 2] - reference[1][:, 2], sign="+")
        rows = "" if result["protection"]["method"] != "none" else f"{result['rows']:,}"
        lines.append(f"| {name} | {rows} | {' | '.join(cells)} | {'' if name == 'federated' else difference} |")
    return "\n".join(lines) + "\n"


def interval(value: float, drawn: Array, sign: str = "") -> str:
    low, high = np.quantile(drawn, [0.025, 0.975])
    return f"{value:{sign}.3f} [{low:{sign}.3f}, {high:{sign}.3f}]"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--test", default="data/prepared/test.parquet", help="the rows that no model has seen")
    parser.add_argument("--write", default=str(HERE / "comparison.md"))
    asked = parser.parse_args()
    logging.getLogger("flwr").setLevel(logging.ERROR)
    config = defaults()
    tables = [config["own-table"], *hospitals()]
    columns = table.columns(config["own-table"], config["target"])
    X, y = table.arrays(asked.test, columns, config["target"], config["positive"])
    with tempfile.TemporaryDirectory() as folder:
        text = compared(list(variants(tables, config, Path(folder))), X, y)
    text += "\n" + noisy(tables, config, X, y)
    write_text(Path(asked.write), text)
    print(text, end="")


if __name__ == "__main__":
    main()
