"""What a change touches: found in real repositories, and never taken for documentation when in doubt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from mlops.core.git import changed_files, fork_point, git
from mlops.core.lock import hash_of, parse_lock
from mlops.review import changes
from mlops.review.changes import BUDGET, MOST, lock_changes, wear

ROOT = Path(__file__).parents[2]

LOCK = """schema: '2.0'
stages:
  split:
    deps:
    - path: docs/sides.md
      hash: md5
      md5: {sides}
    outs:
    - path: data/prepared/test.parquet
      hash: md5
      md5: {test}
      size: 7
  train:
    cmd: python -m mlops.pipeline.train
    deps:
    - path: data/raw
      hash: md5
      md5: 00.dir
      nfiles: 3
    outs:
    - path: models/model.skops
      hash: md5
      md5: {model}
      size: 9
"""


def digest(text: str) -> str:
    return text.encode().hex().ljust(32, "0")


def locked(test: str, model: str, sides: str = "x") -> str:
    return LOCK.format(test=digest(test), model=digest(model), sides=digest(sides))


@pytest.fixture
def commit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """A repository of its own; the function writes files (None deletes one), commits, and gives the hash."""
    monkeypatch.chdir(tmp_path)
    git("init", "--quiet", "--initial-branch=main")
    git("config", "user.name", "Ada")
    git("config", "user.email", "ada@example.org")

    def committed(**files: str | None) -> str:
        write(files)
        git("add", "--all")
        git("commit", "--quiet", "--allow-empty", "--message", "a change")
        return git("rev-parse", "HEAD")

    return committed


def write(files: dict[str, str | None]) -> None:
    for name, content in files.items():
        path = Path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.unlink() if content is None else path.write_text(content, encoding="utf-8")


def test_new_files_that_nobody_added_yet_count(commit: Callable[..., str]) -> None:
    base = commit(**{"README.md": "x"})
    write({"src/new.py": "", "docs/größe und\nmore.md": ""})
    assert changed_files(base) == ["docs/größe und\nmore.md", "src/new.py"]


# what differs


def output(found: list[Any]) -> list[tuple[str, str | None, str | None]]:
    return [(each.name, each.before, each.after) for each in found]


def test_the_gate_s_rules_by_their_name_come_before_parameters_by_their_key(commit: Callable[..., str]) -> None:
    before = "model: {estimator: a.B, params: {C: 1.0, max_iter: 100}}\nevaluate: {slices: [age]}\n"
    after = "model: {estimator: a.B, params: {C: 2.0, penalty: null}}\nevaluate: {slices: [age, sex]}\n"
    gate = """
confidence: 0.95
rules:
  - {rule: floor, metric: recall, at_least: 0.85}
  - {rule: lock}
  - {rule: group_gap, column: sex, metric: recall, at_most: 0.1}
"""
    loosened = """
confidence: 0.95
rules:
  - {rule: group_gap, column: sex, metric: recall, at_most: 0.5}
  - {rule: floor, metric: recall, at_least: 0.5}
waivers:
  - {rule: floor, subject: recall, reason: because of it, until: 2026-12-31}
"""
    base = commit(**{"params.yaml": before, "gate.yaml": gate})
    write({"params.yaml": after, "gate.yaml": loosened})
    found = changes.changes(base, ["params.yaml", "gate.yaml"])
    assert [each for each in output(found.params) if each[0] != "gate.waivers"] == [
        ("gate: floor recall", "at_least 0.85", "at_least 0.5"),
        ("gate: lock", "on", None),
        ("gate: group_gap sex recall", "at_most 0.1", "at_most 0.5"),
        ("model.params.C", "1.0", "2.0"),
        ("model.params.max_iter", "100", None),
        ("evaluate.slices", '["age"]', '["age", "sex"]'),
        ("model.params.penalty", None, "null"),
    ]
    assert "because of it" in str(found.params[3].after)


def test_the_order_of_rules_and_comments_are_no_difference(commit: Callable[..., str]) -> None:
    rules = ["- {rule: lock}", "- {rule: leakage}"]
    base = commit(**{"gate.yaml": "rules:\n  " + "\n  ".join(rules)})
    write({"gate.yaml": "# why\nrules:\n  " + "\n  ".join(rules[::-1])})
    assert changes.changes(base, []).params == []


def test_steps_that_differ_are_named_by_their_parameters(commit: Callable[..., str]) -> None:
    steps = "model: {steps: [{transformer: sklearn.decomposition.PCA, params: {n_components: %d}}]}\n"
    base = commit(**{"params.yaml": steps % 5})
    commit(**{"params.yaml": steps % 3})
    (change,) = changes.changes(base, []).params
    assert (change.name, change.before, change.after) == ("model.steps.pca.params.n_components", "5", "3")


def test_data_that_differ_are_reported_by_source_rows_and_columns(commit: Callable[..., str]) -> None:
    def catalogue(rows: int, sha: str, **columns: str) -> str:
        described = [{"name": name, "kind": kind} for name, kind in columns.items()]
        return json.dumps({"source": "data/raw/x.csv", "rows": rows, "sha256": sha, "columns": described})

    place = "data/prepared/catalogue.json"
    base = commit(**{place: catalogue(1000, "ab", age="numeric", sex="categorical", old="text")})
    write({place: catalogue(1250, "cd", age="numeric", sex="boolean", new="date")})
    assert output(changes.changes(base, []).data) == [
        ("rows", "1,000", "1,250"),
        ("sha256", "ab", "cd"),
        ("column sex", "categorical", "boolean"),
        ("column old", "text", None),
        ("column new", None, "date"),
    ]


def test_dependencies_that_differ_are_reported_with_where_they_come_from(commit: Callable[..., str]) -> None:
    def lock(*packages: tuple[str, str, str]) -> str:
        return "version = 1\n" + "".join(
            f'[[package]]\nname = "{name}"\nversion = "{version}"\nsource = {source}\n'
            for name, version, source in packages
        )

    one, other = (f'{{ registry = "https://{name}.example/simple" }}' for name in ("one", "other"))
    fork = '{ git = "https://git.example/numpy?rev=1#abc" }'
    base = commit(
        **{"uv.lock": lock(("numpy", "2.0", one), ("scipy", "1.0", one), ("two", "1", one), ("two", "2", one))}
    )
    write({"uv.lock": lock(("numpy", "2.0", fork), ("two", "1", one), ("two", "3", one), ("new", "0.1", other))})
    assert output(changes.changes(base, []).dependencies) == [
        ("registries", "https://one.example/simple", "https://one.example/simple, https://other.example/simple"),
        ("numpy", "2.0", "2.0 from https://git.example/numpy?rev=1#abc"),
        ("scipy", "1.0", None),
        ("two", "1, 2", "1, 3"),
        ("new", None, "0.1"),
    ]


def test_the_project_s_own_lock_is_read(monkeypatch: pytest.MonkeyPatch, commit: Callable[..., str]) -> None:
    base = commit()
    write({"uv.lock": (ROOT / "uv.lock").read_text(encoding="utf-8")})
    found = changes.changes(base, [])
    assert found.left_out > 100
    assert all(each.before is None and each.after for each in found.dependencies)


@pytest.mark.parametrize("name", ["params.yaml", "uv.lock", "data/prepared/catalogue.json"])
@pytest.mark.parametrize("content", ["{", "a: [", "\x00", "[]", "7", "a: 1\na: 2", '{"columns": 7}'])
def test_a_broken_file_is_reported_and_not_a_crash(commit: Callable[..., str], name: str, content: str) -> None:
    base = commit(**{name: content})
    assert changes.changes(base, [name]).files == [name]
    Path(name).unlink()
    after = commit()
    write({name: content})
    assert changes.changes(after, [name]).files == [name]


def test_a_broken_file_is_named_as_such(commit: Callable[..., str]) -> None:
    base = commit(**{"params.yaml": "a: 1"})
    write({"params.yaml": "a: ["})
    assert output(changes.changes(base, []).params) == [("a", "1", None), ("the file", None, "cannot be read")]


def test_long_lists_are_cut_and_what_was_cut_is_counted(commit: Callable[..., str]) -> None:
    base = commit(**{"params.yaml": "model: {}"})
    write({"params.yaml": "\n".join(f"key{i}: {i}" for i in range(100))})
    files = [f"src/{i}.py" for i in range(75)] + [f"reports/{i}" for i in range(30)] + ["models/CARD.md"]
    found = changes.changes(base, files)
    assert (len(found.params), len(found.files)) == (MOST, MOST)
    assert found.left_out == (101 - MOST) + (75 - MOST)
    assert not any(name.startswith(("reports/", "models/")) for name in found.files)


def test_names_and_values_fit_the_report(commit: Callable[..., str]) -> None:
    base = commit()
    write({"params.yaml": f'{"k" * 400}: {"v" * 400}\nb: "a\\u202Eb\\nc"'})
    found = changes.changes(base, ["x" * 400, "a\u202eb"])
    assert all(len(each.name) <= 300 and len(each.after or "") <= 300 for each in found.params)
    assert found.files == ["x" * 299 + "…", "a�b"]


def test_locks_that_differ_are_reported_by_stage_and_file() -> None:
    def stage(**outs: str) -> dict[str, Any]:
        return {"cmd": "x", "outs": [{"path": path, "md5": md5} for path, md5 in outs.items()]}

    before = {"a": stage(x="1", y="2"), "b": stage(z="3"), "gone": stage(w="4")}
    after = {"a": stage(x="1", y="9"), "b": {**stage(z="3"), "cmd": "y"}, "new": stage(v="5")}
    assert lock_changes(before, after) == ["a: y", "b", "gone: w", "new: v"]
    assert lock_changes(before, before) == []


# how often the test rows decided


def test_each_model_that_the_same_test_rows_took_is_a_decision(commit: Callable[..., str]) -> None:
    commit(**{"dvc.lock": locked("old rows", "a")})
    commit(**{"dvc.lock": locked("old rows", "b")})
    commit(**{"dvc.lock": locked("rows", "b")})  # the first with these rows: nothing was decided on them yet
    assert decisions() == 0
    commit(**{"dvc.lock": locked("rows", "c")})
    commit(**{"README.md": "no model"})
    commit(**{"dvc.lock": locked("rows", "c", sides="y")})  # a lock that moves without another model
    assert decisions() == 1
    # a merge counts once, whatever the branch tried before
    git("switch", "--quiet", "--create", "branch")
    for model in ("x", "y", "z"):
        commit(**{"dvc.lock": locked("rows", model)})
    git("switch", "--quiet", "main")
    git("merge", "--quiet", "--no-ff", "--no-edit", "branch")
    assert decisions() == 2
    for number in range(3):
        git("switch", "--quiet", "--create", f"branch-{number}")
        commit(**{"dvc.lock": locked("rows", f"model {number}")})
        git("switch", "--quiet", "main")
        git("merge", "--quiet", "--no-ff", "--no-edit", f"branch-{number}")
    assert decisions() == 5
    commit(**{"dvc.lock": locked("new rows", "q")})
    assert decisions() == 0
    # rows that come back have been seen before
    commit(**{"dvc.lock": locked("rows", "back again")})
    assert decisions() == 6


def decisions() -> int:
    lock = parse_lock(Path("dvc.lock").read_bytes()) or {}
    found = wear("main", lock)
    assert found.budget == BUDGET
    return found.decisions


def test_without_a_lock_nothing_was_decided(commit: Callable[..., str]) -> None:
    commit(**{"README.md": "x"})
    assert wear("main", {}).decisions == 0


def test_the_project_s_own_lock_is_counted(commit: Callable[..., str]) -> None:
    content = (ROOT / "dvc.lock").read_text(encoding="utf-8")
    commit(**{"dvc.lock": content})
    assert decisions() == 0
    md5 = hash_of(parse_lock(content.encode()) or {}, "models/model.skops")
    commit(**{"dvc.lock": content.replace(str(md5), digest("other"))})
    assert decisions() == 1


def test_where_a_change_left_main_is_found_and_main_itself_where_it_never_did(commit: Callable[..., str]) -> None:
    base = commit(**{"a": "1"})
    git("switch", "--quiet", "--create", "branch")
    commit(**{"b": "1"})
    git("switch", "--quiet", "main")
    later = commit(**{"c": "1"})
    git("switch", "--quiet", "branch")
    assert fork_point(later) == base
    git("switch", "--quiet", "--orphan", "another")
    commit(**{"d": "1"})
    assert fork_point(later) == later
