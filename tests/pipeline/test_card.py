"""The model card: what it says is what was found, what people wrote is copied, and foreign text stays text."""

from __future__ import annotations

import csv
import html
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, Project, copied
from markdown_it import MarkdownIt
from ruamel.yaml import YAML

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.core.letters import visible
from mlops.core.markdown import one_line, verbatim
from mlops.inference.contract import Contract, Field
from mlops.pipeline import card, card_sections

CARD, CANVAS = "models/CARD.md", "docs/canvas.md"
HOSTILE = (
    "a | b || c \\| d \\",
    "</details></table><h1>all is well</h1><script>alert(1)</script>",
    "`` ` ``` ~~~",
    "[x](https://evil.example) ![x](https://evil.example/pixel.png)",
    "two\n\n# lines\r\n| and | more |",
    "<!-- the rest",
    "$x$ @ada #1 \u202e reversed",
    "    ",
    "- [ ] **bold** _em_ &lt;",
)


def section(text: str, title: str) -> str:
    return text.partition(f"\n## {title}\n")[2].partition("\n## ")[0].strip()


def rendered(text: str) -> Any:
    """The card's elements as GitHub would make them, and its words."""
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    flat = [each for token in tokens for each in [token, *(token.children or [])]]
    return [token.type for token in flat], [token.content for token in flat if token.type == "code_inline"]


@pytest.fixture(scope="module")
def project(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    return copied(done, tmp_path_factory.mktemp("card"))


@pytest.fixture(scope="module")
def evaluation(project: Project) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(project.read("reports/evaluation.json"))
    return found


def test_the_card_has_every_section_in_order(project: Project) -> None:
    text = project.read(CARD)
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "Intended use",
        "Out of scope",
        "Ethical considerations",
        "Data",
        "Metrics",
        "Slices",
        "Calibration and thresholds",
        "Feature importance",
        "What drives the predictions",
        "Inputs",
        "Limits",
        "Who is responsible",
        "Lineage",
        "How to reproduce",
        "How to cite the data",
    ]
    assert "\n\n\n" not in text
    assert not re.search(r"\b(nan|None|Undefined)\b|\{\{", text)
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (project.folder / "models" / link).exists()


def test_the_same_model_has_the_same_card_whenever_and_wherever_it_is_written(project: Project) -> None:
    before = project.read(CARD)
    project.stage("card", TZ="Asia/Kathmandu", LC_ALL="C", PYTHONHASHSEED="7")
    assert project.read(CARD) == before
    for secret in (project.git("rev-parse", "HEAD"), str(project.folder), str(Path.home()), "a project"):
        assert secret not in before


def test_numbers_are_those_of_the_evaluation(project: Project, evaluation: dict[str, Any]) -> None:
    text = section(project.read(CARD), "Metrics")
    assert "Measured on 143 test rows" in text
    for name, metric in evaluation["metrics"].items():
        (row,) = [line for line in text.splitlines() if line.startswith(f"| `{name}` |")]
        cells = [float(cell) for cell in re.findall(r"[\d.]+", row.split("|", 2)[2])]
        expected = [metric["value"], metric["low"], metric["high"], metric["train"], metric["dummy"]]
        assert cells == pytest.approx(expected, rel=1e-3)


def test_slices_stand_with_the_worst_first(project: Project, evaluation: dict[str, Any]) -> None:
    lines = section(project.read(CARD), "Slices").splitlines()[4:]
    accuracy = evaluation["metrics"]["accuracy"]
    value, low, high = (f"{accuracy[key]:.4g}" for key in ("value", "low", "high"))
    assert lines[0].startswith(f"| all | 143 | {value} ({low} … {high}) |")
    values = [float(re.findall(r"[\d.]+", line.split("|")[3])[0]) for line in lines[1:]]
    assert values == sorted(values)
    assert len(values) == len(evaluation["slices"])


def test_hashes_are_those_of_dvc_lock(project: Project) -> None:
    text = section(project.read(CARD), "Lineage")
    lock = YAML(typ="safe").load(project.folder / "dvc.lock")["stages"]
    for stage, path in (
        ("split", "data/prepared/train.parquet"),
        ("split", "data/prepared/test.parquet"),
        ("train", "models/model.skops"),
        ("export", "models/service"),
    ):
        (md5,) = [out["md5"] for out in lock[stage]["outs"] if out["path"] == path]
        assert f"| `{path}` | MD5 `{md5}` |" in text
    assert json.loads(project.read("data/prepared/catalogue.json"))["sha256"] in text


def test_inputs_are_the_fields_of_what_is_served(project: Project) -> None:
    text = section(project.read(CARD), "Inputs")
    contract = Contract.model_validate_json(project.read("models/service/schema.json"))
    fields = contract.fields
    fields_part, features_part = text.split("</details>")
    rows = [line for line in fields_part.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in rows] == [field.name for field in fields]
    assert "| `mean radius` | numeric |  | 6.981 … 28.11 | no |" in rows
    computed = [line for line in features_part.splitlines() if line.startswith("| `")]
    assert [row.split("`")[1] for row in computed] == [feature.name for feature in contract.features] != []


def test_the_form_that_is_served_stands_beside_the_model(project: Project, evaluation: dict[str, Any]) -> None:
    text = project.read(CARD)
    assert "| served by | ONNX Runtime in double precision; difference from scikit-learn: at most 1e-09 on" in text
    contract = Contract.model_validate_json(project.read("models/service/schema.json"))
    served = card.served_by({"runtime": "scikit-learn", "why": "it does not convert: <b>"}, contract)
    assert served == "scikit-learn, because `it does not convert: <b>`"


# the canvas


def test_what_people_wrote_is_copied_from_the_canvas(project: Project) -> None:
    text = project.read(CARD)
    canvas = card.sections(project.read(CANVAS))
    for heading in card.COPIED:
        where = text if heading == "Prediction" else section(text, heading)
        assert canvas[heading] in where
    assert set(card.COPIED) <= set(canvas)
    # what only the canvas asks is not repeated
    assert canvas["Cost of each error"] not in text


@pytest.mark.parametrize("heading", card.COPIED)
@pytest.mark.parametrize("how", ["gone", "empty"])
def test_a_heading_that_is_missing_is_named(project: Project, tmp_path: Path, heading: str, how: str) -> None:
    text = project.read(CANVAS)
    body = card.sections(text)[heading]
    assert body in text
    text = text.replace(body, "") if how == "empty" else text.replace(f"## {heading}\n", "## Something else\n")
    (tmp_path / "canvas.md").write_text(text, encoding="utf-8")
    state = "empty" if how == "empty" else "missing"
    with pytest.raises(UserError, match=f"the section '## {heading}', which the model card copies, is {state}"):
        card.read_canvas("diagnosis", tmp_path / "canvas.md")


def test_without_a_canvas_the_stage_says_so_and_leaves_the_old_card(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path)
    before = project.read(CARD)
    (project.folder / CANVAS).unlink()
    ended = project.stage("card", check=False)
    assert (ended.returncode, ended.stdout.splitlines()[0]) == (
        1,
        "error: docs/canvas.md is missing: the model card copies sections from it",
    )
    assert project.read(CARD) == before


def test_what_looks_like_a_heading_in_code_is_none() -> None:
    found = card.sections("# Page\n\n## A\n\n```sh\n## B\n```\n\n### deeper\n\ntext\n\nC\n-\n\nlast\n")
    assert found == {"A": "```sh\n## B\n```\n\n### deeper\n\ntext", "C": "last"}


def test_a_canvas_about_another_target_is_not_taken_for_this_model(project: Project) -> None:
    canvas, applies = card.read_canvas("price", project.folder / CANVAS)
    assert not applies
    assert set(canvas) == set(card.COPIED)
    assert all("Not written yet" in text and "`price`" in text for text in canvas.values())


# limits


def estimated(value: float | None, spread: float = 0.01, **other: Any) -> dict[str, Any]:
    low, high = (None, None) if value is None else (value - spread, value + spread)
    return {"value": value, "low": low, "high": high, **other}


def evaluated(slices: dict[str, tuple[int, float | None]], spread: float = 0.01) -> dict[str, Any]:
    whole = estimated(0.9, spread, train=0.95, dummy=0.6, greater_is_better=True)
    return {
        "rows": {"train": 900, "train_scored": 900, "test": 300},
        "metrics": {"accuracy": whole},
        "slices": [
            {"column": "town", "slice": name, "rows": rows, "metrics": {"accuracy": estimated(value)}}
            for name, (rows, value) in slices.items()
        ],
        "importance": [],
    }


def test_slices_that_are_worse_useless_or_small_are_named_and_others_are_not() -> None:
    found = card_sections.slice_limits(
        evaluated({"good": (90, 0.92), "near": (90, 0.895), "bad": (90, 0.8), "awful": (90, 0.5), "tiny": (3, 0.95)})
    )
    assert found == [
        "**Slices significantly worse than all test rows** by `accuracy`: `town awful`, `town bad`.",
        "**Slices worse than the dummy model** by `accuracy`: `town awful`.",
        "**Small slices** (fewer than 30 test rows): `town tiny (3)`.",
        "**Other groups** than those by `town` were not evaluated.",
    ]


def test_the_card_says_where_the_training_scores_are_of_a_sample() -> None:
    found = evaluated({})
    assert "sample" not in card_sections.metric_table(found)
    found["rows"] |= {"train": 1_000_000, "train_scored": 250_000}
    note = "Training: on a random sample of 250,000 of the 1,000,000 training rows."
    assert card_sections.metric_table(found).endswith(f"|\n\n{note}")


def test_the_worst_slice_of_an_error_is_the_largest_one() -> None:
    found = evaluated({"small error": (90, 0.1), "large error": (90, 2.0), "none": (2, None)})
    found["metrics"] = {"rmse": estimated(0.9, train=0.5, dummy=1.5, greater_is_better=False)}
    for each in found["slices"]:
        each["metrics"] = {"rmse": each["metrics"]["accuracy"]}
    assert card_sections.slice_limits(found)[:2] == [
        "**Slices significantly worse than all test rows** by `rmse`: `town large error`.",
        "**Slices worse than the dummy model** by `rmse`: `town large error`.",
    ]
    rows = card_sections.slice_section(found).splitlines()[5:]
    assert [row.split("`")[3] for row in rows] == ["large error", "small error", "none"]


def test_limits_say_what_the_default_table_cannot_show(project: Project) -> None:
    text = section(project.read(CARD), "Limits")
    assert "cases rarer than 2.1% may be missing from these 143." in text  # 3 / 143
    assert "(more than a tenth of the value): `recall`, `log_loss`, `brier_score`." in text
    assert "Rare classes" not in text
    assert "Missing values" not in text


# other tables


def run_stages(project: Project) -> str:
    """Run what a card needs; what the last stage said."""
    for stage in ("ingest", "split", "train", "export", "evaluate"):
        project.stage(stage)
    return project.stage("card").stdout


def test_gaps_rare_classes_and_foreign_names_are_shown_and_stay_text(done: Project, tmp_path: Path) -> None:
    """A table whose names, classes and values are hostile, through the stages that a card needs."""
    project = copied(done, tmp_path)
    header = ["target", *(f"{visible(name)} {i}" for i, name in enumerate(HOSTILE))]
    with (project.folder / "data/raw/hostile.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        for row in range(400):
            cells = [HOSTILE[(row + i) % 3] if i % 2 else row * 0.5 + i for i in range(len(HOSTILE))]
            cells[4] = "" if row % 4 == 0 else cells[4]
            writer.writerow(["<b>rare|one</b>" if row % 50 == 0 else "usual", *cells])
    project.edit_params(
        lambda params: (
            params["data"].update(source="data/raw/hostile.csv", target="target", features=[]),
            params["data"].pop("positive"),
            params["validate"].update(suite=None),
            params["evaluate"].update(slices=[header[2]], resamples=100),
        )
    )
    assert "which describes another target" in run_stages(project)
    text = project.read(CARD)
    kinds, codes = rendered(text)
    assert "image" not in kinds
    assert "<script" not in re.sub(r"`[^`]*`", "", text)
    tags = re.findall(r"</?(\w+)", re.sub(r"`[^`]*`|```.*?```", "", text, flags=re.DOTALL))
    assert set(tags) <= {"details", "summary", "sub", "code", "span"}
    assert "**Rare classes** (fewer than 30 test rows):" in text
    assert re.search(r"\*\*Missing values\*\* in 1 of 9 columns: .*\(25\.0%\)", html.unescape(text))
    tables = re.findall(r"(?:^\|.*\n)+", text, re.MULTILINE)
    for found in tables:
        page = MarkdownIt("commonmark").enable("table").render(found)
        widths = {row.count("<td") + row.count("<th") for row in page.split("<tr>")[1:]}
        assert len(widths) == 1, found
    assert any("<b>rare" in code for code in codes) or "&#60;b&#62;rare" in text


def test_a_regression_is_described_by_the_quartiles_of_its_target(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path)
    shutil.copytree(ROOT / "examples/diabetes", project.folder, dirs_exist_ok=True)
    project.edit_params(lambda params: (params.update(tuning=None), params["evaluate"].update(resamples=100)))
    run_stages(project)
    text = project.read(CARD)
    assert "Calibration" not in text
    assert re.search(r"\| training rows \| 31 \| 85 \| 137\.5 \| 202 \| 346 \|", text)
    assert "| output | a number |" in text
    assert "standard deviations on" in text
    assert "Not written yet" in section(text, "Intended use")
    assert "malignant" not in text


def test_a_thousand_columns_and_slices_are_cut_with_a_count(evaluation: dict[str, Any]) -> None:
    fields = [Field(name=f"c{i}", kind="numeric", nullable=False, low=0.0, high=1.0) for i in range(1000)]
    contract = Contract(task="regression", target="y", probabilities=False, runtime="onnx", fields=fields)
    many = evaluated({f"s{i}": (90, i / 1000) for i in range(1000)})
    many["importance"] = [{"column": f"c{i}", "importance": i / 1000, "std": 0.0} for i in range(999, -1, -1)]
    inputs = card_sections.input_section(contract, many)
    assert "<summary>1,000 columns</summary>" in inputs
    assert "And 950 more (less important)." in inputs
    names = re.findall(r"^\| `(c\d+)`", inputs, re.MULTILINE)
    assert names == [f"c{i}" for i in range(950, 1000)]
    slices = card_sections.slice_section(many)
    assert "And 980 more (better)." in slices
    assert len(slices.splitlines()) < 30
    assert "`town s9` and 880 more." in card_sections.slice_limits(many)[0]  # below 0.9, by more than the interval
    assert all(len(limit) < 700 for limit in card_sections.slice_limits(many))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_name_is_one_piece_of_code_wherever_it_stands(text: str) -> None:
    cell = verbatim(text)
    page = (
        MarkdownIt("commonmark", {"html": True}).enable("table").render(f"| a | b |\n| --- | --- |\n| {cell} | x |\n")
    )
    assert page.count("<td>") == 2
    assert page.count("<code>") == page.count("</code>") == 1
    assert not re.search(r"<(script|h1|img|a |em|strong|!--)", page)
    plain = re.sub(r"<[^>]*>", "", page)
    for word in re.findall(r"[a-z]{4,}", one_line(text, 60)):
        assert word in plain


def test_the_card_is_written_quickly_and_without_the_libraries_that_train() -> None:
    code = "import mlops.pipeline.card, sys; print(*sorted(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    assert not {"sklearn", "pandas", "scipy", "matplotlib", "mlflow", "onnxruntime"} & set(found.split())
    assert paths.EVALUATION.name == "evaluation.json"
