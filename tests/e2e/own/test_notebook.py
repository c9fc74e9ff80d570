"""The notebook is run from its first cell to its last, without test rows, and its model goes through the pipeline."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from conftest import Project, copied
from nbclient import NotebookClient

NOTEBOOK = "notebooks/explore.ipynb"


def test_the_notebook_explores_training_rows_and_hands_a_model_over(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path / "a project")
    (project.folder / "data/prepared/test.parquet").unlink()
    notebook = nbformat.reads(project.read(NOTEBOOK), 4)
    nbformat.validate(notebook)
    cells = {cell.id: cell for cell in notebook.cells}
    there = {"metadata": {"path": str(project.folder / "notebooks")}}
    NotebookClient(notebook, timeout=300, resources=there).execute(env=project.environment)
    said = {name: "".join(each.get("text", "") for each in cell.get("outputs", [])) for name, cell in cells.items()}
    assert said["read"] == "426 training rows of sklearn:breast_cancer\n"
    assert "Nearly identical columns: 6 pairs" in said["profile"]
    assert said["fit"] == "85 validation rows\n"
    (scores,) = [each.data["text/html"] for each in cells["fit"].outputs if "data" in each]
    assert all(text in scores for text in ("params.yaml", "candidate", "roc_auc", "low", "high"))
    (plot,) = [each.data for each in cells["plot"].outputs if "data" in each]
    assert plot["image/png"]

    # the pipeline fits what was tried
    section = re.compile(r"^model:\n(?:  .*\n)+", re.M)
    assert section.fullmatch(said["hand-over"])
    assert len(section.findall(project.read("params.yaml"))) == 1
    changed = section.sub(said["hand-over"], project.read("params.yaml"))
    (project.folder / "params.yaml").write_text(changed, encoding="utf-8")
    assert "sklearn.ensemble.HistGradientBoostingClassifier on 426 rows" in project.stage("train").stdout
