"""Where tables come from: bundled tables, files and globs, URLs, SQL. Each becomes one Arrow table.

Nothing here changes a value. What cannot be read is told with the file, and the row where the reader knows it.
"""

from __future__ import annotations

import errno
import glob
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from mlops.core.errors import UserError
from mlops.core.settings import Data, Query, closest, without_credentials
from mlops.data import addresses
from mlops.data.database import read_sql
from mlops.data.formats import CSV, check_names, read_file

RAW = Path("data/raw")

# scikit-learn's bundled tables and the name of what each predicts
BUNDLED = {
    "breast_cancer": "diagnosis",
    "diabetes": "progression",
    "digits": "digit",
    "iris": "species",
    "wine": "cultivar",
}


class Origin(NamedTuple):
    """What a table was read from, so that a row can be named where it stands."""

    columns: list[str]
    """All columns of the source; those of `data.drop` are not in the table any more."""
    rows: dict[str, int]
    """Files (or the query) in order, and how many rows came from each."""
    typed: bool
    """Whether the source itself tells a text from a number; a CSV does not."""

    def place(self, row: int) -> str:
        """``row 7 of data/raw/b.csv``, counted from 1 below the header, for a row of the whole table."""
        for name, rows in self.rows.items():
            if row < rows:
                return f"row {row + 1:,} of {name}"
            row -= rows
        raise IndexError(row)


def read(data: Data) -> tuple[pa.Table, Origin]:
    """Read the source that `params.yaml` names.

    Returns
    -------
    table : pyarrow.Table of shape (n_samples, n_columns)
        With the source's own types, without the columns that are to be dropped.
    origin : Origin
        Where its rows come from.

    Raises
    ------
    UserError
        Where it is missing, unreachable or unreadable.
    """
    if isinstance(data.source, Query):
        return _joined({"the query": read_sql(data.source, data)}, data)
    if data.source.startswith("sklearn:"):
        return _joined({data.source: read_bundled(data.source.removeprefix("sklearn:"))}, data)
    if "://" in data.source:
        with download(data.source, data.timeout) as files:
            return _joined({name: read_file(path, data, name) for name, path in files.items()}, data)
    return _joined({name: read_file(Path(name), data, name) for name in local_files(data.source)}, data)


def describe(data: Data) -> str:
    """The source in a few words, for the catalogue."""
    if isinstance(data.source, Query):
        return f"SQL at ${data.source.url_env}: {' '.join(data.source.sql.split())}"
    return data.source


def read_bundled(name: str) -> pa.Table:
    """One of the tables that ship with scikit-learn, its target as the last column."""
    if name not in BUNDLED:
        raise UserError(f"params.yaml: data.source: no bundled table {name!r}{closest(name, list(BUNDLED))}")
    import sklearn.datasets

    bunch = getattr(sklearn.datasets, f"load_{name}")()
    labels = bunch.target_names[bunch.target] if name in ("breast_cancer", "iris", "wine") else bunch.target
    columns = dict(zip(map(str, bunch.feature_names), bunch.data.T, strict=True))
    return pa.table({key: pa.array(values) for key, values in columns.items()} | {BUNDLED[name]: labels})


def local_files(source: str) -> list[str]:
    """Files that a path or glob names, in sorted order, all where DVC watches them.

    A link to a file is followed, as DVC does; a link to a folder is not, because DVC would miss changes behind it.
    """
    inside = Path(os.path.normpath(source)).is_relative_to(RAW)
    names = [source] if Path(source).exists() else sorted(glob.glob(source, recursive=True))
    if not inside or any(not Path(name).parent.resolve().is_relative_to(RAW.resolve()) for name in names):
        raise UserError(
            f"params.yaml: data.source: {source} is outside {RAW}, where DVC would not see it change",
            f"copy it to {RAW}/{Path(source).name} and name that",
        )
    if not names:
        beside = [str(path) for path in sorted(RAW.rglob("*")) if path.is_file() and path.name != "README.md"]
        raise UserError(f"params.yaml: data.source: there is no file {source}{closest(source, beside)}")
    return names


@contextmanager
def download(url: str, timeout: float) -> Iterator[dict[str, Path]]:
    """Copy what a URL names to temporary files.

    Parameters
    ----------
    url : str
        Of one file, or with ``*`` of several; credentials come from the environment and ``~/.netrc``.
    timeout : float
        Seconds that the server may stay silent.

    Yields
    ------
    dict of str to Path
        Address without query string → local copy.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            files = _fetch(url, timeout, Path(folder))
        except UserError:
            raise
        except Exception as error:  # each file system of fsspec has errors of its own
            if isinstance(error.__cause__, UserError):  # an archive's says only that there is no such file
                raise error.__cause__ from None
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise _unreachable(url, timeout, error) from None
        yield files


def _fetch(url: str, timeout: float, folder: Path) -> dict[str, Path]:
    import fsspec
    from fsspec.callbacks import TqdmCallback

    protocols = addresses.check_protocols(url)
    for part in url.split("::"):
        try:
            without_credentials(part)
        except ValueError as error:
            raise UserError(f"params.yaml: data.source: {error}") from None
    system, path = fsspec.core.url_to_fs(url, **{name: _options(name, timeout) for name in protocols})
    remote = sorted(system.glob(path)) if "*" in path else [path]
    if not remote:
        raise UserError(f"params.yaml: data.source: nothing matches {url}")
    files = {}
    for number, name in enumerate(remote):
        plain = system.unstrip_protocol(name).split("?")[0]
        files[plain] = folder / f"{number}-{Path(plain).name}"
        bar = {"desc": plain, "unit": "B", "unit_scale": True, "disable": None}
        system.get_file(name, files[plain], callback=TqdmCallback(tqdm_kwargs=bar))
    return files


def _options(protocol: str, timeout: float) -> dict[str, Any]:
    """Settings of the file system of one protocol."""
    import aiohttp

    if protocol in addresses.WEB:
        patience = aiohttp.ClientTimeout(None, sock_connect=timeout, sock_read=timeout)
        return {"get_client": addresses.client, "client_kwargs": {"timeout": patience, "trust_env": True}}
    if protocol in ("s3", "s3a"):
        # s3fs tries again by itself; botocore's attempts would multiply with its own
        attempts = {"total_max_attempts": 1}
        return {"config_kwargs": {"connect_timeout": timeout, "read_timeout": timeout, "retries": attempts}}
    return {}


def _unreachable(url: str, timeout: float, error: Exception) -> UserError:
    """Say why a URL could not be read."""
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:  # botocore has its own
        return UserError(
            f"{url}: no answer within {timeout:g} s", "again later, or a larger data.timeout in params.yaml"
        )
    if isinstance(error, FileNotFoundError):
        return UserError(f"{url}: there is no such file", "check data.source in params.yaml")
    # where a redirect led to may carry a signature in its query string
    text = re.sub(r"\?[^\s']+", "?…", str(error))
    if isinstance(error, ImportError | ValueError):
        return UserError(f"{url}: {text}", "http://, https:// or s3://; others when `uv add` has added their package")
    status = getattr(error, "status", None)
    reason = f"{type(error).__name__}: {text}" if status is None else f"status {status}"
    if isinstance(error, PermissionError) or status in (401, 403) or "credential" in reason.lower():
        return UserError(
            f"{url}: access denied: {reason}",
            "credentials in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE) or in ~/.netrc",
        )
    return UserError(f"{url} cannot be read: {reason}", "check the address and the network, then `make`")


def _joined(tables: dict[str, pa.Table], data: Data) -> tuple[pa.Table, Origin]:
    """One table of all files, in the first one's order of columns."""
    (first, names), *others = ((name, table.column_names) for name, table in tables.items())
    check_names(names, first)
    for other, columns in others:
        check_names(columns, other)
        difference = sorted(set(names) ^ set(columns))
        if difference:
            raise UserError(f"{other} and {first} differ in the columns {difference}", "give both the same columns")
    gone = {*data.drop, *(name for name, rule in data.private.items() if rule == "drop")}
    kept = [name for name in names if name not in gone]
    selected = {name: table.select(kept) for name, table in tables.items()}
    schema = selected[first].schema
    for name, table in selected.items():
        try:
            schema = pa.unify_schemas([schema, table.schema], promote_options="permissive")
        except pa.ArrowTypeError as error:
            raise UserError(
                f"{name} does not fit {first}: {str(error).removeprefix('Unable to merge: ')}",
                "name the column's type in data.types, or mend the file",
            ) from None
    origin = Origin(
        columns=names,
        rows={name: table.num_rows for name, table in tables.items()},
        typed=not any(re.search(CSV, name) for name in tables),
    )
    return pa.concat_tables(selected.values(), promote_options="permissive"), origin
