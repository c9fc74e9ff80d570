from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlops.core import paths
from mlops.core.errors import UserError
from mlops.data import expectations, tables
from mlops.pipeline import ingest, validate

SUITE = Path("data/expectations/suite.json")
# Missing values and faults are where a reader sees them: row 1 is the line below the header.
VISITS = """\
visit,größe (cm),alter,raucher,datum,stadt,notiz,y
1,171.5,34,true,2024-03-01,Köln,kam zu spät und ging früh,0
2,,51,false,2024-03-02,Bern,alles in guter Ordnung heute,1
3,1710,29,,2024-03-03,Wien,<script>document.body.innerHTML='gone'</script> war hier,0
4,165.0,,true,1924-03-04,Köln,der Befund steht noch aus,1
5,182.3,-4,false,,Paris,keine neuen Beschwerden seit Mai,0
6,158.9,62,true,2024-03-06,,bittet um einen Rückruf bald,1
7,17.2,45,false,2024-03-07,Bern,die Probe ging leider verloren,0
8,176.4,38,true,2024-03-08,Köln,nächster Besuch im Juni geplant,1
9,169.8,57,false,2024-03-09,Wien,spricht gut auf Therapie an,0
9,174.1,44,true,2024-03-10,Bern,wird in Zukunft verlegt werden,1
"""


OLDER_THAN_40 = {"type": "comparison", "column": {"name": "alter"}, "operator": ">", "parameter": 40}


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def params(source: str, target: str, task: str = "classification", suite: str | None = str(SUITE), **data: Any) -> None:
    """Write `params.yaml` (JSON is YAML) and the prepared table."""
    content = {
        "data": {"source": source, "task": task, "target": target, **data},
        "validate": {"suite": suite},
        "split": {},
        "model": {"estimator": "sklearn.linear_model.LogisticRegression"},
        "tuning": None,
        "evaluate": {},
    }
    Path("params.yaml").write_text(json.dumps(content), encoding="utf-8")
    ingest.main()


def visits(text: str = VISITS, **data: Any) -> None:
    Path("data/raw").mkdir(parents=True, exist_ok=True)
    Path("data/raw/visits.csv").write_text(text, encoding="utf-8")
    params("data/raw/visits.csv", "y", **{"types": {"stadt": "categorical", "notiz": "text"}, **data})


def expect(*entries: dict[str, Any]) -> None:
    expectations.write(SUITE, list(entries))


def between(column: str, severity: str = "critical", **kwargs: Any) -> dict[str, Any]:
    return expectations.expect("column_values_to_be_between", severity, column=column, **kwargs)


def values(kind: str, column: str, **kwargs: Any) -> dict[str, Any]:
    return expectations.expect(f"column_values_to_{kind}", "critical", column=column, **kwargs)


def failures() -> list[dict[str, Any]]:
    content: list[dict[str, Any]] = json.loads(validate.FAILURES.read_text(encoding="utf-8"))
    return content


def metric() -> dict[str, float]:
    content: dict[str, float] = json.loads(validate.METRIC.read_text(encoding="utf-8"))
    return content


def rows(failure: dict[str, Any]) -> list[int]:
    return [example["row"] for example in failure["examples"]]


def stage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mlops.pipeline.validate", *arguments],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("source", "target", "task"),
    [
        ("sklearn:iris", "species", "classification"),
        ("sklearn:diabetes", "progression", "regression"),
        ("sklearn:digits", "digit", "classification"),
    ],
)
def test_a_table_holds_what_was_drafted_from_it(source: str, target: str, task: str) -> None:
    params(source, target, task)
    expectations.main()
    outcome = validate.main()
    assert failures() == []
    assert metric()["passed"] == metric()["expectations"] == len(expectations.read(SUITE))
    assert metric()["success_percent"] == 100
    assert str(SUITE) in outcome


def test_a_table_with_gaps_dates_texts_and_foreign_names_holds_what_was_drafted_from_it() -> None:
    visits()
    expectations.main()
    validate.main()
    assert failures() == []


def test_a_table_with_times_of_day_holds_what_was_drafted_from_it_and_a_time_outside_is_found() -> None:
    head, *rows = VISITS.splitlines()
    lines = [f"{row},{'' if number == 5 else f'{8 + number:02}:38:36'}" for number, row in enumerate(rows)]
    visits("\n".join([f"{head},um", *lines]) + "\n")
    expectations.main()
    entry = next(
        each for each in json.loads(SUITE.read_text(encoding="utf-8"))["expectations"] if "midnight" in str(each)
    )
    assert entry["kwargs"] == {"column": "um", "min_value": 8 * 3600, "max_value": 18 * 3600}
    assert entry["meta"]["observed"] == "08:38:36 to 17:38:36, in seconds since midnight"
    validate.main()
    assert failures() == []
    lines[0] = f"{rows[0]},07:59:59"
    visits("\n".join([f"{head},um", *lines]) + "\n")
    validate.main()
    (failure,) = failures()
    assert (failure["columns"], failure["examples"]) == (["um"], [{"row": 1, "values": {"um": "07:59:59"}}])


def test_the_default_table_holds_the_suite_in_this_repository() -> None:
    SUITE.parent.mkdir(parents=True)
    source = Path(__file__).parents[2] / "data/expectations/breast_cancer.json"
    SUITE.write_bytes(source.read_bytes())
    params("sklearn:breast_cancer", "diagnosis")
    validate.main()
    assert failures() == []


@pytest.mark.parametrize(
    ("entry", "broken", "seen"),
    [
        (between("größe (cm)", min_value=100, max_value=250), [3, 7], [1710.0, 17.2]),
        (between("größe (cm)", min_value=100, row_condition=OLDER_THAN_40), [7], [17.2]),
        (between("alter", min_value=0), [5], [-4]),
        (between("datum", min_value="2000-01-01", max_value="2030-12-31"), [4], ["1924-03-04 00:00:00"]),
        (values("be_in_set", "raucher", value_set=[True]), [2, 5, 7, 9], [False] * 4),
        (values("be_in_set", "stadt", value_set=["Köln", "Bern", "Wien"]), [5], ["Paris"]),
        (values("match_regex", "notiz", regex=r"^(\w|ä)"), [3], None),
        (values("be_unique", "visit"), [9, 10], [9, 9]),
    ],
)
def test_the_rows_that_broke_an_expectation_are_named(
    entry: dict[str, Any], broken: list[int], seen: list[Any] | None
) -> None:
    visits()
    expect(entry)
    with pytest.raises(UserError):
        validate.main()
    [failure] = failures()
    assert (failure["rows"], rows(failure)) == (len(broken), broken)
    if seen:
        assert [list(example["values"].values()) for example in failure["examples"]] == [[value] for value in seen]


@pytest.mark.parametrize(
    ("column", "missing"), [("größe (cm)", 2), ("alter", 4), ("raucher", 3), ("datum", 5), ("stadt", 6)]
)
def test_a_missing_value_is_missing_whatever_the_column_holds(column: str, missing: int) -> None:
    visits()
    expect(values("not_be_null", column))
    with pytest.raises(UserError, match=f"row {missing}: null"):
        validate.main()
    assert failures()[0]["examples"] == [{"row": missing, "values": {column: None}}]


def test_columns_are_compared_row_by_row_and_a_missing_value_is_not_greater() -> None:
    visits()
    expect(
        expectations.expect(
            "column_pair_values_a_to_be_greater_than_b", "critical", column_A="größe (cm)", column_B="alter"
        )
    )
    with pytest.raises(UserError):
        validate.main()
    assert failures()[0]["examples"][0] == {"row": 2, "values": {"größe (cm)": None, "alter": 51}}
    assert rows(failures()[0]) == [2, 4, 7]


def test_long_numbers_beside_a_missing_one_stay_exact() -> None:
    lines = [f"{2**60 + row},{row % 2}" for row in range(20)]
    visits("id,y\n" + "\n".join(["NA,0", *lines]), types={})
    expect(values("be_unique", "id"))
    validate.main()
    assert failures() == []


def test_dates_before_the_age_of_nanoseconds_are_compared() -> None:
    visits(VISITS.replace("1924-03-04", "1493-03-04"))
    expect(between("datum", min_value="1900-01-01"))
    with pytest.raises(UserError):
        validate.main()
    assert failures()[0]["examples"] == [{"row": 4, "values": {"datum": "1493-03-04 00:00:00"}}]


def test_all_broken_rows_are_counted_and_the_first_twenty_listed() -> None:
    params("sklearn:diabetes", "progression", "regression")
    expect(between("bmi", min_value=10))
    with pytest.raises(UserError, match="442"):
        validate.main()
    [failure] = failures()
    assert failure["rows"] == 442
    assert rows(failure) == list(range(1, 21))


def test_what_was_seen_stands_in_for_rows_where_an_expectation_is_about_the_column_or_table() -> None:
    visits()
    expect(
        expectations.expect("column_sum_to_be_between", "critical", column="y", min_value=100),
        expectations.expect("table_row_count_to_be_between", "critical", min_value=100),
        expectations.expect("table_columns_to_match_set", "critical", column_set=["visit", "gewicht"]),
        expectations.expect("column_min_to_be_between", "critical", column="y", min_value=1),
    )
    with pytest.raises(UserError, match=r'missing: \["gewicht"\]'):
        validate.main()
    by_sum, by_count, by_set, by_least = failures()
    assert by_sum["observed"] == 5
    assert by_count["observed"] == 10
    assert by_set["observed"]["missing"] == ["gewicht"]
    assert "datum" in by_set["observed"]["unexpected"]
    assert by_least["observed"] == 0
    assert by_count["rows"] is None


def test_a_warning_is_reported_and_does_not_stop_the_pipeline(capsys: pytest.CaptureFixture[str]) -> None:
    visits()
    expect(
        between("alter", "warning", min_value=0),
        between("größe (cm)", "info", max_value=250),
        between("visit", min_value=1),
    )
    outcome = validate.main()
    output = capsys.readouterr().err
    assert output.startswith("warning: the table fails 2 non-critical expectations")
    assert "row 5: -4" in output
    assert "1 of 3" in outcome
    assert metric() == {
        "expectations": 3,
        "passed": 1,
        "failed_critical": 0,
        "failed_warning": 1,
        "failed_info": 1,
        "success_percent": 33.33,
    }


def test_a_critical_failure_stops_the_pipeline_with_a_table_and_the_same_files_each_time() -> None:
    visits(VISITS.replace("alles in guter Ordnung heute", "lang " * 500))
    expect(
        between("alter", "warning", min_value=0),
        between("größe (cm)", max_value=250),
        expectations.expect("column_value_lengths_to_be_between", "critical", column="notiz", max_value=100),
        expectations.expect("column_distinct_values_to_be_in_set", "critical", column="stadt", value_set=["Bern"]),
    )
    before = set(Path().rglob("*"))
    done = [stage(PYTHONHASHSEED=seed, HOME=str(Path.cwd())) for seed in "12"]
    contents = []
    for run in done:
        assert run.returncode == 1
        assert run.stdout == ""
        assert "Traceback" not in run.stderr
        assert run.stderr.startswith("error: the table fails 3 critical expectations of data/expectations/suite.json")
        assert "row 3: 1710.0" in run.stderr
        assert max(map(len, run.stderr.splitlines())) <= 100
        contents.append((validate.METRIC.read_bytes(), validate.FAILURES.read_bytes()))
    assert done[0].stderr == done[1].stderr
    assert contents[0] == contents[1]
    assert [failure["severity"] for failure in failures()] == ["critical", "critical", "critical", "warning"]
    assert max(len(str(example)) for failure in failures() for example in failure["examples"]) < 300
    new = set(Path().rglob("*")) - before
    assert new == {validate.REPORTS, validate.METRIC, validate.FAILURES, paths.JOURNAL, paths.FAILURE}


def test_a_warning_leaves_the_exit_code_zero_and_no_noise() -> None:
    visits()
    expect(expectations.expect("column_values_to_match_regex", "warning", column="notiz", regex="(ä|ö)"))
    done = stage()
    assert done.returncode == 0
    assert done.stdout.startswith("validate  0 of 1 expectations pass")
    assert done.stderr.startswith("warning: the table fails 1 non-critical expectation of")
    assert "UserWarning" not in done.stderr
    assert "Calculating" not in done.stderr


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        (between("grösse (cm)", min_value=0), "the table has no column 'grösse (cm)'; did you mean 'größe (cm)'?"),
        (between("stadt", min_value=0), "must either be None or of the same type"),
        (between("datum", min_value=0), "Invalid comparison"),
        (between("alter", min_value=9, max_value=1), "min_value cannot be greater than max_value"),
        (values("match_regex", "stadt", regex="("), "Invalid regular expression"),
        (
            expectations.expect("column_mean_to_be_between", "info", column="stadt", min_value=0),
            "Cannot perform reduction",
        ),
        (
            expectations.expect(
                "column_kl_divergence_to_be_less_than", "info", column="alter", partition_object={"x": 1}, threshold=1
            ),
            "Invalid partition_object",
        ),
    ],
)
def test_an_expectation_that_cannot_be_checked_stops_the_pipeline(entry: dict[str, Any], message: str) -> None:
    visits()
    expect(between("alter", max_value=200), {**entry, "severity": "info"})
    with pytest.raises(UserError) as caught:
        validate.main()
    assert str(caught.value).startswith(f"{SUITE}: expectation 2 ({entry['type']}) cannot be checked: ")
    assert message in str(caught.value)
    assert metric()["passed"] == 1
    assert message in failures()[0]["error"]


def test_the_key_is_checked_without_a_suite() -> None:
    visits(suite=None, key=["visit"])
    with pytest.raises(UserError, match=r"visit values must be unique"):
        validate.main()
    assert rows(failures()[0]) == [9, 10]
    assert failures()[0]["where"] == "params.yaml: data.key"


def test_a_key_of_several_columns_is_unique_as_a_whole() -> None:
    visits(suite=None, key=["visit", "datum"])
    with pytest.raises(UserError, match="datum values must never be null"):
        validate.main()
    assert [failure["columns"] for failure in failures()] == [["datum"]]
    visits(VISITS + VISITS.splitlines()[1], suite=None, key=["visit", "größe (cm)"])
    with pytest.raises(UserError, match="unique"):
        validate.main()
    assert [rows(failure) for failure in failures()] == [[2], [1, 11]]


def test_without_suite_and_key_there_is_nothing_to_check() -> None:
    params("sklearn:iris", "species", suite=None)
    assert "`make expectations`" in validate.main()
    assert metric()["expectations"] == 0
    assert failures() == []


def test_what_the_suite_says_of_a_dropped_column_does_not_count() -> None:
    visits()
    expectations.main()
    visits(drop=["alter"], private={"stadt": "drop"}, types={})
    validate.main()
    assert failures() == []


def test_a_description_in_the_suite_takes_the_place_of_the_words() -> None:
    visits()
    expect({**between("alter", min_value=0), "description": "nobody is younger than nothing"})
    with pytest.raises(UserError, match="nobody is younger"):
        validate.main()


def test_control_characters_of_a_value_do_not_reach_the_terminal() -> None:
    visits(VISITS.replace("Paris", "Par\x1b[31mis"))
    expect(
        expectations.expect(
            "column_values_to_be_in_set", "critical", column="stadt", value_set=["Köln", "Bern", "Wien"]
        )
    )
    with pytest.raises(UserError) as caught:
        validate.main()
    assert "\x1b" not in str(caught.value)
    assert r"Par\u001b[31mis" in str(caught.value)


def test_many_failures_are_cut_on_the_terminal_and_whole_in_the_file() -> None:
    params("sklearn:digits", "digit")
    names = [column.name for column in tables.read_catalogue().columns][:40]
    expect(*(between(name, min_value=100) for name in names))
    with pytest.raises(UserError) as caught:
        validate.main()
    assert str(caught.value).count(" values must be") == validate.SHOWN_FAILURES
    assert "40 failures in all" in str(caught.value)
    assert len(failures()) == 40


def test_data_docs_tell_each_expectation_without_network_or_scripts(capsys: pytest.CaptureFixture[str]) -> None:
    visits()
    expect(
        between("größe (cm)", max_value=250),
        expectations.expect("column_values_to_match_regex", "warning", column="notiz", regex="^\\w"),
        expectations.expect("column_mean_to_be_between", "critical", column="alter", max_value=1),
    )
    with pytest.raises(UserError):
        validate.main(docs=True)
    page = validate.DOCS.read_text(encoding="utf-8")
    assert str(validate.DOCS) in capsys.readouterr().out
    assert "1710.0" in page
    # the values are in the page as they are, so that only the policy before them keeps their scripts from running
    assert "<script>document.body" in page
    policy = "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
    assert page.index("<head>") < page.index(policy) < min(page.index("<script"), page.index("<link"))
