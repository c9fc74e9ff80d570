"""The default model behind its API: what it answers, and that it is what evaluation has recorded."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import Project, copied
from serving.served import Served, serving

from mlops.core.files import write_json
from mlops.serving.front import OFFERED

NO_REQUESTS = [
    *("", "{", "null", "[]", "7", '"rows"', "{}", "{'rows': []}", '{"a":1}', "1" * 5_000),
    *('{"rows": []}', '{"rows": {}}', '{"rows": [7]}', '{"rows": null}', '{"rows": [{"\\ud800": 1}]}'),
    *(
        "[" * 100_000,
        '{"rows":' * 5_000,
        "\ud83d".encode("utf-8", "surrogatepass"),
        b"\xff\xfe",
        b"\x1f\x8b\x08",
        b"\x00",
    ),
]


def test_rows_get_the_predictions_that_evaluation_has_recorded(service: Served) -> None:
    rows = pd.read_parquet(service.project.folder / "data/prepared/test.parquet").drop(columns="diagnosis")
    recorded = pd.read_parquet(service.project.folder / "reports/predictions.parquet")
    predictions = service.predict(*rows.to_dict(orient="records")).json()["predictions"]
    assert [each["prediction"] for each in predictions] == list(recorded["predicted"])
    found = [each["probabilities"]["malignant"] for each in predictions]
    tolerance = service.release["export"]["tolerance"]
    np.testing.assert_allclose(found, recorded["probability of malignant"], atol=tolerance)
    for row, together in list(zip(rows.to_dict(orient="records"), predictions, strict=True))[:5]:
        (alone,) = service.predict(row).json()["predictions"]
        assert alone["probabilities"] == pytest.approx(together["probabilities"])


def test_an_answer_names_the_release_the_model_and_the_request(service: Served) -> None:
    answer = service.predict(service.example)
    assert answer.headers["content-type"] == "application/json"
    body = answer.json()
    assert (body["version"], body["model"]) == (service.release["version"], service.release["model_md5"])
    assert re.fullmatch("[0-9a-f]{32}", body["request_id"])
    assert answer.headers["x-request-id"] == body["request_id"]
    assert service.predict(service.example).json()["request_id"] != body["request_id"]


def test_a_client_s_own_request_id_comes_back_unless_it_could_do_harm(service: Served) -> None:
    answer = service.predict(service.example, **{"X-Request-Id": "order-7_a.b"})
    assert (answer.headers["x-request-id"], answer.json()["request_id"]) == ("order-7_a.b", "order-7_a.b")
    refused = service.predict({}, **{"X-Request-Id": "mine"})
    assert (refused.headers["x-request-id"], refused.json()["request_id"]) == ("mine", "mine")
    for harmful in ("<script>", "a" * 65, "a b", '"'):
        assert service.predict(service.example, **{"X-Request-Id": harmful}).json()["request_id"] != harmful


def test_the_metadata_say_where_the_model_comes_from(service: Served) -> None:
    answer = service.client.get("/metadata")
    assert answer.json() == service.release
    assert answer.json()["metrics"]["recall"].keys() == {"value", "low", "high"}
    assert service.client.head("/metadata").content == b""


def test_health_readiness_and_metrics_answer(service: Served) -> None:
    for path in ("/livez", "/readyz", "/healthz", "/metrics"):
        assert service.client.get(path).status_code == 200


def test_a_field_that_is_missing_unknown_or_null_is_named_with_its_row(service: Served) -> None:
    row = service.example
    without = {name: value for name, value in row.items() if name != "mean area"}
    missing = {"row": 1, "field": "mean area", "problem": "is missing"}
    assert service.problem(row, without) == missing
    near = service.problem({**row, "mean aera": 1.0})
    assert near == {
        "row": 0,
        "field": "mean aera",
        "problem": "is not a field of this model; did you mean 'mean area'?",
    }
    assert service.problem({**row, "größe 年齢 🙈": 1})["field"] == "größe 年齢 🙈"
    null = service.problem({**row, "mean area": None})
    assert (null["row"], null["field"]) == (0, "mean area")
    assert null["problem"].startswith("is null, but the training data had no missing values")


@pytest.mark.parametrize(
    "value", ['"12"', "true", "[1]", "{}", "NaN", "Infinity", "-Infinity", "1e400", "1" + "0" * 400]
)
def test_a_value_that_is_no_finite_number_is_refused(service: Served, value: str) -> None:
    body = json.dumps({"rows": [service.example, service.example]})
    answer = service.send(body[: body.rindex(":")] + f":{value}" + "}]}")
    assert answer.status_code == 422, answer.text
    (problem,) = answer.json()["detail"]
    assert (problem["row"], problem["field"]) == (1, list(service.example)[-1])


def test_a_number_so_large_that_the_model_cannot_calculate_is_refused(service: Served) -> None:
    assert service.predict(dict.fromkeys(service.example, 3e38)).status_code == 200
    problem = service.problem({**service.example, "mean area": -1e39})
    assert problem["field"] == "mean area"
    assert problem["problem"] == "is outside the limit -3e+38"


@pytest.mark.parametrize("body", NO_REQUESTS, ids=lambda body: repr(body[:20]))
def test_a_body_that_is_no_request_is_a_mistake_of_the_client_s(service: Served, body: str | bytes) -> None:
    answer = service.send(body)
    assert answer.status_code in (400, 422), answer.text
    message = answer.json()
    assert message["error"]
    assert len(answer.content) < 10_000
    assert message["request_id"] == answer.headers["x-request-id"]


def test_a_field_that_comes_twice_is_refused_and_named(service: Served) -> None:
    row = json.dumps(service.example)[1:-1]
    twice = f'{{"rows": [{{{row}}}, {{"mean area": 7, {row}}}]}}'
    problem = {"row": 1, "field": "mean area", "problem": "appears more than once"}
    assert service.send(twice).json()["detail"] == [problem]
    escaped = twice.replace('"mean area": 7', '"mean \\u0061rea": [{"a": "\\""}]')
    assert service.send(escaped).json()["detail"] == [problem]
    (problem,) = service.send(f'{{"rows": [], "rows": [{{{row}}}]}}').json()["detail"]
    assert problem == {"row": None, "field": "rows", "problem": "appears more than once"}


def test_many_mistakes_are_reported_in_a_short_answer(service: Served) -> None:
    answer = service.predict(*[{"x" * 1_000: "y" * 1_000}] * 200)
    assert answer.status_code == 422
    assert len(answer.json()["detail"]) == 20
    assert "the first 20 are listed" in answer.json()["error"]
    assert len(answer.content) < 20_000


def test_ten_thousand_rows_are_served_and_one_more_is_refused(service: Served) -> None:
    row = json.dumps(service.example)
    answer = service.send('{"rows": [' + ",".join([row] * 10_000) + "]}")
    assert len(answer.json()["predictions"]) == 10_000
    answer = service.send('{"rows": [' + ",".join([row] * 10_001) + "]}")
    assert answer.status_code == 422
    assert "10000" in answer.text


def test_metrics_count_rows_refusals_and_requests(service: Served) -> None:
    def counted() -> dict[str, Any]:
        return {
            "rows": service.count("model_rows_total"),
            "refused": service.count("model_refused_requests_total", status="422"),
            "good": service.count("bentoml_service_request_total", endpoint="/predict", http_response_code="200"),
            "bad": service.count("bentoml_service_request_total", endpoint="/predict", http_response_code="422"),
            "timed": service.count("bentoml_service_request_duration_seconds_count", endpoint="/predict"),
        }

    before = counted()
    service.predict(*[service.example] * 3)
    service.predict({})
    after = counted()
    assert {name: after[name] - before[name] for name in after} == {
        "rows": 3,
        "refused": 1,
        "good": 1,
        "bad": 1,
        "timed": 2,
    }
    release = service.release
    (info,) = service.metrics("model_info")
    assert dict(info) == {name: release[name] for name in ("version", "commit", "model_md5")}


def test_with_a_token_only_who_knows_it_gets_predictions(service: Served, tmp_path: Any) -> None:
    # as a file gives it, and empty, which is as good as not set
    with serving(service.project, tmp_path, SERVICE_TOKEN="s3cret\n", SERVICE_WORKERS="") as guarded:
        for headers in (
            {},
            {"Authorization": "Bearer wrong"},
            {"Authorization": "Basic s3cret"},
            {"Authorization": "s3cret"},
        ):
            for answer in (
                guarded.predict(guarded.example, **headers),
                guarded.client.get("/metadata", headers=headers),
                guarded.client.get("/docs.json", headers=headers),
            ):
                assert answer.status_code == 401
                assert answer.headers["www-authenticate"] == "Bearer"
                assert "s3cret" not in answer.text
        known = {"Authorization": "Bearer s3cret"}
        assert guarded.predict(guarded.example, **known).status_code == 200
        assert guarded.client.get("/metadata", headers=known).status_code == 200
        assert guarded.client.get("/docs.json", headers=known).status_code == 200
        # what needs no token names neither commit nor model nor fields
        secrets = [service.release["commit"][:7], service.release["model_md5"][:7], *service.example]
        for path in ("/livez", "/readyz", "/metrics", "/", "/page.js", "/page.css"):
            answer = guarded.client.get(path)
            assert answer.status_code == 200
            # between two releases the version itself ends in the commit
            text = answer.text.replace(service.release["version"], "")
            assert [each for each in secrets if each in text] == [], path
        (info,) = guarded.metrics("model_info")
        assert dict(info)["version"] == service.release["version"]


def test_without_the_token_nothing_names_commit_model_or_fields(released: Project, tmp_path: Path) -> None:
    project = copied(released, tmp_path)
    release = json.loads(project.read("models/release.json"))
    # as a tag has it; between two tags a version holds the commit
    write_json({**release, "version": "1.4.0"}, project.folder / "models/release.json")
    hashes = [release["commit"], release["model_md5"], release["service_md5"], *release["files"].values()]
    with serving(project, tmp_path / "home", SERVICE_TOKEN="s3cret") as guarded:
        names = [*guarded.example, guarded.contract["target"]]
        assert guarded.predict(guarded.example, Authorization="Bearer s3cret").status_code == 200
        for path in sorted({*OFFERED, "/no-such-page", "/docs.json/", "//docs.json", "/DOCS.JSON", "/%64ocs.json"}):
            for method in ("GET", "HEAD", "POST", "OPTIONS"):
                answer = guarded.client.request(method, path)
                said = f"{answer.headers} {answer.text}"
                # seven digits of a hash name it; the scripts of Swagger UI hold ordinary words
                assert not [each for each in hashes if each[:7] in said], path
                if not path.startswith("/static_content/"):
                    assert not [name for name in names if name in said], path
        (info,) = guarded.metrics("model_info")
        assert {value for _, value in info} <= {"1.4.0", ""}
