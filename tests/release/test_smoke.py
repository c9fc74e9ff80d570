"""What is shown of a service that does not start."""

from __future__ import annotations

import pytest

from mlops.release import smoke

FAILED = "2026-01-01T00:00:00+0000 [ERROR] [:1] Application startup failed. Exiting."


@pytest.mark.parametrize(
    ("printed", "expected"),
    [
        ("", "it printed nothing"),
        ("one\n\ntwo\n", "two"),
        (
            f"starting\nerror: the model is missing\n  try: make\n{FAILED}\n",
            f"error: the model is missing   try: make {FAILED}",
        ),
        (
            f"Traceback (most recent call last):\nModuleNotFoundError: No module named 'numpy.f2py'\n{FAILED}\n",
            "ModuleNotFoundError: No module named 'numpy.f2py'",
        ),
    ],
    ids=["nothing", "the last line", "our error", "a traceback"],
)
def test_the_cause_is_found_before_what_the_server_says_about_it(printed: str, expected: str) -> None:
    assert smoke.cause(printed) == expected
