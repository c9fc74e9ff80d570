"""On which platform `dvc.lock` was made: a comment in its first line, which DVC keeps.

It is no part of any output, so it changes no hash. It stands in `dvc.lock` and not in a file of its own, because it is
about these hashes: a merge, a revert or `relock` then takes both together.
"""

from __future__ import annotations

import platform
import re
from pathlib import Path

from mlops.core.files import atomic
from mlops.core.paths import LOCK

# a pull request may have written it, so it is short and plain
LINE = re.compile(rb"\A# made on ([A-Za-z0-9_.-]{1,20} [A-Za-z0-9_.-]{1,20})\r?\n")
SYSTEMS = {"Darwin": "macOS"}


def here() -> str:
    """``Linux x86_64``, ``macOS arm64``."""
    system = platform.system()
    return f"{SYSTEMS.get(system, system)} {platform.machine()}"


def read(lock: bytes) -> str | None:
    """The platform that a lock names; None if it names none."""
    found = LINE.match(lock)
    return found[1].decode() if found else None


def write(path: Path = LOCK) -> None:
    """Name this platform in the first line of a lock."""
    content = path.read_bytes()
    made = f"# made on {here()}\n".encode() + LINE.sub(b"", content)
    if made != content:
        with atomic(path) as partial:
            partial.write_bytes(made)
