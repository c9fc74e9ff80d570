"""`make fetch-log FROM=s3://bucket/folder LOG=folder`: download the sealed files of a prediction log.

Files that the folder has are not downloaded again. Of a name in the bucket, only that of a log's file is used.
"""

from __future__ import annotations

import argparse
import errno
import re
import sys
from pathlib import Path
from typing import Any

import fsspec

from mlops.core.errors import UserError, counted, errors_in_words
from mlops.data.addresses import STORES
from mlops.monitoring.log import NAME

TIMEOUT = 30  # seconds without a response
AT_ONCE = 64  # files


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m mlops.monitoring.fetch", description=__doc__)
    parser.add_argument("url", help="the folder in the bucket, such as s3://bucket/folder")
    parser.add_argument("folder", type=Path, help="where the files go")
    given = parser.parse_args()
    new, size, there = fetch(given.url, given.folder)
    print(f"{counted(new, 'new file')} ({size / 1e6:,.1f} MB), {there:,} were there → {given.folder}")
    return 0


def fetch(url: str, folder: Path) -> tuple[int, int, int]:
    """Download the sealed files of a log that a folder does not have.

    Parameters
    ----------
    url : str
        Folder in a bucket; folders in it are read, too. Credentials come from the environment.
    folder : Path
        Where the files go. One that is there is whole, because it gets its name when the download is complete.

    Returns
    -------
    new, size, there : int
        Files that were downloaded, their bytes, and the files that were there.

    Raises
    ------
    UserError
        If the address is not one of a bucket, the bucket cannot be read or holds no log, or the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"LOG={folder} cannot be made a folder: {error.strerror}", "LOG=another folder") from None
    protocol = url.partition("://")[0]
    if protocol not in STORES or url == f"{protocol}://":
        raise UserError(f"FROM={url} is not a folder in a bucket", "FROM=s3://bucket/folder")
    try:
        system, path = fsspec.core.url_to_fs(url, **options(protocol))
        found = {
            Path(name).name: (name, int(info["size"]))
            for name, info in sorted(system.find(path, detail=True).items())
            if Path(name).suffix == ".gz" and NAME.fullmatch(Path(name).name)
        }
        if not found:
            raise UserError(f"{url} holds no sealed file of a prediction log", "check FROM, and that the log is copied")
        missing = [name for name in found if not (folder / name).is_file()]
        for begin in range(0, len(missing), AT_ONCE):
            download(system, {name: found[name] for name in missing[begin : begin + AT_ONCE]}, folder)
    except UserError:
        raise
    except Exception as error:  # every file system of fsspec raises its own errors
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise unreadable(url, error) from None
    return len(missing), sum(found[name][1] for name in missing), len(found) - len(missing)


def download(system: Any, files: dict[str, tuple[str, int]], folder: Path) -> None:
    """Download some files at once; they get their names when all are complete."""
    partial = {name: folder / f"{name}.partial" for name in files}
    try:
        system.get([remote for remote, _ in files.values()], [str(path) for path in partial.values()])
        for name, (remote, size) in files.items():
            if partial[name].stat().st_size != size:
                raise UserError(f"{remote} was not downloaded completely", "again")
            partial[name].replace(folder / name)
    finally:
        for path in partial.values():
            path.unlink(missing_ok=True)


def options(protocol: str) -> dict[str, Any]:
    """Settings of the file system."""
    if protocol not in ("s3", "s3a"):
        return {}
    # s3fs retries already; botocore's retries would multiply with them
    attempts = {"total_max_attempts": 1}
    return {
        "use_listings_cache": False,
        "config_kwargs": {"connect_timeout": TIMEOUT, "read_timeout": TIMEOUT, "retries": attempts},
    }


def unreadable(url: str, error: Exception) -> UserError:
    """Say why a bucket could not be read."""
    reason = re.sub(r"\?[^\s']+", "?…", f"{type(error).__name__}: {error}")[:300]
    if isinstance(error, ImportError):
        return UserError(f"{url}: {reason}", "add the package of this protocol with `uv add`")
    if isinstance(error, FileNotFoundError):
        return UserError(f"{url}: there is no such bucket or folder", "check FROM")
    if isinstance(error, PermissionError) or "credential" in reason.lower():
        hint = "set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE, of somebody who may list and read"
        return UserError(f"{url}: access denied: {reason}", hint)
    return UserError(f"{url} cannot be read: {reason}", "check FROM, AWS_ENDPOINT_URL and the network")


if __name__ == "__main__":
    with errors_in_words():
        sys.exit(main())
