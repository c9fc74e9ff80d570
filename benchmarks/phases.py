"""`python -m mlops.review` with a clock on its parts, for `feedback`: writes CPU and wall seconds as `phases.json`."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from mlops.review import __main__ as review

SPENT: dict[str, tuple[float, float]] = {}


def clock(part: str, place: Any, name: str, *, children_only: bool = False) -> None:
    """Add up what a function takes."""
    call: Callable[..., Any] = getattr(place, name)

    def timed(*arguments: Any, **named: Any) -> Any:
        cpu, wall = seconds(children_only), time.perf_counter()
        try:
            return call(*arguments, **named)
        finally:
            before = SPENT.get(part, (0.0, 0.0))
            SPENT[part] = before[0] + seconds(children_only) - cpu, before[1] + time.perf_counter() - wall

    setattr(place, name, timed)


def seconds(children_only: bool) -> float:
    """CPU seconds of the processes that this one has waited for, and its own."""
    times = os.times()
    return times.children_user + times.children_system + (0 if children_only else times.user + times.system)


clock("`dvc repro`", review, "reproduce", children_only=True)
clock("main's model", review.main_branch, "find")
clock("comparison", review.evidence, "gather")
clock("gate", review.gate, "judge")
clock("tests of behaviour", review.behaviour, "run")
clock("report, comment, preview", review, "build_report")
clock("report, comment, preview", review, "publish")
sys.argv = ["review", "--base", sys.argv[1]]
review.main()
Path("phases.json").write_text(json.dumps(SPENT), encoding="utf-8")
