"""What a release says and proposes: notes from measured numbers, foreign text as text, once however often it is run."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from release.hub import Clone, environment
from review.github import GitHub
from review.test_hostile_text import HOSTILE, Page, report_of

from mlops.core.errors import UserError
from mlops.core.files import write_json
from mlops.core.github import Api
from mlops.core.report import Change, Changes, Comparison, Estimate, Report, Rows
from mlops.inference.provenance import Release
from mlops.release import announce, deploy
from mlops.release.notes import MOST_BYTES, Facts, notes
from mlops.release.tag import Tag

# the job holds a token, so that none of the team's code may run in it
pytestmark = pytest.mark.usefixtures("hostile")

COMMIT, BEFORE, MD5 = "1" * 40, "2" * 40, "3" * 32
REFERENCE = f"ghcr.io/ada/a-project@sha256:{'a' * 64}"
TAG = {
    "tag": "v1.1.0",
    "commit": COMMIT,
    "previous": "v1.0.0",
    "pull_request": 12,
    "head": "4" * 40,
    "url": "https://github.com/ada/a-project/actions/runs/7",
}
RELEASE = Release(
    version="1.1.0",
    commit=COMMIT,
    model_md5=MD5,
    service_md5=f"{MD5}.dir",
    files={"model.onnx": MD5},
    data={"source": "sklearn:breast_cancer", "rows": 569, "sha256": "5" * 64, "train_md5": MD5, "test_md5": MD5},
    export={"runtime": "onnx"},
    metrics={"recall": {"value": 0.9434, "low": 0.875, "high": 1.0}},
)
REPORT = Report(
    head=COMMIT,
    base=BEFORE,
    dirty=False,
    touched=True,
    verdict="pass",
    blocks=False,
    target="diagnosis",
    estimator="sklearn.linear_model.LogisticRegression",
    rows=Rows(train=426, test=143),
    metrics=[
        Comparison(
            metric="recall",
            greater_is_better=True,
            baseline=0.9245,
            candidate=0.9434,
            difference=Estimate(value=0.0189, low=-0.01, high=0.06),
            worse=0.1,
            detectable=0.02,
        )
    ],
    changes=Changes(
        params=[Change(name="model.params.C", before="0.1", after="1.0")],
        data=[Change(name="rows", before="500", after="569")],
    ),
)


def output(report: Report = REPORT, release: Release = RELEASE, card: str | None = None, **tag: Any) -> str:
    page = "https://github.com/ada/a-project"
    files = f"{page}/releases/download/v1.1.0"
    return notes(Facts(Tag(**{**TAG, **tag}), release, report, REFERENCE, page, files, "ada/a-project", card=card))


def test_the_notes_hold_numbers_differences_changes_digest_and_how_to_check_it() -> None:
    text = output(card="# Card\n\nWhat it is for, see [the canvas](../docs/canvas.md).")
    assert "| <code>recall</code> | 0.943 (0.875 … 1) | 0.9245 | +0.0189 (−0.01 … +0.06) |" in text
    assert "| metric | value | v1.0.0 | difference |" in text
    assert "passed [`gate`](https://github.com/ada/a-project/actions/runs/7) in #12" in text
    assert "| <code>model.params.C</code> | <code>0.1</code> | <code>1.0</code> |" in text
    assert "| <code>rows</code> | <code>500</code> | <code>569</code> |" in text
    assert REFERENCE in text
    assert f"gh attestation verify oci://{REFERENCE} --repo ada/a-project" in text
    assert f"--source-ref refs/tags/v1.1.0 --source-digest {COMMIT}" in text
    assert MD5 in text
    assert f"What it is for, see [the canvas](https://github.com/ada/a-project/blob/{COMMIT}/docs/canvas.md)." in text
    assert "compare/v1.0.0...v1.1.0" in text


def test_the_first_release_is_compared_with_nothing() -> None:
    text = output(previous=None)
    assert "This is the first release." in text
    assert "| metric | value |" in text
    assert "difference" not in text


def test_a_release_of_documentation_says_that_the_model_is_the_same() -> None:
    report = Report(head=COMMIT, base=BEFORE, dirty=False, touched=False, verdict="pass", blocks=False)
    text = output(report)
    assert "Documentation only: the model is the same." in text
    assert "| <code>recall</code> | 0.943 (0.875 … 1) |" in text


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_text_of_a_stranger_stays_text(text: str) -> None:
    metrics = {text: {"value": 0.5, "low": 0.4, "high": 0.6}}
    release = RELEASE.model_copy(update={"metrics": metrics, "data": {"sha256": text}, "export": {"runtime": text}})
    page = Page(output(report_of(text), release))
    assert page.open == []
    assert {tag for tag, _ in page.tags} <= {
        *("h3", "p", "code", "pre", "details", "summary", "sub", "span"),
        *("table", "thead", "tbody", "tr", "th", "td", "a"),
    }
    links = {attributes.get("href") for tag, attributes in page.tags if tag == "a"}
    assert links == {TAG["url"], "https://github.com/ada/a-project/compare/v1.0.0...v1.1.0"}
    assert page.others == []
    assert "@ada" not in output(report_of(text), release)


def test_notes_that_would_be_too_long_are_cut_and_say_so() -> None:
    text = output(card="x" * MOST_BYTES)
    assert len(text.encode()) < MOST_BYTES + 200
    assert "too long for release notes" in text
    assert REFERENCE in text


@pytest.fixture
def github(github: GitHub) -> GitHub:
    github.tags = {"v1.1.0": COMMIT, "v1.1.0-rc.1": COMMIT}
    return github


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Clone:
    """The machine of the job: main is checked out, and the files of the job before are there."""
    clone = Clone(tmp_path)
    clone.commit("start", {str(path): (ROOT / path).read_text(encoding="utf-8") for path in deploy.PLACES})
    monkeypatch.chdir(clone.folder)
    write_json(TAG, "build/release/tag.json")
    write_json(RELEASE.model_dump(), "build/release/release.json")
    write_json(json.loads(REPORT.model_dump_json()), "build/release/report.json")
    return clone


def run(github: GitHub, tag: str = "v1.1.0", **others: str) -> None:
    announce.main(environment(github, tag, **{"REFERENCE": REFERENCE, "ATTESTATION": "7", **others}))


def test_a_release_is_made_once_and_updated_when_run_again(
    github: GitHub, clone: Clone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(github, GITHUB_STEP_SUMMARY=str(tmp_path / "summary"))
    (release,) = github.releases
    assert (release["tag_name"], release["draft"], release["prerelease"]) == ("v1.1.0", False, False)
    assert REFERENCE in release["body"]
    (pull,) = github.pulls
    assert release["html_url"] in pull["body"]
    assert pull["html_url"] in capsys.readouterr().out
    assert pull["html_url"] in (tmp_path / "summary").read_text(encoding="utf-8")
    (clone.folder / "build/release/CARD.md").write_text("A card since.", encoding="utf-8")
    run(github)
    assert len(github.releases) == len(github.pulls) == 1
    assert "A card since." in github.releases[0]["body"]


def test_the_package_is_attached_once_and_only_by_its_digest(github: GitHub, clone: Clone) -> None:
    wheel = clone.folder / announce.WHEEL / "model_of_diagnosis-1.1.0-py3-none-any.whl"
    wheel.parent.mkdir(parents=True)
    wheel.write_bytes(b"PK a package")
    with pytest.raises(UserError, match="is not the wheel that was made: its digest is sha256:"):
        run(github, WHEEL=f"sha256:{'0' * 64}")
    assert github.changes == []
    digest = f"sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()}"
    for _ in range(2):
        run(github, WHEEL=digest)
    assert github.assets == {wheel.name: b"PK a package"}
    (release,) = github.releases
    assert (
        f"pip install {github.url}/{github.repository}/releases/download/v1.1.0/{wheel.name}#{digest.replace(':', '=')}"
        in (release["body"])
    )
    assert f"gh attestation verify {wheel.name} --repo {github.repository}" in release["body"]
    wheel.rename(wheel.with_name("$(id).whl"))
    with pytest.raises(UserError, match="does not hold one wheel"):
        run(github, WHEEL=digest)


def test_a_file_is_sent_to_github_alone(github: GitHub) -> None:
    api = Api(f"{github.url}/api/v3", github.token)
    with pytest.raises(UserError, match="that is not its own"):
        api.upload("https://127.0.0.1:1/repos/ada/a-project/releases/1/assets", "a.whl", b"")


def test_where_no_workflow_may_open_pull_requests_the_summary_links_to_a_form(
    github: GitHub, clone: Clone, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    github.failures["pulls/create"] = lambda: (403, {"message": "GitHub Actions is not permitted to"}, {})
    run(github, GITHUB_STEP_SUMMARY=str(tmp_path / "summary"))
    (release,) = github.releases
    form = f"{github.url}/{github.repository}/compare/main...deploy/v1.1.0?expand=1&title=Deploy+v1.1.0&body="
    assert f"open and merge this pull request to deploy it: {form}" in capsys.readouterr().out
    summary = (tmp_path / "summary").read_text(encoding="utf-8")
    assert f"[v1.1.0]({release['html_url']}) is released. [Open and merge the pull request that deploys it]({form}" in (
        summary
    )
    # an address in Markdown ends at a bracket or a space
    assert re.fullmatch(r"\[v1\.1\.0\]\([^\s()]+\) is released\. \[[^]]+\]\([^\s()]+\)\.\n", summary)


def test_a_candidate_is_no_latest_release(github: GitHub, clone: Clone) -> None:
    write_json({**TAG, "tag": "v1.1.0-rc.1"}, "build/release/tag.json")
    run(github, "v1.1.0-rc.1")
    (release,) = github.releases
    assert (release["prerelease"], release["make_latest"]) == (True, "false")


@pytest.mark.parametrize(
    ("name", "content", "output"),
    [
        ("tag.json", {**TAG, "tag": "v9.9.9"}, "is about v9.9.9, but this run is about v1.1.0"),
        ("tag.json", {**TAG, "commit": "f" * 40}, "the release of another commit"),
        ("tag.json", {**TAG, "url": "javascript:alert(1)"}, "tag.json is invalid: url"),
        ("tag.json", {**TAG, "previous": "v1 [x](y)"}, "tag.json is invalid: previous"),
        ("report.json", {"head": "x"}, "is no report"),
        ("release.json", {"version": "1"}, "release.json is invalid: commit: Field required"),
    ],
)
def test_what_does_not_fit_together_is_not_announced(
    github: GitHub, clone: Clone, name: str, content: dict[str, Any], output: str
) -> None:
    write_json(content, f"build/release/{name}")
    with pytest.raises(UserError, match=output):
        run(github)
    assert github.changes == []


@pytest.mark.parametrize(("tags", "output"), [({}, "answers 422"), ({"v1.1.0": "f" * 40}, "was moved from 1111111111")])
def test_a_tag_that_is_gone_or_was_moved_is_not_announced(
    github: GitHub, clone: Clone, tags: dict[str, str], output: str
) -> None:
    github.tags = tags
    with pytest.raises(UserError, match=output):
        run(github)
    assert github.changes == []


def test_where_github_does_not_attest_the_notes_promise_nothing(github: GitHub, clone: Clone) -> None:
    run(github, ATTESTATION="")
    (release,) = github.releases
    assert REFERENCE in release["body"]
    assert "attestation" not in release["body"]


def test_only_a_digest_is_announced(github: GitHub, clone: Clone) -> None:
    with pytest.raises(UserError, match="REFERENCE is not of the form name@sha256"):
        announce.main(environment(github, "v1.1.0", REFERENCE="ghcr.io/ada/a-project:1.1.0"))
    assert github.requests == []
