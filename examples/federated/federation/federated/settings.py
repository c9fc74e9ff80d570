"""The settings of a federation, where Flower does not hand them over: those of `pyproject.toml`."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

HERE = Path(__file__).parents[1]


def defaults() -> dict[str, Any]:
    """`tool.flwr.app.config`."""
    text = (HERE / "pyproject.toml").read_text(encoding="utf-8")
    return dict(tomllib.loads(text)["tool"]["flwr"]["app"]["config"])


def hospitals() -> list[str]:
    """Tables of the other hospitals, which only the example has in one place."""
    return sorted(map(str, HERE.glob("hospitals/*.csv")))
