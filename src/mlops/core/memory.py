"""How much memory this process may still take, and a clear refusal of what would take more."""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

from mlops.core.errors import UserError

GROUP = Path("/sys/fs/cgroup")


def available() -> int:
    """Bytes that this process may still allocate: of the machine, its container, its own limit and a Dask worker's."""
    found = [os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")]
    text = _read(Path("/proc/meminfo"))
    found += [1024 * int(line.split()[1]) for line in text.splitlines() if line.startswith("MemAvailable:")]
    most, used = (_read(GROUP / f"memory.{name}").strip() for name in ("max", "current"))
    if most.isdigit() and used.isdigit():
        # files that the kernel keeps make room when asked
        kept = [line.split()[1] for line in _read(GROUP / "memory.stat").splitlines() if "active_file " in line]
        found.append(int(most) - int(used) + sum(map(int, kept)))
    pages = [int(number) for number in _read(Path("/proc/self/statm")).split()]
    for limit, held in ((resource.getrlimit(resource.RLIMIT_AS)[0], 0), (_worker_limit(), 1)):
        if limit != resource.RLIM_INFINITY:
            found.append(limit - (pages[held] * os.sysconf("SC_PAGE_SIZE") if pages else 0))
    return max(0, min(found))


def _worker_limit() -> int:
    """The limit of the Dask worker that this process is, which Dask would end at 95 % of it."""
    if "distributed" in sys.modules:
        import distributed

        try:
            limit = distributed.get_worker().memory_manager.memory_limit
        except ValueError:  # this process is no worker
            limit = None
        if limit:
            return int(0.95 * limit)
    return resource.RLIM_INFINITY


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:  # not Linux, or no container
        return ""


def require(needed: int, what: str, hint: str) -> None:
    """Refuse what needs more memory than there is.

    Raises
    ------
    UserError
        Says what needs how much, how much there is, and what to do.
    """
    there = available()
    if needed > there:
        raise UserError(f"{what} needs about {shown(needed)} of memory, and {shown(there)} are free", hint)


def shown(size: int) -> str:
    """``1.5 GiB``, ``20 MiB``."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:,.0f} MiB"
