"""What the coordinator accepts of an answer, and in which order.

Flower's strategies add up what arrives: one NaN would spoil the model, and floating-point sums depend on the order of
arrival. So answers are checked here and sorted by the holder's name, which makes two runs equal bit for bit.
"""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable
from typing import Any

import numpy as np
from flwr.app import Message
from flwr.serverapp import Grid

PAUSE = 0.1
MOST_ROWS = 10_000_000
SHOWN = 200


class TooFewAnswersError(Exception):
    """Fewer usable answers than the quorum."""


class CheckedGrid(Grid):
    """Flower's connection to the holders, which passes on only usable answers, in the order of names.

    Parameters
    ----------
    grid : Grid
    shape : dict of str to tuple, or None
        Arrays that an answer has, with their shapes; None where they are encrypted.
    quorum : int
        Usable answers that a round needs.
    """

    def __init__(self, grid: Grid, shape: dict[str, tuple[int, ...]] | None, quorum: int) -> None:
        self.grid, self.shape, self.quorum = grid, shape, quorum
        self.silent: set[int] = set()
        self.number = -1  # of the round; the moments of the columns are asked for in round 0
        self.answers: Counter[str] = Counter()
        self.refused: list[str] = []

    def send_and_receive(self, messages: Iterable[Message], *, timeout: float | None = None) -> list[Message]:
        """Ask, wait until all have answered or the time is over, and return the usable answers.

        Raises
        ------
        TooFewAnswersError
            Says which answers were refused and why.
        """
        asked = list(messages)
        if not asked:
            return []
        sent = dict(zip(self.grid.push_messages(asked), (each.metadata.dst_node_id for each in asked), strict=True))
        waiting = set(sent)
        answers: list[Message] = []
        end = time.monotonic() + (math.inf if timeout is None else timeout)
        # Flower's own method looks every three seconds, which is longer than a round
        while waiting and time.monotonic() < end:
            arrived = list(self.grid.pull_messages(waiting))
            answers += arrived
            waiting -= {each.metadata.reply_to_message_id for each in arrived}
            if waiting:
                time.sleep(PAUSE)
        names = [holder(each) or f"holder {number}" for number, each in enumerate(answers, 1)]
        usable: dict[str, Message] = {}
        refused: list[str] = []
        for name, answer in zip(names, answers, strict=True):
            why = fault(answer, self.shape) or ("two holders have this name" if names.count(name) > 1 else None)
            if why:
                refused.append(f"{holder(answer) or 'a holder'}: {why}")
            else:
                usable[name] = answer
        # nobody waits for them again
        self.silent |= {sent[each] for each in waiting}
        refused += [f"a holder: no answer within {timeout:g} s" for _ in waiting]
        self.number += 1
        self.answers.update(list(usable))
        for line in sorted(refused):
            self.refused.append(f"round {self.number}: {line}")
            print(f"refused in {self.refused[-1]}", flush=True)
        if len(usable) < self.quorum:
            reasons = "; ".join(sorted(refused)) or "no other holder is connected"
            raise TooFewAnswersError(f"{len(usable)} usable answers, {self.quorum} are needed: {reasons}")
        return [usable[name] for name in sorted(usable)]

    @property
    def run(self) -> Any:
        return self.grid.run

    def set_run(self, run: Any) -> None:
        self.grid.set_run(run)

    def create_message(self, *arguments: Any, **options: Any) -> Message:
        return self.grid.create_message(*arguments, **options)

    def get_node_ids(self) -> list[int]:
        """The holders that are connected and have always answered.

        Raises
        ------
        TooFewAnswersError
            If they are fewer than the quorum; Flower would wait for ever.
        """
        found = [each for each in self.grid.get_node_ids() if each not in self.silent]
        if len(found) < self.quorum:
            raise TooFewAnswersError(f"{len(found)} holders are connected, {self.quorum} are needed")
        return found

    def push_messages(self, messages: Iterable[Message]) -> Iterable[str]:
        return self.grid.push_messages(messages)

    def pull_messages(self, message_ids: Iterable[str]) -> Iterable[Message]:
        return self.grid.pull_messages(message_ids)


def holder(answer: Message) -> str:
    """Name that an answer gives, for the record only: it is not authenticated here."""
    name = "" if answer.has_error() else answer.content.config_records.get("holder", {}).get("name", "")
    return "".join(letter for letter in str(name) if letter.isprintable())[:60]


def fault(answer: Message, shape: dict[str, tuple[int, ...]] | None) -> str | None:
    """Why an answer cannot be used, or None."""
    if answer.has_error():
        return " ".join(str(answer.error.reason).split())[:SHOWN]
    if shape is None:
        return None
    arrays = answer.content.array_records.get("arrays", {})
    if {*answer.content.array_records} != {"arrays"} or {*arrays} != {*shape}:
        return f"expected the arrays {', '.join(shape)}"
    for name, expected in shape.items():
        try:
            value = arrays[name].numpy()
        except ValueError:
            return f"{name} is not an array"
        if value.dtype != np.float64 or value.shape != expected:
            return f"{name} has shape {value.shape} and type {value.dtype}, expected {expected} and float64"
        if not np.isfinite(value).all():
            return f"{name} contains NaN or infinity"
    rows = answer.content.metric_records.get("metrics", {}).get("num-examples")
    if {*answer.content.metric_records} != {"metrics"} or not isinstance(rows, int) or not 1 <= rows <= MOST_ROWS:
        return "num-examples is not a number of rows"
    return None
