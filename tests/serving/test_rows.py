"""The parts of a request and an answer that no running service shows by itself."""

from __future__ import annotations

import json
import timeit

import numpy as np
import pytest

from mlops.contract import Contract, Field
from mlops.inference import Answer
from mlops.serving import rows

NUMBERS = [Field(name=f"measured {number}", kind="numeric", nullable=False, low=0.0, high=1.0) for number in range(30)]
NAMED = [Field(name='a "name"', kind="text", nullable=True), Field(name="day", kind="date", nullable=True)]


def contract(*fields: Field) -> Contract:
    return Contract(task="regression", target="y", probabilities=False, runtime="onnx", fields=list(fields))


def body(count: int, *fields: Field) -> bytes:
    row = {field.name: 0.5 if field.kind == "numeric" else None for field in fields}
    return json.dumps({"rows": [row] * count}).encode()


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -np.inf])
def test_an_answer_that_is_no_number_is_a_refusal_that_names_the_row(wrong: float) -> None:
    for answer in (
        Answer(np.array([1.0, wrong]), None),
        Answer(np.array(["a", "b"]), np.array([[0.5, 0.5], [wrong, 0.0]])),
    ):
        asked = contract(*NUMBERS)
        if answer.probabilities is not None:
            asked = asked.model_copy(update={"classes": ["a", "b"], "probabilities": True})
        with pytest.raises(rows.RefusedError) as refused:
            rows.answers(answer, asked)
        assert (refused.value.status, [each["row"] for each in refused.value.detail]) == (422, [1])


def test_a_range_beyond_the_usual_widens_what_is_taken() -> None:
    read = rows.Reader(contract(Field(name="stars", kind="numeric", nullable=False, low=0.0, high=1e200)))
    assert read(b'{"rows": [{"stars": 1e150}]}') == [{"stars": 1e150}]
    with pytest.raises(rows.RefusedError):
        read(b'{"rows": [{"stars": 1e201}]}')


@pytest.mark.parametrize("text", ['"', '""', "\\", '\\"', "\\u0022", "a:b", '{"a": "b"}', "年", "\x7f"])
@pytest.mark.parametrize("escaped", [True, False])
def test_no_text_looks_like_a_field_that_comes_twice(text: str, escaped: bool) -> None:
    read = rows.Reader(contract(*NAMED))
    row = {'a "name"': text, "day": "2025-01-01T00:00:00Z"}
    assert read(json.dumps({"rows": [row]}, ensure_ascii=escaped).encode())[0]['a "name"'] == text
    twice = json.dumps({"rows": [row]}, ensure_ascii=escaped).replace('"day"', '"day": null, "day"')
    with pytest.raises(rows.RefusedError) as refused:
        read(twice.encode())
    assert refused.value.detail == [{"row": 0, "field": "day", "problem": "comes twice"}]


def test_looking_for_fields_that_come_twice_costs_next_to_nothing() -> None:
    read = rows.Reader(contract(*NUMBERS))
    sent = body(1, *NUMBERS)
    found = read(sent)
    looking = min(timeit.repeat(lambda: sent.count(b'"') != read.expected_quotes(found), number=200, repeat=20))
    whole = min(timeit.repeat(lambda: read(sent), number=200, repeat=20))
    assert looking < whole / 4  # of reading alone; of a request it is a hundredth
