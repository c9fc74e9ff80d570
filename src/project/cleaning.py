"""Which rows of the table the model learns from and is tested on, where `data.clean` in params.yaml cannot say it.

A function takes the columns that it names as pandas Series, and returns True for each row to keep. It can change no
value: a row of a client never comes here. Values are corrected by `data.clean`, or computed by a feature.
"""

from __future__ import annotations

import pandas as pd

from mlops import keep_rows


@keep_rows("mean area", "worst area")
def plausible_area(mean: pd.Series, worst: pd.Series) -> pd.Series:
    """Nuclei have an area, and the largest ones are not smaller than the average."""
    return (mean > 0) & (worst >= mean)
