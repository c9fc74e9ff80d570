"""The one required check: it passes only when every job that it knows of succeeded."""

from __future__ import annotations

import json

import pytest

from mlops.review import required

GREEN = {"test": "success", "e2e": "success", "review": "success"}


def needs(**results: str) -> str:
    return json.dumps({name: {"result": result, "outputs": {}} for name, result in results.items()})


def test_it_passes_when_every_job_succeeded() -> None:
    assert required.problems(needs(**GREEN)) == []


@pytest.mark.parametrize("result", ["failure", "cancelled", "skipped", "", "Success"])
@pytest.mark.parametrize("job", required.JOBS)
def test_anything_but_success_keeps_it_shut(job: str, result: str) -> None:
    assert required.problems(needs(**{**GREEN, job: result}))


@pytest.mark.parametrize("job", required.JOBS)
def test_a_job_that_was_taken_out_keeps_it_shut(job: str) -> None:
    others = {name: "success" for name in required.JOBS if name != job}
    assert required.problems(needs(**others)) == [f"the job {job!r} is missing"]


def test_a_job_that_was_added_counts() -> None:
    assert required.problems(needs(**GREEN, audit="failure"))


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "{}", "true", '"success"', "{", '{"test": "success"}', '{"test": {}}']
)
def test_no_evidence_keeps_it_shut(text: str) -> None:
    assert required.problems(text)
