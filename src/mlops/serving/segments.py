"""Files of the prediction log: written to one after the other, compressed when sealed, deleted when old.

A file in use is locked, so that the next process can seal the file of one that was killed. Names are unique, so that
several processes and machines can share a folder, and a copy that a shipper makes twice can be recognised.
"""

from __future__ import annotations

import fcntl
import logging
import os
import queue
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from isal import igzip

from mlops.core.logoptions import LogOptions

OPEN, SEALED, PARTIAL = ".jsonl", ".jsonl.gz", ".partial"
NEW = 10  # seconds in which a file may have been created, but not locked yet

logger = logging.getLogger("bentoml")


@dataclass
class Segment:
    """A file that is written to."""

    path: Path
    file: int
    inode: int
    started: float
    size: int = 0

    @classmethod
    def create(cls, folder: Path) -> Segment:
        """Create a file, and the folder if it is gone."""
        folder.mkdir(parents=True, exist_ok=True)
        moment = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
        path = folder / f"{moment}-{secrets.token_hex(6)}{OPEN}"
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        with suppress(OSError):  # not every file system has locks
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return cls(path, file, os.fstat(file).st_ino, time.monotonic())

    def write(self, content: bytes) -> None:
        """Write lines.

        Raises
        ------
        OSError
            Where not all could be written; the incomplete last line is cut off if possible, and the file closed. One
            without any line is deleted, because the next try creates another one.
        """
        try:
            left = memoryview(content)
            while left:
                left = left[os.write(self.file, left) :]
        except OSError:
            with suppress(OSError):
                os.ftruncate(self.file, self.size)
                if not self.size:
                    self.path.unlink()
            self.close()
            raise
        self.size += len(content)

    def is_gone(self) -> bool:
        """Whether the file was deleted or replaced."""
        try:
            return self.path.stat().st_ino != self.inode
        except FileNotFoundError:
            self.close()
            return True

    def is_due(self, options: LogOptions) -> bool:
        """Whether it is large or old enough to be sealed."""
        age = time.monotonic() - self.started
        return self.size >= 1e6 * options.segment_mb or age >= 60 * options.segment_minutes

    def close(self) -> None:
        with suppress(OSError):
            os.close(self.file)
        self.file = -1


class Sealer:
    """Compresses files in a thread of its own, at the lowest priority, and deletes old ones.

    Parameters
    ----------
    folder : Path
    options : LogOptions
    """

    def __init__(self, folder: Path, options: LogOptions) -> None:
        self.folder, self.options = folder, options
        self.waiting: queue.SimpleQueue[Path | None] = queue.SimpleQueue()
        self.thread = threading.Thread(target=self.run, name="prediction-log-sealer", daemon=True)
        self.thread.start()

    def put(self, path: Path) -> None:
        """Seal a file."""
        self.waiting.put(path)

    def close(self, seconds: float) -> None:
        """Seal what waits; gives up after some seconds."""
        self.waiting.put(None)
        self.thread.join(seconds)

    def run(self) -> None:
        with suppress(OSError, AttributeError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        self.guarded(adopt, self.folder)
        while (path := self.waiting.get()) is not None:
            self.guarded(seal, path)
            self.guarded(adopt, self.folder)  # what a process left just before this one started, or after a full disk
            self.guarded(clean, self.folder, self.options)

    def guarded(self, work: Callable[..., None], *given: Any) -> None:
        try:
            work(*given)
        except OSError as error:
            logger.error("the prediction log: %s", error)


def seal(path: Path) -> None:
    """Compress a file, and delete the original. A process that ends in between leaves either or both, complete."""
    if not path.exists():
        return
    # two processes may seal the same file, to the same bytes
    partial, sealed = path.with_suffix(f".{secrets.token_hex(4)}{PARTIAL}"), path.with_suffix(SEALED)
    try:
        with path.open("rb") as source, partial.open("wb") as target:
            # with the standard library's interface, but without its types
            with igzip.IGzipFile("", "wb", compresslevel=1, fileobj=target, mtime=0) as compressed:  # type: ignore[no-untyped-call]
                shutil.copyfileobj(source, compressed, 1 << 18)
            target.flush()
            os.fchmod(target.fileno(), path.stat().st_mode & 0o777)
            os.fsync(target.fileno())
        partial.replace(sealed)
    finally:
        partial.unlink(missing_ok=True)
    path.unlink(missing_ok=True)


def adopt(folder: Path) -> None:
    """Seal the files of processes that have ended: those that nobody has locked."""
    for path in sorted(folder.glob(f"*{OPEN}")):
        with suppress(FileNotFoundError), path.open("rb") as file:  # another process may seal it meanwhile
            if time.time() - os.fstat(file.fileno()).st_mtime < NEW:
                continue
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:  # in use
                continue
            seal(path)


def clean(folder: Path, options: LogOptions) -> None:
    """Delete the oldest sealed files, by age and by the size of all."""
    for written, _, path in by_time(folder, PARTIAL):
        if time.time() - written > 3600:  # of a process that was killed
            path.unlink(missing_ok=True)
    found = by_time(folder, SEALED)
    total = sum(size for _, size, _ in found)
    oldest = time.time() - 86_400 * options.keep_days
    for written, size, path in found:
        if written >= oldest and total <= 1e9 * options.keep_gb:
            break
        path.unlink(missing_ok=True)
        total -= size


def by_time(folder: Path, ending: str) -> list[tuple[float, int, Path]]:
    """Time of the last change, size and path of files, the oldest first; another process may delete some meanwhile."""
    found = []
    for path in folder.glob(f"*{ending}"):
        with suppress(FileNotFoundError):
            about = path.stat()
            found.append((about.st_mtime, about.st_size, path))
    return sorted(found)
