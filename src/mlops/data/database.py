"""A database as a source: the result of one SQL query as an Arrow table.

The URL comes from an environment variable. `params.yaml` names the variable, which might contain another secret, so no
message shows any part of its value.
"""

from __future__ import annotations

import os
import re
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pyarrow as pa

from mlops.core.errors import NoRowsError, UserError
from mlops.core.settings import Data, Query

BATCH = 50_000


def read_sql(query: Query, data: Data) -> pa.Table:
    """Read the result of a query from the database that an environment variable names."""
    import sqlalchemy

    # without an order, the rows and therefore the table's hash could differ between runs
    if not re.search(r"\border\s+by\b", query.sql, re.IGNORECASE):
        raise UserError("params.yaml: data.source.sql has no ORDER BY, so its rows have no fixed order", "add ORDER BY")
    engine = _engine(query.url_env)
    tables = []
    try:
        with engine.connect().execution_options(yield_per=BATCH, no_parameters=True) as connection:
            result = connection.exec_driver_sql(query.sql)
            names = list(result.keys())
            # without a size, every partition of the result is one row
            for rows in result.partitions(BATCH):
                columns = [
                    _column(name, values, data) for name, values in zip(names, zip(*rows, strict=True), strict=True)
                ]
                tables.append(pa.table(columns, names))
    except sqlalchemy.exc.SQLAlchemyError as error:
        message = " ".join(str(getattr(error, "orig", None) or error).split())
        if data.private and isinstance(error, sqlalchemy.exc.DataError):
            message = f"{type(error.orig).__name__} (message omitted, it may contain private values)"
        message = _redacted(message, engine.url)
        raise UserError(
            f"params.yaml: data.source: the query failed: {message}", f"check the query and ${query.url_env}"
        ) from None
    if not tables:
        raise NoRowsError("params.yaml: data.source: the query returned no rows", "check its WHERE clause")
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UserError(f"the query returns the column {twice!r} more than once", "rename one with AS")
    try:
        return pa.concat_tables(tables, promote_options="permissive")
    except (pa.ArrowTypeError, pa.ArrowInvalid) as error:
        raise UserError(f"the query: {error}", "CAST that column in the query") from None


def _engine(variable: str) -> Any:
    """An SQLAlchemy engine for the URL in an environment variable; no message shows the URL."""
    import sqlalchemy

    example = f"export {variable}=postgresql+psycopg://user:password@host/database"
    url = os.environ.get(variable)
    if not url:
        raise UserError(f"params.yaml: data.source reads a database, but ${variable} is not set", example)
    try:
        engine = sqlalchemy.create_engine(url, poolclass=sqlalchemy.NullPool)
    except (sqlalchemy.exc.ArgumentError, ValueError):
        raise UserError(f"${variable} is not the URL of a database that SQLAlchemy knows", example) from None
    except ImportError as error:
        raise UserError(f"${variable} needs the package {error.name}", f"uv add {error.name}") from None
    if "@" in (engine.url.host or ""):  # the message would show the rest of a password
        raise UserError(
            f"${variable} has a password that contains @", "write it as %40, and : as %3A, / as %2F, % as %25"
        )
    file = engine.url.database or ""
    if engine.dialect.name == "sqlite" and not file.startswith("file:") and not Path(file).is_file():
        raise UserError(f"${variable} names a SQLite file that does not exist", "check the path")
    return engine


def _redacted(message: str, url: Any) -> str:
    """A driver's message without any part of the URL."""
    for secret in filter(None, [url.password, *map(str, url.query.values())]):
        message = message.replace(secret, "***")
    for name in filter(None, [url.host, url.database, url.username]):
        message = re.sub(rf"(?<!\w){re.escape(name)}(?!\w)", "***", message)
    return message


def _column(name: str, values: tuple[Any, ...], data: Data) -> pa.Array:
    """Convert the values of one column from the driver to one Arrow type."""
    if name in data.dropped:
        return pa.nulls(len(values))
    first = next((value for value in values if value is not None), None)
    if name in data.private or isinstance(first, UUID):
        return pa.array([None if value is None else str(value) for value in values])
    try:
        return pa.array(values)
    except (pa.ArrowInvalid, TypeError, OverflowError) as error:
        if isinstance(first, Decimal):  # Arrow's decimals have neither NaN nor infinity
            return pa.array([None if value is None else float(value) for value in values])
        raise UserError(
            f"the query's column {name!r} has no single type: {error}", "CAST it in the query, or omit it"
        ) from None
