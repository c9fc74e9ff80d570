"""Good and bad days of a federation, in one process of Flower's environment; prints what happened as JSON.

`python days.py FOLDER` takes the tables of the example, the coordinator's as train.parquet and test.parquet in FOLDER.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.update(FLWR_TELEMETRY_ENABLED="0", OPENBLAS_NUM_THREADS="1")

import numpy as np
from federated import client, table
from federated.compare import compared
from federated.inprocess import InProcessGrid
from federated.server import PROBLEMS, federate
from federated.settings import defaults, hospitals
from flwr.app import Array, Context, Message
from flwr.clientapp import ClientApp
from flwr.clientapp.typing import ClientAppCallable

FOLDER = Path(sys.argv[1])
TABLES = [str(FOLDER / "train.parquet"), *hospitals()]
CONFIG = {**defaults(), "own-table": TABLES[0]}
Spoil = Callable[[Message, str], Message]


def run(spoil: Spoil | None = None, tables: list[str] | None = None, **changes: Any) -> dict[str, Any]:
    """The result, or the error, of a federation in which `spoil` changes answers, given the holder's name."""

    def mod(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
        answer = call_next(message, context)
        return spoil(answer, str(context.node_config["name"])) if spoil else answer

    app = ClientApp(mods=[mod, client.secagg.masked])
    app.train()(client.train)
    app.query()(client.query)
    paths = tables or TABLES
    config = {**CONFIG, "hospitals": len(paths), "own-table": paths[0], **changes}
    try:
        return federate(InProcessGrid(paths, app), config)
    except PROBLEMS as error:
        return {"error": str(error)}


def of_d(change: Callable[[Message], None]) -> Spoil:
    """Change the answers of hospital D about weights."""

    def spoil(answer: Message, name: str) -> Message:
        if name == "hospital-d" and "weights" in answer.content["arrays"]:
            change(answer)
        return answer

    return spoil


def replaced(by: Callable[[np.ndarray], np.ndarray]) -> Spoil:
    def change(answer: Message) -> None:
        answer.content["arrays"]["weights"] = Array(by(answer.content["arrays"]["weights"].numpy()))

    return of_d(change)


def drop_out(*names: str, after: int) -> Spoil:
    answered = dict.fromkeys(names, 0)

    def spoil(answer: Message, name: str) -> Message:
        if name in answered:
            answered[name] += 1
            if answered[name] > after:
                raise RuntimeError("connection lost")
        return answer

    return spoil


def what_leaves() -> dict[str, Any]:
    """All that the holders send, beside the rows that they have."""
    sent: list[tuple[str, dict[str, np.ndarray]]] = []
    others: set[str] = set()

    def note(answer: Message, name: str) -> Message:
        sent.append((name, {key: value.numpy() for key, value in answer.content["arrays"].items()}))
        others.update(f"{record}.{key}" for record in ("metrics", "holder") for key in answer.content[record])
        others.update({*answer.content} - {"arrays", "metrics", "holder"})
        return answer

    run(note)
    nearest = np.inf
    for path in TABLES:
        columns = table.columns(path, CONFIG["target"])
        X, _ = table.arrays(path, columns, CONFIG["target"], CONFIG["positive"])
        for _, arrays in sent:
            for value in arrays.values():
                nearest = min(nearest, float(np.abs(X - value[: X.shape[1]]).max(axis=1).min()))
    return {
        "shapes": sorted({(key, value.shape) for _, arrays in sent for key, value in arrays.items()}),
        "others": sorted(others),
        "nearest": nearest,
    }


def masked_arrays() -> int:
    """Numbers in the arrays that reach the coordinator under SecAgg+."""
    seen = 0

    def count(answer: Message, name: str) -> Message:
        nonlocal seen
        seen += sum(array.numpy().size for record in answer.content.array_records.values() for array in record.values())
        return answer

    assert "error" not in run(count, protection="secagg", rounds=2)
    return seen


def without_a_column() -> dict[str, Any]:
    path = FOLDER / "hospital-d.csv"
    lines = Path(TABLES[3]).read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(line.partition(",")[2] for line in lines) + "\n", encoding="utf-8")
    return run(tables=[*TABLES[:3], str(path)])


def main() -> None:
    logging.getLogger("flwr").setLevel(logging.CRITICAL)
    equal = TABLES[1:]  # of 114 rows each, so that the mean with and without weights is the same
    dp = {"protection": "dp"}
    days: dict[str, Any] = {
        "plain": run(),
        "drops out at once": run(drop_out("hospital-d", after=1), rounds=2),
        "what leaves": what_leaves(),
        "without d": run(tables=TABLES[:3]),
        "nan": run(replaced(lambda weights: weights * np.nan)),
        "short": run(replaced(lambda weights: weights[:-1])),
        "liar": run(replaced(lambda weights: -1000 * weights)),
        "trimmed": run(strategy="trimmed"),
        "liar, trimmed": run(replaced(lambda weights: -1000 * weights), strategy="trimmed"),
        "liar, clipped": run(replaced(lambda weights: -1000 * weights), **dp, noise=0.0),
        "drops out": run(drop_out("hospital-d", after=4)),
        "two drop out": run(drop_out("hospital-c", "hospital-d", after=4)),
        "one name twice": run(of_d(lambda answer: answer.content["holder"].update(name="hospital-b"))),
        "no such column": without_a_column(),
        "unknown strategy": run(strategy="best"),
        "unknown protection": run(protection="dq"),
        "trimmed noise": run(**dp, strategy="trimmed"),
        "noise, drops out": run(drop_out("hospital-d", after=4), **dp),
        "noise": [run(**dp, seed=seed)["coefficients"] for seed in (0, 0, -1, -1)],
        "epsilon": run(**dp, seed=0, noise=2.0)["protection"],
        "clipping alone": run(tables=equal, protection="dp", noise=0.0, clip=1e6),
        "secagg": run(tables=equal, protection="secagg", quorum=2),
        "secagg, two rounds": run(protection="secagg", rounds=2),
        "secagg, masked": masked_arrays(),
        "secagg, drops out": run(drop_out("hospital-c", "hospital-d", after=5), protection="secagg"),
    }
    X, y = table.arrays(str(FOLDER / "test.parquet"), days["plain"]["columns"], CONFIG["target"], CONFIG["positive"])
    days["table"] = compared([("federated", days["plain"])], X, y)
    (FOLDER / "days.json").write_text(json.dumps(days), encoding="utf-8")


if __name__ == "__main__":
    main()
