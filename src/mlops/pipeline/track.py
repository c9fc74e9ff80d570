"""Stage `track`: record the training in MLflow.

Git and `dvc.lock` are the source of truth, and MLflow is a journal: if it cannot be reached, the pipeline continues and
reports what was not recorded. The only output is a file of hashes, without the id of a run. If that file is missing, as
in a fresh clone, the stage runs and records the training.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from urllib.parse import urlsplit

from mlops.core import journal, paths
from mlops.core import settings as settings_module
from mlops.core.errors import run
from mlops.core.files import write_json
from mlops.model import tracking


def main() -> str:
    import mlflow
    import sqlalchemy.exc

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    logging.getLogger("alembic").setLevel(logging.ERROR)
    settings = settings_module.load()
    evaluation = json.loads(paths.EVALUATION.read_text(encoding="utf-8"))
    hashes = tracking.hashes()
    facts = {
        "params": tracking.parameters(settings),
        "metrics": tracking.numbers(evaluation, hashes["model.md5"]),
        "tags": {"commit": journal.commit(), **hashes},
    }
    write_json(hashes, paths.TRACKED)
    uri = os.environ["MLFLOW_TRACKING_URI"]
    credentials = urlsplit(uri).netloc.rpartition("@")[0]
    where = uri.replace(f"{credentials}@", "")
    try:
        run_id = tracking.record(settings, facts)
    except (mlflow.exceptions.MlflowException, sqlalchemy.exc.SQLAlchemyError, OSError) as error:
        problem = str(error).splitlines()[0].replace(f"{credentials}@", "")
        print(
            f"  warning: this run was not recorded in MLflow at {where}: {problem[:500]}\n"
            "  try: check MLFLOW_TRACKING_URI, then `dvc repro --force --single-item track`",
            file=sys.stderr,
        )
        return f"not recorded: {', '.join(facts)}, signature, model"
    journal.note("track", facts["tags"]["model.md5"], run_id=run_id, uri=where)
    return f"MLflow run {run_id} at {where}"


if __name__ == "__main__":
    run("track", main)
