"""The description of the API is true, and its page needs nothing from elsewhere."""

from __future__ import annotations

import re
from pathlib import Path

import jsonschema
from serving.served import Served, fuzz, serving


def test_the_example_of_the_description_works_and_the_answer_is_as_described(service: Served) -> None:
    described = service.client.get("/docs.json").json()
    predict = described["paths"]["/predict"]["post"]
    example = predict["requestBody"]["content"]["application/json"]["example"]
    answer = service.client.post("/predict", json=example)
    assert answer.status_code == 200
    resolved = {**described, "$ref": "#/components/schemas/Answer"}
    jsonschema.validate(answer.json(), resolved)
    jsonschema.validate(example, {**described, "$ref": "#/components/schemas/Request"})
    refused = service.predict({})
    assert str(refused.status_code) in predict["responses"]
    jsonschema.validate(refused.json(), {**described, "$ref": "#/components/schemas/Refusal"})


def test_the_description_tells_type_unit_and_range_of_each_field(service: Served) -> None:
    row = service.client.get("/docs.json").json()["components"]["schemas"]["Row"]
    assert row["additionalProperties"] is False
    assert row["required"] == list(service.example)
    for field in service.contract["fields"]:
        message = row["properties"][field["name"]]
        assert message["type"] == "number"
        assert f"{field['low']} to {field['high']}" in message["description"]


def test_nothing_that_a_machine_thinks_of_breaks_the_service(service: Served) -> None:
    fuzz(service)


def test_the_page_loads_nothing_from_elsewhere(service: Served) -> None:
    page = service.client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert service.release["version"] in page.text
    named = re.findall(r'(?:src|href)="([^"]*)"', page.text)
    assert len(named) == 5
    for name in named:
        assert name == "data:," or name.startswith("./")
        if name.startswith("./"):
            assert service.client.get(name[1:]).status_code == 200
    assert "://" not in page.text
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'self'")
    assert "http" not in policy
    assert "script-src" not in policy, "no script inside the page, no eval"


def test_the_page_never_sends_the_token_as_a_form_would(service: Served) -> None:
    """In an address it would be in the logs of every proxy, and in the history."""
    page = service.client.get("/")
    (form,) = re.findall(r"<form[^>]*>.*?</form>", page.text, re.DOTALL)
    assert not re.search(r"\b(action|method|name)=", form)
    assert 'type="password"' in form
    assert "form-action 'none'" in page.headers["content-security-policy"]
    script = service.client.get("/page.js").text
    assert not re.search(r"[sS]torage|cookie", script), "the token is not kept"


def test_the_description_asks_for_a_token_where_one_is_needed(service: Served, tmp_path: Path) -> None:
    assert "security" not in service.client.get("/docs.json").text
    with serving(service.project, tmp_path, SERVICE_TOKEN="s3cret") as guarded:
        described = guarded.client.get("/docs.json", headers={"Authorization": "Bearer s3cret"}).json()
        for path, method in (("/predict", "post"), ("/metadata", "get")):
            operation = described["paths"][path][method]
            assert operation["security"] == [{"token": []}]
            assert "401" in operation["responses"]
