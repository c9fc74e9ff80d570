"""What the parts of a report are made of: strict models, counts, and short texts in one line."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StringConstraints

from mlops.core.letters import unseen
from mlops.core.markdown import one_line

MOST_LETTERS = 300


def _visible(text: str) -> str:
    if unseen(text):
        raise ValueError("holds a character that cannot be seen: a control, a direction mark, one of no width")
    return text


# one line without invisible characters; markup is escaped when the text is rendered
Text = Annotated[str, StringConstraints(max_length=MOST_LETTERS), AfterValidator(_visible)]
Count = Annotated[int, Field(ge=0, le=10**15)]


class Part(BaseModel):
    """A part of the report; unknown keys are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)


def shortened(text: Any) -> str:
    """Text as one line of limited length, as in the report."""
    return one_line(text, MOST_LETTERS)
