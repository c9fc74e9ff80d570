"""`make trace`: from any ID to the release, the people, the parameters and the data, and what could not be reached."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Project
from release.past import EVALUATION, NOW, Past, image, lock, md5
from review.github import API, GitHub

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.release import lineage, lookup, trace

# two texts whose MD5 hashes begin with the same six digits
TWINS = ("m1540", "m9472")


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Past:
    """Two models, each released and deployed; the second one is of a branch that was merged with a merge commit."""
    past = Past(tmp_path / "clone")
    past.model("Regularise more (#1)\n\nReviewed-by: Grace Hopper <grace@example.org>\n", "first")
    past.tag("v1.0.0")
    past.deploy("v1.0.0", 1)
    main = past.commits
    branch = past.model("Add a feature", "second", author="Linus", on="feature", parents=(main,))
    files = {"dvc.lock": lock("second"), str(paths.EVALUATION): json.dumps(EVALUATION).encode()}
    message = "Merge pull request #7 from ada/feature\n\nAdd the spread of radii\n"
    past.commit(message, files, "Grace", parents=(main, branch))
    past.commit("Explain the spread (#8)", {"docs/x.md": b"x\n"})
    past.tag("v1.1.0")
    past.deploy("v1.1.0", 2)
    monkeypatch.chdir(past.write())
    return past


def traced(given: str, capsys: pytest.CaptureFixture[str], **environment: str) -> dict[str, Any]:
    trace.main({"ID": given, "FORMAT": "json", **environment})
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def read(given: str, capsys: pytest.CaptureFixture[str], **environment: str) -> str:
    trace.main({"ID": given, **environment})
    return capsys.readouterr().out


def logged(folder: Path, *rows: dict[str, Any]) -> Path:
    """A prediction log."""
    folder.mkdir(exist_ok=True)
    whole = {
        "time": "2026-01-08T10:00:00.000001Z",
        "request_id": "order-7",
        "row": 0,
        "version": "1.0.0",
        "model": md5("first"),
        "features": {"mean radius": 13.5},
        "prediction": "benign",
        "probabilities": {"benign": 0.955, "malignant": 0.045},
    }
    lines = [json.dumps(whole | row) for row in rows]
    (folder / f"20260108T100000Z-{0:012x}.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    "given",
    ["v1.0.0", "1.0.0", image(1), image(1).partition("@")[2], image(1).partition(":")[2][:12], md5("first")[:8]],
    ids=["tag", "version", "image", "digest", "short digest", "short model"],
)
def test_every_id_leads_to_the_release_and_the_people_behind_it(
    given: str, past: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    text = read(given, capsys)
    assert "release       v1.0.0\n" in text
    assert f"model         {md5('first')}\n" in text
    assert "pull request  #1" in text
    assert "author        Ada\n" in text
    assert "approved by   Grace Hopper <grace@example.org>\n" in text
    assert 'model.estimator: "sklearn.linear_model.LogisticRegression"' in text
    assert "split.test_size" not in text, "a default is not shown"
    assert f"train {NOW[str(paths.TRAIN)]}" in text
    assert f"rows          {EVALUATION['rows']['train']:,} for training" in text


def test_a_commit_leads_to_the_releases_that_have_its_model(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    commit = past.git("rev-parse", "v1.1.0~1")
    found = traced(commit[:9], capsys)["traces"][0]
    assert (found["commit"]["commit"], found["releases"]) == (commit, ["v1.1.0"])


def test_a_release_names_the_merge_that_made_its_model_and_the_author_of_the_branch(
    past: Past, capsys: pytest.CaptureFixture[str]
) -> None:
    found = traced("v1.1.0", capsys)["traces"][0]
    assert found["commit"]["subject"] == "Explain the spread"
    change = found["change"]
    assert (change["pull_request"], change["subject"], change["author"]) == (7, "Add the spread of radii", "Linus")
    assert set(found["runs_in"]) == {"compose", "quadlet", "kubernetes, staging", "kubernetes, production", "knative"}
    assert traced("v1.0.0", capsys)["traces"][0]["runs_in"] == []


def test_what_is_not_in_git_is_named_with_the_way_to_it(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    text = read("v1.1.0", capsys).partition("not reached")[2]
    assert "approvers   GITHUB_TOKEN is not set; set GITHUB_TOKEN=" in text
    assert "or read https://github.com/ada/a-project/pull/7" in text
    assert "gate report GITHUB_TOKEN is not set" in text
    assert "MLflow run  there is no mlflow.db here; set MLFLOW_TRACKING_URI=" in text


def test_a_request_leads_to_its_rows_and_its_release(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    log = logged(Path("log"), {"row": 1, "prediction": "malignant"}, {}, {"request_id": "order-77"}, {"bad": "\x00"})
    text = read("order-7", capsys, LOG=str(log))
    first, second = text.index("row 0  benign  (benign 0.955"), text.index("row 1  malignant")
    assert first < second < text.index("release       v1.0.0\n")
    assert "received  mean radius 13.5" in text
    assert "order-77" not in text


def test_an_id_that_a_client_used_twice_leads_to_both_releases(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    again = {"time": "2026-02-01T00:00:00Z", "version": "1.1.0", "model": md5("second")}
    found = traced("order-7", capsys, LOG=str(logged(Path("log"), {}, again)))
    assert [each["releases"] for each in found["traces"]] == [["v1.0.0"], ["v1.1.0"]]


def test_of_many_rows_the_first_are_kept_and_all_are_counted(
    past: Past, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lookup, "MOST_FOUND", 3)
    found = traced("order-7", capsys, LOG=str(logged(Path("log"), *({"row": 19 - number} for number in range(20)))))
    assert ([each["row"] for each in found["rows"]], found["row_count"]) == ([0, 1, 2], 20)


def test_a_client_cannot_take_the_name_of_a_release(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    log = logged(Path("log"), {"request_id": "v1.1.0"})
    assert traced("v1.1.0", capsys, LOG=str(log))["traces"][0]["releases"] == ["v1.0.0"]
    assert traced("v1.1.0", capsys)["traces"][0]["releases"] == ["v1.1.0"]


def test_a_version_between_two_tags_leads_to_its_commit(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    short = past.git("rev-parse", "--short=10", "v1.1.0~1")
    rows = {"version": f"1.0.0-3-g{short}-dirty", "model": md5("second")}
    found = traced("order-7", capsys, LOG=str(logged(Path("log"), rows)))["traces"][0]
    assert found["commit"]["commit"].startswith(short)
    assert "model" not in found["missing"]
    assert "changes that were not committed" in found["missing"]["changes"]


def test_a_row_of_a_model_that_was_never_committed_says_so(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    log = logged(Path("log"), {"model": "f" * 32})
    assert (
        "served from a changed working tree" in traced("order-7", capsys, LOG=str(log))["traces"][0]["missing"]["model"]
    )
    log = logged(Path("log"), {"model": "f" * 32, "version": "9.9.9"})
    assert "the log names version 9.9.9" in read("order-7", capsys, LOG=str(log))


def test_an_unknown_id_says_where_it_was_looked_for(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(
        UserError, match=r"nothing is known by the ID 'abcdef99'; searched: 2 tags, 2 models .* 2 images"
    ):
        trace.main({"ID": "abcdef99"})
    with pytest.raises(UserError, match="log has no request 'nobody'"):
        trace.main({"ID": "nobody", "LOG": str(logged(Path("log"), {}))})
    with pytest.raises(UserError, match="missing is not a folder"):
        trace.main({"ID": "nobody", "LOG": "missing"})
    with pytest.raises(UserError, match="ID is not set"):
        trace.main({"ID": " "})


def test_an_ambiguous_id_lists_what_it_may_be(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert md5(TWINS[0])[:6] == md5(TWINS[1])[:6]
    past = Past(tmp_path / "clone")
    for twin in TWINS:
        past.model("Try", twin)
    monkeypatch.chdir(past.write())
    with pytest.raises(UserError, match=f"ambiguous: model {md5(TWINS[0])}, model {md5(TWINS[1])}"):
        trace.main({"ID": md5(TWINS[0])[:6]})


def test_an_image_whose_tag_was_not_fetched_names_the_tag(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    past.git("tag", "--delete", "v1.1.0")
    assert "the tag v1.1.0, which this clone lacks; git fetch origin --tags" in read(image(2), capsys)


def test_a_shallow_clone_does_not_name_its_first_commit_as_the_origin(
    past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["git", "clone", "--quiet", "--depth=1", past.folder.as_uri(), str(tmp_path / "shallow")]
    subprocess.run(command, check=True)
    monkeypatch.chdir(tmp_path / "shallow")
    text = read(md5("second"), capsys)
    assert "this clone is shallow, so the commit that made the model is not in it; git fetch --unshallow" in text


def test_a_commit_off_main_was_not_reviewed(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    past.git("checkout", "--quiet", "--orphan", "other")
    past.git("-c", "user.name=Eve", "-c", "user.email=e@x.org", "commit", "--quiet", "--message", "Own")
    assert "not on main as this clone knows it" in read(past.git("rev-parse", "HEAD"), capsys)


def test_what_a_terminal_would_obey_is_not_printed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    past = Past(tmp_path / "clone")
    past.model("Clear \x1b[2J the screen\u202e (#1)\n\nReviewed-by: \x1b]0;title\x07\n", "first")
    past.tag("v1.0.0")
    monkeypatch.chdir(past.write())
    log = logged(Path("log"), {"features": {"\x1b[31m": "\x07"}, "prediction": "\x1b[2J"})
    text = read("order-7", capsys, LOG=str(log))
    assert "Clear" in text
    assert not {"\x1b", "\x07", "\u202e"} & set(text)


def test_neither_make_nor_a_shell_runs_a_part_of_an_id(project: Project) -> None:
    for given in ("$(shell touch run)", "`touch run`", '"; touch run; "', "'; touch run #", "$$(touch run)", "--help"):
        for name in ("ID", "LOG"):
            others = {"ID": "order-7"} if name == "LOG" else {}
            assigned = [f"{key}={value}" for key, value in ({name: given} | others).items()]
            done = project.run("make", "--assume-old=.venv/.ready", "trace", *assigned, check=False)
            assert given in done.stdout, done.stdout
            assert done.returncode == 2
            assert not (project.folder / "run").exists(), given


@pytest.fixture
def github(github: GitHub) -> Iterator[GitHub]:
    yield github
    assert github.changes == []


def with_token(github: GitHub) -> dict[str, str]:
    return {"GITHUB_TOKEN": github.token, "GITHUB_API_URL": f"{github.url}{API}"}


def test_github_names_those_whose_last_review_approves_and_the_run_of_the_gate(
    past: Past, github: GitHub, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = past.git("rev-parse", "v1.0.0^{commit}")
    head = {"ref": "better", "sha": "1" * 40, "user": {"login": "ada", "type": "User"}, "repo": {"id": 1}}
    merge = {"state": "closed", "merged_at": "2026-01-01T00:00:00Z", "merge_commit_sha": commit, "head": head}
    github.add_pull("better", "1" * 40, **merge)
    github.trees[commit] = github.trees["1" * 40] = "2" * 40
    check = github.add_check("1" * 40)
    states = [("grace", "APPROVED"), ("eve", "APPROVED"), ("grace", "COMMENTED"), ("eve", "CHANGES_REQUESTED")]
    github.reviews[1] = [{"user": {"login": login}, "state": state} for login, state in states]
    github.reviews[1].append({"user": None, "state": "COMMENTED"})
    text = read("v1.0.0", capsys, **with_token(github))
    assert "approved by   grace\n" in text
    assert "author        Ada (ada)\n" in text
    assert f"gate          passed at 1111111111  {check['html_url']}\n" in text
    assert "approvers" not in text.partition("not reached")[2]


def test_a_commit_without_a_number_is_looked_up_by_its_hash(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, github: GitHub, capsys: pytest.CaptureFixture[str]
) -> None:
    past = Past(tmp_path / "clone")
    past.model("Rebase and merge", "first")
    monkeypatch.chdir(past.write())
    commit = past.git("rev-parse", "HEAD")
    github.add_pull("better", "1" * 40, merged_at="2026-01-01T00:00:00Z", merge_commit_sha=commit)
    assert traced(md5("first"), capsys, **with_token(github))["traces"][0]["change"]["pull_request"] == 1


def test_a_github_that_cannot_be_reached_costs_one_line(past: Past, capsys: pytest.CaptureFixture[str]) -> None:
    unreachable = {"GITHUB_TOKEN": "secret", "GITHUB_API_URL": "https://localhost:1"}
    text = read("v1.1.0", capsys, **unreachable)
    assert "pull request  #7" in text
    assert "approvers   GitHub cannot be reached" in text
    assert "secret" not in text


def test_the_run_of_the_training_is_found_by_the_hash_of_the_model(
    past: Past, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    import mlflow

    uri = f"sqlite:///{Path('store.db').resolve()}"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    mlflow.set_tracking_uri(uri)
    try:
        with mlflow.start_run() as run:
            mlflow.set_tags({"model.md5": md5("first"), "commit": "0" * 40})
        with mlflow.start_run():
            mlflow.set_tags({"model.md5": md5("another")})
        found = traced("v1.0.0", capsys, MLFLOW_TRACKING_URI=uri)["traces"][0]
        assert [each["id"] for each in found["mlflow"]] == [run.info.run_id]
        assert (
            "has none of this model"
            in traced("v1.1.0", capsys, MLFLOW_TRACKING_URI=uri)["traces"][0]["missing"]["MLflow run"]
        )
    finally:
        mlflow.set_tracking_uri("")


def test_the_hashes_of_a_lock_are_those_that_yaml_gives() -> None:
    from mlops.core.lock import outputs, parse_lock

    content = lock("first")
    parsed = parse_lock(content)
    assert parsed is not None
    outs = {path: each["md5"] for path, each in outputs(parsed).items()}
    found = lineage.hashes(content)
    assert {path: found[path] for path in outs} == outs
    # as somebody may have written it by hand
    flow = b"stages: {train: {outs: [{path: models/model.skops, md5: %b}]}}" % (b"a" * 32)
    assert lineage.hashes(flow) == {"models/model.skops": "a" * 32}
    assert lineage.hashes(b"<<<<<<< HEAD\n") == {}
