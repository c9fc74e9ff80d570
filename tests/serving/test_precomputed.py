"""A table of predictions, made as a person makes it, and the real service that answers from it."""

from __future__ import annotations

import json
import sqlite3
import sys
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import Project
from serving.served import Row, eventually, serving
from serving.test_codec import ALL, QUICK, ROW, contract
from serving.test_prediction_log import read

from mlops.core.errors import UserError
from mlops.inference.contract import Field
from mlops.serving import precompute, precomputed
from mlops.serving.batches import checked
from mlops.serving.precompute import lines_of

FIELD = "mean radius"


def rows_of(project: Project, keys: list[Any]) -> pa.Table:
    table = pq.read_table(project.folder / "data/prepared/test.parquet").slice(0, len(keys))
    return table.append_column("customer", pa.array(keys))


def remade(path: Path, **about: Any) -> None:
    """Replace the table by one with other facts about it."""
    partial = path.with_suffix(".new")
    partial.write_bytes(path.read_bytes())
    with sqlite3.connect(partial) as table:
        (content,) = table.execute("SELECT content FROM about").fetchone()
        table.execute("UPDATE about SET content = ?", (json.dumps({**json.loads(content), **about}).encode(),))
    table.close()
    partial.replace(path)


@pytest.fixture
def made(released: Project, tmp_path: Path) -> tuple[Path, list[Row]]:
    """A table of six keys, and the rows of these."""
    table = rows_of(released, ["a", "b", "c", "7", 'ü "x"', "f"])
    pq.write_table(table, tmp_path / "rows.parquet")
    files = [f"IN={tmp_path / 'rows.parquet'}", f"OUT={tmp_path / 'predictions.sqlite'}"]
    # what is installed is the tests' own
    said = released.run("make", "--old-file", ".venv/.ready", "score", *files, "KEY=customer").stdout
    assert f"scored 6 keys → {tmp_path / 'predictions.sqlite'}" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predictions.sqlite", "rows.parquet"]
    names = [field["name"] for field in json.loads(released.read("models/service/schema.json"))["fields"]]
    return tmp_path / "predictions.sqlite", table.select(names).to_pylist()


def test_a_key_is_answered_by_the_table_and_values_by_what_the_model_says_of_them(
    released: Project, made: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    path, rows = made
    log = tmp_path / "log"
    variables = {"PREDICTIONS": str(path), "PREDICTION_LOG": str(log), "SERVING_PROTOCOL": "mlflow"}
    with serving(released, tmp_path / "home", **variables) as served:
        assert f"predictions: {path} answers: 6 keys, scored 20" in served.log.read_text()
        plain = served.predict(*rows).json()["predictions"]
        assert all("precomputed" not in each for each in plain)
        other = {**rows[0], FIELD: rows[0][FIELD] + 5}
        (of_other,) = served.predict(other).json()["predictions"]
        asked = [
            ({"key": "a"}, plain[0], True),
            ({"key": 7}, plain[3], True),
            ({"key": 'ü "x"'}, plain[4], True),
            ({**rows[1], "key": "b"}, plain[1], True),
            ({**other, "key": "a"}, of_other, False),  # what is sent wins
            ({**rows[2], "key": "nobody"}, plain[2], False),
            ({**rows[2], "key": None}, plain[2], False),
            (rows[5], plain[5], False),
        ]
        everything = served.predict(*(row for row, *_ in asked), **{"X-Request-ID": "order-7"}).json()
        assert {key: everything[key] for key in ("version", "request_id")} == {
            "version": served.release["version"],
            "request_id": "order-7",
        }
        for number, (row, expected, by_table) in enumerate(asked):
            (alone,) = served.predict(row).json()["predictions"]
            for found in (alone, everything["predictions"][number]):
                assert (found.pop("precomputed", "") != "") == by_table, row
                assert found["prediction"] == expected["prediction"]
                assert found["probabilities"] == pytest.approx(expected["probabilities"], abs=1e-12)
        counted = {
            dict(labels)["answered_by"]: count for labels, count in served.metrics("model_keyed_rows_total").items()
        }
        assert counted == {"table": 8, "model": 4, "nothing": 0}
        assert sum(served.metrics("model_rows_total").values()) == 6 + 1 + 2 * len(asked)
        assert served.count("model_precomputed_until_timestamp_seconds") > time.time()
        records = [{"key": "a"}, {**rows[1], "key": "nobody"}]
        as_mlflow = served.client.post("/invocations", json={"dataframe_records": records}).json()
        assert [each is None for each in as_mlflow["precomputed"]] == [False, True]
        assert "precomputed" not in served.client.post("/invocations", json={"instances": rows}).json()
        eventually(lambda: [line for line in read(log) if line["request_id"] == "order-7"])
        lines = [line for line in read(log) if line["request_id"] == "order-7"]
    for line, (row, expected, by_table) in zip(lines, asked, strict=True):
        scored = rows[{"a": 0, 7: 3}.get(row["key"], 4)] if len(row) == 1 else row
        assert line["features"] == {name: scored[name] for name in rows[0]}
        assert ("precomputed" in line) == by_table
        assert line["prediction"] == expected["prediction"]
        assert line["computed"].keys() == {"irregularity"}
    traced = released.run(sys.executable, "-m", "mlops.release.trace", ID="order-7", LOG=str(log)).stdout
    assert traced.count("  precomputed  20") == 4


def test_what_is_wrong_with_a_row_with_a_key_is_named_and_nothing_breaks_it(
    released: Project, made: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    path, rows = made
    row = rows[0]
    with serving(released, tmp_path / "home", PREDICTIONS=str(path)) as served:

        def problem(*sent: Any) -> tuple[Any, Any, str]:
            answer = served.predict(*sent)
            assert answer.status_code in (404, 422), answer.text
            first = answer.json()["detail"][0]
            return first["row"], first["field"], first["problem"]

        missing = "is not in the table of predictions; send the fields of the model as well"
        assert problem({"key": "a"}, {"key": "nobody"}) == (1, "key", missing)
        assert served.predict({"key": "nobody"}).status_code == 404
        why = served.client.post("/predict?explain=true", json={"rows": [{"key": "a"}]})
        assert (why.status_code, why.json()["error"]) == (
            422,
            "rows with a key are not explained; send the fields without the key",
        )
        for key in ("", "x" * 201, True, 1.5, [], {}, 10**300):
            assert problem({**row, "key": key})[1] == "key", key
        assert problem({"key": "a"}, {FIELD: 1, "key": "a"})[0] == 1
        assert problem({"key": "a"}, {**row, FIELD: "much", "key": "a"})[:2] == (1, FIELD)
        assert problem({"key": None}) == (0, FIELD, "is missing")
        assert problem({"key": "a"}, 5) == (1, None, "input should be an object")
        text = json.dumps({**row, "key": "a"})
        for wrong in (
            f'{{"rows": [{text[:-1]}, "key": "b"}}]}}',
            '{"rows": [{"key": "a", "key": "b"}]}',
            '{"rows": [{"key": "a"}], "rows": [{"key": "b"}]}',
            f'{{"rows": [{text[:-1]}, "{FIELD}": 13}}]}}',
            f'{{"rows": [{text}], "rows": [{text}]}}',
            f'{{"rows": [{text}], "more": 1}}',
            f'{{"rows": [{text}',
            f'{{"rows": {text}}}',
            '{"rows": [{"key": "\\ud800"}]}',
            '{"rows": [{"key": ' + "[" * 10_000,
            '{"rows": [' + ", ".join(['{"key": "a"}'] * 10_001) + "]}",
            '{"rows": [{"key": "a", "x": ' + "[" * 1_000_001 + "1]}]}",
            text.encode().replace(b'"a"', b'"\xff"'),
        ):
            assert served.send(wrong).status_code in (400, 413, 422), wrong[:200]
        # a row in the middle of others keeps its number
        large = {**row, FIELD: 3e38, "worst area": 3e38, "key": "nobody"}
        assert served.predict({"key": "a"}, row, large).status_code in (200, 422)
        many = served.predict(*[{"key": "a"}, {"key": "b"}] * 5_000)
        assert len(many.json()["predictions"]) == 10_000
        assert not served.count("bentoml_service_request_total", http_response_code="500")
        assert "Traceback" not in served.log.read_text()
        assert {*served.client.get("/docs.json").json()["components"]["schemas"]["Row"]} == {"title", "anyOf"}


def test_a_table_that_is_old_damaged_gone_or_of_another_model_leaves_the_answer_to_the_model(
    released: Project, made: tuple[Path, list[Row]], tmp_path: Path
) -> None:
    path, rows = made
    good = path.read_bytes()
    with serving(released, tmp_path / "home", PREDICTIONS=str(path)) as served:

        def by_table(row: Row) -> bool:
            answer = served.predict(row)
            return answer.status_code == 200 and "precomputed" in answer.json()["predictions"][0]

        def ignored(why: str) -> None:
            eventually(lambda: not by_table({"key": "a"}))
            assert served.log.read_text().count(why) == 1, served.log.read_text()
            assert served.count("model_precomputed_until_timestamp_seconds") == 0
            assert served.predict({**rows[0], "key": "a"}).status_code == 200

        def back() -> None:
            partial = path.with_suffix(".again")
            partial.write_bytes(good)
            partial.replace(path)
            eventually(lambda: by_table({"key": "a"}))

        remade(path, until=time.time() - 60)
        ignored("was to be used until 20")
        why = "has no valid table to be looked up in; send the fields of the model as well"
        assert served.predict({"key": "a"}).json()["detail"][0]["problem"] == why
        back()
        # another model: what was scored is still known, and this model predicts from it
        remade(path, model_md5="0" * 32, version="0.0.9")
        ignored("was made by release 0.0.9, model 00000000000000000000000000000000, not by")
        (expected,) = served.predict(rows[0]).json()["predictions"]
        assert served.predict({"key": "a"}).json()["predictions"] == [expected]
        back()
        remade(path, fields=[["size", "numeric"]])
        ignored("was made for other fields, by release")
        assert served.predict({"key": "a"}).status_code == 404
        back()
        for content, why in (
            (b"", "is not a table of predictions"),
            (b"SQLite format 3\0" + bytes(5_000), "is not a table of predictions: file is"),
            (good[:4096], "is not a table of predictions: database"),
        ):
            path.with_suffix(".bad").write_bytes(content)
            path.with_suffix(".bad").replace(path)
            eventually(lambda: not by_table({"key": "a"}))
            assert why in served.log.read_text()
            back()
        # overwritten in its place: neither wrong nor fatal
        path.write_bytes(good[:4096] + bytes(len(good) - 4096))
        eventually(lambda: not by_table({"key": "a"}))
        assert served.predict({**rows[0], "key": "a"}).status_code == 200
        back()
        path.unlink()
        ignored("cannot be read: No such file or directory")
        path.mkdir()
        eventually(lambda: "unable to open" in served.log.read_text() or not served.predict(rows[0]).is_error)
        assert not served.count("bentoml_service_request_total", http_response_code="500")
        assert "Traceback" not in served.log.read_text()


def test_a_table_needs_one_key_for_each_row(
    released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(released.folder)
    given, wanted = tmp_path / "rows.parquet", tmp_path / "out.sqlite"
    for keys, key, why in (
        (["a", "b", "a"], "customer", "column 'customer' has the key 'a' more than once"),
        (["a", None, "b"], "customer", "row 2: column 'customer' has no key of 1 to 200 letters"),
        (["a", ""], "customer", "row 2: column 'customer' has no key"),
        ([1.5], "customer", "column 'customer' holds double; a key is a text or an integer"),
        (["a"], FIELD, f"KEY={FIELD} is a field of the model"),
        (["a"], "nobody", "KEY=nobody is not a column of"),
    ):
        pq.write_table(rows_of(released, keys), given)
        with pytest.raises(UserError) as refused:
            precompute.precompute(given, wanted, key, 36)
        assert why in str(refused.value)
        assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"], "nothing half-written"
    for arguments in ([str(given), str(wanted), "--key", "a", "--hours", "0"], [str(given), "out.csv", "--key", "a"]):
        monkeypatch.setattr(sys, "argv", ["make score", *arguments])
        with pytest.raises(SystemExit):
            precompute.main()
    said = capsys.readouterr().err
    assert "invalid hours value: '0'" in said
    assert "out.csv: the name of a table of predictions ends in .sqlite" in said


def test_rows_of_every_kind_are_kept_as_a_client_would_send_them() -> None:
    row = {**ROW, "day": "2025-12-31 21:59", "clock": "11:38:36.5", "größe": ""}
    whole = {
        name: pa.array([str(row[name]), None if field.nullable else str(row[name])])
        for name, field in zip(row, ALL.fields, strict=True)
    }
    fits = checked(pa.record_batch(whole), ALL, [""])
    assert fits.fits.all(), fits.problems
    kept = lines_of(fits.columns, ALL.fields)
    nothing = {field.name: None if field.nullable else ROW[field.name] for field in ALL.fields}
    sent = json.dumps({"rows": [{**ROW, "day": "2025-12-31T21:59:00"}, nothing]}).encode()
    assert repr(QUICK(b'{"rows":[%b]}' % b",".join(kept))) == repr(QUICK(sent))


def test_a_model_with_a_field_named_key_has_no_table() -> None:
    with pytest.raises(UserError, match="which is a field of this model"):
        precomputed.check(contract(Field(name="key", kind="numeric", nullable=False)))
