"""`make fetch-labels`: download the labels, so that what compares them with the log needs no password.

It reads settings and the source, and runs none of the team's code.
"""

from __future__ import annotations

import pyarrow.parquet as pq

from mlops.core import settings as settings_module
from mlops.core.errors import errors_in_words
from mlops.core.files import atomic
from mlops.monitoring.labels import FETCHED, table


def main() -> None:
    settings = settings_module.load()
    if settings.monitor.labels is None:
        print("params.yaml declares no monitor.labels")
        return
    found, shown = table(settings.monitor.labels, settings)
    with atomic(FETCHED) as partial:
        pq.write_table(found, partial)
    print(f"{found.num_rows:,} labels of {shown} → {FETCHED}")


if __name__ == "__main__":
    with errors_in_words():
        main()
