"""Call a function on each part of a table: here, one after another, or on the Dask cluster of $DASK_SCHEDULER_ADDRESS.

Results come in the order of the parts, so that they do not depend on where they were computed. Workers see this folder
at the same path (a shared file system) and run the same code; both are checked before they get work.
"""

from __future__ import annotations

import functools
import hashlib
import logging
import os
import threading
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import CancelledError
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import mlops
from mlops.core.errors import UserError, described

ADDRESS = "DASK_SCHEDULER_ADDRESS"
# Seconds: for the scheduler to answer, and without any worker before work is given up
CONNECT, IDLE = 20, float(os.environ.get("DASK_IDLE_SECONDS", "60"))
# What `mlops.pipeline` pins, so that two machines agree in the last bits of a float
PINNED = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OPENBLAS_CORETYPE", "NPY_DISABLE_CPU_FEATURES")
COMPUTING = ("numpy", "pandas", "pyarrow", "scikit-learn")
RETRIES = 3
START = "`make worker` in this folder, on each machine"

Item = TypeVar("Item")
Result = TypeVar("Result")

# a worker process has one part in memory at a time, however many threads it has
_one_part = threading.Lock()


def address() -> str | None:
    """The scheduler's address; None where work is done in this process."""
    return os.environ.get(ADDRESS) or None


def each(function: Callable[[Item], Result], items: Iterable[Item], what: str = "part") -> Iterator[Result]:
    """Yield the result of a function of a module for each item, in order.

    Parameters
    ----------
    function : callable
        May be called twice for an item whose worker was lost, so it writes files atomically. It is no closure, but may
        be a `functools.partial` of arguments that can be pickled.
    what : str
        What an item is, for errors.

    Raises
    ------
    UserError
        That of the first item whose function raised one, or what is wrong with the cluster.
    """
    if address() is None:
        yield from map(function, items)
        return
    yield from _distributed(function, list(items), what)


def _distributed(function: Callable[[Item], Result], items: list[Item], what: str) -> Iterator[Result]:
    from distributed import wait

    client = connected()
    with _in_words(what):
        work = functools.partial(_checked, function, fingerprint(), str(Path.cwd()))
        futures = client.map(work, items, pure=False)
        try:
            for future in futures:
                while not future.done():
                    try:
                        wait([future], timeout=IDLE)
                    except TimeoutError:
                        _check_workers(client)
                yield future.result()
                future.release()
        finally:
            client.cancel([future for future in futures if not future.done()], force=True)


def _checked(function: Callable[[Item], Result], expected: str, folder: str, item: Item) -> Result:
    """Run by the worker: refuse to work with other code than the caller's, also where the worker came later."""
    if fingerprint() != expected:
        raise UserError(
            f"a worker of {address() or 'the cluster'} runs other code than this folder", f"restart: {START}"
        )
    import pyarrow as pa

    with _one_part:
        # Arrow's own pool keeps what was freed, which counts towards the worker's limit
        pa.set_memory_pool(pa.system_memory_pool())
        os.chdir(folder)
        return function(item)


@functools.cache
def connected() -> Any:
    """The client of the cluster, whose workers are checked; one for this process.

    Workers that still run what this folder's code was before an edit are started again.

    Raises
    ------
    UserError
        Where Dask is not installed, the scheduler does not answer, or a worker does not fit.
    """
    try:
        from distributed import Client
    except ImportError:
        raise UserError(f"${ADDRESS} is set, but Dask is not installed", "make setup-dask") from None
    for name in [*logging.root.manager.loggerDict, "asyncio"]:  # what is logged with tracebacks is said in words here
        if name.partition(".")[0] in ("distributed", "tornado", "asyncio"):
            logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        client = Client(address(), timeout=CONNECT, set_as_default=True)
    except (OSError, ValueError, TypeError) as error:
        raise UserError(
            f"the Dask scheduler at ${ADDRESS}={address()} does not answer: {described(error)}",
            f"start it (`make scheduler`), correct the address, or unset {ADDRESS} to work on this machine alone",
        ) from None
    _check_workers(client)
    folder = Path.cwd()
    with _in_words("check of the workers"):
        seen = client.run(_seen, str(folder), on_error="return")
        stale = [worker for worker, found in seen.items() if isinstance(found, Seen) and found.stale]
        if stale:
            with suppress(ValueError, TimeoutError):  # no nanny, which would start it again
                client.restart_workers(stale, timeout=CONNECT, raise_for_error=False)
            _check_workers(client)
            seen = client.run(_seen, str(folder), on_error="return")
    for worker, found in seen.items():
        if isinstance(found, OSError):  # it has gone meanwhile
            continue
        if not isinstance(found, Seen):
            raise UserError(f"the worker {worker} does not fit: {found}", f"start workers by {START}")
        if not found.folder:
            raise UserError(
                f"the worker {worker} does not see {folder}", "mount this folder there at the same path, as by NFS"
            )
        if found.code != fingerprint() or any(found.pins[name] != value for name, value in _pinned().items() if value):
            raise UserError(
                f"the worker {worker} runs other code than this folder, or in another environment",
                f"restart: {START}",
            )
    return client


def _check_workers(client: Any) -> None:
    from distributed import TimeoutError as Late

    try:
        client.wait_for_workers(1, timeout=IDLE)
    except (Late, OSError):
        hint = f"start them: {START}; their own log says why they ended"
        raise UserError(f"the Dask scheduler at {address()} has had no worker for {IDLE:g} s", hint) from None


class Seen(NamedTuple):
    """What a worker says of itself.

    Attributes
    ----------
    code, on_disk : str
        The fingerprint of the code that it runs, and of what it would run if it started now.
    folder : bool
        Whether it sees the folder of the pipeline.
    pins : dict
        What is pinned.
    """

    code: str
    on_disk: str
    folder: bool
    pins: dict[str, str | None]

    @property
    def stale(self) -> bool:
        """Whether it started before an edit, so that it would run this folder's code if it started again."""
        return self.code != fingerprint() == self.on_disk


def _seen(folder: str) -> Seen:
    """Run by the worker."""
    return Seen(fingerprint(), hashed(), (Path(folder) / "params.yaml").is_file(), _pinned())


def _pinned() -> dict[str, str | None]:
    return {name: os.environ.get(name) for name in PINNED}


@functools.cache
def fingerprint() -> str:
    """What `hashed` gave when it was first asked for."""
    return hashed()


def hashed() -> str:
    """A hash of the code below `src/` and of the packages that compute, as they are now."""
    source = Path(str(mlops.__file__)).parents[1]
    found = hashlib.sha256(str([metadata.version(name) for name in COMPUTING]).encode())
    for path in sorted(source.rglob("*.py")):
        found.update(f"{path.relative_to(source)}\0".encode() + path.read_bytes())
    return found.hexdigest()


@contextmanager
def _in_words(what: str) -> Iterator[None]:
    """Turn what Dask raises about the cluster into words; errors of the function itself pass."""
    from distributed import KilledWorker
    from distributed.comm import CommClosedError

    try:
        yield
    except KilledWorker as error:
        last = getattr(error.last_worker, "address", "an unknown place")
        raise UserError(
            f"several workers in turn died with the same {what}, the last at {last}: it may need more memory",
            "give workers more memory (`make worker MEMORY=8GiB`), or write smaller partitions",
        ) from None
    except (CancelledError, CommClosedError):
        raise UserError(
            f"the connection to the Dask scheduler at {address()} is lost; no file is half-written",
            "start it again (`make scheduler`), then run the same command",
        ) from None


def searches(n_jobs: int = -1) -> AbstractContextManager[Any]:
    """Let joblib run on the cluster what scikit-learn does in parallel: folds of a search, trees of a forest.

    Parameters
    ----------
    n_jobs : int
        Of what does not ask for a number itself; 1 leaves that in this process.
    """
    return nullcontext() if address() is None else _on_cluster(n_jobs)


def again(call: Callable[[], Result]) -> Result:
    """Call what joblib runs on the cluster; again where a worker died that alone had its data."""
    for _ in range(0 if address() is None else RETRIES):
        try:
            return call()
        except CancelledError:
            if connected().status != "running":
                raise
    return call()


@contextmanager
def _on_cluster(n_jobs: int) -> Iterator[None]:
    from joblib import parallel_config
    from joblib._dask import DaskDistributedBackend
    from joblib.parallel import FallbackToBackend, SequentialBackend

    class Backend(DaskDistributedBackend):  # type: ignore[misc]
        def configure(self, n_jobs: int = 1, parallel: Any = None, **options: Any) -> Any:
            if n_jobs == 1:  # as joblib's other backends: what has one job stays in this process
                raise FallbackToBackend(SequentialBackend(nesting_level=self.nesting_level))
            return super().configure(n_jobs, parallel, **options)

    connected()
    with _in_words("fit"), parallel_config(backend=Backend(), n_jobs=n_jobs):
        yield
