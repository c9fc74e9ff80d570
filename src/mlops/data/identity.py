"""What a row is known by: a hash of its values, which decides its side of the split and finds copies.

It depends neither on the order of rows or columns, nor on whether a whole number is stored as int or float.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

Hashes = np.ndarray[Any, np.dtype[np.uint64]]


def row_hash(table: pa.Table, names: list[str], large: Set[str] = frozenset()) -> Hashes:
    """A 64-bit hash of each row's values in the named columns, of shape (n_samples,).

    Parameters
    ----------
    large : set of str
        Columns with a whole number beyond 2^53 in another part of the table.
    """
    hashes = np.zeros(table.num_rows, np.uint64)
    for name in sorted(names):
        hashes = pd.util.hash_array(hashes ^ _column_hash(table[name], name in large))
    return hashes


def _column_hash(values: pa.ChunkedArray, large: bool) -> Hashes:
    if pa.types.is_string(values.type):
        encoded = values.combine_chunks().dictionary_encode(null_encoding="encode")
        distinct = encoded.dictionary.fill_null("\0missing").to_numpy(zero_copy_only=False)
        hashes = pd.util.hash_array(distinct, categorize=False)
        return np.asarray(hashes[encoded.indices.to_numpy()])
    if pa.types.is_timestamp(values.type):
        numbers = values.cast(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy()
    elif pa.types.is_time(values.type):
        numbers = values.cast(pa.int64()).cast(pa.float64()).to_numpy()
    elif pa.types.is_integer(values.type) and (large or is_large(values)):
        numbers = values.cast(pa.int64()).fill_null(np.iinfo(np.int64).min).to_numpy()
    else:
        numbers = values.cast(pa.float64()).to_numpy() + 0.0  # -0.0 and 0.0 are the same number
    return pd.util.hash_array(numbers)


def is_large(values: pa.ChunkedArray) -> bool:
    """Whether a whole number is beyond those that floats have."""
    low, high = pc.min_max(values).as_py().values()
    return low is not None and max(-low, high) > 2**53
