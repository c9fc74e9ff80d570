"""The parts of a request and an answer that no running service shows by itself."""

from __future__ import annotations

import json
import subprocess
import sys
import timeit
from typing import Any

import numpy as np
import pytest

from mlops.inference.contract import Contract, Field
from mlops.inference.runtime import Answer
from mlops.serving import rows

NUMBERS = [Field(name=f"measured {number}", kind="numeric", nullable=False, low=0.0, high=1.0) for number in range(30)]
NAMED = [Field(name='a "name"', kind="text", nullable=True), Field(name="day", kind="date", nullable=True)]


# reads a body, and tells how many problems it has named and how many KB of memory that took at most
MEASURE = """
import sys
from pathlib import Path
from mlops.inference.contract import Contract
from mlops.serving import rows

def most():
    lines = Path("/proc/self/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1])

read = rows.Reader(Contract.model_validate_json(sys.argv[1]))
body = sys.stdin.buffer.read()
before = most()
try:
    read(body)
except rows.InvalidRequestError as refused:
    print(len(refused.detail), most() - before)
"""
UNKNOWN = ", ".join(f'"unknown {number:05}": 1' for number in range(100_000))
WRONG = json.dumps({field.name: "0.5" for field in NUMBERS})
LIST = ", ".join(["[]"] * 300_000)


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
        with pytest.raises(rows.InvalidRequestError) as refused:
            rows.check_finite(answer, asked)
        assert (refused.value.status, [each["row"] for each in refused.value.detail]) == (422, [1])


def test_a_range_beyond_the_usual_widens_what_is_taken() -> None:
    read = rows.Reader(contract(Field(name="stars", kind="numeric", nullable=False, low=0.0, high=1e200)))
    assert read(b'{"rows": [{"stars": 1e150}]}') == [{"stars": 1e150}]
    with pytest.raises(rows.InvalidRequestError):
        read(b'{"rows": [{"stars": 1e201}]}')


def refusal(sent: Any, *fields: Field) -> rows.InvalidRequestError:
    with pytest.raises(rows.InvalidRequestError) as refused:
        rows.Reader(contract(*fields))(sent if isinstance(sent, bytes) else json.dumps(sent).encode())
    return refused.value


@pytest.mark.skipif(sys.platform != "linux", reason="the most that a process ever held is read from /proc")
@pytest.mark.parametrize(
    "sent",
    [
        f'{{"rows": [{", ".join(["{}"] * 10_000)}]}}',
        f'{{"rows": [{{{UNKNOWN}}}]}}',
        f'{{"rows": [], {UNKNOWN}}}',
        f'{{"rows": [{", ".join([WRONG] * 10_000)}]}}',
        f'{{"rows": [{LIST}]}}',
    ],
    ids=["missing", "unknown", "unknown beside rows", "wrong", "no rows"],
)
def test_mistakes_without_number_take_little_memory(sent: str) -> None:
    described = contract(*NUMBERS).model_dump_json()
    command = [sys.executable, "-c", MEASURE, described]
    measured = subprocess.run(command, input=sent.encode(), capture_output=True, check=True, timeout=120)
    named, grown = map(int, measured.stdout.split())
    assert named == rows.MOST_PROBLEMS
    assert grown < 40_000 + 10 * len(sent) / 1_000


@pytest.mark.parametrize("part", ["{}", "[]"])
def test_a_body_of_little_but_brackets_is_refused_before_it_is_read(part: str) -> None:
    few, many = (f'{{"rows": [{",".join([part] * number)}]}}'.encode() for number in (900_000, 1_100_000))
    for sent, status in ((few, 422), (many, 413)):
        with pytest.raises(rows.InvalidRequestError) as refused:
            rows.Reader(contract(*NUMBERS))(sent)
        assert refused.value.status == status


def test_each_row_that_is_wrong_is_named_with_its_fields_in_their_order() -> None:
    good = dict.fromkeys((field.name for field in NUMBERS[:3]), 0.5)
    wrong = [
        {**good, "measured 1": "x", "measured 7": 1},
        good,
        {"measured 1": None, "measured 2": 1e39},
        7,
        {**good, "measured 0": True},
    ]
    found = [(each["row"], each["field"], each["problem"]) for each in refusal({"rows": wrong}, *NUMBERS[:3]).detail]
    assert found == [
        (0, "measured 1", "input should be a valid number"),
        (0, "measured 7", "is not a field of this model; did you mean 'measured 2'?"),
        (2, "measured 0", "is missing"),
        (2, "measured 1", "is null, but the training data had no missing values in this column"),
        (2, "measured 2", "is outside the limit 3e+38"),
        (3, None, "input should be an object"),
        (4, "measured 0", "input should be a valid number"),
    ]


def test_of_many_mistakes_the_first_are_named_and_of_few_all_are_counted() -> None:
    many, few = (refusal({"rows": [{}] * count}, *NUMBERS[:4]) for count in (6, 5))
    assert many.error == "more than 20 invalid values; the first 20 are listed"
    assert [each["row"] for each in many.detail] == [row for row in range(5) for _ in range(4)]
    assert few.error == "20 invalid values"
    assert few.detail == many.detail


@pytest.mark.parametrize("sent", [{"row": [{}]}, {"rows": [], "row": 1}, {"rows": {"a": 1}, "row": [{}]}])
def test_what_is_beside_the_rows_is_named_whatever_they_are(sent: Any) -> None:
    rows_wrong, beside = refusal(sent, *NUMBERS).detail
    assert (rows_wrong["row"], rows_wrong["field"]) == (None, "rows")
    assert beside == {"row": None, "field": "row", "problem": "is not a field of this model"}


@pytest.mark.parametrize(("depth", "status"), [(150, 422), (100_000, 400)])
def test_a_field_of_any_depth_is_refused(depth: int, status: int) -> None:
    sent = body(1, *NUMBERS).replace(b"}]", b', "deep": %s%s}]' % (b"[" * depth, b"]" * depth))
    assert refusal(sent, *NUMBERS).status == status


@pytest.mark.parametrize("text", ['"', '""', "\\", '\\"', "\\u0022", "a:b", '{"a": "b"}', "年", "\x7f"])
@pytest.mark.parametrize("escaped", [True, False])
def test_no_text_looks_like_a_field_that_comes_twice(text: str, escaped: bool) -> None:
    read = rows.Reader(contract(*NAMED))
    row = {'a "name"': text, "day": "2025-01-01T00:00:00Z"}
    assert read(json.dumps({"rows": [row]}, ensure_ascii=escaped).encode())[0]['a "name"'] == text
    twice = json.dumps({"rows": [row]}, ensure_ascii=escaped).replace('"day"', '"day": null, "day"')
    with pytest.raises(rows.InvalidRequestError) as refused:
        read(twice.encode())
    assert refused.value.detail == [{"row": 0, "field": "day", "problem": "appears more than once"}]


def test_looking_for_fields_that_come_twice_costs_next_to_nothing() -> None:
    read = rows.Reader(contract(*NUMBERS))
    sent = body(1, *NUMBERS)
    found = read(sent)
    looking = min(timeit.repeat(lambda: sent.count(b'"') != read.expected_quotes(found), number=200, repeat=20))
    whole = min(timeit.repeat(lambda: read(sent), number=200, repeat=20))
    assert looking < whole / 4  # of reading alone; of a request it is a hundredth
