"""What is released is identified, or a sentence says why it cannot be."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import Project, copied

from mlops.core.errors import UserError
from mlops.core.paths import RELEASE
from mlops.release import identity


@pytest.fixture(scope="module")
def project(released: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copied(released, tmp_path_factory.mktemp("identified"))


@pytest.fixture(autouse=True)
def inside(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)


def test_a_release_that_is_written_already_is_not_written_again() -> None:
    for before in ("", "{}"):
        RELEASE.write_text(before)
        identity.main()
        written = RELEASE.stat()
        identity.main()  # others may be reading it, or about to do the same
        assert (RELEASE.stat().st_ino, RELEASE.stat().st_mtime_ns) == (written.st_ino, written.st_mtime_ns)


def test_a_folder_beside_the_model_is_named() -> None:
    folder = Path("models/service/.ipynb_checkpoints")
    folder.mkdir()
    with pytest.raises(UserError, match=rf"{folder} is a folder.*\n  try: rm -r {folder}"):
        identity.identify()
    folder.rmdir()
    identity.identify()


@pytest.mark.parametrize("change", ["", "{half}", "[]", "schema: '2.0'\n", "<<<<<<< HEAD\n{all}=======\n>>>>>>> b\n"])
def test_a_broken_lock_is_reported_in_a_sentence(change: str) -> None:
    lock = Path("dvc.lock")
    whole = lock.read_text()
    lock.write_text(change.replace("{all}", whole).replace("{half}", f"{whole[:-80]}\n- :"))
    try:
        with pytest.raises(UserError, match=r"dvc\.lock is not a valid DVC lock file"):
            identity.identify()
    finally:
        lock.write_text(whole)


def test_a_model_that_is_older_than_the_settings_or_the_code_is_announced(
    project: Project, capsys: pytest.CaptureFixture[str]
) -> None:
    identity.main()
    assert "note:" not in capsys.readouterr().out
    feature = Path("src/project/features.py")
    params, code = project.read("params.yaml"), project.read(str(feature))
    try:
        project.edit_params(lambda all_params: all_params["model"]["params"].update(C=2.0))
        feature.write_text(f"{code}# edited\n", encoding="utf-8")
        identity.main()
        assert capsys.readouterr().out.splitlines()[0] == (
            f"note: the model is older than params.yaml: model, {feature}; `make` trains it anew"
        )
    finally:
        Path("params.yaml").write_text(params, encoding="utf-8")
        feature.write_text(code, encoding="utf-8")
