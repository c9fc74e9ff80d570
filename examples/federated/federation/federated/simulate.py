"""Flower's simulation of several hospitals on one machine: `python -m federated.simulate`.

Ray runs the hospitals' client apps in processes of its own. Messages, strategies and client app are those of a real
federation, so the result is the same, byte for byte.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import warnings
from pathlib import Path
from typing import Any

# read when they are imported: no reports about use, and sums that do not depend on the number of processors
os.environ.update(FLWR_TELEMETRY_ENABLED="0", RAY_USAGE_STATS_ENABLED="0", OPENBLAS_NUM_THREADS="1")
os.environ.setdefault("RAY_raylet_start_wait_time_s", "300")

from flwr.app import Context
from flwr.serverapp import Grid, ServerApp
from flwr.simulation import run_simulation

from federated import client
from federated.server import PROBLEMS, federate, write
from federated.settings import defaults, hospitals

RAY = {
    "init_args": {"include_dashboard": False, "num_cpus": 2, "object_store_memory": 80_000_000},
    "client_resources": {"num_cpus": 1, "num_gpus": 0.0},
}


def simulate(config: dict[str, Any], tables: list[str]) -> dict[str, Any]:
    """The result of a federation of processes on this machine.

    Parameters
    ----------
    tables : list of str
        The coordinator's first.
    """
    os.environ["FEDERATION_TABLES"] = os.pathsep.join(str(Path(each).resolve()) for each in tables)
    server, results = ServerApp(), []

    @server.main()
    def main(grid: Grid, context: Context) -> None:
        try:
            results.append(federate(grid, config))
        except PROBLEMS as error:
            results.append(error)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of Ray and of Flower about their own next versions
        run_simulation(server, client.app, len(tables), backend_config=RAY)
    (found,) = results
    if isinstance(found, Exception):
        raise found
    return found


def main() -> None:
    config = {**defaults(), "seconds": 3600}  # nobody drops out, and a busy machine starts Ray slowly
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("tables", nargs="*", default=hospitals(), help="those of the other hospitals")
    for name, value in config.items():
        parser.add_argument(f"--{name}", type=type(value), default=value)
    asked = vars(parser.parse_args())
    config.update({name: asked[name.replace("-", "_")] for name in config})
    tables = [config["own-table"], *asked["tables"]]
    config["hospitals"] = len(tables)
    logging.getLogger("flwr").setLevel(logging.ERROR)
    try:
        write(Path(config["result"]), simulate(config, tables))
    except PROBLEMS as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
