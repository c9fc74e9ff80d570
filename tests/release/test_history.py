"""`make history`: the page of all models and releases, from Git alone, quickly and with every text escaped."""

from __future__ import annotations

import html
import json
import os
import re
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT
from release.past import Past, image, lock, md5

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.monitoring import findings
from mlops.monitoring.findings import Labels
from mlops.release import deploy, history, lineage

HOSTILE = 'Try <script>alert(1)</script> & "more" (#2)'
Make = Callable[..., Past]


@pytest.fixture
def past(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Past:
    """Three models, two releases, of which the last one runs in production and a candidate in staging."""
    past = Past(tmp_path / "clone")
    past.model(
        "Regularise more (#1)\n\nReviewed-by: Barbara <b@example.org>\n",
        "first",
        metrics={"recall": (0.91, 0.85, 0.95)},
    )
    past.tag("v1.0.0")
    past.deploy("v1.0.0", 1)
    past.model(HOSTILE, "second", author='Grace & "co"')
    past.model("Retrain on new rows (#3)", "third", rows="new rows", metrics={"recall": (0.93, 0.88, 0.97)})
    past.tag("v1.1.0")
    past.deploy("v1.1.0", 2)
    past.deploy("v1.2.0-rc.1", 3, (deploy.STAGING,))
    past.commit("Write it down (#9)", {"docs/x.md": b"x\n"})
    monkeypatch.chdir(past.write())
    return past


def made() -> str:
    history.main()
    return history.PAGE.read_text(encoding="utf-8")


def rows(page: str) -> list[str]:
    """The text of each row of the table, in one line."""
    body = page.partition("<tbody>")[2].partition("</tbody>")[0]
    return [html.unescape(" ".join(re.sub("<[^>]*>", " ", row).split())) for row in body.split("<tr ")[1:]]


def test_each_merged_model_and_each_release_is_a_row_newest_first(past: Past) -> None:
    found = rows(made())
    titles = [
        "Release v1.1.0",
        "Retrain on new rows",
        "Try <script>alert(1)</script>",
        "Release v1.0.0",
        "Regularise more",
    ]
    assert len(found) == len(titles)
    for title, row in zip(titles, found, strict=True):
        assert title in row
    assert "0.91 0.85 … 0.95" in found[-1]
    assert "#1" in found[-1]
    assert "Ada approved by Barbara" in found[-1]
    assert md5("first") in found[-1]
    assert md5("new rows data/prepared/test.parquet") in found[1]
    assert "runs in compose; quadlet; kubernetes, production; knative" in found[0]
    assert 'Grace & "co"' in found[2]
    assert "Grace" in found[0], "who tagged"


def test_what_runs_now_is_named_by_its_version(past: Past) -> None:
    assert history.runs_in(lineage.deployments(lineage.main_branch())) == {
        "v1.1.0": ["compose", "quadlet", "kubernetes, production", "knative"],
        "v1.2.0-rc.1": ["kubernetes, staging"],
    }


def test_an_image_that_no_commit_names_a_version_of_is_shown_by_its_digest(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = Past(tmp_path / "clone")
    past.model("Start", "first")
    past.deploy("", 1, message="Try something")
    monkeypatch.chdir(past.write())
    assert image(1).partition("@")[2][:19] in made()


def test_text_of_git_stays_text(past: Past) -> None:
    page = made()
    assert "<script>alert(1)</script>" not in page
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_the_page_loads_nothing_and_allows_its_own_script_alone(past: Past) -> None:
    page = made()
    policy = re.search(r'Content-Security-Policy" content="([^"]*)"', page)
    assert policy
    assert re.fullmatch(
        "default-src 'none'; style-src 'sha256-[^']*'; script-src 'sha256-[^']*'; base-uri 'none'; form-action 'none'",
        policy[1],
    )
    assert not re.search(r"\ssrc=|@import|url\(|\son[a-z]+=|\sstyle=", page)
    assert set(re.findall(r'href="([^"#]*)"', page)) <= {
        f"https://github.com/ada/a-project/{rest}"
        for rest in ("pull/1", "pull/2", "pull/3", f"commit/{past.git('rev-parse', 'main')}")
    }


def test_a_password_in_the_address_of_the_remote_is_not_published(past: Past) -> None:
    past.git("remote", "set-url", "origin", "https://ada:hunter2@github.com/ada/a-project.git")
    assert "hunter2" not in made()
    assert lineage.page() == "https://github.com/ada/a-project"
    for remote in ("javascript:alert(1)", 'https://github.com/a/b" onclick="x', "../origin.git", "file:///srv/x/y"):
        past.git("remote", "set-url", "origin", remote)
        assert lineage.page() is None
    past.git("remote", "set-url", "origin", "git@github.com:ada/a-project.git")
    assert lineage.page() == "https://github.com/ada/a-project"


def test_a_mail_address_is_not_published(past: Past) -> None:
    assert "@example.org" not in made()


def test_the_same_history_gives_the_same_page(past: Past) -> None:
    first = made()
    history.PAGE.unlink()
    os.environ["TZ"] = "Asia/Tokyo"
    try:
        time.tzset()
        assert made() == first
    finally:
        del os.environ["TZ"]
        time.tzset()


def test_the_page_of_the_model_is_linked_where_it_is_there(past: Past) -> None:
    assert 'href="model/"' not in made()
    (history.PAGE.parent / "model").mkdir()
    (history.PAGE.parent / "model/index.html").touch()
    assert 'href="model/"' in made()


def test_a_line_marks_where_the_test_rows_changed(past: Past) -> None:
    page = made()
    charts = page.split("<figure>")[1:]
    assert [re.search("<bdi>(.*?)</bdi>", chart)[1] for chart in charts][:2] == ["recall", "roc_auc"]  # type: ignore[index]
    assert all(chart.count('class="change"') == 1 for chart in charts)
    assert charts[0].count('class="interval"') == 5


def test_a_merge_shows_the_waivers_of_the_gate_that_judged_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gate = (ROOT / "gate.yaml").read_bytes()
    waiver = b"waivers:\n  - {rule: latency, reason: the runner is slow <now>, until: 2026-01-05}\n"
    past = Past(tmp_path / "clone")
    past.model("Waive for oneself", "first", files={"gate.yaml": gate + waiver})  # January 3
    past.model("Merge in time", "second")
    past.commit("Wait", {})
    past.model("Merge too late", "third")
    monkeypatch.chdir(past.write())
    late, in_time, own = rows(made())
    assert "latency until 2026-01-05: the runner is slow <now>" in in_time
    assert "latency" not in late
    assert "latency" not in own, "main's gate judged it, without the waiver"


def test_a_model_that_came_back_is_there_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    past = Past(tmp_path / "clone")
    for message, name in (("One", "first"), ("Two", "second"), ("Revert Two", "first")):
        past.model(message, name)
    past.model("Rename a stage", "first")
    monkeypatch.chdir(past.write())
    assert [each.commit.subject for each in history.entries(lineage.main_branch(), [])] == ["One", "Two", "Revert Two"]


def test_files_of_another_time_cost_their_figures_and_not_the_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    past = Past(tmp_path / "clone")
    evaluation = str(paths.EVALUATION)
    past.commit("No evaluation", {"dvc.lock": lock("a"), "reports/metrics.json": b'{"recall": 0.5, "note": "x"}'})
    past.commit("Broken", {"dvc.lock": lock("b"), evaluation: b"{", "gate.yaml": b"waivers: [{until: 2026-13-45}]"})
    past.commit("Another shape", {"dvc.lock": lock("c"), evaluation: b'{"metrics": [], "model": 1, "rows": 2}'})
    past.commit("No number", {"dvc.lock": lock("d"), evaluation: b'{"metrics": {"recall": {"value": NaN}}}'})
    past.commit(
        "A conflict", {"dvc.lock": b"<<<<<<< HEAD\n", "deploy/compose/.env": b"\xff\xfe", str(deploy.STAGING): b"- a"}
    )
    past.model("Now", "now")
    monkeypatch.chdir(past.write())
    found = rows(made())
    assert len(found) == 5
    assert "0.5" in found[-1]


def test_an_alarm_of_the_monitor_is_shown(past: Past) -> None:
    assert "The monitor," not in made()
    counts = {name: 0 for name in Labels.model_fields if Labels.model_fields[name].annotation is int}
    labels = dict.fromkeys(Labels.model_fields) | counts | {"declared": True, "share": 1.0}
    found = {
        "model": "a" * 32,
        "start": "2026-01-01",
        "until": "2026-02-01",
        "rows": 0,
        "rows_by_day": {},
        "requests_by_day": {},
        "log": {"logged_share": 1.0, "other_releases": {}, "unreadable_lines": 0, "damaged_files": 0},
        "labels": labels,
        "alarms": ["log_loss, <b>all</b> rows"],
        **{name: [] for name in ("warnings", "risk", "columns", "estimates", "figures")},
        "false_alarm_years": 20.0,
    }
    findings.REPORT.parent.mkdir(parents=True)
    findings.REPORT.write_text(json.dumps(found), encoding="utf-8")
    page = made()
    assert 'class="alarm"' in page
    assert "log_loss, &lt;b&gt;all&lt;/b&gt; rows" in page
    findings.REPORT.write_text("{}", encoding="utf-8")
    with pytest.raises(UserError, match="is not a report of the monitor"):
        history.main()


def test_a_shallow_clone_is_refused(past: Past, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = ["git", "clone", "--quiet", "--depth=1", past.folder.as_uri(), str(tmp_path / "shallow")]
    subprocess.run(command, check=True)
    monkeypatch.chdir(tmp_path / "shallow")
    with pytest.raises(UserError, match="git fetch --unshallow --tags"):
        history.main()


def test_a_folder_without_git_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError, match="no Git repository"):
        history.main()


def test_five_hundred_models_take_as_few_processes_as_three(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    counts = []
    for number in (3, 500):
        past = Past(tmp_path / f"clone {number}")
        for each in range(number):
            past.model(f"Try {each} (#{each + 1})", f"model {each}")
            if each % 5 == 2:
                past.tag(f"v1.{each}.0")
                past.deploy(f"v1.{each}.0", each)
        monkeypatch.chdir(past.write())
        trace = tmp_path / f"trace {number}"
        monkeypatch.setenv("GIT_TRACE", str(trace))
        page = made()
        monkeypatch.delenv("GIT_TRACE")
        counts.append(trace.read_text(encoding="utf-8").count("trace: built-in: git "))
        assert page.count("<tr data-kind") == number + len(range(2, number, 5))
    assert counts[0] == counts[1] <= 20
