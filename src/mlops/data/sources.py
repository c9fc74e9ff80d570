"""Where tables come from: bundled tables, files and globs, URLs, SQL. Each becomes one Arrow table.

No value is changed here. An error names the file and, if the reader knows it, the row.
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
from mlops.core.settings import PARAMS, Data, Query, without_credentials
from mlops.core.yamlfile import closest
from mlops.data import addresses
from mlops.data.database import read_sql
from mlops.data.formats import CSV, check_names, read_file

RAW = Path("data/raw")

# scikit-learn's bundled tables and the names of their targets
BUNDLED = {
    "breast_cancer": "diagnosis",
    "diabetes": "progression",
    "digits": "digit",
    "iris": "species",
    "wine": "cultivar",
}


class Origin(NamedTuple):
    """The origin of a table, used to name a row in its file."""

    columns: list[str]
    """All columns of the source, including those of `data.drop`, which the table no longer has."""
    rows: dict[str, int]
    """Files (or the query) in order, with their numbers of rows."""
    typed: bool
    """Whether the source distinguishes text from numbers; a CSV does not."""
    first: int = 0
    """Rows of the first file before those of the table."""

    def place(self, row: int) -> str:
        """``row 7 of data/raw/b.csv``, counted from 1 below the header, for a row of the whole table."""
        row += self.first
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
        With the source's types, without the columns in `data.drop`.
    origin : Origin
        The origin of its rows.

    Raises
    ------
    UserError
        If the source is missing, unreachable or unreadable.
    """
    if isinstance(data.source, Query):
        return _joined({"the query": read_sql(data.source, data)}, data)
    if data.source.startswith("sklearn:"):
        return _joined({data.source: read_bundled(data.source.removeprefix("sklearn:"))}, data)
    if "://" in data.source:
        with download(data.source, data.timeout) as files:
            return _joined({name: read_file(path, data, name) for name, path in files.items()}, data)
    return read_files(local_files(data.source), data)


def read_files(names: list[str], data: Data) -> tuple[pa.Table, Origin]:
    """Read files in a folder that DVC tracks as one table.

    Raises
    ------
    UserError
        If one is missing or unreadable, or their columns differ.
    """
    for name in names:
        if not Path(name).is_file():
            raise UserError(
                f"{name} is missing, but {PARAMS} names it", "git checkout or dvc pull it, or remove the entry"
            )
    return _joined({name: read_file(Path(name), data, name) for name in names}, data)


def describe(data: Data) -> str:
    """A short description of the source for the catalogue."""
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
    """Files that match a path or glob, sorted; all are in folders that DVC tracks.

    Links to files are followed, as DVC does. Links to folders are not, because DVC would miss changes behind them.
    """
    inside = Path(os.path.normpath(source)).is_relative_to(RAW)
    names = [source] if Path(source).exists() else sorted(glob.glob(source, recursive=True))
    if not inside or any(not Path(name).parent.resolve().is_relative_to(RAW.resolve()) for name in names):
        raise UserError(
            f"params.yaml: data.source: {source} is outside {RAW}, where DVC does not detect changes",
            f"copy it to {RAW}/{Path(source).name} and set data.source to that path",
        )
    if not names:
        beside = [str(path) for path in sorted(RAW.rglob("*")) if path.is_file() and path.name != "README.md"]
        raise UserError(f"params.yaml: data.source: there is no file {source}{closest(source, beside)}")
    return names


@contextmanager
def download(url: str, timeout: float) -> Iterator[dict[str, Path]]:
    """Download the files of a URL to temporary files.

    Parameters
    ----------
    url : str
        URL of one file, or with ``*`` of several. Credentials come from the environment and ``~/.netrc``.
    timeout : float
        Seconds without a response before the download fails.

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
        except Exception as error:  # every file system of fsspec raises its own errors
            if isinstance(error.__cause__, UserError):  # that of an archive only says that the file is missing
                raise error.__cause__ from None
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise unreachable(url, timeout, error) from None
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
    system, path = fsspec.core.url_to_fs(url, **{name: options(name, timeout) for name in protocols})
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


def options(protocol: str, timeout: float) -> dict[str, Any]:
    """Settings of the file system of one protocol."""
    import aiohttp

    if protocol in addresses.WEB:
        patience = aiohttp.ClientTimeout(None, sock_connect=timeout, sock_read=timeout)
        return {"get_client": addresses.client, "client_kwargs": {"timeout": patience, "trust_env": True}}
    if protocol in ("s3", "s3a"):
        # s3fs retries already; botocore's retries would multiply with them
        attempts = {"total_max_attempts": 1}
        return {"config_kwargs": {"connect_timeout": timeout, "read_timeout": timeout, "retries": attempts}}
    return {}


def unreachable(url: str, timeout: float, error: Exception) -> UserError:
    """Say why a URL could not be read."""
    if isinstance(error, TimeoutError) or "Timeout" in type(error).__name__:  # botocore has its own timeout errors
        return UserError(
            f"{url}: no response within {timeout:g} s", "try again later, or increase data.timeout in params.yaml"
        )
    if isinstance(error, FileNotFoundError):
        return UserError(f"{url}: there is no such file", "check data.source in params.yaml")
    # the address after a redirect may contain a signature in its query string
    text = re.sub(r"\?[^\s']+", "?…", str(error))
    if isinstance(error, ImportError | ValueError):
        return UserError(
            f"{url}: {text}", "use http://, https:// or s3://, or add the package of another protocol with `uv add`"
        )
    status = getattr(error, "status", None)
    reason = f"{type(error).__name__}: {text}" if status is None else f"status {status}"
    if isinstance(error, PermissionError) or status in (401, 403) or "credential" in reason.lower():
        return UserError(
            f"{url}: access denied: {reason}",
            "set them in the environment (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_PROFILE) or in ~/.netrc",
        )
    return UserError(f"{url} cannot be read: {reason}", "check the address and the network, then `make`")


def _joined(tables: dict[str, pa.Table], data: Data) -> tuple[pa.Table, Origin]:
    """Concatenate the files, with the column order of the first."""
    schema = unified({name: table.schema for name, table in tables.items()}, data)
    names = next(iter(tables.values())).column_names
    selected = [table.select(schema.names) for table in tables.values()]
    origin = Origin(
        columns=names,
        rows={name: table.num_rows for name, table in tables.items()},
        typed=not any(re.search(CSV, name) for name in tables),
    )
    return pa.concat_tables(selected, promote_options="permissive"), origin


def unified(schemas: dict[str, pa.Schema], data: Data) -> pa.Schema:
    """The columns that files have in common, in the order of the first, without those that are dropped.

    Raises
    ------
    UserError
        If their columns differ, or a column has types that do not go together.
    """
    (first, names), *others = ((name, schema.names) for name, schema in schemas.items())
    check_names(names, first)
    for other, columns in others:
        check_names(columns, other)
        difference = sorted(set(names) ^ set(columns))
        if difference:
            raise UserError(f"{other} and {first} have different columns: {difference}", "use the same columns in both")
    kept = [name for name in names if name not in data.dropped]
    known = pa.schema([schemas[first].field(name) for name in kept])
    for name, schema in schemas.items():
        selected = pa.schema([schema.field(column) for column in kept])
        try:
            known = pa.unify_schemas([known, selected], promote_options="permissive")
        except pa.ArrowTypeError as error:
            raise UserError(
                f"{name} does not fit {first}: {str(error).removeprefix('Unable to merge: ')}",
                "declare the column's type in data.types, or correct the file",
            ) from None
    return known
