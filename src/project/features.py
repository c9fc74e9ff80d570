"""Features of the model, computed from columns of the table: the same code in training and in the service.

Each function is a feature of its name. It takes NumPy arrays with one value for each row, NaN where one is missing, and
returns such an array; a row's value follows from that row alone.
"""

from __future__ import annotations

import numpy as np

from mlops import feature


@feature("mean perimeter", "mean area", unit="1")
def irregularity(perimeter, area):
    """How far the outline of the nuclei is from a circle, which has 1; benign nuclei are rounder."""
    return perimeter**2 / (4 * np.pi * area)
