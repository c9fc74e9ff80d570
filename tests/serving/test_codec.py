"""The quick way of a request and the thorough one agree: what one accepts, the other does too, with equal values."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mlops.inference.contract import Contract, Correction, Field
from mlops.inference.runtime import Answer
from mlops.serving import rows
from mlops.serving.codec import Decoder, Encoder

FIELDS = [
    Field(name="size", kind="numeric", nullable=False),
    Field(name="größe", kind="numeric", nullable=True),
    Field(name="large", kind="boolean", nullable=False),
    Field(name="city", kind="categorical", nullable=True, values=["Ulm", 'a "b"', "Köln"]),
    Field(name="comment", kind="text", nullable=True),
    Field(name="day", kind="date", nullable=True),
    Field(name="clock", kind="time", nullable=True),
]
ROW = {
    "size": 1.5,
    "größe": None,
    "large": True,
    "city": "Ulm",
    "comment": 'she said "no"',
    "day": "2025-12-31T23:59:00+02:00",
    "clock": "11:38:36.5",
}


def contract(*fields: Field, **more: Any) -> Contract:
    about = {"task": "regression", "target": "y", "probabilities": False, "runtime": "onnx", **more}
    return Contract(fields=list(fields), **about)


ALL = contract(*FIELDS)
QUICK = Decoder(ALL)


def agree(body: bytes) -> bool:
    """Check that both ways agree on a body; whether the quick one accepts it."""
    found = QUICK.decoded(body)
    if found is None:
        return False
    quick, thorough = (QUICK.columns(*each) for each in (found, QUICK.thorough(body)))
    assert quick.keys() == thorough.keys()
    for name, values in thorough.items():
        assert quick[name].dtype == values.dtype, name
        assert quick[name].shape == values.shape, name
        both_missing = values.dtype.kind in "fM"
        assert np.array_equal(quick[name], values, equal_nan=both_missing), name
    return True


def test_a_request_that_fits_is_read_the_quick_way() -> None:
    assert agree(json.dumps({"rows": [ROW]}).encode())
    assert agree(
        json.dumps({"rows": [ROW, {**ROW, "comment": None, "day": None, "clock": "7:05"}] * 100}, indent=1).encode()
    )


@pytest.mark.parametrize(
    ("kind", "body"),
    [
        ("twice", '{"rows": [{"size": 1, ' + json.dumps(ROW)[1:] + "]}"),
        ("rows twice", f'{{"rows": [{json.dumps(ROW)}], "rows": [{json.dumps(ROW)}]}}'),
        ("unknown", json.dumps({"rows": [{**ROW, "colour": "red"}]})),
        ("beside", json.dumps({"rows": [ROW], "columns": 1})),
        ("missing", json.dumps({"rows": [{name: ROW[name] for name in ROW if name != "größe"}]})),
        ("null", json.dumps({"rows": [{**ROW, "size": None}]})),
        ("bool for number", json.dumps({"rows": [{**ROW, "size": True}]})),
        ("number for bool", json.dumps({"rows": [{**ROW, "large": 1}]})),
        ("text for number", json.dumps({"rows": [{**ROW, "size": "1.5"}]})),
        ("infinite", json.dumps({"rows": [ROW]}).replace("1.5", "1e999")),
        ("too large", json.dumps({"rows": [ROW]}).replace("1.5", "1e39")),
        ("not a number", json.dumps({"rows": [ROW]}).replace("1.5", "NaN")),
        ("other city", json.dumps({"rows": [{**ROW, "city": "Rom"}]})),
        ("no date", json.dumps({"rows": [{**ROW, "day": "20251231"}]})),
        ("no time", json.dumps({"rows": [{**ROW, "clock": "25:00"}]})),
        ("long text", json.dumps({"rows": [{**ROW, "comment": "x" * 10_001}]})),
        ("no rows", json.dumps({"rows": []})),
        ("no JSON", json.dumps({"rows": [ROW]}) + "]"),
        ("half a letter", json.dumps({"rows": [{**ROW, "comment": "\ud800"}]})),
        ("deep", '{"rows": ' + "[" * 5_000 + "]" * 5_000 + "}"),
    ],
)
def test_what_does_not_fit_is_left_to_the_thorough_way(kind: str, body: str) -> None:
    assert QUICK.decoded(body.encode()) is None
    with pytest.raises(rows.InvalidRequestError):
        QUICK(body.encode())


def test_bytes_that_are_no_text_are_left_to_the_thorough_way() -> None:
    body = json.dumps({"rows": [{**ROW, "comment": "?"}]}).encode().replace(b"?", b"\xff")
    assert QUICK.decoded(body) is None


NUMBERS = st.one_of(
    st.floats(allow_nan=False, allow_infinity=False).map(repr),
    st.integers(-(10**30), 10**30).map(str),
    st.from_regex(r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?", fullmatch=True),
)


@settings(max_examples=300, deadline=None)
@given(NUMBERS)
def test_each_number_is_the_same_either_way(number: str) -> None:
    agree(json.dumps({"rows": [ROW]}).replace("1.5", number).encode())


VALUES = st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(), st.sampled_from([*ROW.values()]))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.fixed_dictionaries({name: st.one_of(st.just(ROW[name]), VALUES) for name in ROW}), max_size=3))
def test_whatever_the_quick_way_accepts_the_thorough_one_does_too(sent: list[dict[str, Any]]) -> None:
    agree(json.dumps({"rows": sent}).encode())
    agree(json.dumps({"rows": sent}, ensure_ascii=False).encode(errors="surrogatepass"))


def test_a_name_that_needs_an_escape_takes_the_thorough_way_and_works() -> None:
    odd = contract(Field(name='a "name"', kind="numeric", nullable=False))
    decoder = Decoder(odd)
    assert decoder.decoded(b'{"rows": [{"a \\"name\\"": 1}]}') is None
    assert decoder(b'{"rows": [{"a \\"name\\"": 1}]}')[0].tolist() == [[1.0]]


def test_values_are_corrected_either_way() -> None:
    rule = Correction(low=0.0, high=3.0, outside="clip")
    fixed = Decoder(contract(Field(name="size", kind="numeric", nullable=False, clean=rule)))
    body = b'{"rows": [{"size": 5}]}'
    assert fixed.decoded(body) is not None
    for found in (fixed(body), fixed.thorough(body)):
        assert fixed.columns(*found)["size"].tolist() == [3.0]


@pytest.mark.parametrize("labels", [["benign", "malignant"], ['a "quoted" one', "back\\slash"], [0, 1], [False, True]])
def test_an_answer_names_the_probability_of_each_label(labels: list[Any]) -> None:
    asked = contract(task="classification", classes=labels, probabilities=True)
    answer = Answer(np.array([labels[1], labels[0]], dtype=object), np.array([[0.25, 0.75], [1.0, 1e-7]]))
    found = json.loads(Encoder(asked, "1.2.3", "0" * 32)(answer, "mine"))
    names = [str(label).lower() if isinstance(label, bool) else str(label) for label in labels]
    assert found == {
        "predictions": [
            {"prediction": labels[1], "probabilities": {names[0]: 0.25, names[1]: 0.75}},
            {"prediction": labels[0], "probabilities": {names[0]: 1.0, names[1]: 1e-7}},
        ],
        "version": "1.2.3",
        "model": "0" * 32,
        "request_id": "mine",
    }
