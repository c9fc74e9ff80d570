"""One task of a platform: pull what a stage reads, run it, push what it writes. The image of a commit starts it.

The same commands as on a laptop, `dvc pull`, `dvc repro --single-item` and `dvc push`. A second attempt starts from the
beginning in a fresh container, and pushes under the same hashes.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys

from mlops.core import paths
from mlops.core.errors import UserError, described, errors_in_words
from mlops.core.lock import read_lock
from mlops.pipeline.platforms import graph, results
from mlops.pipeline.platforms.graph import Task

URL = "DVC_REMOTE_URL"
REMOTE = "storage"


def main(arguments: list[str]) -> None:
    """Run the task of a stage."""
    parser = argparse.ArgumentParser(prog="task", description=__doc__)
    parser.add_argument("stage")
    parser.add_argument("--run", required=True, help="name of the run, the same for all its tasks")
    parser.add_argument("--graph", required=True, help="hash of the stages that the definition was written from")
    parser.add_argument("--force", action="store_true", help="run the stage even if nothing has changed")
    given = parser.parse_args(arguments)
    tasks = graph.read()
    if given.graph != graph.fingerprint(tasks) or given.stage not in tasks:
        raise UserError(
            "the platform's definition was written from other stages than this image has in dvc.yaml",
            "make platform TO=… in the commit of the image",
        )
    task, run = tasks[given.stage], run_name(given.run)
    remote(os.environ.get(URL))
    results.restore(run, [tasks[name] for name in task.needs])
    if task.pulls:
        dvc("pull", "--quiet", *task.pulls)
    # where nothing has changed, nothing runs and nothing is downloaded, if the remote has what is in dvc.lock
    force = given.force or missing(task)
    dvc("repro", "--single-item", *(["--force"] if force else ["--allow-missing"]), task.stage)
    dvc("push", "--quiet", task.stage)
    results.save(run, task)
    print(f"stored the result of stage {task.stage} under run {run}", flush=True)


def run_name(text: str) -> str:
    """A platform's name of a run as a name of a folder."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip(".-")[:200]
    if not name:
        raise UserError(f"{text!r} does not name a run", "--run with the platform's name of it")
    return name


def remote(url: str | None) -> None:
    """Let DVC use the remote at an address; without one, the default remote of `.dvc/config`."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        if url:
            with repo.config.edit("local") as config:
                config["core"]["remote"] = REMOTE
                config["remote"][REMOTE] = {"url": url, "verify": True}
        elif not repo.config["core"].get("remote"):
            raise UserError(f"the tasks share no storage: {URL} is not set", f"{URL}=s3://bucket/path")


def missing(task: Task) -> bool:
    """Whether an output that `dvc.lock` names is neither in DVC's cache here nor in its remote."""
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    entry = (read_lock() if paths.LOCK.exists() else {}).get(task.stage, {})
    hashes = [out["md5"] for out in entry.get("outs", []) if out["path"] not in task.uncached]
    try:
        with Repo(".") as repo:
            stores = (repo.cache.local, repo.cloud.get_remote_odb())
            return not all(any(store.exists(md5) for store in stores) for md5 in hashes)
    except (DvcException, OSError) as error:
        raise UserError(
            f"DVC's remote does not answer: {described(error)}", f"check {URL} and its credentials"
        ) from None


def dvc(*arguments: str) -> None:
    """Run a command of DVC, which prints for itself; where it fails, the task ends with its exit code."""
    code = subprocess.run([sys.executable, "-P", "-m", "dvc", *arguments], check=False).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":
    with errors_in_words():
        main(sys.argv[1:])
