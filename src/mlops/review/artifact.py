"""Unpacks the artifact with `report.json`, in memory.

The artifact is untrusted. No name in it becomes a path here: it must contain one regular file with the
expected name, and no more bytes are unpacked than a report may have.
"""

from __future__ import annotations

import io
import stat
import zipfile
import zlib

from mlops.core.errors import UserError
from mlops.core.github import Api
from mlops.core.report import MOST_BYTES

NAME = "report.json"
# text that does not shrink, and the headers around it
MOST_ZIPPED = MOST_BYTES + 10_000


def unpack(content: bytes) -> bytes:
    """Return the bytes of `report.json`, the only file of an untrusted zip file.

    Raises
    ------
    UserError
        If the zip file is corrupt, holds another file, or is too large.
    """
    if len(content) > MOST_ZIPPED:
        raise UserError(f"the artifact has {len(content):,} bytes; the limit is {MOST_ZIPPED:,}")
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            entry = _only_entry(archive)
            with archive.open(entry) as file:
                found = file.read(MOST_BYTES + 1)
    # what zipfile raises for corrupt files
    except (zipfile.BadZipFile, zlib.error, EOFError, OSError, ValueError, NotImplementedError, RuntimeError) as error:
        raise UserError(f"the artifact is not a valid zip file: {type(error).__name__}") from None
    if len(found) != entry.file_size:
        raise UserError(f"{NAME} in the artifact does not have the declared length")
    return found


def _only_entry(archive: zipfile.ZipFile) -> zipfile.ZipInfo:
    entries = archive.infolist()
    if len(entries) != 1:
        raise UserError(f"the artifact holds {len(entries):,} entries; expected only {NAME}")
    entry = entries[0]
    mode = entry.external_attr >> 16
    problems = {
        # the name before zipfile cuts it at a NUL
        f"its entry is not named {NAME}": entry.orig_filename != NAME or entry.filename != NAME,
        f"{NAME} is not a regular file": stat.S_IFMT(mode) not in (0, stat.S_IFREG),
        f"{NAME} is encrypted": entry.flag_bits & 0x41 != 0,
        f"{NAME} is compressed by a method other than deflate": entry.compress_type
        not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED),
        f"{NAME} would unpack to {entry.file_size:,} bytes; at most {MOST_BYTES:,} are read": entry.file_size
        > MOST_BYTES,
    }
    for problem, found in problems.items():
        if found:
            raise UserError(f"the artifact is rejected: {problem}")
    return entry


def fetch_artifact(api: Api, repository: str, run: int, name: str, most: int) -> bytes | None:
    """Download the artifact with a name from a run; None if the run has none.

    Raises
    ------
    UserError
        Where it has more than `most` bytes.
    """
    listed = api.get(f"{repository}/actions/runs/{run}/artifacts", name=name, per_page=100)["artifacts"]
    found = [artifact for artifact in listed if artifact["name"] == name and not artifact["expired"]]
    if not found:
        return None
    # one for each attempt of the run; the last one counts, as for actions/download-artifact
    artifact = max(found, key=lambda each: int(each["id"]))
    if artifact["size_in_bytes"] > most:
        raise UserError(f"the artifact has {artifact['size_in_bytes']:,} bytes; the limit is {most:,}")
    return api.download(f"{repository}/actions/artifacts/{artifact['id']}/zip", most)
