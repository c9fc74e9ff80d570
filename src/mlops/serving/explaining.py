"""Explanations of the predictions of a request, for `explain=true`.

What they take is loaded when a client first asks for one. They are computed in a thread of their own, one request after
the other, so that predictions do not wait for them.
"""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from mlops.inference import explained
from mlops.inference.contract import Contract
from mlops.inference.explained import Explain, Explained
from mlops.inference.runtime import Answer, Columns
from mlops.serving.rows import InvalidRequestError

MOST_ROWS = 1_000
# Steps of one request, a second or two: see `Trees.steps`
MOST_STEPS = 200_000_000


class Explaining:
    """Explains predictions.

    Parameters
    ----------
    contract : Contract
    """

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.names = [each.name for each in contract.inputs]

    @functools.cached_property
    def thread(self) -> ThreadPoolExecutor:
        return ThreadPoolExecutor(1, "explain")

    @functools.cached_property
    def explain(self) -> Explain:
        return explained.load(self.contract)

    async def check(self, n_rows: int) -> None:
        """Check that this many rows can be explained.

        Raises
        ------
        InvalidRequestError
            422 with the reason.
        """
        about = self.contract.explanation
        if about.method is None:
            raise InvalidRequestError(422, f"this model's predictions cannot be explained: {about.why}")
        await self.in_thread(lambda: self.explain)
        most = max(1, min(MOST_ROWS, MOST_STEPS // self.explain.steps))
        if n_rows > most:
            why = f"{n_rows:,} rows take too long to explain; at most {most:,} are explained at once"
            raise InvalidRequestError(422, why)

    async def __call__(self, columns: Columns, answer: Answer) -> Explained:
        """The explanation of each prediction.

        Raises
        ------
        InvalidRequestError
            422 if a value is too large to compute with.
        """
        found: Explained = await self.in_thread(lambda: self.explain(columns, answer))
        if not np.isfinite(found.score).all():
            raise InvalidRequestError(422, "a row has values too large for an explanation")
        return found

    async def in_thread(self, function: Callable[[], Any]) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self.thread, function)

    def as_json(self, found: Explained) -> list[dict[str, Any]]:
        """One object for each row."""
        rows = zip(found.of, found.base.tolist(), found.score.tolist(), found.contributions.tolist(), strict=True)
        return [
            {
                **({} if self.contract.classes is None else {"of": of}),
                "unit": self.contract.explanation.unit,
                "base": base,
                "contributions": dict(zip(self.names, contributions, strict=True)),
                "score": score,
            }
            for of, base, score, contributions in rows
        ]
