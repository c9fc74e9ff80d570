"""One call of the model for all requests that have arrived together.

A call takes about as long for one row as for twenty. Nothing waits: a request that is alone is predicted at once.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from mlops.inference.computed import FeatureError
from mlops.inference.contract import Contract
from mlops.inference.runtime import Answer, Array, Model
from mlops.serving import rows

MOST_ROWS = 256  # in one call, so that a small request does not wait for large ones


class Request(NamedTuple):
    """Columns of one request, and where its answer goes."""

    numbers: Array
    others: dict[str, Array]
    answer: asyncio.Future[Answer]


class Batcher:
    """Predicts requests in batches.

    Parameters
    ----------
    model : callable
    columns : callable
        From numbers and other columns to the columns that the model takes.
    contract : Contract
    done : callable
        Gets every answer of the model.
    """

    def __init__(
        self,
        model: Model,
        columns: Callable[[Array, dict[str, Array]], dict[str, Any]],
        contract: Contract,
        done: Callable[[Answer], None],
    ) -> None:
        self.model, self.columns, self.contract, self.done = model, columns, contract, done
        self.waiting: list[Request] = []

    def __call__(self, numbers: Array, others: dict[str, Array]) -> asyncio.Future[Answer]:
        """The answer to a request, once this turn of the event loop has brought all that has arrived.

        Parameters
        ----------
        numbers : ndarray of shape (n_samples, n_numbers)
        others : dict of str to ndarray of shape (n_samples,)

        Raises
        ------
        InvalidRequestError
            Where a feature or the prediction of a row cannot be computed.
        """
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[Answer] = loop.create_future()
        if not self.waiting:
            loop.call_soon(self.run)
        self.waiting.append(Request(numbers, others, answer))
        return answer

    def run(self) -> None:
        """Answer all that are waiting."""
        waiting, self.waiting = self.waiting, []
        while waiting:
            count, size = 1, len(waiting[0].numbers)
            while count < len(waiting) and size + len(waiting[count].numbers) <= MOST_ROWS:
                size += len(waiting[count].numbers)
                count += 1
            self.answer(waiting[:count])
            waiting = waiting[count:]

    def answer(self, batch: list[Request]) -> None:
        """Answer some requests with one call; each by itself if that fails."""
        try:
            found = self.predict(batch)
        except Exception as error:
            if len(batch) == 1:
                settle(batch[0].answer, error)
            else:
                for request in batch:
                    self.answer([request])
            return
        start = 0
        for request in batch:
            rows_ = slice(start, start := start + len(request.numbers))
            probabilities = None if found.probabilities is None else found.probabilities[rows_]
            computed = found.computed and {name: values[rows_] for name, values in found.computed.items()}
            settle(request.answer, Answer(found.predicted[rows_], probabilities, computed))

    def predict(self, batch: list[Request]) -> Answer:
        first = batch[0]
        numbers, others = first.numbers, first.others
        if len(batch) > 1:
            numbers = np.concatenate([request.numbers for request in batch])
            others = {name: np.concatenate([request.others[name] for request in batch]) for name in others}
        try:
            found = self.model(self.columns(numbers, others))
        except FeatureError as error:
            raise rows.uncomputable(error) from None
        rows.check_finite(found, self.contract)
        self.done(found)
        return found


def settle(answer: asyncio.Future[Answer], value: Answer | Exception) -> None:
    """Give a request its answer, unless it is gone."""
    if answer.done():
        return
    if isinstance(value, Exception):
        answer.set_exception(value)
    else:
        answer.set_result(value)
