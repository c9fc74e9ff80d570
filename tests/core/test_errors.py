"""Files that appear whole or not at all, and mistakes reported in words."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest

from mlops.core.errors import UserError, errors_in_words
from mlops.core.files import atomic, write_json


def test_a_file_that_could_not_be_finished_leaves_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    write_json({"a": 1}, path)
    before = path.read_bytes()
    with pytest.raises(RuntimeError, match="in the middle"), atomic(path) as partial:  # noqa: PT012
        partial.write_text("half")
        raise RuntimeError("in the middle")
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


def test_numbers_that_json_does_not_know_are_refused_and_the_old_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "numbers.json"
    write_json({"größe": 1}, path)
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json({"a": float("nan")}, path)
    assert path.read_text(encoding="utf-8") == '{\n  "größe": 1\n}\n'


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (UserError("params.yaml: no target", "data.target"), "error: params.yaml: no target\n  try: data.target"),
        (OSError(errno.ENOSPC, "No space left on device", "a.parquet"), "error: the disk is full (a.parquet)"),
        (OSError("[Errno 28] Error writing bytes to file. No space left on device"), "error: the disk is full"),
    ],
)
@pytest.mark.parametrize("code", [1, 3])
def test_a_mistake_is_one_message_and_the_exit_code_that_is_asked_for(
    raised: Exception, message: str, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped, errors_in_words(code):
        raise raised
    assert stopped.value.code == code
    assert capsys.readouterr().err.startswith(message)


def test_ctrl_c_is_no_error_of_ours(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stopped, errors_in_words():
        raise KeyboardInterrupt
    assert stopped.value.code == 130
    assert "`make` continues from here" in capsys.readouterr().err


def test_an_error_of_the_program_is_not_hidden() -> None:
    with pytest.raises(PermissionError), errors_in_words():
        raise PermissionError(errno.EACCES, "denied", "a.parquet")
