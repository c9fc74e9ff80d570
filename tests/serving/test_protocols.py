"""The protocols of platforms, on the real service: their routes, bodies and errors, and the core that they share."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pandas as pd
import pytest
import skops.io
from conftest import Project
from serving.served import PATIENCE, Served, environment, eventually, free_port, serving
from serving.test_codec import ALL, QUICK, ROW, contract
from serving.test_prediction_log import read

from mlops.core.errors import UserError
from mlops.inference.contract import Field
from mlops.serving import envelopes, protocol, tensors
from mlops.serving.adapter import Dialect, Headers
from mlops.serving.front import MOST_BYTES, TOKEN
from mlops.serving.rows import MOST_BRACKETS, InvalidRequestError

Body = dict[str, Any]
Speak = Callable[..., Any]
VERTEX = "/v1/endpoints/1/deployedModels/2"
INFER = "/v2/models/model/infer"
VARIABLES = ("SERVING_PROTOCOL", "PORT", "BENTOML_PORT", "SAGEMAKER_BIND_TO_PORT", "AIP_HTTP_PORT", "MODEL_NAME")


@pytest.fixture
def speaking(released: Project, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Speak:
    """Starts the service with a platform's protocol, and a prediction log."""
    for name in (*VARIABLES, protocol.PREDICT_ROUTE, envelopes.HEALTH_ROUTE):
        monkeypatch.delenv(name, raising=False)

    @contextmanager
    def speak(name: str = "", **more: str) -> Iterator[Served]:
        variables = {"SERVING_PROTOCOL": name, "PREDICTION_LOG": str(tmp_path / "log"), **more}
        with serving(released, tmp_path / "home", **variables) as served:
            yield served

    return speak


def split(*rows: Any) -> Body:
    """Rows as pandas writes them with ``orient="split"``."""
    return dict(pd.DataFrame(list(rows)).to_dict(orient="split"))


def tensor(rows: list[Body], name: str, datatype: str = "FP64") -> Body:
    return {"name": name, "shape": [len(rows)], "datatype": datatype, "data": [row[name] for row in rows]}


def inference(*rows: Body, **more: Any) -> Body:
    return {"inputs": [tensor(list(rows), name) for name in rows[0]], **more}


def wrong(value: Any) -> Iterator[Any]:
    """A body with something else in the place of each of its parts, without it, and with more."""
    yield from (None, True, -1, 1e308, 10**30, "", "x" * 300, [], {}, [None], [[[]]])
    if isinstance(value, dict):
        yield {**value, "more": [1]}
        for name in list(value)[: 5 if len(value) <= 5 else 1]:
            yield {each: value[each] for each in value if each != name}
            yield from ({**value, name: each} for each in wrong(value[name]))
    elif isinstance(value, list):
        yield value * 2
        yield from ([each, *value[1:]] for each in wrong(value[0]))


def hostile(served: Served, path: str, valid: Body, *form: str) -> None:
    """What is wrong with a request is the client's mistake, said in the protocol's form, and costs no error."""
    text = json.dumps(valid)
    bodies = [b"", b"null", b"[]", b"{}", b'"', b"\xff", text[:-1], f"{text}]", "[" * 100_000, b'{"a":' * 5_000]
    bodies += [text.replace("13.48", "1e999"), text.replace("13.48", "{}"), text.replace('"', '"\x00')]
    bodies += [
        text.replace("13.48", "1" * 5_000),
        text.replace("mean radius", "\\ud800"),
        b"\xef\xbb\xbf" + text.encode(),
    ]
    many = list(wrong(valid))
    assert len(many) > 40
    for body in [*bodies, *map(json.dumps, many)]:
        answer = served.client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert answer.status_code < 500, body[:80]
        if answer.status_code != 200 or body in bodies:
            assert answer.status_code >= 400, body[:80]
            assert answer.json().keys() == {*form}, body[:80]
    for method, headers, status in (
        ("GET", {}, 405),
        ("DELETE", {}, 405),
        ("POST", {"Content-Type": "text/csv"}, 415),
        ("POST", {"Content-Type": "application/json", "Content-Encoding": "gzip"}, 415),
    ):
        answer = served.client.request(method, path, content=text, headers=headers)
        assert (answer.status_code, answer.json().keys()) == (status, {*form}), method
    assert sum(served.metrics("model_refused_requests_total").values()) > len(bodies)
    brackets = b'{"x": [' + b"[]," * MOST_BRACKETS + b"[]]}"
    assert served.client.post(path, content=brackets, headers={"Content-Type": "application/json"}).status_code == 413
    # so much that the server pauses reading, and resumes it in the context of this request
    assert served.client.post(path, content=b" " * (MOST_BYTES + 1)).status_code in (413, 415)
    assert not served.count("bentoml_service_request_total", http_response_code="500")
    assert served.works(), "its own protocol stays"
    assert "Traceback" not in served.log.read_text()


def test_sagemaker_gets_ping_and_invocations_and_the_client_s_id_in_its_header(speaking: Speak, tmp_path: Path) -> None:
    with speaking("sagemaker") as served:
        assert "with the routes of sagemaker (Ctrl+C to stop)" in served.log.read_text()
        ping = served.client.get("/ping")
        assert (ping.status_code, ping.content.strip()) == (200, b"")
        attributes = {"X-Amzn-SageMaker-Custom-Attributes": "order-7"}
        for key in ("rows", "instances"):
            answer = served.client.post("/invocations", json={key: [served.example]}, headers=attributes)
            own = served.predict(served.example, **{"X-Request-ID": "order-7"})
            assert (answer.status_code, answer.json()) == (200, own.json())
            assert answer.headers["x-amzn-sagemaker-custom-attributes"] == "order-7"
        refused = served.client.post("/invocations", json={"instances": [{}]})
        assert refused.status_code == 422
        assert refused.json().keys() == {"error", "detail", "request_id"}
        assert refused.json()["detail"][0] == {"row": 0, "field": "mean radius", "problem": "is missing"}
        assert served.client.get("/invocations").status_code == 405
        assert served.count("bentoml_service_request_total", endpoint="/predict", http_response_code="200") == 4
        hostile(served, "/invocations", {"instances": [served.example]}, "error", "detail", "request_id")
    lines = read(tmp_path / "log")
    assert [line["request_id"] for line in lines[:4]] == ["order-7"] * 4
    assert lines[0]["features"] == lines[1]["features"] == served.example


def test_sagemaker_starts_the_image_with_a_word_of_its_own(released: Project, tmp_path: Path) -> None:
    port = free_port()
    variables = {"SERVING_PROTOCOL": "sagemaker", "SAGEMAKER_BIND_TO_PORT": str(port)}
    process = subprocess.Popen(
        [sys.executable, "-m", "mlops.serving.start", "serve", "--host", "127.0.0.1"],
        cwd=released.folder,
        env=environment(released, tmp_path, **variables),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )

    def answers() -> bool:
        assert process.poll() is None
        try:
            return httpx.get(f"http://127.0.0.1:{port}/ping", timeout=PATIENCE).status_code == 200
        except httpx.TransportError:
            return False

    try:
        eventually(answers)
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(PATIENCE) == 0


def test_vertex_gets_predictions_of_instances_at_the_paths_that_it_names(
    speaking: Speak, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {protocol.PREDICT_ROUTE: f"{VERTEX}:predict", envelopes.HEALTH_ROUTE: VERTEX}
    with speaking(**paths) as served:
        assert served.client.get(VERTEX).status_code == 200
        answer = served.client.post(f"{VERTEX}:predict", json={"instances": [served.example] * 2, "parameters": None})
        own = served.predict(served.example, served.example).json()
        assert (answer.status_code, answer.json()) == (200, {"predictions": own["predictions"]})
        refused = served.client.post(f"{VERTEX}:predict", json={"instances": [], "parameters": {}})
        assert (refused.status_code, refused.json()["detail"][0]["field"]) == (422, "instances")
        refused = served.client.post(f"{VERTEX}:predict", json={"instances": [served.example], "parameters": {"k": 1}})
        assert (refused.status_code, refused.json()["detail"][0]["field"]) == (422, "parameters")
        hostile(served, f"{VERTEX}:predict", {"instances": [served.example]}, "error", "detail", "request_id")
    # where a model was uploaded without routes, both are one path
    for name in paths:
        monkeypatch.setenv(name, f"{VERTEX}:predict")
    found = envelopes.vertex(ALL).route
    for method, path in (("GET", "/readyz"), ("POST", "/predict")):
        route = found(method, f"{VERTEX}:predict")
        assert route is not None
        assert route.path == path


def test_azure_gets_a_list_for_a_data_frame_and_errors_as_a_message(speaking: Speak) -> None:
    with speaking("azureml", **{TOKEN: "s3cret"}) as served:
        served.client.headers["Authorization"] = "Bearer s3cret"
        assert served.client.get("/", headers={"Authorization": ""}).status_code == 200
        body = {"input_data": split(served.example, served.example)}
        assert served.client.post("/score", json=body).json() == ["benign", "benign"]
        refused = served.client.post("/score", json=body, headers={"Authorization": "Bearer wrong"})
        assert (refused.status_code, refused.json().keys()) == (401, {"message"})
        body["input_data"]["columns"][0] = "radius"
        refused = served.client.post("/score", json=body)
        assert refused.status_code == 422
        assert "mean radius: is missing; radius: is not a field of this model" in refused.json()["message"]
        hostile(served, "/score", {"input_data": split(served.example)}, "message")
        refused = served.client.post("/score?explain=true", json={"input_data": split(served.example)})
        assert (refused.status_code, refused.json()) == (
            422,
            {"message": "this protocol has no place for explanations"},
        )


def test_mlflow_s_client_and_server_agree_with_the_service(speaking: Speak, released: Project, tmp_path: Path) -> None:
    from fastapi.testclient import TestClient
    from mlflow.pyfunc import scoring_server
    from mlflow.pyfunc.scoring_server.client import ScoringServerClient

    theirs = TestClient(scoring_server.init(mlflow_model(released, tmp_path)))
    test = pd.read_parquet(released.folder / "data/prepared/test.parquet")
    with speaking("mlflow") as served:
        frame = test[list(served.example)].head(50)
        client = ScoringServerClient("127.0.0.1", served.port)
        client.ping()
        found = client.invoke(frame).get_predictions()[0].tolist()
        assert len(set(found)) == 2
        records = frame.to_dict(orient="records")
        for body in ({"dataframe_split": split(*records)}, {"dataframe_records": records}):
            ours = served.client.post("/invocations", json=body).json()
            assert theirs.post("/invocations", json=body).json()["predictions"] == ours["predictions"] == found
            assert [max(each, key=each.get) for each in ours["probabilities"]] == found
        odd: list[Any] = [{}, [1], {"columns": [], "data": []}, {**body, "dataframe_split": split(*records)}]
        odd += [{"dataframe_records": {}}, {"dataframe_records": [{"radius": 1}]}, {"dataframe_split": split({"r": 1})}]
        for body in odd:
            answers = [each.post("/invocations", json=body) for each in (theirs, served.client)]
            assert [each.status_code for each in answers] == [400, 400], body
            assert all({"error_code", "message"} <= each.json().keys() for each in answers)
        # pandas writes a missing value as NaN, which is no JSON
        frame.iloc[0, 0] = None
        with pytest.raises(Exception, match="row 0: mean radius: is null"):
            client.invoke(frame)
        hostile(served, "/invocations", {"dataframe_split": split(served.example)}, "error_code", "message")


def mlflow_model(project: Project, folder: Path) -> Any:
    """The trained model as MLflow would serve it."""
    import mlflow.pyfunc
    from mlflow.models import infer_signature

    from project.features import irregularity

    path = project.folder / "models/model.skops"
    model = skops.io.load(path, trusted=skops.io.get_untrusted_types(file=path))

    class Trained(mlflow.pyfunc.PythonModel):  # type: ignore[misc]
        def predict(self, context: Any, model_input: pd.DataFrame) -> Any:
            computed = irregularity(model_input["mean perimeter"], model_input["mean area"])
            return model.predict(model_input.assign(irregularity=computed))

    rows = json.loads(project.read("models/service/example.json"))["rows"]
    signature = infer_signature(pd.DataFrame(rows), ["benign"])
    mlflow.pyfunc.save_model(folder / "mlflow", python_model=Trained(), signature=signature, pip_requirements=[])
    return mlflow.pyfunc.load_model(str(folder / "mlflow"))


def test_kserve_gets_health_metadata_and_inference_by_tensors(speaking: Speak, tmp_path: Path) -> None:
    with speaking("kserve") as served:
        assert served.client.get("/v2/health/live").json() == {"live": True}
        assert served.client.get("/v2/health/ready").json() == {"ready": True}
        version = served.release["version"]
        assert served.client.get("/v2").json() == {"name": "mlops", "version": version, "extensions": []}
        assert served.client.get("/v2/models/model/ready").json() == {"name": "model", "ready": True}
        about = served.client.get("/v2/models/model").json()
        assert about == served.client.get(f"/v2/models/model/versions/{version}").json()
        assert [each["name"] for each in about["inputs"]] == list(served.example)
        assert about["outputs"][0] == {"name": "prediction", "datatype": "BYTES", "shape": [-1]}

        own = served.predict(served.example).json()["predictions"][0]
        answer = served.client.post(INFER, json=inference(served.example, id="order-7"))
        assert answer.headers["x-request-id"] == answer.json()["id"] == "order-7"
        assert answer.json()["model_version"] == version
        outputs = {each["name"]: each["data"] for each in answer.json()["outputs"]}
        assert outputs.pop("prediction") == [own["prediction"]]
        assert outputs == {f"probability of {name}": [value] for name, value in own["probabilities"].items()}
        strange = served.client.post(INFER, json=inference(served.example, id="an id / no id"))
        assert strange.json()["id"] == "an id / no id"
        asked = inference(served.example, outputs=[{"name": "prediction"}])
        (only,) = served.client.post(INFER, json=asked).json()["outputs"]
        assert only == {"name": "prediction", "shape": [1], "datatype": "BYTES", "data": ["benign"]}

        for body, why in unfit(served.example):
            refused = served.client.post(INFER, json=body)
            assert (refused.status_code, refused.json().keys()) == (400, {"error"}), why
            assert why in refused.json()["error"]
        for path in ("/v2/models/other", "/v2/models/other/infer", "/v2/models/model/versions/9", "/v2/nothing"):
            assert served.client.get(path).status_code == 404
            assert "the only model is 'model'" in served.client.get(path).json()["error"]
        hostile(served, INFER, inference(served.example), "error")
    lines = read(tmp_path / "log")
    assert lines[1]["request_id"] == "order-7"
    assert lines[1]["features"] == lines[0]["features"] == served.example
    assert "/" not in lines[2]["request_id"]


def unfit(row: Body) -> Iterator[tuple[Body, str]]:
    """Requests that do not fit the model, and what is said of them."""
    first, *others = inference(row)["inputs"]
    for change, why in (
        ({"name": "radius"}, "mean radius: is missing; radius: is not a field of this model"),
        ({"datatype": "BYTES"}, "mean radius: has datatype BYTES, expected FP64"),
        ({"shape": [2]}, "must have the shape [n] or [n, 1]"),
        ({"shape": [-1]}, "must have the shape"),
        ({"shape": []}, "must have the shape"),
        ({"data": [1.0, 2.0]}, "has 2 values, but the shape [1]"),
        ({"data": ["1"]}, "has data that are not FP64"),
        ({"data": [None]}, "row 0: mean radius: is null"),
        ({"data": [3.1e38]}, "row 0: mean radius: is outside the limit"),
        ({"parameters": {"binary_data_size": 8}}, "has 0 bytes of data, but a binary_data_size of 8"),
        ({"parameters": {"binary_data_size": -8}}, "has 0 bytes of data"),
    ):
        yield {"inputs": [{**first, **change}, *others]}, why
    yield {"inputs": [first, first, *others]}, "mean radius: appears more than once"
    yield {"inputs": [{key: first[key] for key in first if key != "data"}, *others]}, "mean radius: has no data"
    yield inference(row, outputs=[{"name": "score"}]), "score: is not an output of this model"


@pytest.mark.parametrize(
    ("dialect", "path", "body"),
    [
        (envelopes.sagemaker(ALL), "/invocations", {"instances": [ROW, ROW]}),
        (envelopes.vertex(ALL), "/predict", {"instances": [ROW, ROW]}),
        (envelopes.azureml(ALL), "/score", {"input_data": {"columns": list(ROW), "data": [[*ROW.values()]] * 2}}),
        (envelopes.mlflow(ALL), "/invocations", {"dataframe_records": [ROW, ROW]}),
        (
            tensors.kserve(ALL, "1"),
            INFER,
            {
                "inputs": [
                    tensor([ROW, ROW], each.name, tensors.datatypes(each.kind)[0]) | {"parameters": {"more": 1}}
                    for each in ALL.fields
                ]
            },
        ),
    ],
    ids=["sagemaker", "vertex", "azureml", "mlflow", "kserve"],
)
def test_values_of_each_kind_arrive_as_if_they_were_sent_to_the_service_itself(
    dialect: Dialect, path: str, body: Body
) -> None:
    route = dialect.route("POST", path)
    assert route is not None
    assert route.ask is not None
    numbers, others = QUICK(route.ask(json.dumps(body).encode(), {}).body)
    expected_numbers, expected = QUICK(json.dumps({"rows": [ROW, ROW]}).encode())
    assert repr(numbers) == repr(expected_numbers)
    assert repr(others) == repr(expected)
    with pytest.raises(InvalidRequestError):
        route.ask(json.dumps(body).encode()[:-1], {})


def test_millions_of_columns_are_refused_before_they_fill_the_memory() -> None:
    route = envelopes.mlflow(ALL).route("POST", "/invocations")
    assert route is not None
    assert route.ask is not None
    body = b'{"dataframe_split": {"columns": [%b"a"], "data": []}}' % (b'"a",' * 4_000_000)
    tracemalloc.start()
    with pytest.raises(InvalidRequestError) as refused:
        route.ask(body, {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert refused.value.status == 413
    assert peak < 4 * len(body), "names would take twenty times as much"


def refusal(dialect: Dialect, path: str, body: bytes, headers: Headers | None = None) -> str:
    """Why a request is refused before its values are read, and that it takes little memory to say so."""
    route = dialect.route("POST", path)
    assert route is not None
    assert route.ask is not None
    tracemalloc.start()
    with pytest.raises(InvalidRequestError) as refused:
        route.ask(body, headers or {})
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * len(body) + 1_000_000
    return f"{refused.value}{[each['problem'] for each in refused.value.detail]}"


def test_what_would_take_much_memory_or_time_is_refused_first() -> None:
    columns = json.dumps([field.name for field in ALL.fields])
    cells = f'{{"dataframe_split": {{"columns": {columns}, "data": [{"[1,1,1,1,1,1,1]," * 60_000}[1]]}}}}'
    assert "has more than 10,000 rows" in refusal(envelopes.mlflow(ALL), "/invocations", cells.encode())
    kserve = tensors.kserve(contract(Field(name="size", kind="numeric", nullable=False)), "1")
    given = {"name": "size", "shape": [1], "datatype": "FP64", "data": [1.5]}

    def problem(*outputs: str, **more: Any) -> str:
        body = {"inputs": [{**given, **more}], "outputs": [{"name": name} for name in outputs]}
        return refusal(kserve, INFER, json.dumps(body).encode())

    assert "must have the shape" in problem(shape=[2**63] * 200_000), "their product has a million digits"
    assert "names an output more than once" in problem(*["prediction"] * 1_000)
    assert "has more values than the shape [1]" in problem(data=[0.5] * 500_000)
    assert "must be the length of the JSON" in refusal(kserve, INFER, b"{}", {tensors.LENGTH: b"9" * 5_000})


def test_nan_is_null_outside_of_texts_and_hides_no_field_that_comes_twice() -> None:
    assert envelopes.without_nan(b'[NaN, "NaN", "a \\" NaN", -N]') == b'[null, "NaN", "a \\" NaN", -N]'
    route = envelopes.mlflow(ALL).route("POST", "/invocations")
    assert route is not None
    assert route.ask is not None
    row = json.dumps({**ROW, "gr\u00f6\u00dfe": float("nan")}, ensure_ascii=False)[:-1] + ', "size": 2}'
    with pytest.raises(InvalidRequestError) as refused:
        QUICK(route.ask(f'{{"instances": [{row}]}}'.encode(), {}).body)
    assert refused.value.detail[0]["problem"] == "appears more than once"


def test_an_envelope_s_member_that_comes_twice_is_refused() -> None:
    route = envelopes.vertex(ALL).route("POST", "/predict")
    assert route is not None
    assert route.ask is not None
    row = json.dumps(ROW)
    with pytest.raises(InvalidRequestError) as refused:
        route.ask(f'{{"instances": [{row}], "instances": []}}'.encode(), {})
    assert refused.value.detail[0]["problem"] == "appears more than once"


def test_the_port_is_the_platform_s_unless_it_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in (*VARIABLES, protocol.PREDICT_ROUTE):
        monkeypatch.delenv(name, raising=False)
    assert protocol.port() == "3000"
    monkeypatch.setenv("PORT", "8081")  # of Cloud Run and Knative
    assert protocol.port() == "8081"
    monkeypatch.setenv("SERVING_PROTOCOL", "SageMaker")
    monkeypatch.setenv("SAGEMAKER_BIND_TO_PORT", "8082")
    assert protocol.port() == "8082"
    monkeypatch.setenv("BENTOML_PORT", "8083")
    assert protocol.port() == "8083"
    for name in VARIABLES[1:4]:
        monkeypatch.delenv(name)
    assert protocol.port() == "8080"
    monkeypatch.setenv("SERVING_PROTOCOL", "azure")
    with pytest.raises(UserError, match="must be one of sagemaker, vertex, azureml, mlflow, kserve, got 'azure'"):
        protocol.port()
    monkeypatch.setenv("SERVING_PROTOCOL", "kserve")
    monkeypatch.setenv("MODEL_NAME", "a/b")
    with pytest.raises(UserError, match="MODEL_NAME"):
        protocol.dialect(ALL, "1")
    monkeypatch.setenv("SERVING_PROTOCOL", "vertex")
    monkeypatch.setenv(envelopes.HEALTH_ROUTE, "health")
    with pytest.raises(UserError, match="must be a path"):
        protocol.dialect(ALL, "1")


def test_without_a_protocol_nothing_of_them_is_loaded_or_answered(service: Served, released: Project) -> None:
    for path in ("/invocations", "/ping", "/score", "/v2", INFER):
        assert service.client.get(path).status_code == 404
    loaded = (
        "import sys, mlops.serving.service; print(*(name for name in sys.modules if name.startswith('mlops.serving')))"
    )
    names = released.run(sys.executable, "-c", loaded, SERVING_PROTOCOL="").stdout.split()
    assert "mlops.serving.front" in names
    assert not {"mlops.serving.adapter", "mlops.serving.envelopes", "mlops.serving.tensors"} & set(names)


def ask_in_binary(values: Body) -> tuple[Any, Any]:
    """What arrives of a request whose tensors are bytes, as Triton's extension describes them."""
    inputs, binary = [], b""
    for each in ALL.fields:
        value, datatype = values[each.name], tensors.datatypes(each.kind)[0]
        texts = [len(text).to_bytes(4, "little") + text for text in [value.encode()] * 2] if datatype == "BYTES" else []
        content = b"".join(texts) or np.array([value] * 2, dtype=tensors.FORMATS.get(datatype)).tobytes()
        size = {"binary_data_size": len(content)}
        inputs.append({"name": each.name, "shape": [2], "datatype": datatype, "parameters": size})
        binary += content
    head = json.dumps({"inputs": inputs}).encode()
    route = tensors.kserve(ALL, "1").route("POST", INFER)
    assert route is not None
    assert route.ask is not None
    return QUICK(route.ask(head + binary, {tensors.LENGTH: b"%d" % len(head)}).body)


def test_tensors_in_binary_form_are_the_same_values_and_what_is_no_number_is_refused() -> None:
    numbers, others = ask_in_binary({**ROW, "größe": float("nan")})
    expected_numbers, expected = QUICK(json.dumps({"rows": [ROW, ROW]}).encode())
    assert (repr(numbers), repr(others)) == (repr(expected_numbers), repr(expected))
    for value, why in ((float("inf"), "not finite"), (float("nan"), "is null")):
        with pytest.raises(InvalidRequestError) as refused:
            ask_in_binary({**ROW, "größe": None, "size": value})
        assert why in refused.value.detail[0]["problem"]


@pytest.mark.parametrize(
    ("content", "size", "why"),
    [
        (b"\x01\x00\x00\x00a", 5, ""),
        (b"\x02\x00\x00\x00a", 5, "not texts after their lengths"),
        (b"\x01\x00\x00\x00\xff", 5, "not UTF-8"),
        (b"\x01\x00\x00\x00a", 4, "not texts after their lengths"),
        (b"\x01\x00\x00\x00a", 6, "5 bytes of data"),
        (b"\x00\x00\x00\x00" * 2, 8, "has 2 values"),
        (b"\x00\x00\x00\x00" * 20_000, 80_000, "not texts after their lengths"),
        (b"", 0, "has 0 values"),
    ],
)
def test_texts_in_binary_form_are_read_by_their_lengths(content: bytes, size: int, why: str) -> None:
    about = contract(Field(name="comment", kind="text", nullable=False))
    route = tensors.kserve(about, "1").route("POST", INFER)
    assert route is not None
    assert route.ask is not None
    given = {"name": "comment", "shape": [1], "datatype": "BYTES", "parameters": {"binary_data_size": size}}
    head = json.dumps({"inputs": [given]}).encode()
    headers = {tensors.LENGTH: b"%d" % len(head)}
    if not why:
        assert json.loads(route.ask(head + content, headers).body) == {"rows": [{"comment": "a"}]}
        for wrong in (b"-1", b"x", b"%d" % 10**9):
            with pytest.raises(InvalidRequestError, match="must be the length of the JSON"):
                route.ask(head + content, {tensors.LENGTH: wrong})
        with pytest.raises(InvalidRequestError, match="3 bytes that belong to no input"):
            route.ask(head + content + b"abc", headers)
        return
    with pytest.raises(InvalidRequestError) as refused:
        route.ask(head + content, headers)
    assert why in refused.value.detail[0]["problem"]
