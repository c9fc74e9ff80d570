"""The contract of the served model: its fields, classes and format, as `models/service/schema.json`.

`export` derives it from the training table, and the image contains it beside the model. The service and batch scoring
know nothing else about the data. It contains no row.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, FiniteFloat, StringConstraints, ValidationError

from mlops.core import paths
from mlops.core.errors import UserError, first_problem

SCHEMA = "schema.json"
EXAMPLE = "example.json"  # a valid request
# Far beyond any measurement, and the limit of trees, which use single precision
MOST_NUMBER = 3e38
MODEL = {"onnx": "model.onnx", "scikit-learn": "model.skops"}

Kind = Literal["numeric", "categorical", "boolean", "date", "time", "text"]
Runtime = Literal["onnx", "scikit-learn"]
Label = str | int | float | bool


class Part(BaseModel):
    """A part of the contract; unknown keys are rejected."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)


class Correction(Part):
    """The correction of a number by `data.clean`: first the unit, then the limits."""

    above: FiniteFloat | None = None
    below: FiniteFloat | None = None
    factor: FiniteFloat | None = None
    """Values above or below that limit are multiplied by this."""
    low: FiniteFloat | None = None
    high: FiniteFloat | None = None
    outside: Literal["clip", "missing"] | None = None
    """Values outside these limits become the nearest limit, or missing."""


class Field(Part):
    """One input column of the model."""

    name: str
    kind: Kind
    unit: str | None = None
    nullable: bool
    """Whether a value may be missing, because values are missing in the table."""
    values: list[str] | None = None
    """The allowed values of a categorical column with few values."""
    low: FiniteFloat | str | None = None
    """Smallest value in the training rows; smaller values are accepted."""
    high: FiniteFloat | str | None = None
    example: FiniteFloat | bool | str | None = None
    """The median or the most frequent value of the training rows; not taken from one row."""
    clean: Correction | None = None
    """How the service corrects a value."""
    codes: list[str] | None = None
    """For ONNX: the encoded categories of a categorical column, in the order of their codes.

    The next code stands for a missing value, the one after it for any other value."""
    only_for_features: bool = False
    """Whether the model itself does not take it, but a feature is computed from it."""


class Computed(Part):
    """A feature that is computed from fields, by a function in `src/project/features.py` of this name."""

    name: str
    kind: Literal["numeric", "boolean", "categorical"]
    unit: str | None = None
    columns: list[str]
    """The fields that it is computed from, in the order of the function's arguments."""
    codes: list[str] | None = None
    """As those of a field."""


class Explanation(Part):
    """How a prediction is explained, or why it is not."""

    method: Literal["linear", "trees", "library"] | None = None
    unit: Literal["log-odds", "probability", "value", "log of the value", "decision function"] | None = None
    """Of the score that the contributions add up to."""
    of: Label | None = None
    """Of two classes the one that the score speaks for; of more classes it is the predicted one."""
    why: str | None = None
    """Why there is none."""


class Contract(Part):
    """Input and output of the served model."""

    task: Literal["classification", "regression"]
    target: str
    unit: str | None = None
    classes: list[Label] | None = None
    """In the order of the probabilities; None for a regression."""
    positive: Label | None = None
    threshold: float | None = None
    """Decide for `positive` from this probability on; None for the most probable class."""
    probabilities: bool
    runtime: Runtime
    trusted: list[str] = []
    """Types that the skops file may hold, where scikit-learn runs."""
    missing_values: list[str] = []
    """Further texts that mean 'missing' in a CSV."""
    fields: list[Field]
    """What a client sends."""
    features: list[Computed] = []
    """What is computed from them before the model is asked."""
    code: dict[Annotated[str, StringConstraints(pattern=r"^(\w+/)*\w+\.py$")], str] = {}
    """File of `src/project` that the service runs → its MD5."""
    packages: list[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]] = []
    """Distributions that these files import; `uv.lock` has their versions."""
    explanation: Explanation = Explanation(why="the model was exported by a version that does not explain")
    model_packages: list[Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9-]*$")]] = []
    """Distributions that the classes of `src/project` in the model file import, which ONNX Runtime does not need."""

    @property
    def inputs(self) -> list[Field | Computed]:
        """What the model itself takes, in its order."""
        return [*(field for field in self.fields if not field.only_for_features), *self.features]

    def with_codes(self, codes: dict[str, list[str]]) -> Contract:
        """The same with the codes of categories, by field or feature."""

        def coded(part: Any) -> Any:
            return part.model_copy(update={"codes": codes[part.name]}) if part.name in codes else part

        return self.model_copy(
            update={"fields": list(map(coded, self.fields)), "features": list(map(coded, self.features))}
        )

    @property
    def file(self) -> str:
        """Name of the model's file in the contract's folder."""
        return MODEL[self.runtime]

    @property
    def example(self) -> dict[str, Any]:
        """A valid row."""
        return {field.name: field.example for field in self.fields}


def label_name(label: Label) -> str:
    """A class as a name, such as ``true``: JSON for what is not text."""
    return label if isinstance(label, str) else json.dumps(label)


def probability_column(label: Label) -> str:
    """Name of the column with a class's probability, in a table of predictions."""
    return f"probability of {label_name(label)}"


def read(folder: Path = paths.SERVICE) -> Contract:
    """Read the contract of an exported model.

    Raises
    ------
    UserError
        If the file is missing or invalid.
    """
    path = folder / SCHEMA
    try:
        return Contract.model_validate_json(path.read_bytes())
    except FileNotFoundError:
        raise UserError(f"{path} is missing", "make, or dvc checkout") from None
    except ValidationError as error:
        raise UserError(f"{path} is not a valid contract: {first_problem(error)}", "dvc repro --force export") from None
