"""The pipeline as DVC runs it, from end to end, in scratch copies of the project."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import Project, copied
from ruamel.yaml import YAML

from mlops.core.lock import read_lock
from mlops.pipeline.verify import differences

STAGES = ("ingest", "validate", "split", "profile", "train", "export", "evaluate", "card", "track")


@pytest.mark.quick
def test_every_stage_leaves_what_it_promises_and_git_stays_clean(done: Project) -> None:
    assert done.git("status", "--porcelain") == ""
    for stage in YAML(typ="safe").load(done.folder / "dvc.yaml")["stages"].values():
        for out in [*stage.get("outs", []), *stage.get("metrics", [])]:
            path = out if isinstance(out, str) else next(iter(out))
            assert (done.folder / path).exists(), path


@pytest.mark.quick
def test_nothing_runs_when_nothing_changed(done: Project) -> None:
    output = done.run("dvc", "repro").stdout
    assert "Data and pipelines are up to date." in output


def test_a_cold_run_elsewhere_reproduces_every_hash(done: Project, project: Project) -> None:
    """Another path, time zone, language, hash seed and number of threads; no cache; not one bit may differ."""
    project.run(
        "dvc",
        "repro",
        TZ="Asia/Kathmandu",
        LC_ALL="C",
        PYTHONHASHSEED="12345",
        OMP_NUM_THREADS="3",
        OPENBLAS_NUM_THREADS="2",
        OPENBLAS_CORETYPE="Prescott",
        NPY_DISABLE_CPU_FEATURES="X86_V3 X86_V4 AVX512_ICL AVX512_SPR",
    )
    assert differences(read_lock(done.folder / "dvc.lock"), read_lock(project.folder / "dvc.lock")) == []


def test_no_output_names_this_machine_or_this_run(done: Project, tmp_path_factory: pytest.TempPathFactory) -> None:
    (run,) = [json.loads(path.read_text()) for path in (done.folder / "reports/journal").glob("track.json")]
    listed = done.git("ls-files", "reports", "data/prepared", "models").splitlines()
    for path in [done.folder / name for name in [*listed, "models/model.skops", "reports/profile.html"]]:
        content = path.read_bytes()
        for secret in (
            run["run_id"],
            str(tmp_path_factory.getbasetemp().parent),
            os.uname().nodename,
            str(Path.home()),
        ):
            assert secret.encode() not in content, f"{path.name} holds {secret}"


def test_dvc_shows_metrics_params_and_plots(done: Project) -> None:
    shown = json.loads(done.run("dvc", "metrics", "show", "--json").stdout)
    numbers = shown[""]["data"]
    assert 0.9 < numbers["reports/metrics.json"]["data"]["roc_auc"] <= 1
    assert numbers["reports/validation.json"]["data"]["failed_critical"] == 0
    # where no browser opens it, the page is named
    named = done.run(
        "make", "--assume-old=.venv/.ready", "plots", DISPLAY="", WAYLAND_DISPLAY="", BROWSER="false"
    ).stdout
    assert f"{done.folder.as_uri()}/dvc_plots/index.html" in named
    page = done.read("dvc_plots/index.html")
    for title in ("ROC curve", "Confusion matrix", "Calibration", "Permutation importance"):
        assert title in page
    shutil.rmtree(done.folder / "dvc_plots")


def test_an_experiment_changes_the_metrics_as_a_dvc_user_expects(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path)
    project.run("dvc", "exp", "run", "-S", "model.params.C=0.0001", "--name", "weak")
    table = json.loads(project.run("dvc", "exp", "show", "--json").stdout)
    assert "weak" in json.dumps(table)
    changed = json.loads(project.run("dvc", "metrics", "diff", "--json").stdout)
    assert changed["reports/metrics.json"]["log_loss"]["diff"] > 0.1
    assert "index.html" in project.run("dvc", "plots", "diff", "HEAD").stdout
    params = json.loads(project.run("dvc", "params", "diff", "--json").stdout)
    change = params["params.yaml"]["model.params.C"]
    assert (change["old"], change["new"]) == (1.0, 0.0001)
    # the source, its validation and the split do not depend on the model
    old, new = (read_lock_text(text) for text in (project.git("show", "HEAD:dvc.lock"), project.read("dvc.lock")))
    assert {stage for stage, _ in differences(old, new)} == {"train", "export", "evaluate", "card", "track"}


def read_lock_text(text: str) -> dict[str, object]:
    stages: dict[str, object] = YAML(typ="safe").load(text)["stages"]
    return stages


def test_a_flipped_byte_in_an_output_is_made_anew(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path)
    model = project.folder / "models/model.skops"
    before = model.read_bytes()
    model.unlink()
    model.write_bytes(before[:-1] + b"x")
    project.run("dvc", "repro")
    assert model.read_bytes() == before


@pytest.mark.quick
def test_verify_names_the_stage_and_file_that_moved(done: Project) -> None:
    before = read_lock(done.folder / "dvc.lock")
    after = json.loads(json.dumps(before))
    assert differences(before, after) == []
    next(out for out in after["train"]["outs"] if out["path"] == "models/model.skops")["md5"] = "0" * 32
    del after["profile"]
    assert differences(before, after) == [("train", "models/model.skops"), ("profile", "reports/profile.html")]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["ctrl-c", "kill -9"])
def test_runs_that_were_stopped_in_each_stage_are_finished_by_the_next(
    done: Project, tmp_path: Path, how: signal.Signals
) -> None:
    project = copied(done, tmp_path)
    before = read_lock(done.folder / "dvc.lock")
    for stage in reversed(STAGES):  # the last first, because a stage needs the outputs of those before it
        # a stage alone is run anew when its outputs are gone
        for out in before[stage].get("outs", []):
            target = project.folder / out["path"]
            shutil.rmtree(target) if target.is_dir() else target.unlink()
        stop(project, stage, how)
    finished = project.run("dvc", "repro").stdout
    assert "ERROR" not in finished
    assert differences(before, read_lock(project.folder / "dvc.lock")) == []
    assert not list(project.folder.rglob("*.partial"))
    assert project.git("status", "--porcelain") == ""


def stop(project: Project, stage: str, how: signal.Signals) -> None:
    """Start a stage alone, and stop it while it runs."""
    run = subprocess.Popen(
        [sys.executable, "-m", "dvc", "repro", "--force", "--single-item", stage],
        cwd=project.folder,
        env=project.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # what runs in the background of a shell is deaf to Ctrl-C
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    assert run.stdout is not None
    for line in run.stdout:
        if line.startswith("> python -P -m mlops.pipeline"):
            break
    # a Ctrl-C that arrives in a callback from C code is lost, as to a person, who presses it again
    for number in range(60):
        time.sleep(0.5 if number else 0.05)  # the shortest stage takes a quarter of a second
        if run.poll() is not None:
            break
        os.killpg(run.pid, how)
    run.wait(timeout=60)
    assert run.returncode != 0, stage


def test_two_runs_at_once_do_not_harm_each_other(project: Project) -> None:
    runs = [
        subprocess.Popen(
            ["dvc", "repro"],
            cwd=project.folder,
            env=project.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for _ in range(2)
    ]
    outputs = [run.communicate(timeout=300)[0] for run in runs]
    codes = [run.returncode for run in runs]
    assert 0 in codes, outputs
    for code, output in zip(codes, outputs, strict=True):
        assert code == 0 or "lock" in output.lower(), output
    project.run("dvc", "repro")
    assert project.run("dvc", "status").stdout.strip().endswith("up to date.")
