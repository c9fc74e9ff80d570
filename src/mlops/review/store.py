"""Files from DVC's cache or remote by their hash.

DVC checks out a corrupt file of the cache without an error, so every file is hashed before use.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

from mlops.core import files
from mlops.core.errors import UserError


def folder_from_store(md5: str, folder: Path) -> tuple[Path | None, bool]:
    """A copy of a folder of files, such as the service or the partitions of a table, if its hash is right."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    listed, from_remote = from_store(md5, folder.with_name(f"{folder.name}.dir"))
    entries = [] if listed is None else json.loads(listed.read_bytes())
    for entry in entries:
        name = Path(entry["relpath"]).name  # these folders hold files only
        copy, remote = from_store(entry["md5"], folder / name)
        from_remote |= remote
        if copy is None:
            break
        if copy != folder / name:
            shutil.copyfile(copy, folder / name)
    if files.tree_md5(folder) != md5:
        shutil.rmtree(folder)
        return None, False
    return folder, from_remote


def from_store(md5: str, copy: Path) -> tuple[Path | None, bool]:
    """What `stored` gives; None where there is no such file, and the log says why."""
    try:
        return stored(md5, copy)
    except UserError as error:
        print(f"  {error}", file=sys.stderr)
        return None, False


def stored(md5: str, copy: Path, most: int | None = None) -> tuple[Path, bool]:
    """A file from DVC's cache, or a copy from its remote, if its hash is right; of a folder, the list of its files.

    Parameters
    ----------
    md5 : str
        As in `dvc.lock`.
    copy : Path
        Where a file of the remote goes.
    most : int, optional
        Bytes; a larger file is neither downloaded nor read.

    Returns
    -------
    Path
    bool
        Whether it came from the remote.

    Raises
    ------
    UserError
        Says why there is no such file.
    """
    from dvc.exceptions import DvcException
    from dvc.repo import Repo

    def refuse(place: str, size: int) -> None:
        if most is not None and size > most:
            raise UserError(f"{md5} has {size:,} bytes in {place}; at most {most:,} are read")

    expected = md5.removesuffix(".dir")
    with Repo(".") as repo:
        cached = Path(repo.cache.local.oid_to_path(md5))
        if cached.is_file():
            refuse("the cache", cached.stat().st_size)
            if files.md5(cached) == expected:
                return cached, False
            print(f"  {cached} is corrupt (its hash differs) and was removed", file=sys.stderr)
            cached.unlink()
        try:
            remote = repo.cloud.get_remote_odb()
        except DvcException:
            raise UserError(f"the cache does not have {md5}, and DVC has no remote") from None
        try:
            place = remote.oid_to_path(md5)
            if most is not None:
                refuse("the remote", int(remote.fs.size(place)))
            remote.fs.get_file(place, str(copy))
        except UserError:
            raise
        except Exception as error:  # every file system raises other errors
            raise UserError(f"the remote does not have {md5}: {type(error).__name__}") from None
    if files.md5(copy) != expected:
        raise UserError(f"the remote's {md5} is corrupt (its hash differs) and is not used")
    return copy, True
