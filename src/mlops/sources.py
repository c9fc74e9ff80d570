"""Where tables come from: bundled tables, files and globs, URLs, SQL. Each becomes one Arrow table.

Nothing here changes a value. What cannot be read is told with the file, and the row where the reader knows it.
"""

from __future__ import annotations

import glob
import os
import re
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.csv
import pyarrow.json
import pyarrow.parquet as pq

from mlops.settings import Data, Query, closest
from mlops.stage import UserError

RAW = Path("data/raw")

# scikit-learn's bundled tables, the name of what each predicts, and the unit of that
BUNDLED = {
    "breast_cancer": "diagnosis",
    "diabetes": "progression",
    "digits": "digit",
    "iris": "species",
    "wine": "cultivar",
}


class Part(NamedTuple):
    """One file of a source, so that a row can be named where it stands."""

    name: str
    table: pa.Table


def read(data: Data) -> list[Part]:
    """Read the source that `params.yaml` names.

    Raises
    ------
    UserError
        Where it is missing, unreachable or unreadable.
    """
    if isinstance(data.source, Query):
        return [Part("the query", read_sql(data.source))]
    if data.source.startswith("sklearn:"):
        return [Part(data.source, read_bundled(data.source.removeprefix("sklearn:")))]
    if "://" in data.source:
        with download(data) as files:
            return _checked([Part(name, read_file(path, data, name)) for name, path in files])
    return _checked([Part(name, read_file(Path(name), data, name)) for name in local_files(data.source)])


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
    """Files that a path or glob names, in sorted order, all below `data/raw`."""
    if not Path(os.path.normpath(source)).is_relative_to(RAW):
        raise UserError(
            f"params.yaml: data.source: {source} is outside {RAW}, where DVC would not see it change",
            f"copy it to {RAW}/{Path(source).name} and name that",
        )
    names = sorted(glob.glob(source, recursive=True))
    if not names:
        beside = [str(path) for path in sorted(RAW.rglob("*")) if path.is_file() and path.name != "README.md"]
        raise UserError(f"params.yaml: data.source: there is no file {source}{closest(source, beside)}")
    return names


@contextmanager
def download(data: Data) -> Iterator[list[tuple[str, Path]]]:
    """Copy what a URL names to temporary files; yields names without query strings, and paths."""
    import aiohttp
    import fsspec
    from fsspec.callbacks import TqdmCallback

    url = str(data.source)
    options: dict[str, Any] = {}
    if url.startswith("http"):
        options["client_kwargs"] = {
            "timeout": aiohttp.ClientTimeout(None, sock_connect=data.timeout, sock_read=data.timeout)
        }
    try:
        system, path = fsspec.core.url_to_fs(url, **options)
        remote = sorted(system.glob(path)) if "*" in path else [path]
        if not remote:
            raise UserError(f"params.yaml: data.source: nothing matches {url}")
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for number, name in enumerate(remote):
                plain = name.split("?")[0]
                target = Path(folder) / f"{number}-{Path(plain).name}"
                system.get_file(
                    name,
                    target,
                    callback=TqdmCallback(
                        tqdm_kwargs={"desc": plain, "unit": "B", "unit_scale": True, "disable": None}
                    ),
                )
                files.append((plain, target))
            yield files
    except UserError:
        raise
    except TimeoutError:
        raise UserError(
            f"{url}: no answer within {data.timeout:g} s",
            "again later, or a larger data.timeout in params.yaml",
        ) from None
    except FileNotFoundError:
        raise UserError(f"{url}: there is no such file", "check data.source in params.yaml") from None
    except (OSError, ValueError, ImportError, aiohttp.ClientError) as error:
        raise UserError(
            f"{url} cannot be read: {type(error).__name__}: {error}",
            "check the address and the network, then `make`",
        ) from None
    except Exception as error:
        if type(error).__module__.startswith(("botocore", "s3fs")):
            raise UserError(f"{url} cannot be read: {error}", "check the credentials in the environment") from None
        raise


def read_file(path: Path, data: Data, name: str) -> pa.Table:
    """Read one CSV, Parquet or JSON Lines file, told apart by its name's ending."""
    readers: dict[str, Callable[[Path, Data, str], pa.Table]] = {
        ".csv": read_csv,
        ".parquet": read_parquet,
        ".jsonl": read_json_lines,
        ".ndjson": read_json_lines,
    }
    suffixes = [suffix for suffix in path.suffixes if suffix in readers]
    if not suffixes:
        raise UserError(f"{name}: cannot tell the format from the name", f"let it end in {', '.join(readers)}")
    if path.is_dir():
        raise UserError(f"{name} is a folder", f"{name}/*{suffixes[-1]}")
    if path.stat().st_size == 0:
        raise UserError(f"{name} is empty", "check how it was written, and copy it again")
    with path.open("rb") as file:
        if re.match(rb"\s*<(!doctype|html)", file.read(200), re.IGNORECASE):
            raise UserError(
                f"{name} is an HTML page, not a table",
                "the address of the file itself, not of a page about it",
            )
    table = readers[suffixes[-1]](path, data, name)
    if table.num_rows == 0:
        raise UserError(f"{name} has a header but no rows")
    return table


def read_csv(path: Path, data: Data, name: str) -> pa.Table:
    """Read a CSV; a column whose type changes half way is an error that names the row."""
    import codecs

    try:
        codecs.lookup(data.encoding)
    except LookupError:
        raise UserError(
            f"params.yaml: data.encoding: unknown encoding {data.encoding!r}", "utf-8, latin-1, cp1252"
        ) from None
    missing = ["", "NA", "N/A", "n/a", "NaN", "nan", "null", "NULL", "None", *data.missing_values]
    as_text = {column: pa.string() for column, kind in data.types.items() if kind in ("categorical", "text")}

    def parse(use_threads: bool) -> pa.Table:
        return pyarrow.csv.read_csv(
            path,
            pyarrow.csv.ReadOptions(use_threads=use_threads, encoding=data.encoding, block_size=1 << 24),
            pyarrow.csv.ParseOptions(delimiter=data.delimiter, newlines_in_values=True),
            pyarrow.csv.ConvertOptions(null_values=missing, strings_can_be_null=True, column_types=as_text),
        )

    try:
        table = parse(use_threads=True)
    except (pa.ArrowInvalid, UnicodeError):
        try:
            table = parse(use_threads=False)  # again, in order: only then the message tells the row
        except UnicodeError as error:
            raise UserError(f"{name} is not {data.encoding}: {error}", "data.encoding: latin-1, or cp1252") from None
        except pa.ArrowInvalid as error:
            raise UserError(f"{name}: {error}", "mend that row, or name the column's type in data.types") from None
    not_text = [field.name for field in table.schema if pa.types.is_binary(field.type)]
    if not_text:
        raise UserError(f"{name}: column {not_text[0]!r} is not {data.encoding}", "data.encoding: latin-1, or cp1252")
    other = next((mark for mark in ";\t|" if mark in table.column_names[0]), None)
    if table.num_columns == 1 and other:
        raise UserError(f"{name} has one column, {table.column_names[0]!r}", f"data.delimiter: {other!r}")
    return table


def read_parquet(path: Path, data: Data, name: str) -> pa.Table:
    """Read a Parquet file."""
    try:
        return pq.read_table(path)
    except (pa.ArrowInvalid, OSError) as error:
        raise UserError(f"{name} is not a whole Parquet file: {error}", "copy it again") from None


def read_json_lines(path: Path, data: Data, name: str) -> pa.Table:
    """Read JSON Lines: one object a line."""
    try:
        return pyarrow.json.read_json(path, pyarrow.json.ReadOptions(block_size=1 << 24))
    except pa.ArrowInvalid as error:
        raise UserError(f"{name}: {error}", "one JSON object a line, each key with one type") from None


def read_sql(query: Query) -> pa.Table:
    """Read the result of a query; the database is named by an environment variable."""
    import pandas as pd
    import sqlalchemy

    url = os.environ.get(query.url_env)
    if not url:
        raise UserError(
            f"params.yaml: data.source reads a database, but ${query.url_env} is not set",
            f"export {query.url_env}=postgresql+psycopg://user:password@host/database",
        )
    # without an order the rows, and so the table's hash, could differ from run to run
    if not re.search(r"\border\s+by\b", query.sql, re.IGNORECASE):
        raise UserError("params.yaml: data.source.sql has no ORDER BY, so its rows have no fixed order", "add ORDER BY")
    try:
        engine = sqlalchemy.create_engine(url)
        with engine.connect().execution_options(stream_results=True) as connection:
            chunks = pd.read_sql_query(
                sqlalchemy.text(query.sql), connection, chunksize=100_000, dtype_backend="pyarrow"
            )
            tables = [pa.Table.from_pandas(chunk, preserve_index=False) for chunk in chunks]
    except (sqlalchemy.exc.SQLAlchemyError, ImportError) as error:
        message = str(getattr(error, "orig", None) or error).replace(url, f"${query.url_env}")
        password = sqlalchemy.make_url(url).password if "://" in url else None
        message = message.replace(str(password), "***") if password else message
        raise UserError(
            f"params.yaml: data.source: the query failed: {message.strip()}",
            "check the query and $" + query.url_env,
        ) from None
    if not any(table.num_rows for table in tables):
        raise UserError("params.yaml: data.source: the query returned no rows")
    return pa.concat_tables(tables, promote_options="permissive").replace_schema_metadata(None)


def _checked(parts: list[Part]) -> list[Part]:
    """The parts, if all have the columns of the first."""
    first = parts[0]
    for part in parts[1:]:
        difference = set(part.table.column_names) ^ set(first.table.column_names)
        if difference:
            raise UserError(f"{part.name} and {first.name} differ in the columns {sorted(difference)}")
    return parts
