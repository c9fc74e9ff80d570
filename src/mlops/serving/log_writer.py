"""The process that writes the prediction log: `python -m mlops.serving.log_writer`, started by the service.

Entries arrive on its standard input. It writes their lines into files, seals these, and answers on its standard output
with a line of two numbers for each time it wrote: the rows that were logged, and those that could not be. It ends when
its input ends, so it also logs the last requests of a service that was killed.
"""

from __future__ import annotations

import hmac
import os
import select
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, cast

import msgspec

from mlops.serving.segments import Sealer, Segment

if TYPE_CHECKING:  # pydantic would take 10 MB and a tenth of a second
    from mlops.core.logoptions import LogOptions

KEY = "PSEUDONYM_KEY"
LENGTH = 4  # bytes of the length that precedes some entries
BYTES_AT_ONCE = 1 << 18
NICE = 10  # a tenth of a core where all are busy, which logs some 10,000 rows a second; requests go first
IDLE = 1.0  # seconds between two looks at the age of the file
CLOSE_SECONDS = 5.0


class Entry(msgspec.Struct, array_like=True, gc=False):
    """A request that was answered.

    Attributes
    ----------
    moment : float
        Seconds since 1970.
    rows : int
    body, answer : bytes
        JSON.
    computed : dict of str to list of length `rows`
        The team's features.
    """

    moment: float
    request_id: str
    rows: int
    body: bytes
    answer: bytes
    computed: dict[str, list[Any]]


class Body(msgspec.Struct):
    rows: list[msgspec.Raw]


class Answered(msgspec.Struct):
    predictions: list[msgspec.Raw]


class Lines:
    """Writes the lines of a request.

    Parameters
    ----------
    options : LogOptions
    version, model : str
        Of the release.
    key : bytes
        Of the pseudonyms.
    """

    def __init__(self, options: LogOptions, version: str, model: str, key: bytes) -> None:
        release = msgspec.json.encode({"version": version, "model": model})[1:-1]
        if options.sample < 1:
            release += b',"sample":%r' % options.sample
        self.release = b"," + release + b',"features":'
        self.left_out, self.hidden = frozenset(options.leave_out), frozenset(options.pseudonymise)
        self.key = key
        self.bodies, self.answers = msgspec.json.Decoder(Body), msgspec.json.Decoder(Answered)
        self.second, self.shown = -1, b""

    def __call__(self, entry: Entry) -> list[bytes]:
        """One line for each row."""
        body = entry.body
        # a client may send its JSON on several lines; within a text, a line break is always escaped
        if b"\n" in body or b"\r" in body:
            body = body.translate(SPACES)
        head = b'{"time":"%bZ","request_id":"%b","row":' % (self.time(entry.moment), entry.request_id.encode())
        features: Iterable[bytes | msgspec.Raw] = self.bodies.decode(body).rows
        if self.left_out or self.hidden:
            features = [msgspec.json.encode(self.filtered(msgspec.json.decode(each))) for each in features]
        answers = self.answers.decode(entry.answer).predictions
        computed = self.computed(entry)
        return [
            b"".join((head, b"%d" % row, self.release, given, more, b",", bytes(answer)[1:], b"\n"))
            for row, (given, more, answer) in enumerate(zip(features, computed, answers, strict=True))
        ]

    def time(self, moment: float) -> bytes:
        """A moment as in ISO 8601, in UTC."""
        second = int(moment)
        if second != self.second:
            self.second, self.shown = second, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second)).encode()
        return b"%b.%06d" % (self.shown, int(1e6 * (moment - second)))

    def computed(self, entry: Entry) -> list[bytes]:
        """The computed features of each row, as a key and value of JSON; nothing where there are none."""
        if not entry.computed:
            return [b""] * entry.rows
        rows = [{name: values[row] for name, values in entry.computed.items()} for row in range(entry.rows)]
        if self.left_out or self.hidden:
            rows = [self.filtered(row) for row in rows]
        return [b',"computed":' + msgspec.json.encode(row) for row in rows]

    def filtered(self, row: dict[str, Any]) -> dict[str, Any]:
        """A row without what `monitor.log` leaves out, and with pseudonyms."""
        return {
            name: self.pseudonym(value) if name in self.hidden and value is not None else value
            for name, value in row.items()
            if name not in self.left_out
        }

    def pseudonym(self, value: Any) -> str:
        """As `ingest` makes them of private columns: HMAC-SHA-256 of the text, 128 bits."""
        text = value if isinstance(value, str) else msgspec.json.encode(value).decode()
        return hmac.digest(self.key, text.encode(), "sha256").hex()[:32]


SPACES = bytes.maketrans(b"\n\r", b"  ")


class Writer:
    """Writes lines into a file, and the next file when that is large or old enough.

    Parameters
    ----------
    folder : Path
    options : LogOptions
    lines : Lines
    """

    def __init__(self, folder: Path, options: LogOptions, lines: Lines) -> None:
        self.folder, self.options, self.lines = folder, options, lines
        self.segment: Segment | None = None
        self.sealer = Sealer(folder, options)
        self.failing = False

    def __call__(self, entries: list[Entry]) -> tuple[int, int]:
        """Log some requests; the numbers of rows that were logged, and that could not be."""
        contents: list[bytes] = []
        rows = failed = 0
        for entry in entries:
            try:
                contents += self.lines(entry)
                rows += entry.rows
            except Exception as error:
                failed += entry.rows
                say(f"request {entry.request_id} cannot be logged: {type(error).__name__}: {error}")
        if rows and not self.write(b"".join(contents)):
            rows, failed = 0, failed + rows
        if self.segment and self.segment.is_due(self.options):
            self.seal()
        return rows, failed

    def write(self, content: bytes) -> bool:
        """Write lines; whether they were."""
        try:
            if self.segment is None or self.segment.is_gone():
                self.segment = Segment.create(self.folder)
            self.segment.write(content)
        except OSError as error:
            self.segment = None  # it may end within a line
            if not self.failing:
                say(f"the prediction log cannot be written: {type(error).__name__}: {error}")
            self.failing = True
            return False
        self.failing = False
        return True

    def seal(self) -> None:
        """Give the file away, to be compressed."""
        if self.segment is not None:
            self.segment.close()
            self.sealer.put(self.segment.path)
            self.segment = None

    def close(self) -> None:
        """Seal the file; gives up after some seconds."""
        self.seal()
        self.sealer.close(CLOSE_SECONDS)


def say(text: str) -> None:
    """Write into the log of the service."""
    print(text, file=sys.stderr, flush=True)


def arriving(source: int) -> Iterator[list[Entry]]:
    """The entries that have arrived, until the end; none where nothing has for a second."""
    decoder = msgspec.msgpack.Decoder(list[Entry])
    left = bytearray()
    while True:
        if not select.select([source], [], [], IDLE)[0]:
            yield []
            continue
        content = os.read(source, BYTES_AT_ONCE)
        if not content:
            return
        left += content
        entries, start = [], 0
        with memoryview(left) as view:
            while len(left) >= start + LENGTH:
                end = start + LENGTH + int.from_bytes(view[start : start + LENGTH], "little")
                if len(left) < end:
                    break
                entries += decoder.decode(view[start + LENGTH : end])
                start = end
        del left[:start]
        yield entries


def main() -> None:
    """Write what arrives on standard input."""
    folder, chosen, version, model = msgspec.json.decode(sys.argv[1])
    options = cast("LogOptions", SimpleNamespace(**chosen))
    writer = Writer(Path(folder), options, Lines(options, version, model, os.environ.get(KEY, "").encode()))
    with suppress(OSError):
        os.nice(NICE)
    answers = True
    for entries in arriving(sys.stdin.fileno()):
        done = writer(entries)
        if entries and answers:
            try:
                os.write(sys.stdout.fileno(), b"%d %d\n" % done)
            except OSError:  # the service was killed
                answers = False
    writer.close()


if __name__ == "__main__":
    main()
