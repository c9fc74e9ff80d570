"""Slices: test rows that share a value, or lie between two quartiles of the training rows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from mlops.core.errors import UserError
from mlops.model.metrics import Array

QUARTILES = (0.25, 0.5, 0.75)
MOST_CATEGORIES = 20


def slice_rows(column: str, train: pa.ChunkedArray, test: pa.ChunkedArray) -> list[tuple[str, Array]]:
    """The slices of a column that have test rows, as names and row numbers.

    Numbers, dates and times are cut at the quartiles of the training rows, so that the slices do not follow the test
    rows.
    """
    if pa.types.is_string(test.type) or pa.types.is_boolean(test.type):
        found = pc.fill_null(test.cast(pa.string()), "missing").combine_chunks().dictionary_encode()
        words, codes = found.dictionary.to_pylist(), found.indices.to_numpy()
        counts = dict(zip(words, np.bincount(codes, minlength=len(words)).tolist(), strict=True))
        kept = sorted(sorted(words), key=lambda word: -counts[word])[:MOST_CATEGORIES]
        # rare ones join the others, also a value of that name
        shown = [word if word in kept else "other" for word in words]
        names = sorted(set(shown))
        place = np.array([names.index(name) for name in shown])[codes]
        return [(name, np.flatnonzero(place == number)) for number, name in enumerate(names)]
    is_date = pa.types.is_timestamp(test.type)
    is_time = pa.types.is_time(test.type)
    as_float = [values.cast(pa.int64()) if is_date or is_time else values for values in (train, test)]
    known, asked = (values.cast(pa.float64()).to_numpy() for values in as_float)
    if np.isnan(known).all():
        raise UserError(f"params.yaml: evaluate.slices: {column!r} is missing in all training rows")
    edges = np.unique(np.nanquantile(known, QUARTILES))
    part = slice(10) if is_date else slice(11, 16)
    shown_edges = [str(np.datetime64(int(edge), "us"))[part] if is_date or is_time else f"{edge:.4g}" for edge in edges]
    names_of = [f"< {shown_edges[0]}"]
    names_of += [f"{low} to {high}" for low, high in pairwise(shown_edges)]
    names_of += [f"≥ {shown_edges[-1]}"]
    bins = np.where(np.isnan(asked), len(names_of), np.searchsorted(edges, asked, side="right"))
    found = [(name, np.flatnonzero(bins == number)) for number, name in enumerate([*names_of, "missing"])]
    return [(name, rows) for name, rows in found if len(rows)]
