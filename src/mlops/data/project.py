"""The opened project: settings, catalogue, and the columns that a model sees, among them the team's own features.

Stages and the review open it once and pass it on. Tables are read through it, so that the features are there by name
wherever a column is.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from mlops.core import settings as settings_module
from mlops.core.hooks import Feature
from mlops.core.settings import Settings
from mlops.data import features as on_tables
from mlops.data import tables
from mlops.data.tables import Catalogue, Column
from mlops.inference import computed

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd


@dataclass(frozen=True)
class Project:
    """A project whose `params.yaml` fits its table.

    Attributes
    ----------
    settings : Settings
    source : Catalogue
        Of the prepared table, as it is on disk.
    features : tuple of Feature
        The team's own, which are computed whenever a table is read.
    """

    settings: Settings
    source: Catalogue
    features: tuple[Feature, ...]

    @cached_property
    def catalogue(self) -> Catalogue:
        """The catalogue, with the computed features as further columns."""
        data = self.settings.data
        hidden = {data.target, *data.private}
        more = on_tables.described(self.features, self.source, hidden)
        return self.source.model_copy(update={"columns": [*self.source.columns, *more]})

    @cached_property
    def columns(self) -> list[Column]:
        """The columns that a model may see."""
        return tables.feature_columns(self.settings, self.catalogue)

    def read(self, path: str | Path) -> pa.Table:
        """Read a prepared table, with the computed features.

        Raises
        ------
        UserError
            Where the file is missing or broken, or a feature has no value for a row that has its inputs.
        """
        return self.append(tables.read(path))

    def table(self, path: Path) -> Any:
        """The same, or `mlops.data.parts.Parts` where it is a folder, of which only what is asked for is read."""
        if not path.is_dir():
            return self.read(path)
        from mlops.data.parts import Parts

        return Parts(path, self.append)

    def append(self, table: pa.Table) -> pa.Table:
        """The same for a table that has been read."""
        whole, problems = on_tables.appended(table, self.features, self.source)
        if problems:
            raise on_tables.in_words(table, self.features, problems)
        return whole

    def X(self, table: pa.Table, columns: Sequence[Column] | None = None) -> pd.DataFrame:  # noqa: N802
        """The feature matrix of a table that `read` gave; of all columns that a model may see by default."""
        return tables.features(table, list(self.columns if columns is None else columns))

    def y(self, table: pa.Table) -> np.ndarray[Any, Any]:
        """The target of a table."""
        return tables.target(table, self.settings)


def open() -> Project:
    """Open the project in the current folder.

    Raises
    ------
    UserError
        Where `params.yaml`, the catalogue or the features are missing or broken, or do not fit together.
    """
    return opened(settings_module.load(), tables.read_catalogue())


def opened(settings: Settings, catalogue: Catalogue) -> Project:
    """The project of settings and a catalogue that have been read."""
    found = Project(settings, catalogue, computed.declared(settings.data.features))
    names = [feature.name for feature in found.features]
    settings_module.check_columns(settings, catalogue.names, prepared=True, features=names)
    _ = found.catalogue  # which checks the features' columns
    return found
