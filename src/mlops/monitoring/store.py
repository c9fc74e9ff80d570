"""`make retrain-store`: put the rows of a retraining into DVC's remote, each file under its hash.

In the workflow, this job holds the right to write there, and runs main's code. What it reads was left by a job before:
JSON of a strict schema, and tables that are hashed and not opened. It loads no pipeline. `make retrain` does the same.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from mlops.core.errors import UserError, counted, errors_in_words
from mlops.monitoring.proposal import FOLDER, Proposal, read

URL = "DVC_REMOTE_URL"
NAME = "retraining"  # a remote of its own, because the options of another one may be for reading only


def main(environment: Mapping[str, str] = os.environ) -> None:
    """Store what a retraining proposes."""
    url = environment.get(URL)
    if not url:
        raise UserError(f"missing environment variable: {URL}", "leave this to the workflow `monitor`")
    found, _ = read()
    count = push(found, url) if found.state == "proposed" else 0
    print(f"{counted(count, 'file')} stored in {url}" if count else f"nothing to store: {found.why}")


def has_remote() -> bool:
    """Whether DVC has a default remote."""
    from dvc.repo import Repo

    with Repo(".") as repo:
        return bool(repo.config["core"].get("remote"))


def push(found: Proposal, url: str | None = None, folder: Path = FOLDER) -> int:
    """Put the files of a proposal that are for DVC into its remote, and return their number.

    Parameters
    ----------
    url : str, optional
        Address of the remote. By default, it is DVC's default remote, and its cache gets the files, too.

    Raises
    ------
    UserError
        If the remote does not take them.
    """
    files = {md5: str(folder / Path(name).name) for md5, name in found.pointed.items()}
    if not files:
        return 0
    from dvc.fs import LocalFileSystem
    from dvc.repo import Repo

    config = {"core": {"remote": NAME}, "remote": {NAME: {"url": url}}} if url else None
    try:
        with Repo(".", config=config) as repo:
            for store in [repo.cloud.get_remote_odb(), *([] if url else [repo.cache.local])]:
                # written even where there is a file of this name, which may be damaged
                store.add(list(files.values()), LocalFileSystem(), list(files), check_exists=False)
    except Exception as error:  # every file system raises other errors
        reason = re.sub(r"\?[^\s']+", "?…", f"{type(error).__name__}: {error}")[:300]
        hint = f"check {URL} and its credentials" if url else "dvc remote list, and its credentials"
        raise UserError(f"the remote does not take the new rows: {reason}", hint) from None
    return len(files)


if __name__ == "__main__":
    with errors_in_words():
        main()
