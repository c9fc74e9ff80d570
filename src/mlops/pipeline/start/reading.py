"""Open a table of which nothing is known but its place: find its delimiter, encoding, missing markers and types.

What is found is what `params.yaml` will say under `data`, with the reason for each key.
"""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from mlops.core.errors import UserError, counted
from mlops.core.settings import Data, Kind
from mlops.data import formats, kinds, sources
from mlops.data.sources import Origin
from mlops.pipeline import ingest

# Texts that stand for a missing value, beside those that always do
MARKERS = frozenset({"?", "-", "--", ".", "..", "#N/A", "#NA", "<NA>", "N.A.", "n.a.", "NAN", "missing", "Missing"})
MOST_MARKERS = 3
MOSTLY = 0.9
DELIMITERS = ",;\t|"
SNIFFED = 1 << 20
DATE_LIKE = r"^\s*\d{1,4}[-/. ]\w{1,9}[-/., ]+\d{1,4}\b"
DECIMAL_COMMA = r"^\s*[-+]?\d+(\.\d{3})*,\d+\s*$"
# numbers that are names: arithmetic on them means nothing
CODES = frozenset({"zip", "zipcode", "postcode", "postal", "plz", "fips", "naics", "isbn", "icd", "iata"})
# numbers that stand for a missing value where all others are not negative
SENTINELS = (-999, -9999, -99, -99999)


class Source(NamedTuple):
    """A source that has been read.

    Attributes
    ----------
    columns : dict of str to pyarrow.ChunkedArray of shape (n_samples,)
        As the source has them.
    origin : Origin
    kinds : dict of str to Kind
    table : pyarrow.Table of shape (n_samples, n_columns)
        The columns in the type of their kind, without those that no model accepts.
    keys : dict
        What `data` of `params.yaml` says about reading.
    reasons : dict of str to str
        Key → why.
    """

    columns: dict[str, pa.ChunkedArray]
    origin: Origin
    kinds: dict[str, Kind]
    table: pa.Table
    keys: dict[str, Any]
    reasons: dict[str, str]


def read(source: str | dict[str, str], target: str, path: Path | None = None) -> Source:
    """Read a source, and find how `params.yaml` must describe it.

    Parameters
    ----------
    source : str or dict
        As `data.source` will be.
    path : Path, optional
        Where a file is now, if it is not below `data/raw` yet.

    Raises
    ------
    UserError
        If it cannot be read.
    """
    keys: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    with _files(source, path) as files:
        if files and re.search(formats.CSV, next(iter(files))):
            first = next(iter(files.values()))
            keys, reasons = _dialect(first, next(iter(files)))
        raw, origin = _read(source, files, _data(source, target, keys))
        if not origin.typed:
            _refuse_decimal_commas(raw)
            markers, why = _markers(raw)
            if markers:
                keys["missing_values"], reasons["data.missing_values"] = markers, why
                raw, origin = _read(source, files, _data(source, target, keys))
    if not raw.num_rows:
        raise UserError(f"{source} has no rows")
    columns = dict(zip(raw.column_names, raw.columns, strict=True))
    return _typed(columns, origin, keys, reasons)


@contextmanager
def _files(source: str | dict[str, str], path: Path | None) -> Iterator[dict[str, Path]]:
    """The files of a source by name; none for what is no file."""
    if isinstance(source, dict) or source.startswith("sklearn:"):
        yield {}
    elif "://" in source:
        with sources.download(source, 60) as files:
            yield files
    else:
        names = [source] if path else sources.local_files(source)
        yield {name: path or Path(name) for name in names}


def _data(source: Any, target: str, keys: dict[str, Any]) -> Data:
    return Data.model_validate({"source": source, "task": "classification", "target": target, **keys})


def _read(source: Any, files: dict[str, Path], data: Data) -> tuple[pa.Table, Origin]:
    if not files:
        return sources.read(data)
    if [str(path) for path in files.values()] == list(files):
        return sources.read_files(list(files), data)
    found = {name: formats.read_file(path, data, name) for name, path in files.items()}
    schema = sources.unified({name: table.schema for name, table in found.items()}, data)
    rows = {name: table.num_rows for name, table in found.items()}
    typed = not any(re.search(formats.CSV, name) for name in found)
    whole = pa.concat_tables([each.select(schema.names) for each in found.values()], promote_options="permissive")
    return whole, Origin(schema.names, rows, typed)


def _dialect(path: Path, name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """Encoding and delimiter of a CSV, where they are not UTF-8 and a comma."""
    keys: dict[str, Any] = {}
    reasons: dict[str, str] = {}
    if not path.is_file():
        raise UserError(f"there is no file {name}", "check the path")
    encoding = _encoding(path, name)
    if encoding != "utf-8":
        keys["encoding"] = encoding
        reasons["data.encoding"] = "not UTF-8; check a value with an accent in reports/profile.html"
    with pa.input_stream(path) as file:
        start = codecs.getincrementaldecoder(encoding)(errors="replace").decode(file.read(SNIFFED))
    lines = [line for line in start.splitlines()[:50] if line.strip()]
    widths = {mark: [len(row) for row in csv.reader(lines[:-1] or lines, delimiter=mark)] for mark in DELIMITERS}
    fitting = {mark: found[0] for mark, found in widths.items() if found and found[0] > 1 and len({*found}) == 1}
    delimiter = max(fitting, key=lambda mark: fitting[mark], default=",")
    if delimiter != ",":
        keys["delimiter"] = delimiter
        reasons["data.delimiter"] = f"separates {fitting[delimiter]} columns in each of the first rows"
    return keys, reasons


def _encoding(path: Path, name: str) -> str:
    """UTF-8, UTF-16 if the file is marked as such, or cp1252 if every byte is a printable character of it."""
    with path.open("rb") as raw:
        if raw.read(2) in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE):
            return "utf-16"
    decoder = codecs.getincrementaldecoder("utf-8")()
    try:
        with pa.input_stream(path) as file:
            while block := file.read(formats.BLOCK):
                decoder.decode(block)
        decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        pass
    except OSError as error:
        raise UserError(f"{name} is damaged: {error}", "copy it again") from None
    else:
        return "utf-8"
    control = re.compile(rb"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\x81\x8d\x8f\x90\x9d]")
    with pa.input_stream(path) as file:
        while block := file.read(formats.BLOCK):
            if control.search(block):
                raise UserError(
                    f"{name} is encoded neither in UTF-8 nor in cp1252 or UTF-16, or is no text",
                    f"iconv -f ENCODING -t UTF-8 {name}, then start with the converted file",
                )
    return "cp1252"


def _refuse_decimal_commas(raw: pa.Table) -> None:
    for name in raw.column_names:
        if kinds.is_text(raw[name].type) and kinds.share(raw[name], DECIMAL_COMMA) > 0.5:
            raise UserError(
                f"column {name!r} has decimal commas, as in {_example(raw[name], DECIMAL_COMMA)!r}",
                "export the table again with decimal points",
            )


def _example(values: pa.ChunkedArray, pattern: str) -> str:
    return str(values.filter(pc.match_substring_regex(values, pattern))[0].as_py())


def _markers(raw: pa.Table) -> tuple[list[str], str]:
    """Texts that stand for a missing value, and where they are."""
    found: dict[str, list[str]] = {}
    for name in raw.column_names:
        values = raw[name]
        if not kinds.is_text(values.type):
            continue
        distinct = [value for value in pc.unique(values).to_pylist() if value is not None]
        words = [value for value in distinct if value.strip() in MARKERS]
        # a few words among numbers, dates or times
        for pattern in (kinds.NUMBER, kinds.ISO_DATE, kinds.TIME):
            others = [value for value in distinct if not re.match(pattern, value)]
            if others and len(others) <= MOST_MARKERS < len(distinct) and kinds.share(values, pattern) >= MOSTLY:
                words = others
        for word in words:
            found.setdefault(word, []).append(name)
    listed = "; ".join(f"{word!r} in {_named(names)}" for word, names in found.items())
    return sorted(found), f"stand for a missing value: {listed}"


def _named(names: list[str], most: int = 3) -> str:
    return ", ".join(names[:most]) + (f" and {len(names) - most} more" if len(names) > most else "")


def _typed(
    columns: dict[str, pa.ChunkedArray], origin: Origin, keys: dict[str, Any], reasons: dict[str, str]
) -> Source:
    """Each column in the type of its kind; where the values do not fit what they suggest, as names."""
    types: dict[str, Kind] = {}
    found: dict[str, Kind] = {}
    arrays: dict[str, pa.ChunkedArray] = {}
    why: dict[str, str] = {}
    nested = []
    for name, values in columns.items():
        values = values.cast(values.type.value_type) if pa.types.is_dictionary(values.type) else values
        kind = kinds.infer(values, typed=origin.typed)
        if kind is None:
            nested.append(name)
            continue
        declared = _better_kind(name, values, kind)
        try:
            _, arrays[name] = ingest.typed(name, values, declared or kind, origin)
        except UserError:
            if kind in ("categorical", "text"):
                raise
            declared = "categorical"
            why[name] = f"{name}: not all values are of kind {kind}"
            _, arrays[name] = ingest.typed(name, values, declared, origin)
        found[name] = declared or kind
        if declared and declared != kind:
            types[name] = declared
            why.setdefault(name, f"{name}: {_why_kind(declared)}")
    keys, reasons = dict(keys), dict(reasons)
    if types:
        keys["types"], reasons["data.types"] = types, "; ".join(why.values())
    if nested:
        keys["drop"] = nested
        reasons["data.drop"] = f"{', '.join(nested)}: {counted(len(nested), 'column')} of lists or objects"
    ranges = {}
    for name, values in arrays.items():
        low = pc.min(values).as_py() if found[name] == "numeric" and values.null_count < len(values) else None
        if low in SENTINELS and pc.sum(pc.equal(values, low)).as_py() > 1:
            rest = pc.min(values.filter(pc.greater(values, low))).as_py()
            if rest is not None and rest >= 0:
                ranges[name] = {"low": 0, "outside": "missing"}
                arrays[name] = pc.if_else(pc.equal(values, low), None, values)
                why[name] = f"{name}: {low:g} stands for a missing value, as no other value is negative"
    if ranges:
        keys["clean"] = {"ranges": ranges}
        reasons["data.clean.ranges"] = "; ".join(why[name] for name in ranges)
    return Source(columns, origin, found, pa.table(arrays), keys, reasons)


def _better_kind(name: str, values: pa.ChunkedArray, kind: Kind) -> Kind | None:
    """A kind that the name or the form of the values suggests more strongly than their type."""
    if kind == "numeric" and pa.types.is_integer(values.type) and CODES & {*words(name)}:
        return "categorical"
    if kind == "categorical" and kinds.share(values, DATE_LIKE) >= MOSTLY:
        try:
            kinds.convert(values, "date")
        except kinds.MisfitError:
            return None
        return "date"
    return None


def _why_kind(kind: Kind) -> str:
    return "dates in a form of their own" if kind == "date" else "numbers that are names, not amounts"


def words(name: str) -> list[str]:
    """The words of a column's name, in lower case: ``customerID`` → customer, id."""
    apart = re.sub(r"([a-z])([A-Z])", r"\1 \2", name)
    return re.findall(r"[a-z]+|\d+", apart.lower())
