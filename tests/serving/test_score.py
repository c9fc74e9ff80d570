"""Batch scoring, run as a person does, on files as people have them."""

from __future__ import annotations

import csv
import gzip
import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from conftest import Project, copied

from mlops.core.errors import UserError
from mlops.inference import runtime
from mlops.inference.contract import Contract
from mlops.inference.runtime import Answer
from mlops.serving import batches, files, results
from mlops.serving import score as scoring

PATIENCE = 300  # seconds that anything may take on a busy machine
FIELD = "mean radius"


@pytest.fixture(scope="module")
def ready(done: Project, tmp_path_factory: pytest.TempPathFactory) -> Project:
    """A project whose release is identified."""
    project = copied(done, tmp_path_factory.mktemp("scored"))
    project.run(sys.executable, "-m", "mlops.release.identity")
    return project


def score(project: Project, given: Path | str, wanted: Path | str, check: bool = True) -> str:
    command = (sys.executable, "-m", "mlops.serving.score", str(given), str(wanted))
    ran = project.run(*command, check=check)
    assert check or ran.returncode == 1, ran.stdout
    assert "Traceback" not in ran.stdout
    return ran.stdout


def rows_of(project: Project, count: int | None = None) -> pa.Table:
    """Test rows, with an id of their own."""
    table = pq.read_table(project.folder / "data/prepared/test.parquet")
    table = table if count is None else table.slice(0, count)
    return table.append_column("id", pa.array([f"00{row}" for row in range(table.num_rows)]))


def changed(table: pa.Table, name: str, change: Callable[[list[Any]], Any]) -> pa.Table:
    """The table with another column in the place of one."""
    return table.set_column(table.schema.get_field_index(name), name, pa.array(change(table[name].to_pylist())))


@pytest.mark.parametrize("ending", ["parquet", "csv", "csv.gz"])
def test_test_rows_get_the_predictions_that_evaluation_recorded(ready: Project, tmp_path: Path, ending: str) -> None:
    table = rows_of(ready)
    given, wanted = tmp_path / f"rows.{ending}", tmp_path / f"scored.{ending}"
    if ending == "parquet":
        pq.write_table(table, given)
    else:
        pyarrow.csv.write_csv(table, tmp_path / "rows.csv")
        content = (tmp_path / "rows.csv").read_bytes()
        given.write_bytes(gzip.compress(content) if ending == "csv.gz" else content)
    said = score(ready, given, wanted)
    assert f"scored {table.num_rows} rows → {wanted}" in said
    found = (
        pq.read_table(wanted)
        if ending == "parquet"
        else pyarrow.csv.read_csv(
            wanted,
            convert_options=pyarrow.csv.ConvertOptions(column_types={"id": pa.string()}, strings_can_be_null=True),
        )
    )
    recorded = pq.read_table(ready.folder / "reports/predictions.parquet")
    assert found["prediction"].to_pylist() == recorded["predicted"].to_pylist()
    for label in ("benign", "malignant"):
        (name,) = [name for name in recorded.column_names if label in name]
        np.testing.assert_allclose(found[f"probability of {label}"], recorded[name], atol=1e-9)
    assert found["id"].to_pylist() == table["id"].to_pylist()
    assert found["diagnosis"].to_pylist() == table["diagnosis"].to_pylist()
    assert found["problem"].null_count == table.num_rows
    release = json.loads(ready.read("models/release.json"))
    assert set(found["model_version"].to_pylist()) == {release["version"]}
    if ending == "parquet":
        assert found.schema.metadata[b"model.md5"].decode() == release["model_md5"]
        assert found.schema.metadata[b"model.version"].decode() == release["version"]
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


def test_a_row_that_cannot_be_scored_says_why_and_does_not_stop_the_others(ready: Project, tmp_path: Path) -> None:
    table = rows_of(ready, 8)
    wrong = {1: "", 2: "much", 3: "inf", 4: "1e300", 5: "NA"}
    table = changed(table, FIELD, lambda values: [wrong.get(row, str(value)) for row, value in enumerate(values)])
    pyarrow.csv.write_csv(table, tmp_path / "rows.csv")
    said = score(ready, tmp_path / "rows.csv", tmp_path / "scored.parquet")
    assert "scored 3 rows" in said
    assert "5 rows could not be scored, see column 'problem':" in said
    assert f"row 3: {FIELD}: 'much' is not a number" in said
    found = pq.read_table(tmp_path / "scored.parquet").to_pylist()
    assert [row["prediction"] is None for row in found] == [False, True, True, True, True, True, False, False]
    assert [row["problem"] is None for row in found] == [row["prediction"] is not None for row in found]
    assert found[1]["problem"] == found[5]["problem"] == f"{FIELD}: {batches.MISSING}"
    assert found[4]["problem"] == f"{FIELD}: '1e300' is not finite or is too large"
    assert found[1]["probability of benign"] is None
    assert [row["id"] for row in found] == table["id"].to_pylist()
    whole = pq.read_table(ready.folder / "reports/predictions.parquet")["predicted"].to_pylist()
    assert [found[row]["prediction"] for row in (0, 6, 7)] == [whole[row] for row in (0, 6, 7)]


def test_when_no_row_can_be_scored_there_is_no_result(ready: Project, tmp_path: Path) -> None:
    table = changed(rows_of(ready, 3), FIELD, lambda values: [None] * len(values))
    pq.write_table(table, tmp_path / "rows.parquet")
    said = score(ready, tmp_path / "rows.parquet", tmp_path / "scored.parquet", check=False)
    assert f"none of the 3 rows can be scored\n  row 1: {FIELD}: is missing" in said
    pq.write_table(rows_of(ready, 0), tmp_path / "none.parquet")
    assert "there are no rows" in score(ready, tmp_path / "none.parquet", tmp_path / "scored.parquet", check=False)
    assert {path.name for path in tmp_path.iterdir()} == {"rows.parquet", "none.parquet"}


def write_strange(table: pa.Table, folder: Path) -> dict[str, tuple[str, str]]:
    """Files that are not what they should be, with what is said of them."""
    pq.write_table(table, folder / "rows.parquet")
    content = (folder / "rows.parquet").read_bytes()
    (folder / "cut.parquet").write_bytes(content[: len(content) // 2])
    middle = len(content) // 2
    (folder / "damaged.parquet").write_bytes(content[:4] + bytes(middle) + content[4 + middle :])
    pq.write_table(table.rename_columns([name.replace(" ", "_") for name in table.column_names]), folder / "a.parquet")
    listed = changed(table, FIELD, lambda values: [[value] for value in values])
    pq.write_table(listed, folder / "lists.parquet")
    pq.write_table(table.append_column("prediction", table[FIELD]), folder / "again.parquet")
    pyarrow.csv.write_csv(table, folder / "rows.csv")
    lines = (folder / "rows.csv").read_text().splitlines()
    (folder / "long.csv").write_text("\n".join([*lines[:3], f"{lines[3]},1", *lines[4:]]))
    (folder / "latin.csv").write_bytes("\n".join(lines).replace("000", "é").encode("latin-1"))
    (folder / "marked.csv").write_text("\n".join(lines), encoding="utf-16")
    (folder / "unmarked.csv").write_text("\n".join(lines), encoding="utf-16le")
    (folder / "open.csv").write_text("\n".join([f'id,"{FIELD},x', "1,2,3"]))
    (folder / "huge.csv").write_text(f'id,"{FIELD},' + "x" * csv.field_size_limit())
    pq.write_table(pa.table([table[FIELD]] * 2, names=[FIELD] * 2), folder / "twice.parquet")
    bad = pa.array([b"\xff"] * table.num_rows)
    bad = pa.Array.from_buffers(pa.string(), len(bad), bad.buffers())
    place = table.schema.get_field_index(FIELD)
    pq.write_table(table.set_column(place, FIELD, bad), folder / "bytes.parquet")
    coded = pa.DictionaryArray.from_arrays(pa.array([0] * table.num_rows), bad.slice(0, 1))
    pq.write_table(table.set_column(place, FIELD, coded), folder / "coded.parquet")
    (folder / "empty.csv").write_text("")
    (folder / "rows.txt").write_text("x")
    return {
        "rosw.parquet": ("does not exist; did you mean 'rows.parquet'?", ""),
        "cut.parquet": ("is not a complete Parquet file", ""),
        "damaged.parquet": ("damaged.parquet is", ""),
        "a.parquet": (
            "has no column 'mean radius' (and 29 more), which the model needs; did you mean 'mean_radius'?",
            "",
        ),
        "lists.parquet": (f"column {FIELD!r} holds list<element: double>, but the model expects numeric", ""),
        "again.parquet": ("has a column 'prediction', which the result adds", "rename or drop it"),
        "long.csv": ("row 3 has 33 cells, but the header has 32", "fix that row"),
        "latin.csv": ("is not encoded in UTF-8", "iconv"),
        "marked.csv": ("is encoded in UTF-16, not UTF-8", "iconv --from-code utf-16 "),
        "unmarked.csv": ("is encoded in UTF-16, not UTF-8", "iconv --from-code utf-16le "),
        "open.csv": ("its header cannot be read: unexpected end of data", "each quote is closed"),
        "huge.csv": ("its header cannot be read: field larger than", "each quote is closed"),
        "twice.parquet": (f"the column name {FIELD!r} appears 2 times", "rename one"),
        "bytes.parquet": (f"column {FIELD!r} holds text that is not UTF-8", ""),
        "coded.parquet": ("is corrupt after row 0: Invalid UTF8", ""),
        "empty.csv": ("is empty", ""),
        "rows.txt": ("cannot tell the format from the name", ".parquet, .csv or .csv.gz"),
    }


def test_a_file_that_is_not_right_is_reported_in_a_sentence_and_leaves_nothing(
    ready: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(ready.folder)
    (tmp_path / "given").mkdir()
    cases = write_strange(rows_of(ready, 9), tmp_path / "given")
    for name, (message, hint) in cases.items():
        with pytest.raises(UserError) as error:
            scoring.score(tmp_path / "given" / name, tmp_path / "out/scored.parquet")
        assert message in str(error.value)
        assert hint in str(error.value)
        assert not (tmp_path / "out").exists() or list((tmp_path / "out").iterdir()) == []
    fine = tmp_path / "given/rows.csv"
    with pytest.raises(UserError, match="would overwrite"):
        scoring.score(fine, fine)
    with pytest.raises(UserError, match="cannot tell the format"):
        scoring.score(fine, tmp_path / "out/scored.xls")
    with pytest.raises(UserError, match=r"is a folder\n  try: a file in it, such as"):
        scoring.score(fine, tmp_path)
    with pytest.raises(UserError, match=r"rows\.csv is a file, not a folder"):
        scoring.score(fine, fine / "a/scored.csv")


@pytest.mark.parametrize(
    ("values", "output"), [([[1]] * 3, "Unsupported Type:list"), ([b"", b"a", b"\xff"], "Invalid UTF8")]
)
def test_a_column_that_no_csv_can_hold_is_reported_in_a_sentence(
    ready: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, values: list[Any], output: str
) -> None:
    monkeypatch.chdir(ready.folder)
    pq.write_table(rows_of(ready, 3).append_column("more", pa.array(values)), tmp_path / "rows.parquet")
    with pytest.raises(UserError, match=f"cannot hold 'more': {output}.*\n  try: a name that ends in .parquet"):
        scoring.score(tmp_path / "rows.parquet", tmp_path / "scored.csv")
    assert [path.name for path in tmp_path.iterdir()] == ["rows.parquet"]
    scoring.score(tmp_path / "rows.parquet", tmp_path / "scored.parquet")
    assert pq.read_table(tmp_path / "scored.parquet")["more"].to_pylist() == values


def test_a_model_that_was_not_released_scores_nothing(ready: Project, tmp_path: Path) -> None:
    project = copied(ready, tmp_path)
    pq.write_table(rows_of(ready, 3), tmp_path / "rows.parquet")
    with (project.folder / "models/service/model.onnx").open("r+b") as file:
        file.seek(100)
        file.write(b"\xff")
    said = score(project, tmp_path / "rows.parquet", tmp_path / "scored.parquet", check=False)
    assert "model.onnx is not the released file" in said
    assert not (tmp_path / "scored.parquet").exists()


def large(project: Project, path: Path, rows: int) -> Path:
    """A file of many rows in one row group."""
    table = rows_of(project)
    pq.write_table(pa.concat_tables([table] * (rows // table.num_rows + 1)).slice(0, rows), path, row_group_size=rows)
    return path


MEASURED = """
import resource, sys
from mlops.serving import score
sys.argv = ["score", *sys.argv[1:]]
score.main()
print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
"""


def test_memory_does_not_grow_with_the_file(ready: Project, tmp_path: Path) -> None:
    peaks = []
    for rows in (200_000, 1_000_000):
        given = large(ready, tmp_path / f"{rows}.parquet", rows)
        said = ready.run(sys.executable, "-c", MEASURED, str(given), str(tmp_path / "scored.parquet")).stdout
        assert f"scored {rows:,} rows" in said
        peaks.append(int(said.split("peak ")[1]))
    # the larger table itself takes 240 MB
    assert peaks[1] < peaks[0] + 60, peaks


@pytest.fixture(scope="module")
def long(ready: Project, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file that takes so long that nobody comes too late to interrupt it."""
    path = tmp_path_factory.mktemp("long") / "rows.parquet"
    part = pq.read_table(large(ready, path, 100_000))
    with pq.ParquetWriter(path, part.schema) as writer:
        for _ in range(60):
            writer.write_table(part)
    return path


@pytest.mark.parametrize("sign", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_run_leaves_nothing(ready: Project, long: Path, tmp_path: Path, sign: signal.Signals) -> None:
    command = [sys.executable, "-m", "mlops.serving.score", str(long), str(tmp_path / "out/scored.csv")]
    process = subprocess.Popen(
        command,
        cwd=ready.folder,
        env=ready.environment,
        stderr=subprocess.PIPE,
        text=True,
        # where the tests run in the background, it would inherit that Ctrl-C is ignored
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    partial = tmp_path / "out/.scored.csv.partial"
    try:
        end = time.monotonic() + PATIENCE
        while not (partial.exists() and partial.stat().st_size > 0):
            assert process.poll() is None, process.stderr
            assert time.monotonic() < end
            time.sleep(0.005)
        process.send_signal(sign)
        _, said = process.communicate(timeout=PATIENCE)
    finally:
        process.kill()
    assert process.returncode == (130 if sign == signal.SIGINT else 143)
    assert "Traceback" not in said
    assert list((tmp_path / "out").iterdir()) == []


def test_a_delimiter_is_found_and_a_cell_that_is_no_field_stays_as_it_was_written(
    ready: Project, tmp_path: Path
) -> None:
    table = rows_of(ready, 3).append_column("note, or not", pa.array(["NA", 'a "quote"; and\na line', ""]))
    with (tmp_path / "rows.csv").open("w", newline="", encoding="utf-8-sig") as file:
        writer = csv.writer(file, delimiter=";")
        writer.writerow(table.column_names)
        writer.writerows(row.values() for row in table.to_pylist())
    score(ready, tmp_path / "rows.csv", tmp_path / "scored.csv")
    with (tmp_path / "scored.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert [row["note, or not"] for row in found] == ["NA", 'a "quote"; and\na line', ""]
    assert [row["id"] for row in found] == ["000", "001", "002"]


def test_make_score_identifies_the_release_and_without_files_tells_how(ready: Project, tmp_path: Path) -> None:
    pq.write_table(rows_of(ready, 3), tmp_path / "rows.parquet")
    make = ("make", "--old-file", ".venv/.ready", "score")  # what is installed is the tests' own
    said = ready.run(*make, f"IN={tmp_path / 'rows.parquet'}", f"OUT={tmp_path / 'scored.csv'}").stdout
    assert said.splitlines()[0].startswith("release ")
    assert "scored 3 rows" in said
    assert "usage: make score" in ready.run(*make).stdout


@pytest.mark.parametrize(("given", "wanted", "missing"), [("a.csv", "", "OUT"), ("", "a.csv", "IN")])
def test_a_file_that_is_not_named_is_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], given: str, wanted: str, missing: str
) -> None:
    monkeypatch.setattr(sys, "argv", ["score", given, wanted])
    with pytest.raises(SystemExit):
        scoring.main()
    said = capsys.readouterr().err
    assert said.startswith("usage: make score IN=rows.parquet OUT=scored.parquet [EXPLAIN=yes]\n")
    assert f"argument {missing}: is not given" in said


FIELDS = [
    {"name": "number", "kind": "numeric", "nullable": True},
    {"name": "truth", "kind": "boolean", "nullable": True},
    {"name": "moment", "kind": "date", "nullable": True},
    {"name": "town", "kind": "categorical", "nullable": True, "values": ["A", "Ä"]},
    {"name": "said", "kind": "text", "nullable": False},
]
CONTRACT = Contract.model_validate(
    {"task": "regression", "target": "y", "probabilities": False, "runtime": "onnx", "fields": FIELDS}
)


def read(field: str, values: pa.Array, blanks: tuple[str, ...] = ()) -> tuple[Any, dict[int, str]]:
    """What one column becomes, with the problems of its rows."""
    contract = CONTRACT.model_copy(update={"fields": [each for each in CONTRACT.fields if each.name == field]})
    columns, _, problems = batches.checked(pa.record_batch({field: values}), contract, blanks)
    found = columns[field]
    if isinstance(found, batches.Encoded):
        found = [[*found.names, None][place] for place in found.places]
    else:
        found = [None if np.isnan(each) else each for each in found] if found.dtype.kind == "f" else found.tolist()
    return found, {row: problem for row, [(_, problem)] in problems.items()}


@pytest.mark.parametrize(
    ("field", "values", "found", "wrong"),
    [
        ("number", [1, None, 3], [1, None, 3], {}),
        ("number", [1.5, float("nan"), float("inf")], [1.5, None], {2: "inf is not finite or is too large"}),
        ("number", ["1", " 2e0 ", "x", "?"], [1, 2, None], {2: "'x' is not a number"}),
        ("truth", [True, None, False], [1, None, 0], {}),
        ("truth", ["yes", "FALSE", "maybe", "?"], [1, 0, None], {2: "'maybe' is neither true nor false"}),
        ("truth", [1, 0, 2], [1, 0], {2: "2 is neither true nor false"}),
        ("town", ["A", "?", "B", "Ä"], ["A", None, "Ä"], {2: "'B' is not one of 'A', 'Ä'"}),
        ("said", ["a", None], ["a"], {1: batches.MISSING}),
        # what means 'missing' is so as it is written, as in training; space around it only where nothing else fits
        ("number", ["1", "-999", " -999", "-999.0", "?"], [1, None, -999, -999, None], {}),
        ("number", ["1", "-999", " -999", " ? ", "x"], [1, None, -999, None], {4: "'x' is not a number"}),
        ("truth", ["y", "-999", " ? "], [1, None, None], {}),
    ],
)
def test_a_column_is_read_by_its_kind(field: str, values: list[Any], found: list[Any], wrong: dict[int, str]) -> None:
    assert read(field, pa.array(values), ("?", "-999")) == (found, wrong)


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_what_meant_missing_in_training_does_so_in_the_same_form(tmp_path: Path, ending: str) -> None:
    contract = CONTRACT.model_copy(update={"fields": CONTRACT.fields[:1], "missing_values": ["-999"]})
    table, path = pa.table({"number": [1, -999]}), tmp_path / f"rows.{ending}"
    (pq.write_table if ending == "parquet" else pyarrow.csv.write_csv)(table, path)
    source = files.opened(path, contract)
    (batch,) = source.batches(lambda share: None)
    found = batches.checked(batch, contract, source.blanks).columns["number"]
    np.testing.assert_array_equal(found, [1, np.nan if ending == "csv" else -999])  # as ingest reads them


NAMES = "number,town"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("old.csv", f"{NAMES}\r1,A\r2,Ä\r".encode()),
        ("blank.csv", f"\n\r\n{NAMES}\n1,A\n2,Ä\n".encode()),
        # a letter of two bytes lies across the end of the first block that is looked at
        ("cut.csv.gz", gzip.compress(f"{NAMES}\n".ljust(files.BLOCK - 1, "\n").encode() + "Ä,A\n2,Ä\n".encode())),
    ],
    ids=["old", "blank", "cut"],
)
def test_a_csv_of_another_make_is_read(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    source = files.opened(tmp_path / name, CONTRACT)
    assert source.schema.names == ["number", "town"]
    rows = pa.Table.from_batches(source.batches(lambda share: None)).to_pydict()
    assert rows == {"number": ["Ä" if "cut" in name else "1", "2"], "town": ["A", "Ä"]}


@pytest.mark.parametrize("kind", ["onnx", "scikit-learn"])
def test_the_hint_for_a_damaged_model_is_one_that_works(kind: str) -> None:
    with pytest.raises(UserError, match="dvc checkout --force"):  # without it DVC keeps what was edited
        runtime.loaded(b"damaged", CONTRACT.model_copy(update={"runtime": kind}))


@pytest.mark.parametrize(
    "values",
    [
        pa.array(["2024-02-29T12:00:00+02:00", "2024-02-29 10:00", "29.2.2024", ""]),
        pa.array(["2024-02-29T10:00:00Z", "2024-02-29T10:00:00.000000", "2023-02-29", ""]),
    ],
)
def test_a_date_is_a_moment_in_utc(values: pa.Array) -> None:
    found, wrong = read("moment", values, ("",))
    (noon, same, missing) = found
    assert noon == same
    assert str(noon) == "2024-02-29 10:00:00"
    assert missing is None
    assert list(wrong) == [2]
    typed = pa.array([0, None], pa.timestamp("ns", "Europe/Zurich"))
    assert [str(each) for each in read("moment", typed)[0]] == ["1970-01-01 00:00:00", "None"]


@pytest.mark.parametrize(
    ("values", "wrong"),
    [
        (pa.array(["2025-12", "20251231", "-1-5", "now", "2025-1-5", "2025/12/31", "2025-12-31"]), range(6)),
        (pa.array(["9999-12-31T23:59:59-10:00", "0001-01-01T00:00:00+10:00", "0001-01-01", "9999-12-31"]), range(2)),
        (pa.array(["2025-12-31T10:00:00.123456789", "1500-01-01", "9999-12-31T23:59:59.999999999Z"]), []),
        (pa.array([2**31 - 1, -(2**31), 2932897, 2932896, -719162], pa.date32()), range(3)),
        (pa.array([2**62, -(2**55), 1], pa.timestamp("s")), range(2)),
        (pa.array([2**62, -(2**56), 1], pa.timestamp("us", "UTC")), range(2)),
    ],
)
def test_what_the_service_takes_for_no_date_is_none_in_a_file(values: pa.Array, wrong: Sequence[int]) -> None:
    found, problems = read("moment", values)
    assert list(problems) == list(wrong)
    assert all("is not a date such as 2025-12-31" in problem for problem in problems.values())
    assert None not in found


def test_categories_may_come_as_a_dictionary() -> None:
    values = pa.array(["A", None, "Ä", "A"]).dictionary_encode()
    assert read("town", values) == (["A", None, "Ä", "A"], {})


def test_what_a_model_makes_no_finite_number_of_is_reported() -> None:
    schema = pa.schema(
        [("prediction", pa.float64()), ("problem", pa.string()), ("model_version", pa.string())],
        {"model.version": "1.0.0"},
    )
    batch = pa.record_batch({"id": [1, 2, 3]})
    rows = batches.Checked({}, np.array([True, False, True]), {1: [("x", "is missing")]})
    found = results.result(batch, rows, Answer(np.array([0.5, np.nan]), None), [], [], schema)
    assert found["prediction"].to_pylist() == [0.5, None, None]
    assert found["problem"].to_pylist() == [
        None,
        "x: is missing",
        "prediction: the model makes no finite number of it",
    ]
    assert sorted(rows.problems) == [1, 2]
