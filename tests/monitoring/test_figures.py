"""Business figures: what the monitor shows of each version, and how `make canary` compares them."""

from __future__ import annotations

import gzip
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Project, copied
from prometheus_client.parser import text_string_to_metric_families
from pydantic import ValidationError
from scipy import stats

from mlops.core.settings import Figure
from mlops.model.metrics import Predictions
from mlops.monitoring import streams
from mlops.monitoring.figures import mean
from mlops.monitoring.matched import Labelled
from mlops.monitoring.measures import of_figure
from mlops.monitoring.outcomes import decide, judge

HERE = Path(__file__).parent


def test_the_interval_of_a_mean_covers_it_in_95_percent() -> None:
    rng = np.random.default_rng(0)
    found = [mean("revenue", "1", rng.exponential(size=60)) for _ in range(1_000)]
    covered = np.mean([each.low <= 1 <= each.high for each in found])
    assert 0.91 <= covered <= 0.97
    values = np.array([1.0, 2.0, 4.0, np.nan, np.inf])
    (low, high), rows = mean("revenue", "1", values)[3:5], mean("revenue", "1", values).rows
    known = stats.ttest_1samp(values[:3], 0).confidence_interval()
    assert (low, high, rows) == (pytest.approx(known.low), pytest.approx(known.high), 3)


def test_one_row_has_a_mean_and_no_interval() -> None:
    assert mean("revenue", "1", np.array([2.0]))[2] == 2.0
    assert np.isnan(mean("revenue", "1", np.array([2.0])).low)
    assert np.isnan(mean("revenue", "1", np.array([np.nan])).mean)


# -- compared by make canary


def two_versions(values: Any, second: Any, per_hour: int = 60) -> Labelled:
    known = np.datetime64("2026-01-01", "us") + np.arange(len(values)) * np.timedelta64(3_600_000_000 // per_hour, "us")
    version = np.where(second, "2", "1").astype(object)
    return Labelled(values, known, Predictions(values, None), {}, known, version=version)


def decision(figure: Figure, values: Any, second: Any) -> tuple[str, int | None]:
    return decide(judge([of_figure("revenue", figure, values)], two_versions(values, second), "2", 0.05))


@pytest.mark.parametrize("limits", [None, (0.0, 60.0)], ids=["asymptotic", "range"])
def test_a_figure_decides_in_the_direction_that_is_better(limits: tuple[float, float] | None) -> None:
    rng = np.random.default_rng(0)
    second = rng.random(20_000) < 0.5
    less = rng.gamma(9, 2, size=20_000) * np.where(second, 0.8, 1.0)
    higher, lower = (Figure(better=better, range=limits) for better in ("higher", "lower"))
    assert decision(higher, less, second)[0] == "abort"
    assert decision(lower, less, second)[0] == "promote"
    assert decision(higher, -less, second)[0] == "promote"


def test_an_asymptotic_test_keeps_its_error_though_looked_at_each_round() -> None:
    rng = np.random.default_rng(0)
    draws = [rng.lognormal(size=3_000) - rng.lognormal(size=3_000) for _ in range(300)]
    assert np.mean([streams.asymptotic(each).max() >= 20 for each in draws]) <= 0.05
    shifted = [streams.asymptotic(each + 0.3) for each in draws]
    assert np.mean([each.max() >= 20 for each in shifted]) >= 0.9
    assert not any(each[: streams.LEAST_ASYMPTOTIC - 1].any() for each in shifted)


def test_values_outside_the_range_are_cut_and_counted() -> None:
    found = of_figure("revenue", Figure(better="higher", range=(0, 100)), np.array([-5.0, 50.0, 1e9, np.inf]))
    assert found.values[:3].tolist() == [1.0, 0.5, 0.0]
    assert np.isnan(found.values[3])
    assert found.meaning == "higher is better; cut to 0 to 100, as 2 rows were"
    with pytest.raises(ValidationError, match="the lower one first"):
        Figure(better="higher", range=(1, 1))


# -- shown by make monitor


@pytest.mark.e2e
def test_the_monitor_shows_figures_and_costs_of_each_version(done: Project, tmp_path: Path) -> None:
    project = copied(done, tmp_path)
    log = project.folder / "log"
    project.run(sys.executable, str(HERE / "production.py"), str(log), "none")
    # the first ten days are of the release before, which cost as much and earned less
    for path in sorted(log.glob("*.jsonl.gz"))[:10]:
        lines = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
        lines = [{**line, "version": "0.9.0", "model": "e" * 32, "sample": 0.5} for line in lines]
        path.write_bytes(gzip.compress("".join(f"{json.dumps(line)}\n" for line in lines).encode()))
    labels = pd.read_csv(log / "labels.csv")
    day = labels["request_id"].str.extract(r"day(\d+)-")[0].astype(int)
    labels["revenue"] = np.where(day < 10, 5.0, 8.0) + labels["row"] % 2
    labels.loc[0, "revenue"] = None
    labels.to_csv(log / "labels.csv", index=False)
    source = {
        "source": "log/labels.csv",
        "row": "row",
        "time": "known_at",
        "figures": {"revenue": {"better": "higher"}},
    }
    project.edit_params(lambda params: params.update(monitor={"labels": source}))
    project.edit_params(lambda params: params["evaluate"].update(costs={"false_negative": 10, "false_positive": 1}))
    said = project.run(sys.executable, "-m", "mlops.monitoring", "log", "--until", "2026-01-31").stdout
    report = json.loads(project.read("build/monitor/report.json"))
    found = {(each["figure"], each["version"]): each for each in report["figures"]}
    assert list(found) == [
        ("cost of a decision", "0.9.0"),
        ("cost of a decision", "1.0.0"),
        ("revenue", "0.9.0"),
        ("revenue", "1.0.0"),
    ]
    before, now = found["revenue", "0.9.0"], found["revenue", "1.0.0"]
    assert (before["rows"], now["rows"]) == (10 * 60 - 1, 20 * 60)
    assert now["mean"] == pytest.approx(8.5)
    assert before["high"] < now["low"] < now["mean"] < now["high"]
    assert f"{now['mean']:.4g} ({now['low']:.4g} to {now['high']:.4g}), 1,200 rows" in said
    families = text_string_to_metric_families(project.read("build/monitor/monitor.prom"))
    prom = {(each.name, *each.labels.values()): each.value for family in families for each in family.samples}
    assert prom["monitor_figure_mean", "revenue", "1.0.0"] == now["mean"]
    assert prom["monitor_figure_low", "revenue", "0.9.0"] == before["low"]
    assert prom["monitor_requests",] == 20 * 3
    assert report["requests_by_day"]["2026-01-11"] == 3
    page = project.read("build/monitor/report.html")
    assert "Business figures" in page
    assert ">revenue</bdi>" in page

    # a column that is not there is named
    project.edit_params(lambda params: params["monitor"]["labels"].update(figures={"revenu": {"better": "higher"}}))
    wrong = project.run(sys.executable, "-m", "mlops.monitoring", "log", check=False)
    message = "monitor.labels.figures.revenu: log/labels.csv has no column 'revenu'; did you mean 'revenue'?"
    assert (wrong.returncode, message in wrong.stdout) == (1, True), wrong.stdout
