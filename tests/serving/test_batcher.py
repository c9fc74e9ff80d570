"""Requests that arrive together share one call of the model, and none of them notices."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

from mlops.inference.computed import FeatureError
from mlops.inference.contract import Contract, Field
from mlops.inference.runtime import Answer
from mlops.serving import rows
from mlops.serving.batcher import MOST_ROWS, Batcher

CONTRACT = Contract(
    task="regression",
    target="y",
    probabilities=False,
    runtime="onnx",
    fields=[Field(name="x", kind="numeric", nullable=False), Field(name="city", kind="text", nullable=True)],
)


class Doubling:
    """A model that doubles, has no feature of 13 and overflows at 99."""

    def __init__(self) -> None:
        self.calls: list[int] = []
        self.counted = 0

    def __call__(self, columns: dict[str, Any]) -> Answer:
        self.calls.append(len(columns["x"]))
        assert len(columns["city"]) == len(columns["x"])
        unlucky = np.flatnonzero(columns["x"] == 13)
        if len(unlucky):
            raise FeatureError({int(row): [("luck", "is missing")] for row in unlucky})
        return Answer(np.where(columns["x"] == 99, np.inf, 2 * columns["x"]), None)

    def count(self, answer: Answer) -> None:
        self.counted += len(answer.predicted)


def asked(*requests: list[float]) -> tuple[Doubling, list[Any]]:
    """Answers of requests that arrive together, or their errors."""
    model = Doubling()

    def columns(numbers: Any, others: dict[str, Any]) -> dict[str, Any]:
        return {"x": numbers[:, 0], **others}

    async def run() -> list[Any]:
        batcher = Batcher(model, columns, CONTRACT, model.count)

        async def ask(values: list[float]) -> Any:
            return await batcher(np.array([values]).T, {"city": np.array([None] * len(values), dtype=object)})

        return await asyncio.gather(*map(ask, requests), return_exceptions=True)

    answers = asyncio.run(run())
    return model, [each.predicted.tolist() if isinstance(each, Answer) else each for each in answers]


def test_one_request_is_one_call() -> None:
    model, answers = asked([1.0, 2.0])
    assert answers == [[2.0, 4.0]]
    assert (model.calls, model.counted) == ([2], 2)


def test_requests_that_arrive_together_share_a_call_and_get_their_own_rows() -> None:
    model, answers = asked([1.0], [2.0, 3.0], [4.0])
    assert answers == [[2.0], [4.0, 6.0], [8.0]]
    assert (model.calls, model.counted) == ([4], 4)


@pytest.mark.parametrize(("bad", "problem"), [(13.0, "is missing"), (99.0, "too large")])
def test_a_request_that_cannot_be_predicted_costs_no_other_its_answer(bad: float, problem: str) -> None:
    model, answers = asked([1.0], [2.0, bad], [3.0])
    assert answers[0] == [2.0]
    assert answers[2] == [6.0]
    assert isinstance(answers[1], rows.InvalidRequestError)
    (found,) = answers[1].detail
    assert found["row"] == 1, "counted within its own request"
    assert problem in found["problem"]
    assert model.counted == 2, "what was not predicted is not counted"


def test_a_large_request_is_called_alone() -> None:
    model, _ = asked([1.0], [1.0] * MOST_ROWS, [1.0], [1.0])
    assert model.calls == [1, MOST_ROWS, 2]
