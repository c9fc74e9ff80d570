"""The coordinator's side: it asks the holders, lets a strategy of Flower combine their answers, and writes the result.

The result is a small JSON file: mean and scale of each column, coefficients, and what happened in each round.
"""

from __future__ import annotations

import hashlib
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MessageType, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg, FedTrimmedAvg, Strategy

from federated import privacy, secagg, table
from federated.intake import CheckedGrid, TooFewAnswersError
from federated.model import moments, standardisation

app = ServerApp()
# errors whose text is meant for people
PROBLEMS = (TooFewAnswersError, table.TableError, ValueError)
STRATEGIES, PROTECTIONS = ("mean", "trimmed"), ("none", "dp", "secagg")
MOMENTS = ("present", "sum", "square")
DIGITS = 9  # the last digits depend on the processor


@app.main()
def main(grid: Grid, context: Context) -> None:
    """One run, from the first question to the file."""
    try:
        write(Path(str(context.run_config["result"])), federate(grid, context.run_config))
    except PROBLEMS as error:
        sys.exit(f"error: {error}")


def federate(grid: Grid, config: Any) -> dict[str, Any]:
    """The result of all rounds.

    Parameters
    ----------
    config : mapping
        Keys and defaults are in `pyproject.toml`, `tool.flwr.app.config`.

    Raises
    ------
    TooFewAnswersError, TableError, ValueError
        The text says what is wrong, and nothing is written.
    """
    target, positive, seconds = str(config["target"]), str(config["positive"]), float(config["seconds"])
    protection = str(config["protection"])
    # the noise is measured for all of them
    quorum = int(config["hospitals"] if protection == "dp" else config["quorum"])
    columns = table.columns(str(config["own-table"]), target)
    asked = {"columns": columns, "target": target, "positive": positive}
    strategy = make_strategy(config, quorum)
    wait(grid, int(config["hospitals"]), seconds)
    checked = CheckedGrid(grid, {name: (len(columns),) for name in MOMENTS}, quorum)
    if protection == "none":
        found, rows = ask_moments(checked, strategy, asked, seconds)
    else:  # so that nothing but protected updates leaves a hospital
        checked.number = 0
        own, _ = table.arrays(str(config["own-table"]), columns, target, positive)
        found, rows = moments(own), len(own) * int(config["hospitals"])
    mean, scale = standardisation(found)
    checked.shape = {"weights": (len(columns) + 1,)}
    if protection == "dp":
        strategy = privacy.protected(strategy, config)
    settings = {
        **asked,
        "mean": mean.tolist(),
        "scale": scale.tolist(),
        "steps": int(config["steps"]),
        "rate": float(config["rate"]),
        "penalty": 1 / (float(config["C"]) * rows),
        "equal": protection == "dp",
    }
    start = np.zeros(len(columns) + 1)
    if protection == "secagg":
        checked.shape = None  # the answers are masked
        weights = secagg.rounds(checked, config, settings, start)
    else:
        initial, train = ArrayRecord({"weights": Array(start)}), ConfigRecord(settings)
        done = strategy.start(checked, initial, int(config["rounds"]), seconds, train_config=train)
        weights = done.arrays["weights"].numpy()
    if not np.isfinite(weights).all():
        raise ValueError(f"the weights have grown beyond all numbers; try a rate below {config['rate']:g}")
    *coefficients, intercept = rounded(weights)
    return {
        "columns": columns,
        "positive": positive,
        "mean": rounded(mean),
        "scale": rounded(scale),
        "coefficients": coefficients,
        "intercept": intercept,
        "rows": rows,
        "strategy": str(config["strategy"]),
        "protection": {"method": protection, **privacy.spent(strategy)},
        "answers": dict(sorted(checked.answers.items())),
        "refused": checked.refused,
    }


def make_strategy(config: Any, quorum: int) -> Strategy:
    """The strategy of Flower that `strategy` names, if `protection` can be had with it."""
    asked, protection = config["strategy"], config["protection"]
    if asked not in STRATEGIES:
        raise ValueError(f"strategy must be {' or '.join(STRATEGIES)}, got {asked!r}")
    if protection not in PROTECTIONS:
        raise ValueError(f"protection must be {' or '.join(PROTECTIONS)}, got {protection!r}")
    if protection != "none" and asked != "mean":
        raise ValueError(f"protection {protection!r} is about a mean, so strategy must be mean, got {asked!r}")
    common = {"fraction_evaluate": 0.0, "min_train_nodes": quorum, "min_available_nodes": quorum}
    return FedAvg(**common) if asked == "mean" else FedTrimmedAvg(**common, beta=float(config["trim"]))


def wait(grid: Grid, hospitals: int, seconds: float) -> None:
    """Wait until all hospitals are connected, or the time is over."""
    end = time.monotonic() + seconds
    while len(list(grid.get_node_ids())) < hospitals and time.monotonic() < end:
        time.sleep(0.2)


def ask_moments(
    grid: CheckedGrid, strategy: Strategy, asked: dict[str, Any], seconds: float
) -> tuple[dict[str, np.ndarray], int]:
    """Moments of the columns over all holders' rows, combined by the strategy, and the number of rows."""
    content = RecordDict({"config": ConfigRecord(asked)})
    answers = grid.send_and_receive(
        [Message(content, node, MessageType.QUERY) for node in grid.get_node_ids()], timeout=seconds
    )
    rows = sum(int(answer.content["metrics"]["num-examples"]) for answer in answers)
    combined, _ = strategy.aggregate_train(0, answers)
    return {name: value.numpy() for name, value in combined.items()}, rows


def rounded(values: np.ndarray) -> list[float]:
    return [float(f"{value:.{DIGITS}g}") for value in values]


def write(path: Path, result: dict[str, Any]) -> None:
    """Write the result, whole or not at all, and print what `params.yaml` needs."""
    text = json.dumps(result, indent=1) + "\n"
    write_text(path, text)
    print(f"{path}: model.params.sha256 is {hashlib.sha256(text.encode()).hexdigest()}", flush=True)


def write_text(path: Path, text: str) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
