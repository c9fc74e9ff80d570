"""The bundle of `make edge`: its page in headless Chromium, and its model in C, on rows that evaluation recorded."""

from __future__ import annotations

import functools
import http.server
import json
import shutil
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pyarrow.parquet as pq
import pytest
from conftest import ROOT, Project, copied
from pipeline import test_export, test_export_portable
from services.browser import Page, chromium

from mlops.core import paths
from mlops.inference import portable
from mlops.pipeline import export_portable
from mlops.release import edge

HOSTILE = "<img src=x onerror=alert(1)>"
HEADERS = ROOT / "build/tools/onnxruntime"


@pytest.fixture(scope="module")
def project(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose bundle is there."""
    runtime = ROOT / edge.RUNTIME
    assert runtime.is_dir(), "onnxruntime-web is not installed; run .ci/services"
    project = copied(done, tmp_path_factory.mktemp("edge"))
    (project.folder / edge.RUNTIME.parent).mkdir(parents=True)
    (project.folder / edge.RUNTIME).symlink_to(runtime)
    printed = project.run(sys.executable, "-m", "mlops.release.edge").stdout
    assert "are the model → build/edge" in printed
    return project


@pytest.fixture(scope="module")
def bundle(project: Project) -> Path:
    return project.folder / edge.FOLDER


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, format: str, *arguments: Any) -> None:
        pass


@pytest.fixture(scope="module")
def address(bundle: Path) -> Iterator[str]:
    """Where any web server serves the folder."""
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(Quiet, directory=str(bundle.parent))
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with chromium(tmp_path_factory.mktemp("chromium")) as found:
        yield found


@pytest.fixture
def page(browser: Page, address: str) -> Iterator[Page]:
    """The page anew; it may neither break its policy nor ask any other server."""
    browser.problems.clear()
    browser.size(1280)
    opened(browser, f"{address}/edge/")
    yield browser
    browser.ask("1")
    assert browser.problems == []


def opened(page: Page, address: str) -> None:
    page.open(address)
    page.wait("document.getElementById('state').innerText !== 'Loading the model …'")
    assert page.ask("document.getElementById('state').innerText") == ""


def answer(page: Page, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """What the page answers to a request of many rows."""
    page.ask("document.querySelector('details').open = true")
    page.ask("document.getElementById('response').hidden = true")
    page.ask(f"document.getElementById('request').value = {json.dumps(json.dumps({'rows': rows}))}; 0")
    page.ask("document.getElementById('predict').click()")
    page.wait("!document.getElementById('response').hidden")
    return dict(json.loads(page.ask("document.getElementById('response').textContent")))


def enter(page: Page, label: str, value: str) -> None:
    """Type a value into the field with a label."""
    labels = "[...document.querySelectorAll('label')]"
    field = f"document.getElementById({labels}.find((each) => each.innerText === '{label}').htmlFor)"
    page.ask(f"{field}.value = {json.dumps(value)}; {field}.dispatchEvent(new Event('input', {{bubbles: true}}))")


def shown(page: Page) -> str:
    return str(page.ask("document.getElementById('answer').innerText"))


def asked(project: Project) -> tuple[list[dict[str, Any]], dict[str, list[Any]]]:
    """The test rows, and what evaluation recorded of them."""
    fields = json.loads(project.read("models/portable/contract.json"))["fields"]
    rows = pq.read_table(project.folder / paths.TEST).select([field["name"] for field in fields]).to_pylist()
    return rows, pq.read_table(project.folder / paths.PREDICTIONS).to_pydict()


def test_the_page_predicts_what_evaluation_recorded(page: Page, project: Project) -> None:
    rows, recorded = asked(project)
    found = answer(page, rows)
    assert [each["prediction"] for each in found["predictions"]] == recorded["predicted"]
    for label in ("benign", "malignant"):
        ours = [each["probabilities"][label] for each in found["predictions"]]
        assert ours == pytest.approx(recorded[f"probability of {label}"], abs=1e-9)
    assert found["model"] == json.loads((project.folder / edge.FOLDER / "release.json").read_text())["model_md5"]


def test_the_form_starts_with_the_example_and_follows_each_change(page: Page, project: Project) -> None:
    example = {
        field["name"]: field["example"] for field in json.loads(project.read("models/portable/contract.json"))["fields"]
    }
    (expected,) = answer(page, [example])["predictions"]
    assert expected["prediction"] == "benign"
    assert f"benign\n{100 * expected['probabilities']['benign']:.1f} %" in shown(page)
    assert page.ask("document.querySelectorAll('#fields input').length") == len(example)
    enter(page, "worst area", "5000")
    page.wait("document.querySelector('#answer b').innerText === 'malignant'")
    assert "outside the training rows: 185.2 to " in page.ask("document.querySelector('#fields .warn small').innerText")
    enter(page, "worst area", "wide")
    page.wait("document.querySelector('#answer b').innerText === 'No prediction'")
    assert "worst area should be a number" in shown(page)
    enter(page, "worst area", "700")
    enter(page, "mean area", "0")
    page.wait("document.getElementById('answer').innerText.includes('irregularity')")
    assert "irregularity is Infinity; computed from mean perimeter = 87.2, mean area = 0" in shown(page)
    page.ask("document.querySelector('button[type=reset]').click()")
    page.wait("document.querySelector('#answer b').innerText === 'benign'")


def test_what_does_not_fit_is_named_by_row_and_field_as_the_api_does(page: Page, project: Project) -> None:
    first = asked(project)[0][0]
    problems = answer(page, [first, {**first, "mean radius": None, "radio": 1}, {}])["detail"]
    assert problems[:2] == [
        {"row": 1, "field": "radio", "problem": "is not a field of this model"},
        {
            "row": 1,
            "field": "mean radius",
            "problem": "is null, but the training data had no missing values in this column",
        },
    ]
    assert problems[2] == {"row": 2, "field": "mean radius", "problem": "is missing"}
    assert answer(page, [first, 3])["detail"] == [{"row": 1, "field": None, "problem": "input should be an object"}]  # type: ignore[list-item]
    assert answer(page, [])["detail"] == [
        {"row": None, "field": "rows", "problem": "should be a list of at least one row"}
    ]


def test_it_fits_a_phone_and_follows_the_dark_mode(page: Page) -> None:
    page.size(390)
    assert page.ask("document.documentElement.scrollWidth") == 390
    page.dark()
    assert page.ask("getComputedStyle(document.body).backgroundColor") == "rgb(20, 24, 29)"
    page.dark(False)


def test_a_browser_without_webassembly_is_reported(page: Page, address: str) -> None:
    script = page.send("Page.addScriptToEvaluateOnNewDocument", source="delete globalThis.WebAssembly")
    try:
        page.open(f"{address}/edge/")
        page.wait("document.getElementById('state').className === 'bad'")
        assert "this browser has no WebAssembly" in page.ask("document.getElementById('state').innerText")
        assert page.ask("document.querySelector('main').hidden")
    finally:
        page.send("Page.removeScriptToEvaluateOnNewDocument", **script)


@pytest.fixture(scope="module")
def kinds(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[list[dict[str, Any]], portable.Model]:
    """Beside the bundle, one of a model with each kind of column; and rows for it, with the model in Python."""
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings(action="ignore"):
        patch.chdir(tmp_path_factory.mktemp("kinds"))
        paths.PREPARED.mkdir(parents=True)
        truth = {"positive": True, "threshold": 0.7}
        estimator = "sklearn.linear_model.LogisticRegression"
        _, _, contract, content = test_export.exported(estimator, {}, test_export.TARGETS["truth"], **truth)
        whole, described = export_portable.made(content, contract, [], lambda _: 0.0)
        described["fields"][1]["clean"] = {"above": 7.0, "factor": 0.5, "high": 3.5, "outside": "clip"}
        described["target"] = HOSTILE
        export_portable.write(whole, described)
        shutil.copytree(bundle, bundle.parent / "kinds")
        shutil.copytree(paths.PORTABLE, bundle.parent / "kinds", dirs_exist_ok=True)
        return test_export_portable.rows(contract), portable.load(paths.PORTABLE)


def test_each_kind_of_column_is_encoded_as_in_python(
    page: Page, address: str, kinds: tuple[list[dict[str, Any]], portable.Model]
) -> None:
    rows, model = kinds
    opened(page, f"{address}/kinds/")
    assert page.ask("document.querySelector('h1').innerText") == f"Model of {HOSTILE}"
    assert HOSTILE in shown(page)
    assert page.ask("document.querySelectorAll('img').length") == 0
    found = answer(page, rows)["predictions"]
    expected = model.predict(rows)
    assert [each["prediction"] for each in found] == expected.predicted.tolist()
    ours = [list(each["probabilities"].values()) for each in found]
    np.testing.assert_allclose(ours, expected.probabilities, atol=1e-9)
    wrong = {"喫煙": 1, "joined": "2023-02-30", "called": "25:00", "never missing": "Z", "large": 4e38}
    problems = answer(page, [{**rows[0], **wrong}])["detail"]
    assert [each["field"] for each in problems] == [name for name in rows[0] if name in wrong]


def test_a_program_in_c_predicts_the_same_rows_with_the_same_files(
    project: Project, bundle: Path, kinds: tuple[list[dict[str, Any]], portable.Model], tmp_path: Path
) -> None:
    assert HEADERS.is_dir(), "the headers of ONNX Runtime are missing; run .ci/services"
    (library,) = (Path(onnxruntime.__file__).parent / "capi").glob("libonnxruntime.so.*")
    for name in ("libonnxruntime.so", "libonnxruntime.so.1"):
        (tmp_path / name).symlink_to(library)
    program = tmp_path / "predict"
    command = ["cc", "-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", ROOT / "deploy/edge/predict.c", "-o", program]
    command += ["-isystem", HEADERS, f"-L{tmp_path}", f"-Wl,-rpath,{tmp_path}", "-lonnxruntime", "-lm"]
    subprocess.run(command, check=True)

    def run(text: str, folder: Path = bundle) -> subprocess.CompletedProcess[str]:
        return subprocess.run([program, folder / "model.onnx"], input=text, capture_output=True, text=True, check=False)

    def numbers_of(done: subprocess.CompletedProcess[str]) -> Any:
        assert done.returncode == 0, done.stderr
        return np.array([[float(cell) for cell in line.split(",")] for line in done.stdout.splitlines()])

    rows, recorded = asked(project)
    numbers = [each["field"] for each in json.loads((bundle / "contract.json").read_text())["numbers"]]
    found = numbers_of(run("".join(",".join(repr(row[name]) for name in numbers) + "\n" for row in rows)))
    expected = np.column_stack([recorded["probability of benign"], recorded["probability of malignant"]])
    np.testing.assert_allclose(found, expected, atol=1e-9)
    assert run("1,2\n").stderr == "error: row 1 has 2 cells, not 30\n"
    assert run("x" + ",1" * 29 + "\n").stderr == "error: row 1: 'x' is no number\n"

    rows, model = kinds
    inputs = model.inputs(model.typed(rows))
    cells = [["" if np.isnan(cell) else repr(float(cell)) for cell in row] for row in inputs["numbers"]]
    coded = [list(map(str, row)) for row in inputs["codes"]]
    assert any("" in row for row in cells)
    lines = [",".join(first + then) + "\r\n" for first, then in zip(cells, coded, strict=True)]
    found = numbers_of(run("".join(lines), bundle.parent / "kinds"))
    np.testing.assert_allclose(found, model.predict(rows).probabilities, atol=1e-9)
