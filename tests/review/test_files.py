# ruff: noqa: F811 (fixtures of another module)
"""Kinds of files: documentation by an allow-list, and owners by CODEOWNERS; when in doubt, the pipeline runs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from review.test_changes import ROOT, commit, locked, write  # noqa: F401

from mlops.core.git import changed_files, git
from mlops.review.files import CODEOWNERS, is_untouched, owned

OWNERS = (ROOT / CODEOWNERS).read_text(encoding="utf-8")

# documentation only?


@pytest.mark.parametrize(
    ("files", "untouched"),
    [
        (["README.md"], True),
        (["docs/x.md"], True),
        (["docs/deep/picture of it.png", "LICENSE", "CONTRIBUTING.md"], True),
        ([".github/pull_request_template.md", ".github/ISSUE_TEMPLATE/bug.yaml"], True),
        (["deploy/compose/.env", "deploy/kubernetes/overlays/production/kustomization.yaml"], True),
        (["deploy/../src/mlops/x.py"], False),
        ([], False),
        (["README.md", "src/mlops/core/settings.py"], False),
        (["data/raw/README.md"], False),
        (["src/mlops/README.md"], False),
        (["models/README.md"], False),
        (["tests/x.md"], False),
        ([".github/workflows/x.yaml"], False),
        ([".github/CODEOWNERS"], False),
        (["docs/CODEOWNERS"], False),
        (["uv.lock"], False),
        (["dvc.lock"], False),
        (["params.yaml"], False),
        (["docs"], False),
        (["docs/../src/mlops/x.py"], False),
        ([".github/ISSUE_TEMPLATE/../workflows/x.yaml"], False),
        (["./README.md"], False),
        (["DOCS/x.md"], False),
        (["readme.md"], False),
        (["docs/tutorial/dvc.yaml"], False),
        (["docs/data.dvc"], False),
        (["docs/.dvcignore"], False),
        (["docs/.gitattributes"], False),
        (["docs/conftest.py"], False),
        (["docs/table.csv"], False),
        (["deploy/dvc.yaml"], False),
        (["deploy/sitecustomize.py"], False),
        (["deploy/.gitattributes"], False),
        ([".github/cml/package.json"], False),
        ([".github/ISSUE_TEMPLATE/run.sh"], False),
        (["xdocs/x.md"], False),
    ],
)
def test_only_what_is_known_as_documentation_leaves_the_model_untouched(
    commit: Callable[..., str], files: list[str], untouched: bool
) -> None:
    commit(**{"README.md": "x"})
    assert is_untouched(files) == untouched


def test_files_that_moved_or_went_away_count_on_both_sides(commit: Callable[..., str]) -> None:
    base = commit(**{"docs/a.md": "the same text", "docs/b.md": "b", "src/a.py": "a = 1", "README.md": "x"})
    git("mv", "docs/a.md", "docs/c.md")
    Path("docs/b.md").unlink()
    assert changed_files(base) == ["docs/a.md", "docs/b.md", "docs/c.md"]
    assert is_untouched(changed_files(base))
    git("mv", "src/a.py", "docs/a.py")
    assert not is_untouched(changed_files(base))
    git("mv", "docs/a.py", "src/a.py")
    Path("src/a.py").unlink()
    assert not is_untouched(changed_files(base))


def test_a_link_under_docs_may_lead_anywhere(commit: Callable[..., str]) -> None:
    base = commit(**{"README.md": "x", "src/a.py": "", "docs/a.md": ""})
    Path("docs/a.py").symlink_to("../src/a.py")
    assert changed_files(base) == ["docs/a.py"]
    assert not is_untouched(["docs/a.py"])
    Path("docs/a.py").unlink()
    Path("docs/code").symlink_to("../src")
    assert not is_untouched(["docs/code/a.py"])
    assert is_untouched(["docs/a.md"])


def test_a_link_elsewhere_may_lead_into_docs(commit: Callable[..., str]) -> None:
    commit(**{"docs/table.csv": "a\n1\n", "docs/deep/x.md": "", "README.md": "x"})
    Path("data/raw").mkdir(parents=True)
    Path("data/raw/table.csv").symlink_to("../../docs/table.csv")
    Path("deep").symlink_to("docs/deep")
    commit()
    assert not is_untouched(["docs/table.csv"])
    assert not is_untouched(["docs/deep/x.md"])
    assert is_untouched(["docs/other.md", "README.md"])


def test_what_a_stage_reads_is_no_documentation(commit: Callable[..., str]) -> None:
    commit(**{"dvc.lock": locked("t", "m"), "docs/sides.md": "x"})
    assert not is_untouched(["docs/sides.md"])
    assert is_untouched(["docs/other.md"])


def test_the_project_s_own_readme_is_untouched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    assert is_untouched(["README.md", "docs/design.md"])


# who must approve?


def places(*files: str) -> list[tuple[str, list[str]]]:
    return [(place.place, place.files) for place in owned(files, OWNERS)]


def test_files_that_no_line_foresaw_come_first_and_the_most_dangerous_next() -> None:
    found = places(
        "src/mlops/model/metrics.py", "GNUmakefile", "json.py", ".github/workflows/ci.yaml", "gate.yaml", "Makefile"
    )
    assert found == [
        ("*", ["GNUmakefile", "json.py"]),
        ("/.github/", [".github/workflows/ci.yaml"]),
        ("/Makefile", ["Makefile"]),
        ("/gate.yaml", ["gate.yaml"]),
        ("/src/", ["src/mlops/model/metrics.py"]),
    ]


@pytest.mark.parametrize(
    "name",
    [
        "GNUmakefile",
        "makefile",
        "json.py",
        ".venv/bin/python",
        ".trusted/bin/python",
        ".uv/bin/uv",
        "Containerfile",
        "bentofile.yaml",
        "dvc.yaml",
        "gate.yaml",
        "pyproject.toml",
        "uv.lock",
        "uv.toml",
        "tests/test_metrics.py",
        "src/mlops/pipeline/train.py",
        "src/mlops/release/tag.py",
        "src/json.py",
        "src/project/__init__.py",
        "src/project/rules.py",
        "src/project/shared/words.py",
        "data/expectations/breast_cancer.json",
        "data/evil.py",
        "reports/dvc.yaml",
        "deploy/compose/.env",
        "docs/tutorial/dvc.yaml",
        ".gitattributes",
        ".gitmodules",
        "sitecustomize.py",
        ".dvc/config",
        "conftest.py",
        "examples/run.py",
        "a new folder/and file",
    ],
)
def test_what_decides_or_runs_needs_an_approval(name: str) -> None:
    assert [place.files for place in owned([name], OWNERS)] == [[name]]


@pytest.mark.parametrize(
    "name",
    [
        "params.yaml",
        "src/project/features.py",
        "dvc.lock",
        "data/raw/rows.csv",
        "data/raw/rows.csv.dvc",
        "data/prepared/catalogue.json",
        "models/CARD.md",
        "reports/metrics.json",
        "reports/plots/roc.csv",
        "docs/canvas.md",
        "docs/comment.png",
        "README.md",
    ],
)
def test_a_model_change_and_pages_need_none(name: str) -> None:
    assert owned([name], OWNERS) == []


def test_every_file_of_the_project_has_a_line_of_its_own() -> None:
    """What only the catch-all matches is shown as out of place, so the project's own files must not be."""
    names = [name for name in git("-C", str(ROOT), "ls-files", "-z").split("\0") if name]
    assert [place.files for place in owned(names, OWNERS) if place.place == "*"] == []


def test_every_line_of_codeowners_names_something_that_is_there() -> None:
    patterns = [line.split()[0] for line in OWNERS.splitlines() if line and not line.startswith("#")]
    assert patterns[0] == "*"
    assert [pattern for pattern in patterns[1:] if not (ROOT / pattern.strip("/")).exists()] == []


def test_many_files_leave_no_place_out_and_are_counted() -> None:
    names = [f"src/{i:04}.py" for i in range(2900)] + ["GNUmakefile", ".github/workflows/x.yaml"]
    found = owned(names, OWNERS)
    assert [(place.place, place.count) for place in found] == [("*", 1), ("/.github/", 1), ("/src/", 2900)]
    assert len(found[2].files) == 20


def test_what_may_take_over_is_named_among_thousands_of_files_out_of_place() -> None:
    names = [f"AAA{i:04}.txt" for i in range(2900)] + ["GNUmakefile", "json.py", ".venv/bin/python"]
    (found,) = owned(names, OWNERS)
    assert found.files[:3] == [".venv/bin/python", "GNUmakefile", "json.py"]
    assert found.count == 2903


def test_without_codeowners_every_file_needs_an_approval() -> None:
    assert [place.files for place in owned(["params.yaml", "docs/x.md"], None)] == [["params.yaml"]]
