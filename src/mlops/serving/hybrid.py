"""Requests with keys: each row is answered from the table of `precomputed`, or else by the model.

For values that are sent, the answer is always the one that the model gives; the table only saves the work.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Annotated, Any, NamedTuple

import msgspec
import numpy as np
import prometheus_client as prometheus

from mlops.core.errors import counted
from mlops.inference.runtime import Answer, Array
from mlops.serving import rows
from mlops.serving.batcher import Batcher
from mlops.serving.codec import Decoder, Encoder
from mlops.serving.precomputed import KEY, MOST_KEY, Entry, Table
from mlops.serving.rows import InvalidRequestError


class Request(msgspec.Struct, forbid_unknown_fields=True):
    rows: list[msgspec.Raw]


class Alone(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    key: Annotated[str, msgspec.Meta(min_length=1, max_length=MOST_KEY)]


class Keys(msgspec.Struct, forbid_unknown_fields=True):
    """A request of keys alone."""

    rows: Annotated[list[Alone], msgspec.Meta(min_length=1, max_length=rows.MOST_ROWS)]


class Prediction(msgspec.Struct):
    prediction: str | int | float | bool


class Predictions(msgspec.Struct):
    predictions: list[msgspec.Raw]


class Sent(NamedTuple):
    """A row of a request.

    Attributes
    ----------
    key : str or None
    fields : bytes
        Its values in JSON; empty where it is a key alone.
    """

    key: str | None
    fields: bytes


class Found(NamedTuple):
    """The answer to a request.

    Attributes
    ----------
    fields, predictions : list of bytes
        JSON of each row: its values, as sent or as scored, and what was predicted.
    computed : dict of str to ndarray of shape (n_samples,)
        The team's features, where there are any.
    """

    fields: list[bytes]
    predictions: list[bytes]
    computed: dict[str, Array]

    @property
    def body(self) -> bytes:
        """The request as it would have been without keys."""
        return whole(self.fields)


class Hybrid:
    """Answers requests with keys.

    Parameters
    ----------
    table : Table
    decode, model, encode : Decoder, Batcher, Encoder
        Of the service.
    count : callable
        Is called with the answers of the table; the model's are counted by `model`.
    """

    def __init__(
        self,
        table: Table,
        decode: Decoder,
        model: Batcher,
        encode: Encoder,
        count: Callable[[Answer], None],
    ) -> None:
        self.table, self.decode, self.model, self.encode, self.count = table, decode, model, encode, count
        self.keys, self.key_of = msgspec.json.Decoder(Keys), msgspec.json.Decoder(str | int | None)
        self.requests, self.row = msgspec.json.Decoder(Request), msgspec.json.Decoder(dict[str, msgspec.Raw])
        self.prediction, self.predictions = msgspec.json.Decoder(Prediction), msgspec.json.Decoder(Predictions)
        keyed = prometheus.Counter("model_keyed_rows_total", "Rows with a key, by what answered them", ["answered_by"])
        self.keyed = {each: keyed.labels(each) for each in ("table", "model", "nothing")}

    async def __call__(self, body: bytes, explain: bool = False) -> Found | None:
        """The answer to a request; None if none of its rows has a key.

        Raises
        ------
        InvalidRequestError
            Where a row can be answered neither by the table nor by the model, or is to be explained.
        """
        sent = self.read(body)
        if sent is None:
            return None
        if explain:
            raise InvalidRequestError(422, "rows with a key are not explained; send the fields without the key")
        entries = self.table.find(row.key for row in sent if row.key is not None)
        found = [None if row.key is None else entries.get(row.key) for row in sent]
        self.check(sent, found)
        fields = [row.fields or entry.fields for row, entry in zip(sent, found, strict=True)]  # type: ignore[union-attr]
        labels = [self.label(entry) for entry in found]
        taken = np.array([label is not None for label in labels])
        predictions = [b"" if entry is None else entry.answer for entry in found]
        asked: Any = []
        answer = None
        if not taken.all() or any(row.fields for row in sent):
            numbers, others = self.decode(whole(fields))
            compared = [place for place, row in enumerate(sent) if row.fields and taken[place]]
            if compared:
                taken[compared] = self.same(numbers, others, compared, found)
            asked = np.flatnonzero(~taken)
            answer = await self.ask(numbers, others, asked)
            for place, made in zip(asked, self.made(answer), strict=True):
                predictions[place] = made
        by_table = [label for label, is_taken in zip(labels, taken, strict=True) if is_taken]
        if by_table:
            self.count(Answer(np.array(by_table, dtype=object), None))
            self.keyed["table"].inc(len(by_table))
        if answer is not None:
            self.keyed["model"].inc(sum(sent[place].key is not None for place in asked))
        return Found(fields, predictions, self.computed(found, asked, answer))

    def read(self, body: bytes) -> list[Sent] | None:
        """The rows of a body; None if none has a key, or if it is for `decode` to say what is wrong with the body."""
        rows.check_brackets(body)
        with suppress(msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            alone = self.keys.decode(body).rows
            # as below
            if body.count(b'"') == 2 + 4 * len(alone) + sum(row.key.count('"') for row in alone):
                return [Sent(row.key, b"") for row in alone]
        try:
            request = self.requests.decode(body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return None
        contents = [bytes(each) for each in request.rows]
        # another member of this name would have more quotes
        if len(contents) > rows.MOST_ROWS or body.count(b'"') != 2 + sum(each.count(b'"') for each in contents):
            return None
        sent, keyed = [], False
        for number, content in enumerate(contents):
            try:
                members = self.row.decode(content)
            except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
                raise rows.misfits([rows.problem(number, None, "input should be an object")]) from None
            if KEY not in members:
                sent.append(Sent(None, content))
                continue
            keyed = True
            # the last of two members of a name would win
            if content.count(b'"') != sum(quotes(name, value) for name, value in members.items()):
                raise rows.misfits([rows.problem(number, None, "has a member twice")])
            key = self.key(number, bytes(members.pop(KEY)))
            sent.append(Sent(key, joined(members) if members or key is None else b""))
        return sent if keyed else None

    def key(self, number: int, content: bytes) -> str | None:
        """The key of a row, as text."""
        try:
            if len(content) > 6 * MOST_KEY:
                raise ValueError
            key = self.key_of.decode(content)
        except ValueError:  # as msgspec raises
            key = ""
        if key == "" or len(str(key)) > MOST_KEY:
            why = f"should be a text of 1 to {MOST_KEY} letters, or an integer"
            raise rows.misfits([rows.problem(number, KEY, why)])
        return None if key is None else str(key)

    def check(self, sent: list[Sent], found: list[Entry | None]) -> None:
        """Check that there are values for each row."""

        missing = [place for place, row in enumerate(sent) if not row.fields and found[place] is None]
        if missing:
            self.keyed["nothing"].inc(len(missing))
            why = "is not in the table of predictions" if self.table.about else "has no valid table to be looked up in"
            why += "; send the fields of the model as well"
            named = [rows.problem(place, KEY, why) for place in missing[: rows.MOST_PROBLEMS]]
            raise InvalidRequestError(404, f"{counted(len(missing), 'key')} without a prediction", named)

    def label(self, entry: Entry | None) -> Any:
        """What the table predicts; None where it does not answer."""
        if entry is None or not self.table.answers:
            return None
        try:
            return self.prediction.decode(entry.answer).prediction
        except (msgspec.MsgspecError, UnicodeDecodeError):  # a damaged file
            return None

    def same(self, numbers: Array, others: dict[str, Array], places: list[int], found: list[Entry | None]) -> Array:
        """For some rows, whether their values are the ones that were scored."""
        try:
            scored, scored_others = self.decode(whole([found[place].fields for place in places]))  # type: ignore[union-attr]
        except InvalidRequestError:  # a damaged file
            return np.zeros(len(places), dtype=bool)
        same = equal(numbers[places], scored).all(axis=1)
        for name, values in others.items():
            same &= equal(values[places], scored_others[name])
        return np.asarray(same)

    async def ask(self, numbers: Array, others: dict[str, Array], asked: Array) -> Answer | None:
        """What the model predicts for some of the rows."""
        if not len(asked):
            return None
        try:
            return await self.model(numbers[asked], {name: values[asked] for name, values in others.items()})
        except InvalidRequestError as refused:
            for each in refused.detail:
                each["row"] = None if each["row"] is None else int(asked[each["row"]])
            raise

    def made(self, answer: Answer | None) -> list[bytes]:
        """The predictions of the model, each in JSON."""
        return (
            []
            if answer is None
            else [bytes(each) for each in self.predictions.decode(self.encode(answer, "")).predictions]
        )

    def computed(self, found: list[Entry | None], asked: Array, answer: Answer | None) -> dict[str, Array]:
        """The team's features of all rows."""
        names = [each.name for each in self.decode.contract.features]
        if not names:
            return {}
        places = {int(place): number for number, place in enumerate(asked)}
        made = {} if answer is None else answer.computed or {}
        fresh = {name: values.tolist() for name, values in made.items()}  # as JSON has them
        lines = []
        for place, entry in enumerate(found):
            if place in places:
                lines.append({name: values[places[place]] for name, values in fresh.items()})
            else:
                lines.append(msgspec.json.decode(entry.computed or b"{}") if entry else {})
        return {name: np.array([line.get(name) for line in lines], dtype=object) for name in names}


def whole(fields: list[bytes]) -> bytes:
    """A request with these rows."""
    return b'{"rows":[%b]}' % b",".join(fields)


def joined(members: dict[str, msgspec.Raw]) -> bytes:
    """An object with these members, as they were written."""
    return b"{%b}" % b",".join(msgspec.json.encode(name) + b":" + bytes(value) for name, value in members.items())


def quotes(name: str, value: msgspec.Raw) -> int:
    """How many quotes a member of an object has."""
    return msgspec.json.encode(name).count(b'"') + bytes(value).count(b'"')


def equal(one: Array, other: Array) -> Array:
    """Where values are equal; two missing ones are."""
    return np.asarray((one == other) | ((one != one) & (other != other)), dtype=bool)
