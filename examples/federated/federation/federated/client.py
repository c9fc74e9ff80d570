"""A holder's side: it answers two questions about its own table, and no answer contains a row.

`query` asks for the moments of the columns, `train` for weights after some steps of gradient descent.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from federated import secagg, table
from federated.model import descend, moments, standardised

app = ClientApp(mods=[secagg.masked])


@app.query()
def query(message: Message, context: Context) -> Message:
    """Moments of the columns that the coordinator names."""
    config = message.content["config"]
    X, y = _rows(config, context)
    return _reply(message, context, moments(X), len(y))


@app.train()
def train(message: Message, context: Context) -> Message:
    """Weights after `steps` of gradient descent from those that the coordinator sends."""
    secure = secagg.read(message)
    weights, config = secure or (message.content["arrays"]["weights"].numpy(), message.content["config"])
    X, y = _rows(config, context)
    X = standardised(X, np.array(config["mean"]), np.array(config["scale"]))
    settings = {"steps": int(config["steps"]), "rate": float(config["rate"]), "penalty": float(config["penalty"])}
    weights = descend(weights, X, y, **settings)
    if secure:
        return secagg.answer(message, weights, len(y))
    # with differential privacy, all holders weigh the same and the number of rows stays here too
    return _reply(message, context, {"weights": weights}, 1 if config["equal"] else len(y))


def holder(context: Context) -> tuple[str, str]:
    """Name and table of this holder: of a SuperNode in its configuration, in a simulation by its number."""
    node = context.node_config
    if "table" in node:
        path = str(node["table"])
        return str(node.get("name", Path(path).stem)), path
    number = int(node["partition-id"])
    path = os.environ["FEDERATION_TABLES"].split(os.pathsep)[number]
    return name(number, path), path


def name(number: int, path: str) -> str:
    """Name of a holder in a simulation."""
    return Path(path).stem if number else "coordinator"


def _rows(config: Mapping[str, Any], context: Context) -> tuple[np.ndarray, np.ndarray]:
    path = holder(context)[1]
    return table.arrays(path, list(config["columns"]), str(config["target"]), str(config["positive"]))


def _reply(message: Message, context: Context, found: dict[str, np.ndarray], rows: int) -> Message:
    content = RecordDict(
        {
            "arrays": ArrayRecord({name: Array(value) for name, value in found.items()}),
            "metrics": MetricRecord({"num-examples": rows}),
            "holder": ConfigRecord({"name": holder(context)[0]}),
        }
    )
    return Message(content=content, reply_to=message)
