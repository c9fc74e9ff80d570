"""The recorded rows of production, replayed through main's model and through a change's: a part of the report."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, FiniteFloat

from mlops.core.part import Count, Part, Text

MOST_MOVES, MOST_SLICES, MOST_REASONS, MOST_NAMED = 30, 60, 20, 5


class Move(Part):
    """Rows with one decision of main's model and one of the change's; of a number, the quarter that it is in."""

    before: Text
    after: Text
    rows: Count


class Group(Part):
    """A slice of the recorded rows."""

    column: Text
    name: Text
    rows: Count
    changed: Count


class Moved(Part):
    """A row whose prediction changes much."""

    request_id: Text
    row: Count
    before: Text
    after: Text
    about: Text
    """The class whose probability changes most, or the target."""
    value_before: FiniteFloat | None
    value_after: FiniteFloat | None
    """Its probability, or the number; None where the model gives none."""


class Price(Part):
    """The mean cost of a row by the decisions of both models."""

    basis: Literal["labels", "main", "change"]
    """What the rows' classes are: known from labels, or expected by the probabilities of one of the models."""
    rows: Count
    before: FiniteFloat
    after: FiniteFloat


class Skew(Part):
    """Rows for which main's model does not give the prediction that it gave in production."""

    rows: Count
    """How many rows the log has of main's model."""
    differ: Count
    largest: FiniteFloat
    """The largest difference of a probability, or of a number relative to its size."""
    named: Annotated[list[Text], Field(max_length=MOST_NAMED)] = []
    """Some of them: request id and row."""


class Obstacle(Part):
    """Why rows do not fit a model."""

    model: Literal["main", "change"]
    why: Text
    rows: Count
    refused: bool
    """Whether the rows were left out; False where the model leaves a column out, and the service would refuse it."""


class Replayed(Part):
    """What a change of the model does to recorded rows."""

    problem: Text | None = None
    """Why nothing could be replayed."""
    rows: Count = 0
    compared: Count = 0
    changed: Count = 0
    unreadable: Count = 0
    """Lines that the service did not write."""
    damaged: Count = 0
    """Files that end early."""
    task: Literal["classification", "regression"] = "classification"
    moves: Annotated[list[Move], Field(max_length=MOST_MOVES)] = []
    moves_left_out: Count = 0
    mean_change: FiniteFloat | None = None
    """Of a number, over all rows."""
    slices: Annotated[list[Group], Field(max_length=MOST_SLICES)] = []
    largest: Annotated[list[Moved], Field(max_length=10)] = []
    labelled: Count = 0
    repaired: Count = 0
    """Labelled rows that main's model got wrong and the change's gets right."""
    broken: Count = 0
    """The reverse."""
    prices: Annotated[list[Price], Field(max_length=3)] = []
    priceless: Text | None = None
    """Why there is no cost, or only an expected one."""
    skew: Skew | None = None
    obstacles: Annotated[list[Obstacle], Field(max_length=MOST_REASONS)] = []
