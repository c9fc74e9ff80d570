"""Secure aggregation by Flower's SecAgg+ (Bell et al. 2020): the coordinator sees the mean of the updates alone.

Flower offers it in the message form of its earlier versions only, which both sides translate here.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
from flwr.app import Context, Message, RecordDict
from flwr.client.mod import secaggplus_mod
from flwr.clientapp.typing import ClientAppCallable
from flwr.common import Code, FitRes, Parameters, Status, ndarrays_to_parameters, parameters_to_ndarrays
from flwr.common.secure_aggregation.secaggplus_constants import RECORD_KEY_CONFIGS
from flwr.compat.common import recorddict_compat
from flwr.server import LegacyContext, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.server.workflow import DefaultWorkflow, SecAggPlusWorkflow
from flwr.serverapp import Grid

from federated.intake import TooFewAnswersError
from federated.model import Array

# A larger hospital counts as one of so many rows; weights leave as whole steps of this range
MOST_ROWS, RANGE = 1000.0, 8.0


class _Counted(FedAvg):
    """Flower only logs that a round has failed, and goes on with the old weights."""

    done = 0

    def aggregate_fit(self, *arguments: Any) -> tuple[Parameters | None, dict[str, Any]]:
        self.done += 1
        return super().aggregate_fit(*arguments)


def rounds(grid: Grid, config: Any, settings: dict[str, Any], start: Array) -> Array:
    """The weights after all rounds.

    Raises
    ------
    TooFewAnswersError
        If fewer holders than the quorum stay until the end of a round.
    """
    hospitals, quorum, number = int(config["hospitals"]), int(config["quorum"]), int(config["rounds"])
    if not 2 <= quorum < hospitals:
        raise ValueError(f"secure aggregation needs a quorum from 2 to {hospitals - 1}, got {quorum}")
    strategy = _Counted(
        fraction_evaluate=0.0,
        min_fit_clients=hospitals,
        min_available_clients=hospitals,
        initial_parameters=ndarrays_to_parameters([start]),
        on_fit_config_fn=lambda _: {"settings": json.dumps(settings)},
    )
    context = LegacyContext(Context(0, 0, {}, RecordDict(), {}), ServerConfig(num_rounds=number), strategy)
    protocol = SecAggPlusWorkflow(
        hospitals, quorum, max_weight=MOST_ROWS, clipping_range=RANGE, timeout=float(config["seconds"])
    )
    DefaultWorkflow(fit_workflow=protocol)(grid, context)
    if strategy.done < number:
        raise TooFewAnswersError(f"secure aggregation finished {strategy.done} of {number} rounds: a holder is missing")
    (found,) = next(iter(context.state.array_records.values())).to_numpy_ndarrays()
    return np.asarray(found)


def masked(message: Message, context: Context, call_next: ClientAppCallable) -> Message:
    """The holder's part of the protocol, for a coordinator that uses it."""
    uses = RECORD_KEY_CONFIGS in message.content.config_records
    return secaggplus_mod(message, context, call_next) if uses else call_next(message, context)


def read(message: Message) -> tuple[Array, dict[str, Any]] | None:
    """Weights and settings of a message in the earlier form."""
    if "fitins.parameters" not in message.content.array_records:
        return None
    asked = recorddict_compat.recorddict_to_fitins(message.content, keep_input=True)
    return parameters_to_ndarrays(asked.parameters)[0], json.loads(str(asked.config["settings"]))


def answer(message: Message, weights: Array, rows: int) -> Message:
    """An answer in the earlier form."""
    found = FitRes(Status(Code.OK, ""), ndarrays_to_parameters([weights]), rows, {})
    return Message(recorddict_compat.fitres_to_recorddict(found, keep_input=False), reply_to=message)
