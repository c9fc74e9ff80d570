"""`make review` on real changes of the project, as a pull request's run would see them: exit code, report, comment.

Each rule that must stop a change has one here that it stops, through the whole path.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from conftest import Project, copied
from ruamel.yaml import YAML

from mlops.core.madeon import LINE
from mlops.core.paths import PREDICTIONS
from mlops.core.report import Report, read
from mlops.data import tables

Edit = Callable[[Project], None]


class Change:
    """A branch of a scratch project, and what its review said."""

    def __init__(self, done: Project, folder: Path) -> None:
        self.project = copied(done, folder)
        # what a runner of CI has: the files that main's runs have kept, but no record of runs
        shutil.rmtree(self.project.folder / ".dvc/cache/runs")
        self.project.git("branch", "base")
        self.output = ""
        self.code: int | None = None

    def base(self, edit: Edit) -> None:
        """Change main, as a merged pull request would have."""
        edit(self.project)
        self.project.run("dvc", "repro")
        self.project.commit("main")
        self.project.git("branch", "--force", "base")

    def commit(self, edit: Edit, *, run: bool = True) -> None:
        """Commit a change, with what the pipeline makes of it."""
        edit(self.project)
        if run:
            self.project.run("dvc", "repro")
        self.project.commit("change")

    def review(self, *, clean: bool = False, **environment: str) -> Report:
        """Review it where the pipeline has run; if clean, in a clone that has only what Git and the cache hold."""
        if clean:
            shutil.rmtree(self.project.folder / ".dvc/cache/runs", ignore_errors=True)
            self.project.git("clean", "-fdxq", "--exclude=.dvc/cache")
        command = (sys.executable, "-P", "-m", "mlops.review", "--base", "base")
        done = self.project.run(*command, check=False, **environment)
        self.output, self.code = done.stdout, done.returncode
        assert "Traceback" not in self.output, self.output
        return read(self.project.folder / "build/review/report.json")

    @property
    def comment(self) -> str:
        return self.project.read("build/review/comment.md")


@pytest.fixture
def change(done: Project, tmp_path: Path) -> Change:
    return Change(done, tmp_path)


def with_params(edit: Callable[[Any], None]) -> Edit:
    return lambda project: project.edit_params(edit)


def with_gate(edit: Callable[[Any], None]) -> Edit:
    return lambda project: project.edit_gate(edit)


def regularised(C: float) -> Edit:
    return with_params(lambda params: params["model"]["params"].update(C=C))


def replaced(path: str, old: str, new: str) -> Edit:
    def edit(project: Project) -> None:
        text = project.read(path)
        assert old in text
        (project.folder / path).write_text(text.replace(old, new), encoding="utf-8")

    return edit


REWORDED = replaced("docs/canvas.md", "To demonstrate, teach and test", "To teach, demonstrate and test")


def reasons(report: Report) -> str:
    return "\n".join(each.why for each in report.policy.results) if report.policy else str(report.problem)


def verdicts(report: Report) -> dict[str, str]:
    assert report.policy is not None
    return {f"{each.rule} {each.subject}".strip(): each.verdict for each in report.policy.results}


def test_a_regression_is_blocked_with_the_reason_and_its_repair_may_be_merged(change: Change, tmp_path: Path) -> None:
    change.commit(regularised(0.001))
    summary = tmp_path / "summary.md"
    actions = {
        "GITHUB_ACTIONS": "true",
        "GITHUB_STEP_SUMMARY": str(summary),
        "GITHUB_SERVER_URL": "https://github.com",
        "GITHUB_REPOSITORY": "ada/models",
        "GITHUB_RUN_ID": "7",
        "REVIEW_HEAD": "a" * 40,
    }
    report = change.review(clean=True, **actions)
    assert (change.code, report.verdict, report.blocks) == (1, "fail", True)
    assert verdicts(report)["no_worse log_loss"] == "fail"
    assert verdicts(report)["lock"] == "pass"
    assert change.comment.startswith("## ❌ Do not merge")
    assert "log_loss has risen by" in reasons(report)
    line = next(each.line for each in report.policy.results if each.subject == "log_loss" and each.verdict == "fail")
    assert "log_loss" in change.project.read("gate.yaml").splitlines()[line - 1]
    assert report.influence is not None
    assert (report.influence.rows, report.influence.columns, len(report.influence.moved)) == (143, 31, 5)
    largest = report.influence.moved[0]
    assert f"- <code>{largest.column}</code>: {largest.before:.1%} → {largest.after:.1%}, " in change.comment
    # in GitHub Actions, the lines of the gate are marked and the summary is filled
    marked = [text for text in change.output.splitlines() if text.startswith(f"::error file=gate.yaml,line={line},")]
    assert any("log_loss has risen" in text for text in marked)
    assert summary.read_text(encoding="utf-8") == change.comment
    assert "https://github.com/ada/models/actions/runs/7#artifacts" in change.comment
    assert report.head == "a" * 40

    change.project.git("branch", "--force", "base")
    change.commit(regularised(1.0))
    report = change.review()
    assert (change.code, report.blocks) == (0, False)
    assert "fail" not in verdicts(report).values()
    assert verdicts(report)["no_worse log_loss"] == "pass"
    (loss,) = [each for each in report.metrics if each.metric == "log_loss"]
    assert loss.difference.high is not None
    assert loss.difference.high < 0
    assert report.baseline is not None
    assert report.baseline.origin == "cache"
    # this machine has just run both
    assert not {"Running stage 'tune'", "Running stage 'train'"} & {
        each.rstrip(":") for each in change.output.splitlines()
    }
    assert "Running stage 'evaluate'" in change.output
    assert "this change may be merged" in change.output
    assert "model.params.C" in change.comment


def test_a_behaviour_test_that_fails_is_shown_with_a_row_and_blocks(change: Change) -> None:
    def edit(project: Project) -> None:
        replaced("tests/behaviour/test_breast_cancer.py", "before - 0.05", "before + 0.0001")(project)

    change.commit(edit, run=False)
    report = change.review()
    assert (change.code, report.verdict, verdicts(report)["behaviour"]) == (1, "fail", "fail")
    assert report.changes.files == ["tests/behaviour/test_breast_cancer.py"]
    assert report.behaviour is not None
    (failed,) = report.behaviour.failed
    assert failed.name == (
        "test_breast_cancer.py::test_a_larger_worst_radius_does_not_lower_the_probability_of_malignancy"
    )
    assert failed.rows is not None
    assert [each.column for each in failed.row] == ["worst radius", "before", "after", "diagnosis"]
    assert "2 of 3 behaviour tests passed; 1 failure, at most 0 allowed" in reasons(report)
    assert "a larger worst radius does not lower the probability of malignancy" in change.comment
    assert f"{failed.rows} rows, for example:" in change.comment


def test_a_behaviour_test_that_is_removed_is_named(change: Change) -> None:
    def edit(project: Project) -> None:
        path = "tests/behaviour/test_breast_cancer.py"
        replaced(path, "def test_textbook_cases", "def textbook_cases")(project)

    change.commit(edit, run=False)
    report = change.review()
    assert (change.code, verdicts(report)["behaviour"]) == (0, "inconclusive")
    assert report.behaviour is not None
    assert [(each.name, each.reason) for each in report.behaviour.not_run] == [
        ("test_breast_cancer.py::test_textbook_cases_are_diagnosed_right", "removed")
    ]
    assert "removed, main has it" in change.comment
    assert [place.place for place in report.owned] == ["/tests/"]


@pytest.mark.quick
def test_a_stale_lock_is_named_by_stage_and_file(change: Change) -> None:
    change.commit(regularised(0.5), run=False)
    report = change.review()
    assert (change.code, verdicts(report)["lock"]) == (1, "fail")
    assert "train: models/model.skops" in reasons(report)
    assert "run make and commit" in reasons(report)


def test_what_is_not_committed_yet_is_inconclusive_and_does_not_block(change: Change) -> None:
    REWORDED(change.project)
    report = change.review()
    assert (change.code, report.dirty, verdicts(report)["lock"]) == (0, True, "inconclusive")
    assert "card: models/CARD.md" in reasons(report)


def test_a_change_of_the_canvas_alone_writes_the_card_and_trains_nothing(change: Change) -> None:
    change.commit(REWORDED, run=False)
    report = change.review()
    # it is no documentation, for the card copies it: the card that was not written anew is missing
    assert (change.code, report.touched, verdicts(report)["lock"]) == (1, True, "fail")
    assert "card: models/CARD.md" in reasons(report)

    change.commit(lambda project: None)
    assert "To teach, demonstrate and test" in change.project.read("models/CARD.md")
    report = change.review()
    assert (change.code, report.verdict) == (0, "pass")
    assert "Running stage 'card'" in change.output
    assert "Running stage 'train'" not in change.output
    assert "docs/canvas.md" in change.comment


def test_a_card_that_was_edited_by_hand_is_refused(change: Change) -> None:
    change.commit(replaced("models/CARD.md", "Any use on people", "Some use on people"), run=False)
    report = change.review()
    assert (change.code, verdicts(report)["lock"]) == (1, "fail")
    assert "card: models/CARD.md" in reasons(report)


def test_a_model_that_does_not_convert_says_how_it_is_served(change: Change) -> None:
    change.commit(with_params(lambda params: params.update(model={"estimator": "sklearn.neighbors.NearestCentroid"})))
    report = change.review()
    assert report.served is not None
    assert report.served_before is not None
    assert (report.served.runtime, report.served_before.runtime) == ("scikit-learn", "onnx")
    assert "- 📦 The model is now served by scikit-learn instead of ONNX Runtime: it does not convert" in change.comment
    assert "On main: ONNX Runtime in double precision" in change.comment
    hashes = {each.name: (each.before, each.after) for each in report.lineage}
    assert hashes["served files"][0] != hashes["served files"][1]
    assert "scikit-learn, because `it does not convert" in change.project.read("models/CARD.md")


def test_a_broken_table_stops_the_pipeline_and_the_change(change: Change) -> None:
    def broken(project: Project) -> None:
        suite = project.folder / "data/expectations/breast_cancer.json"
        document = json.loads(suite.read_text(encoding="utf-8"))
        document["expectations"].append(
            {
                "type": "expect_column_values_to_be_between",
                "kwargs": {"column": "mean radius", "max_value": 1.0},
                "severity": "critical",
            }
        )
        suite.write_text(json.dumps(document), encoding="utf-8")

    change.commit(broken, run=False)
    report = change.review()
    assert (change.code, report.verdict, report.policy) == (1, "fail", None)
    assert str(report.problem).startswith("the pipeline failed: the table fails 1 critical expectation")
    assert "mean radius" in change.output
    assert "## ❌ The review failed" in change.comment
    assert change.project.git("status", "--porcelain", "dvc.lock") == ""


def test_another_target_is_said_in_words_and_does_not_pass(change: Change) -> None:
    change.base(with_gate(lambda gate: gate.update(rules=[{"rule": "no_worse", "metric": "accuracy", "margin": 0.1}])))

    def iris(params: Any) -> None:
        params["data"].update(source="sklearn:iris", target="species", features=[])
        params["data"].pop("positive")
        params["validate"].update(suite=None)
        params["evaluate"].update(slices=[])

    change.commit(with_params(iris))
    report = change.review()
    assert (change.code, verdicts(report)) == (1, {"no_worse accuracy": "fail"})
    assert "data.target is diagnosis on main and species here" in reasons(report)


RULE = """\
from mlops import Evidence, failed, passed, rule


@rule
def enough_rows(evidence: Evidence, at_least: int):
    kept = evidence.rows >= at_least
    return (passed if kept else failed)(f"{evidence.rows} test rows", value=evidence.rows, limit=at_least)
"""


def with_rule(text: str, **row: Any) -> Edit:
    """A rule of the team's own as its only one, and a row of the gate about it."""

    def edit(project: Project) -> None:
        (project.folder / "src/project/rules.py").write_text(text, encoding="utf-8")
        project.edit_gate(lambda gate: gate.update(rules=[row, {"rule": "lock"}]))

    return edit


def test_a_rule_of_the_team_takes_its_file_and_a_row_of_the_gate(change: Change) -> None:
    row = {"rule": "project.enough_rows", "at_least": 1000}
    change.base(lambda project: (project.folder / "src/project/rules.py").unlink())
    change.base(with_gate(lambda gate: gate["rules"].remove({"rule": "project.missed_cases", "alpha": 0.01})))
    change.commit(with_rule(RULE, **row), run=False)
    report = change.review()
    # main's gate has no such row yet; this change's own shows what it will say
    assert "project.enough_rows" not in verdicts(report)
    (one,) = [each for each in report.proposed.results if each.rule == "project.enough_rows"]
    assert (one.verdict, one.why, one.found.value, one.limit) == ("fail", "143 test rows", 143, 1000)
    assert "project.enough&#95;rows" in change.comment
    assert [(place.place, place.files) for place in report.owned] == [
        ("/src/project/rules.py", ["src/project/rules.py"]),
        ("/gate.yaml", ["gate.yaml"]),
    ]
    assert change.project.git("diff", "--name-only", "base").splitlines() == ["gate.yaml", "src/project/rules.py"]


def test_a_change_cannot_loosen_the_rule_that_judges_it(change: Change) -> None:
    change.base(with_rule(RULE, rule="project.enough_rows", at_least=1000))
    change.commit(replaced("src/project/rules.py", "evidence.rows >= at_least", "True"), run=False)
    report = change.review()
    assert (change.code, report.verdict) == (1, "fail")
    assert verdicts(report) == {"project.enough_rows": "fail", "lock": "pass"}
    assert (report.policy.blocks, report.proposed.blocks) == (True, False)
    assert "edits the gate** or its rules. Main's gate applies: ❌ fail" in change.comment
    assert [(place.place, place.files) for place in report.owned] == [
        ("/src/project/rules.py", ["src/project/rules.py"])
    ]


def test_a_rule_that_main_s_gate_names_and_main_does_not_have_is_this_change_s_and_says_so(change: Change) -> None:
    change.base(with_gate(lambda gate: gate.update(rules=[{"rule": "project.enough_rows", "at_least": 1}])))
    change.project.git("rm", "--quiet", "src/project/rules.py")
    change.project.commit("main")
    change.project.git("branch", "--force", "base")
    (change.project.folder / "src/project").mkdir(exist_ok=True)
    (change.project.folder / "src/project/rules.py").write_text(RULE, encoding="utf-8")
    change.project.commit("change")
    report = change.review()
    assert reasons(report) == "143 test rows (judged by this change's src/project/rules.py, because main has none)"
    assert change.code == 0


def test_a_forged_lock_is_not_believed(change: Change) -> None:
    """It claims for worse parameters the very model that main has, and the cache has that model."""

    def forged(project: Project) -> None:
        yaml = YAML()
        lock = yaml.load(project.folder / "dvc.lock")
        for stage in lock["stages"].values():
            params = stage.get("params", {}).get("params.yaml", {})
            if "model" in params:
                params["model"]["params"]["C"] = 0.0001
        yaml.dump(lock, project.folder / "dvc.lock")
        regularised(0.0001)(project)
        recomputed("never")(project)  # main's gate decides about that, too

    change.commit(forged, run=False)
    # DVC itself believes it
    assert "Running stage 'train'" not in change.project.run("dvc", "repro", "--dry").stdout
    report = change.review(clean=True)
    assert (change.code, verdicts(report)["lock"], report.believed) == (1, "fail", [])
    assert "train: models/model.skops" in reasons(report)
    assert verdicts(report)["no_worse log_loss"] == "fail"


def recomputed(when: str) -> Edit:
    return with_gate(lambda gate: next(each for each in gate["rules"] if each["rule"] == "lock").update(recompute=when))


def test_where_the_gate_says_so_the_author_s_model_is_taken_from_the_remote_and_the_rest_recomputed(
    change: Change,
) -> None:
    change.base(recomputed("never"))
    change.commit(regularised(0.5))
    remote = change.project.folder.parent / "remote"
    change.project.run("dvc", "remote", "add", "--local", "--default", "store", str(remote))
    change.project.run("dvc", "push", "--quiet", "train")
    model = cached(change.project, "train", "models/model.skops")
    model.unlink()
    # what a runner of CI has: what is in Git, and main's cache
    change.project.git("clean", "-fdxq", "--exclude=.dvc/cache", "--exclude=.dvc/config.local")
    report = change.review()
    assert (change.code, report.believed, verdicts(report)["lock"]) == (0, ["tune", "train"], "pass")
    assert "Running stage 'train'" not in change.output
    assert "Running stage 'evaluate'" in change.output
    assert "Not recomputed, but taken from the author: <code>tune</code> and <code>train</code>" in change.comment
    assert "The outputs of <code>tune</code> and <code>train</code> are the author's" in change.comment

    change.commit(regularised(0.4), run=False)
    report = change.review()
    assert (change.code, report.policy) == (1, None)
    assert (
        "dvc.lock is outdated, and this review does not run tune, which ran with another model in params.yaml"
        in str(report.problem)
    )
    assert change.project.git("status", "--porcelain", "dvc.lock") == ""


def test_a_lock_of_another_platform_is_named_as_such_and_waits_for_relock(change: Change) -> None:
    """The last bits of its predictions differ, as on another processor; cache and Git have what it committed."""

    def far(project: Project) -> None:
        path = project.folder / PREDICTIONS
        table = tables.read(path)
        name = table.column_names[-1]
        path.unlink()  # it may be a link into the cache
        bits = pa.array(np.nextafter(table[name].to_numpy(), 0.5))
        tables.write(table.set_column(table.num_columns - 1, name, bits), path)
        project.run("dvc", "commit", "--force", "evaluate")
        lock = project.folder / "dvc.lock"
        lock.write_bytes(b"# made on macOS arm64\n" + LINE.sub(b"", lock.read_bytes()))

    change.commit(far, run=False)
    report = change.review(clean=True)
    assert (change.code, verdicts(report)["lock"]) == (1, "fail")
    assert "made on another platform (macOS arm64) and rebuilt here" in reasons(report)
    assert "the predictions of all 143 test rows are equal within 1e-09" in reasons(report)
    assert [each.rule for each in report.policy.results if each.blocks] == ["lock"] if report.policy else False


def test_a_poisoned_run_cache_is_not_there_to_be_believed(change: Change) -> None:
    """A record of runs says that worse parameters gave main's model; a runner does not get that record."""
    assert not (change.project.folder / ".dvc/cache/runs").exists()
    workflow = change.project.read(".github/workflows/ci.yaml")
    assert "path: .dvc/cache/files" in workflow
    assert "cache/runs" not in workflow


def cached(project: Project, stage: str, path: str) -> Path:
    lock = YAML(typ="safe").load(project.folder / "dvc.lock")["stages"]
    md5 = next(out["md5"] for out in lock[stage]["outs"] if out["path"] == path)
    return project.folder / ".dvc/cache/files/md5" / md5[:2] / md5[2:]


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.unlink()
    path.write_bytes(content)
    path.chmod(0o444)  # DVC looks again only at files that are not write-protected


def test_one_flipped_byte_in_the_cache_is_noticed(change: Change) -> None:
    change.commit(regularised(0.9))
    theirs = YAML(typ="safe").load(change.project.git("show", "base:dvc.lock"))["stages"]["train"]["outs"][0]["md5"]
    flip(change.project.folder / ".dvc/cache/files/md5" / theirs[:2] / theirs[2:])
    report = change.review(clean=True)
    assert report.baseline is not None
    assert (report.baseline.origin, report.baseline.problem) == ("rebuilt", None)
    assert "is corrupt" in change.output
    assert change.code == 0

    flip(cached(change.project, "split", "data/prepared/test.parquet"))
    report = change.review(clean=True)
    assert (change.code, report.blocks) == (1, True)
    if report.policy is not None:
        assert "data/prepared/test.parquet" in reasons(report), reasons(report)


def test_cheating_code_turns_it_red(change: Change) -> None:
    """Evaluation on training rows, and test rows in training; edited documentation beside them hides nothing."""

    def cheat(project: Project) -> None:
        table, train = "project.table(paths.TRAIN), project.table(paths.TEST)", "project.table(paths.TRAIN)"
        replaced("src/mlops/pipeline/evaluate.py", f"train, test = {table}", f"train = test = {train}")(project)
        write = "tables.write(table, paths.TRAIN"
        replaced("src/mlops/pipeline/split.py", f"{write}, sides.train)", f"{write})")(project)
        replaced("README.md", "# Model changes", "# Model  changes")(project)

    change.commit(cheat)
    report = change.review()
    assert report.touched
    assert (verdicts(report)["recorded"], verdicts(report)["leakage"]) == ("fail", "fail")
    assert (change.code, report.blocks) == (1, True)


BY_HEART = {"estimator": "sklearn.tree.DecisionTreeClassifier", "params": {"max_features": 1, "random_state": 1}}
# right where most are benign, wrong where none is
BLIND = {"estimator": "sklearn.dummy.DummyClassifier"}


@pytest.mark.parametrize(
    ("model", "rules"),
    [
        (
            BY_HEART,
            [
                {"rule": "overfitting", "metric": "roc_auc", "at_most": 0.001},
                {"rule": "model_size", "at_most": 0.01},
                {"rule": "latency", "at_most": 0.0001},
                {"rule": "floor", "metric": "recall", "at_least": 0.9999999},
            ],
        ),
        (BLIND, [{"rule": "worst_slice", "metric": "accuracy", "limit": 0.99, "min_rows": 20}]),
    ],
    ids=["by heart", "blind"],
)
def test_each_way_to_be_bad_turns_it_red(change: Change, model: dict[str, Any], rules: list[dict[str, Any]]) -> None:
    change.base(with_gate(lambda gate: gate.update(rules=rules)))
    change.commit(with_params(lambda params: params.update(model=model)))
    report = change.review()
    assert report.policy is not None
    assert {(each.rule, each.verdict, each.blocks) for each in report.policy.results} == {
        (rule["rule"], "fail", True) for rule in rules
    }
    assert (change.code, report.blocks) == (1, True)


@pytest.mark.quick
def test_an_unknown_base_is_reported_with_a_way_out(done: Project) -> None:
    failed = done.run(sys.executable, "-m", "mlops.review", "--base", "nowhere", check=False)
    assert failed.returncode == 1
    assert failed.stdout.startswith("error: there is no commit 'nowhere' to compare with\n  try: ")


def added(*names: str) -> Edit:
    def edit(project: Project) -> None:
        for name in names:
            path = project.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text("", encoding="utf-8")
            project.git("add", "--force", name)

    return edit


def test_a_pipeline_below_docs_is_no_documentation_and_does_not_run(change: Change, tmp_path: Path) -> None:
    marker = tmp_path / "ran"

    def tutorial(project: Project) -> None:
        text = f"stages:\n  prepare:\n    cmd: touch {marker} ../../data/raw/x\n    outs: [../../data/raw/x]\n"
        added("docs/tutorial/dvc.yaml")(project)
        (project.folder / "docs/tutorial/dvc.yaml").write_text(text, encoding="utf-8")

    change.commit(tutorial, run=False)
    report = change.review()
    assert (change.code, report.touched, report.blocks) == (1, True, True)
    assert "DVC would load files in places that are not allowed: 'docs/tutorial/dvc.yaml'" in str(report.problem)
    assert "docs/tutorial/dvc.yaml" in "\n".join(change.comment.splitlines()[:6])
    assert not marker.exists()


def test_files_that_could_take_over_are_in_the_first_lines_of_the_comment(change: Change) -> None:
    names = ("GNUmakefile", "json.py", ".venv/bin/python", "src/mlops/review/new.py", ".github/workflows/new.yaml")
    change.commit(added(*names), run=False)
    report = change.review()
    assert [place.place for place in report.owned] == ["*", "/.github/", "/src/mlops/review/"]
    lines = change.comment.splitlines()
    first = next(number for number, line in enumerate(lines) if "5 files need a code owner's approval" in line)
    assert first <= 4
    assert lines[first + 1] == (
        "- <code>.venv/bin/python</code>, <code>GNUmakefile</code>, <code>json.py</code> in no known folder"
    )
