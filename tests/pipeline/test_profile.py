"""The page of the training rows: its numbers against pandas, and a hostile table that stays text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import ROOT
from ruamel.yaml import YAML

from mlops.core import paths
from mlops.core import settings as settings_module
from mlops.data import tables
from mlops.pipeline import ingest, profile, split


def prepare(folder: Path, monkeypatch: pytest.MonkeyPatch, **sections: Any) -> tuple[pa.Table, Any, Any]:
    """Ingest and split in a folder; returns the training rows, the catalogue and the settings."""
    monkeypatch.chdir(folder)
    params = YAML(typ="safe").load(ROOT / "params.yaml") | {"validate": {}, "evaluate": {}} | sections
    YAML().dump(params, folder / "params.yaml")
    for stage in (ingest, split):
        stage.main()
    return tables.read(paths.TRAIN), tables.read_catalogue(), settings_module.load()


def column(page: dict[str, Any], name: str) -> dict[str, Any]:
    return next(each for each in page["columns"] if each["name"] == name)


class Page(HTMLParser):
    """Tags and attributes of a page; fails where a tag is closed that was not open."""

    VOID = frozenset({"meta", "br", "img", "input", "link", "hr", "col", "wbr"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self.text = ""
        self.open: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def test_the_facts_are_those_that_pandas_finds(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    train, catalogue, settings = prepare(tmp_path, monkeypatch)
    page = profile.profile(train, catalogue, settings)
    frame = train.to_pandas()
    assert page["rows"] == len(frame)
    assert dict(page["target"]["counts"]) == frame["diagnosis"].value_counts().to_dict()
    for name in ("mean radius", "worst area", "smoothness error"):
        facts, values = column(page, name)["facts"], frame[name]
        expected = {"min": values.min(), "median": values.median(), "max": values.max(), "mean": values.mean()}
        expected |= {"std": values.std(), "25%": values.quantile(0.25), "95%": values.quantile(0.95)}
        for fact, value in expected.items():
            assert float(facts[fact].replace(",", "").replace("−", "-")) == pytest.approx(value, rel=5e-3), fact
        assert column(page, name)["distinct"] == values.nunique()
    pairs = {(a, b): r for a, b, r in page["correlations"]["pairs"]}
    ranks = frame.drop(columns="diagnosis").corr(method="spearman")
    assert len(pairs) == profile.PAIRS
    for (first, second), r in pairs.items():
        assert r == pytest.approx(ranks.loc[first, second], abs=1e-4)
    others = [abs(ranks.iloc[i, j]) for i in range(30) for j in range(i)]
    assert min(map(abs, pairs.values())) == pytest.approx(sorted(others)[-profile.PAIRS], abs=1e-4)


def test_the_columns_that_tell_most_of_the_target_come_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    size = rng.normal(size=400)
    frame = pd.DataFrame({"noise": rng.normal(size=400), "faint": size + rng.normal(0, 2, 400), "size": size})
    frame["given away"] = 3 * size + 1
    frame["price"] = 3 * size + rng.normal(0, 0.3, 400)
    (tmp_path / "data/raw").mkdir(parents=True)
    frame.to_csv(tmp_path / "data/raw/t.csv", index=False)
    page = profile.profile(
        *prepare(
            tmp_path,
            monkeypatch,
            data={"source": "data/raw/t.csv", "task": "regression", "target": "price", "features": []},
            split={"method": "random"},
        )
    )
    names = [each["name"] for each in page["features"]]
    assert set(names[:2]) == {"size", "given away"}
    assert names[2:] == ["faint", "noise"]
    titles = {note["title"]: [column["name"] for column in note["columns"]] for note in page["notes"]}
    assert set(titles["Possible target leakage"]) == {"size", "given away"}
    assert "Nearly identical columns" in titles


def test_test_rows_and_private_values_are_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PSEUDONYM_KEY", "0123456789abcdef0123456789abcdef")
    rng = np.random.default_rng(1)
    frame = pd.DataFrame({"id": [f"key{i:03d}" for i in range(200)], "x": rng.normal(size=200).round(4)})
    frame["who"] = [f"person{i % 7}" for i in range(200)]
    frame["town"] = "here"
    frame["y"] = (frame["x"] > 0).astype(int)
    (tmp_path / "data/raw").mkdir(parents=True)
    frame.to_csv(tmp_path / "data/raw/t.csv", index=False)
    data = {"source": "data/raw/t.csv", "task": "classification", "target": "y", "key": ["id"], "features": []}
    data["private"] = {"who": "pseudonymise"}
    prepare(tmp_path, monkeypatch, data=data, split={"method": "random"})
    profile.main()
    before = (tmp_path / paths.PROFILE).read_text(encoding="utf-8")
    assert "key0" not in before
    assert not [name for name in pq.read_table(paths.TRAIN)["who"].to_pylist() if name in before]
    test = pq.read_table(paths.TEST)
    pq.write_table(test.slice(0, 3), paths.TEST)
    profile.main()
    assert (tmp_path / paths.PROFILE).read_text(encoding="utf-8") == before


def test_a_hostile_table_stays_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    attack = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>"
    names = {"number": f"n {attack}", "category": f"c {attack}", "words": f"w {attack}"}
    rng = np.random.default_rng(2)
    frame = pd.DataFrame({names["number"]: rng.normal(size=300), "right to left": rng.normal(size=300)})
    frame[names["category"]] = rng.choice([attack, "</svg></style>", "\u202eplain"], 300)
    frame[names["words"]] = [f"{attack} word{i % 9} {i} some more words" for i in range(300)]
    frame["label"] = rng.choice([attack, "</title>"], 300)
    (tmp_path / "data/raw").mkdir(parents=True)
    frame.to_csv(tmp_path / "data/raw/t.csv", index=False)
    data = {"source": "data/raw/t.csv", "task": "classification", "target": "label", "features": []}
    data["units"] = {names["number"]: attack}
    prepare(tmp_path, monkeypatch, data=data, split={"method": "random"})
    profile.main()
    text = (tmp_path / paths.PROFILE).read_text(encoding="utf-8")
    page = Page(text)
    assert not {"script", "img", "iframe", "link", "object"} & set(page.tags)
    assert not [name for name, _ in page.attributes if name.startswith("on")]
    assert not [value for name, value in page.attributes if name in ("src", "href") and not str(value).startswith("#")]
    assert "<script>alert(1)</script>" in page.text
    assert str(tmp_path) not in text


def test_odd_columns_and_every_task_make_a_whole_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(3)
    frame = pd.DataFrame({"größe": rng.normal(size=120)})
    frame["huge"] = rng.choice([-1.7e308, 1.7e308, 0.0], 120)
    frame["tiny"] = rng.normal(size=120) * 1e-300
    frame["constant"] = 7
    frame["empty"] = np.nan
    frame["almost empty"] = [1.5] + [np.nan] * 119
    frame["yes"] = rng.choice(["true", "false", ""], 120)
    frame["day"] = pd.date_range("1700-01-01", periods=120, freq="1000D").strftime("%Y-%m-%d")
    frame["at"] = [f"{number % 24:02}:{number % 60:02}:36" for number in range(120)]
    frame["町"] = rng.choice(["東京", "مدينة", "Łódź"], 120)
    frame["class"] = rng.choice(["a", "b", "c"], 120)
    frame["price"] = frame["größe"] * 2
    (tmp_path / "data/raw").mkdir(parents=True)
    frame.to_csv(tmp_path / "data/raw/t.csv", index=False)
    for task, target in (("classification", "class"), ("regression", "price"), ("classification", "町")):
        data = {"source": "data/raw/t.csv", "task": task, "target": target, "features": []}
        prepare(tmp_path, monkeypatch, data=data, split={"method": "random"})
        assert ", 4 notes → " in profile.main()
        text = (tmp_path / paths.PROFILE).read_text(encoding="utf-8")
        page = Page(text)
        assert "größe" in page.text
        assert "Missing in every training row" in page.text
        assert not {"nan", "inf", "None"} & {word.strip(".,;:()") for word in page.text.split()}


def test_a_wide_table_makes_a_page_that_a_browser_bears(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(4)
    frame = pd.DataFrame(rng.normal(size=(200, 1_000)).round(3), columns=[f"column {i}" for i in range(1_000)])
    frame["y"] = frame["column 3"] > 0
    (tmp_path / "data/raw").mkdir(parents=True)
    frame.to_parquet(tmp_path / "data/raw/t.parquet", index=False)
    data = {"source": "data/raw/t.parquet", "task": "classification", "target": "y", "features": []}
    prepare(tmp_path, monkeypatch, data=data, split={"method": "random"})
    profile.main()
    text = (tmp_path / paths.PROFILE).read_text(encoding="utf-8")
    assert len(text) < 3_000_000
    assert Page(text).text.count("column 999") >= 1


def test_the_page_is_the_same_on_another_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    prepare(tmp_path, monkeypatch)
    pages = []
    for other in ({}, {"PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "OMP_NUM_THREADS": "3", "LC_ALL": "C"}):
        command = [sys.executable, "-m", "mlops.pipeline.profile"]
        subprocess.run(command, check=True, env={**os.environ, **other}, capture_output=True)
        pages.append((tmp_path / paths.PROFILE).read_bytes())
    assert pages[0] == pages[1]
    assert json.loads((tmp_path / "data/prepared/catalogue.json").read_text())["rows"] == 569
