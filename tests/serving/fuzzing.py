"""Loaded by Schemathesis: a valid row may be refused if a feature cannot be computed from it, such as 0 / 0.

Many valid rows and rows with a key are refused with `explain=true`, because no schema of a body depends on the query.
"""

from __future__ import annotations

from typing import Any

import schemathesis
from schemathesis.specs.openapi.checks import positive_data_acceptance


@schemathesis.check
def valid_rows_are_accepted(ctx: Any, response: Any, case: Any) -> bool | None:
    """The check `positive_data_acceptance`, except for features: no schema says where a function is undefined."""
    if response.status_code == 422:
        error = response.json()["error"]
        if " rows take too long to explain; at most " in error or error.startswith("rows with a key are not explained"):
            return None
        problems = [each["problem"] for each in response.json()["detail"]]
        if problems and all("; computed from " in problem for problem in problems):
            return None
    return positive_data_acceptance(ctx, response, case)
