"""What can be said of an image without building one; tests/images builds it."""

from __future__ import annotations

import datetime
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import grimp
import numpy as np
import pyarrow as pa
import pytest
from conftest import ROOT, Project, Write, copied, make_hostile
from pydantic import ValidationError
from ruamel.yaml import YAML

from mlops.core import room
from mlops.core.errors import UserError
from mlops.inference.contract import Contract, Field
from mlops.inference.provenance import Release
from mlops.release import builder as tools
from mlops.release import check, dependencies, identity, image, smoke
from mlops.release.archive import pack


def contract(**changed: object) -> Contract:
    fields = [Field(name="length", kind="numeric", nullable=False)]
    whole = {"task": "classification", "target": "kind", "classes": ["a", "b"], "probabilities": True}
    return Contract.model_validate({**whole, "runtime": "onnx", "fields": fields, **changed})


@pytest.fixture
def uv(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where `make` may have put uv."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("PATH", f"{os.environ['PATH']}{os.pathsep}{ROOT / '.uv/bin'}")


def test_the_bento_holds_the_modules_that_the_service_imports_and_no_other() -> None:
    graph = grimp.build_graph("mlops", cache_dir=None)
    service = "mlops.serving.service"
    needed = {service, *graph.find_upstream_modules(service), "mlops.inference.columns"}  # which model files name
    while packages := {name.rpartition(".")[0] for name in needed} - needed - {""}:
        for package in packages:
            needed |= {package, *graph.find_upstream_modules(package)}
    found = set()
    for pattern in YAML(typ="safe").load(ROOT / "bentofile.yaml")["include"]:
        for path in ROOT.glob(pattern):
            if path.suffix == ".py":
                found.add(".".join(path.relative_to(ROOT / "src").with_suffix("").parts).removesuffix(".__init__"))
    assert found == needed


def test_the_bento_holds_the_team_s_files_that_the_features_need_and_no_others(
    team: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    team(features="from .helpers import x\n", helpers="x = 1\n", metrics="")
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "bentofile.yaml", tmp_path)
    before = YAML(typ="safe").load(ROOT / "bentofile.yaml")
    assert YAML(typ="safe").load(image.bentofile(contract())) == before
    before["include"] += [f"src/project/{name}.py" for name in ("__init__", "features", "helpers")]
    trained = contract(code=room.hashes("features"))
    assert YAML(typ="safe").load(image.bentofile(trained)) == before
    team(helpers="x = 2\n")
    with pytest.raises(UserError, match=r"src/project/helpers\.py is not the file that the model was trained with"):
        image.bentofile(trained)


@pytest.mark.usefixtures("uv")
def test_what_the_team_s_code_imports_is_in_the_image_with_all_that_it_needs_and_its_hashes(tmp_path: Path) -> None:
    before = packages(dependencies.export(tmp_path / "requirements.txt", contract()))
    more = packages(dependencies.export(tmp_path / "requirements.txt", contract(packages=["numpy", "scikit-learn"])))
    assert more - before == {"joblib", "narwhals", "scikit-learn", "scipy", "threadpoolctl"}
    # from a group that the image does not install as a whole
    group = contract(packages=["keras"], runtime="scikit-learn")
    held = packages(dependencies.export(tmp_path / "requirements.txt", group))
    assert {"keras", "h5py", "scikit-learn", "numpy"} <= held
    assert not held & {"tensorflow-cpu", "lightgbm", "onnxruntime", "dvc", "pytest"}
    text = (tmp_path / "requirements.txt").read_text()
    assert all(line.count("--hash=") or line.endswith("\\") for line in text.splitlines())


@pytest.mark.usefixtures("uv")
def test_a_package_that_is_not_locked_is_reported_with_its_remedy(tmp_path: Path) -> None:
    with pytest.raises(UserError) as error:
        dependencies.export(tmp_path / "requirements.txt", contract(packages=["deepnet"]))
    assert str(error.value) == ("src/project needs the package deepnet, which is not in uv.lock\n  try: uv add deepnet")


@pytest.mark.parametrize("changed", [{"packages": ["--index-url"]}, {"packages": ["a b"]}, {"code": {"../x.py": "0"}}])
def test_a_contract_names_packages_and_files_of_the_room_only(changed: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        contract(**changed)


@pytest.mark.usefixtures("uv")
def test_none_of_the_team_s_code_runs_where_the_bento_is_built(
    done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copied(done, tmp_path)
    monkeypatch.chdir(project.folder)
    # beside the files, which must be those that the model was trained with
    make_hostile(tmp_path / "first/project", tmp_path / "canary")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path / "first"), str(project.folder / "src")]))
    monkeypatch.syspath_prepend(tmp_path / "first")
    (project.folder / "build/image").mkdir(parents=True)
    (project.folder / "build/image/requirements.txt").write_text("numpy\n")
    project.run(sys.executable, "-m", "mlops.release.identity")
    image.bento(identity.identify(), tmp_path / "bento")
    assert not (tmp_path / "canary").exists(), (tmp_path / "canary").read_text()
    source = tmp_path / "bento/src"
    assert (source / "project/features.py").read_bytes() == (project.folder / "src/project/features.py").read_bytes()
    assert {path.name for path in (source / "project").rglob("*.py")} == {"__init__.py", "features.py"}


def test_an_archive_depends_on_its_content_alone(tmp_path: Path) -> None:
    for number, name in enumerate(("one", "another")):
        folder = tmp_path / name
        for file in ("b/c", "a")[:: 1 - 2 * number]:
            (folder / file).parent.mkdir(parents=True, exist_ok=True)
            (folder / file).write_text(f"content of {file}")
            (folder / file).chmod(0o600 + 0o77 * number)
            os.utime(folder / file, (1000 + number, 1000 + number))
        assert pack(folder, "opt/place", tmp_path / f"{name}.tar") == 26
    assert (tmp_path / "one.tar").read_bytes() == (tmp_path / "another.tar").read_bytes()
    with tarfile.open(tmp_path / "one.tar") as archive:
        names = ["opt", "opt/place", "opt/place/a", "opt/place/b", "opt/place/b/c"]
        assert archive.getnames() == names
        assert {(entry.uid, entry.gid, entry.mtime) for entry in archive} == {(0, 0, 0)}
        assert [oct(entry.mode) for entry in archive] == ["0o755", "0o755", "0o644", "0o755", "0o644"]


@pytest.mark.usefixtures("uv")
def test_a_converted_model_needs_neither_scikit_learn_nor_pandas(tmp_path: Path) -> None:
    held = packages(dependencies.export(tmp_path / "requirements.txt", contract()))
    assert {"bentoml", "numpy", "onnxruntime"} <= held
    assert not held & {"scikit-learn", "pandas", "scipy", "mlflow", "dvc", "pyarrow", "uv", "pytest"}
    text = (tmp_path / "requirements.txt").read_text()
    assert all(line.count("--hash=") or line.endswith("\\") for line in text.splitlines())


@pytest.mark.usefixtures("uv")
def test_another_one_needs_them_and_no_onnx_runtime(tmp_path: Path) -> None:
    trusted = ["mlops.inference.columns.date_parts", "sklearn.linear_model._logistic.LogisticRegression"]
    given = contract(runtime="scikit-learn", trusted=trusted)
    held = packages(dependencies.export(tmp_path / "requirements.txt", given))
    assert {"bentoml", "scikit-learn", "pandas", "skops"} <= held
    assert "onnxruntime" not in held


@pytest.mark.usefixtures("uv")
def test_an_estimator_from_a_package_that_the_image_lacks_is_reported_with_its_remedy(tmp_path: Path) -> None:
    trusted = ["collections.OrderedDict", "lightgbm.sklearn.LGBMClassifier"]
    with pytest.raises(UserError) as error:
        dependencies.export(tmp_path / "requirements.txt", contract(runtime="scikit-learn", trusted=trusted))
    assert "the model holds a lightgbm.sklearn.LGBMClassifier" in str(error.value)
    assert "try: uv add --group serving-scikit-learn lightgbm" in str(error.value)


def test_an_unknown_platform_is_reported_with_those_that_are_known(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"PLATFORM=linux/vax\n  try: PLATFORM=linux/amd64 or linux/arm64"):
        dependencies.install(tmp_path / "requirements.txt", tmp_path, "linux/vax")


def packages(requirements: Path) -> set[str]:
    return {line.partition("==")[0] for line in requirements.read_text().splitlines() if "==" in line}


@pytest.mark.parametrize(
    ("version", "tag"),
    [("1.2.0", "1.2.0"), ("1.2.0-rc.1", "1.2.0-rc.1"), ("1.2.0-3-gABC-dirty", "1.2.0-3-gabc-dirty"), ("1+x", "1-x")],
)
def test_a_version_becomes_a_tag_that_images_may_have(version: str, tag: str) -> None:
    assert image.tag(version) == tag


@pytest.mark.parametrize(
    ("remote", "source"),
    [
        ("https://ada:secret@github.com/ada/model.git", "https://github.com/ada/model"),
        ("git@github.com:ada/model.git", "https://github.com/ada/model"),
        ("ssh://git@example.org/ada/model", "https://example.org/ada/model"),
        ("/somewhere/on/this/machine", None),
    ],
)
def test_the_source_in_the_labels_is_an_address_without_credentials(
    remote: str, source: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    subprocess.run(["git", "init", "--quiet"], check=True)
    subprocess.run(["git", "remote", "add", "origin", remote], check=True)
    assert image.source() == source


@pytest.fixture
def only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A path on which nothing is but git and what a test puts there."""
    folder = tmp_path / "bin"
    folder.mkdir()
    (folder / "git").symlink_to(subprocess.check_output(["which", "git"], text=True).strip())
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.delenv("BUILDER", raising=False)
    return folder


def command(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(0o755)


def test_what_builds_is_found_and_a_client_without_its_server_is_not_taken(only: Path) -> None:
    command(only / "docker", "exit 1")
    command(only / "buildah", "exit 0")
    assert tools.find() == "buildah"
    with pytest.raises(UserError, match="no tool here builds and runs images: neither docker nor podman works"):
        tools.find(runs=True)
    command(only / "podman", "exit 0")
    assert tools.find() == tools.find(runs=True) == "podman"


def test_the_builder_that_was_asked_for_is_taken_or_missed(only: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command(only / "docker", "exit 0")
    monkeypatch.setenv("BUILDER", "podman")
    with pytest.raises(UserError, match="podman does not answer"):
        tools.find()
    monkeypatch.setenv("BUILDER", "bazel")
    with pytest.raises(UserError, match="BUILDER=bazel is none of docker, podman or buildah"):
        tools.find()


def test_release_check_says_in_a_sentence_what_is_missing(only: Path, project: Project) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mlops.release.check"],
        cwd=project.folder,
        env={**project.environment, "PATH": str(only)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr == (
        "error: no tool here builds and runs images: neither docker nor podman works\n  try: install one of them\n"
    )


@pytest.mark.parametrize(
    ("reference", "name", "loopback"),
    [
        ("localhost:5000/ada/model:1.0.0", "localhost:5000/ada/model", True),
        ("127.0.0.1:5000/model@sha256:00", "127.0.0.1:5000/model", True),
        ("ghcr.io/ada/model:1.0.0", "ghcr.io/ada/model", False),
        ("127.0.0.1.example.org/model", "127.0.0.1.example.org/model", False),
        ("localhost.example.org:5000/model", "localhost.example.org:5000/model", False),
    ],
)
def test_only_a_registry_on_this_machine_is_spoken_to_without_tls(reference: str, name: str, loopback: bool) -> None:
    assert tools.repository(reference) == name
    assert tools.is_loopback(reference) is loopback


def test_only_a_commit_with_nothing_beside_it_is_released(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    assert project.git("rev-parse", "--short=10", "HEAD") in check.clean()
    (project.folder / "src/mlops/extra.py").write_text("x = 1\n")
    with pytest.raises(UserError, match=r"uncommitted files: src/mlops/extra\.py"):
        check.clean()


def test_a_lock_that_the_commit_does_not_make_is_not_released(
    done: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copied(done, tmp_path)
    project.edit_params(lambda params: params["model"]["params"].update(C=0.5))
    monkeypatch.chdir(project.folder)
    with pytest.raises(UserError, match=r"dvc\.lock is out of date: .*train.* would run"):
        check.lock()


def test_a_tag_that_is_no_version_is_reported_before_anything_is_built(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project.folder)
    project.git("tag", "vacation")
    project.git("tag", "v1.0.0")
    check.clean()
    project.git("tag", "v1")
    with pytest.raises(UserError, match="the tag 'v1' is not a version"):
        check.clean()


def test_where_nothing_has_run_it_says_so(project: Project, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project.folder)
    with pytest.raises(UserError, match=r"(?s)table\.parquet is missing: the pipeline has not been run\n  try: make$"):
        check.lock()


def test_rows_are_sent_as_a_client_would_send_them() -> None:
    moments = pa.array([datetime.datetime(2024, 2, 29, 12), None], pa.timestamp("us"))
    table = pa.table({"x": [1.5, float("nan")], "n": [1, None], "when": moments, "word": ["ü", None]})
    assert smoke.json_rows(table) == [
        {"x": 1.5, "n": 1, "when": "2024-02-29T12:00:00", "word": "ü"},
        {"x": None, "n": None, "when": None, "word": None},
    ]


def test_answers_are_held_against_what_evaluation_has_recorded() -> None:
    answers = [{"prediction": "a", "probabilities": {"a": 0.75, "b": 0.25}}]
    known = smoke.Recorded([{}], ["a"], np.array([[0.7, 0.3]]))
    assert smoke.difference(answers, known, contract()) == pytest.approx(0.05)
    assert smoke.difference(answers, known._replace(predicted=["b"]), contract()) == float("inf")
    assert smoke.difference(answers * 2, known, contract()) == float("inf")
    numbers = contract(task="regression", classes=None, probabilities=False)
    known = smoke.Recorded([{}] * 2, [1.0, 3.0], None)
    assert smoke.difference([{"prediction": 1.0}, {"prediction": 3.5}], known, numbers) == pytest.approx(0.5)


def test_metrics_must_name_the_release() -> None:
    release = Release.model_construct(version="1.0.0")
    text = (
        'model_info{version="1.0.0"} 1.0\nmodel_rows_total{prediction="a"} 3.0\nmodel_rows_total{prediction="b"} 4.0\n'
    )
    assert smoke.check_metrics(text, release) == 7
    with pytest.raises(UserError, match=r"names the version 1\.0\.0, not 2\.0\.0"):
        smoke.check_metrics(text, Release.model_construct(version="2.0.0"))
