"""What requests meet before the model: methods, types, sizes, slow and vanished clients, paths that do not exist."""

from __future__ import annotations

import contextlib
import json
import socket
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving.served import PATIENCE, Served, eventually

from mlops.serving.front import BODY_SECONDS, MOST_BYTES, TOKEN, token

TOO_LARGE = 50_000_000
KINDS = ["text/plain", "application/x-www-form-urlencoded", "application/vnd.bentoml+pickle", "multipart/form-data", ""]


@pytest.mark.parametrize("given", ["s3cret", "s3cret\n", " s3cret\r\n", "s3cret "])
def test_a_token_is_taken_without_the_end_of_its_line(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv(TOKEN, given)
    assert token() == b"s3cret"


def test_an_empty_token_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(TOKEN, "")
    assert token() == b""
    monkeypatch.delenv(TOKEN)
    assert token() == b""


@pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE"])
def test_predictions_are_for_post(service: Served, method: str) -> None:
    answer = service.client.request(method, "/predict")
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST")
    assert bool(answer.content) == (method != "HEAD")


@pytest.mark.parametrize("path", ["/", "/metadata", "/docs.json", "/livez", "/metrics"])
def test_pages_are_for_get(service: Served, path: str) -> None:
    assert service.client.get(path).status_code == 200
    answer = service.client.post(path, json={})
    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]


@pytest.mark.parametrize("kind", KINDS)
def test_a_body_that_is_not_said_to_be_json_is_refused(service: Served, kind: str) -> None:
    body = json.dumps({"rows": [service.example]})
    assert service.send(body, **{"Content-Type": kind}).status_code == 415
    assert service.send(body, **{"Content-Encoding": "gzip"}).status_code == 415
    assert service.send(body, **{"Content-Type": "Application/JSON; charset=utf-8"}).status_code == 200


def test_a_body_of_fifty_megabytes_is_refused_in_one_piece_and_in_chunks(service: Served) -> None:
    before = max(worker.memory_info().rss for worker in service.workers)
    answer = service.send(b" " * TOO_LARGE)
    assert answer.status_code == 413
    assert f"{MOST_BYTES:,}" in answer.json()["error"]

    def chunks() -> Iterator[bytes]:
        for _ in range(TOO_LARGE // 1_000_000):
            yield b" " * 1_000_000

    answer = service.client.post("/predict", content=chunks(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 413
    assert service.works()
    grown = max(worker.memory_info().rss for worker in service.workers) - before
    assert grown < TOO_LARGE, "what is refused is not kept"


def test_who_asks_before_sending_too_much_is_reported_at_once(service: Served) -> None:
    with service.connection() as connection:
        connection.sendall(head(TOO_LARGE, "Expect: 100-continue"))
        assert received(connection).startswith(b"HTTP/1.1 413")


def test_a_body_may_come_in_chunks(service: Served) -> None:
    body = json.dumps({"rows": [service.example]}).encode()
    pieces = (body[start : start + 7] for start in range(0, len(body), 7))
    answer = service.client.post("/predict", content=pieces, headers={"Content-Type": "application/json"})
    assert answer.status_code == 200


def test_a_slow_client_is_cut_off_and_holds_nobody_up(service: Served) -> None:
    with service.connection() as slow, ThreadPoolExecutor() as pool:
        start = time.monotonic()
        slow.sendall(head(100) + b'{"rows": [')
        answer = pool.submit(received, slow)
        while not answer.done():
            assert service.works()
            time.sleep(0.2)
        assert answer.result().startswith(b"HTTP/1.1 408")
        assert time.monotonic() - start > BODY_SECONDS - 1


def test_clients_that_hang_up_leave_nothing_behind(service: Served) -> None:
    body = json.dumps({"rows": [service.example] * 500}).encode()
    for sent in (head(len(body)), head(len(body)) + body[:500], head(len(body)) + body, b"POST /pred"):
        for _ in range(20):
            with service.connection() as connection:
                connection.sendall(sent)
    assert service.works()
    eventually(lambda: service.count("bentoml_service_request_in_progress", endpoint="/predict") == 0)
    assert "Traceback" not in service.log.read_text()


def test_clients_that_do_not_read_their_answers_keep_nobody_waiting(service: Served) -> None:
    body = json.dumps({"rows": [service.example] * 2_000}).encode()
    deaf = [service.connection() for _ in range(80)]  # more than may wait at once
    try:
        for connection in deaf:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4_096)
            connection.sendall(head(len(body)) + body)
        eventually(service.works)
    finally:
        for connection in deaf:
            connection.close()


def test_large_bodies_that_nobody_finishes_take_no_room_from_small_ones(service: Served) -> None:
    large = json.dumps({"rows": [service.example]}).encode().ljust(MOST_BYTES - 1_000)
    before = max(worker.memory_info().rss for worker in service.workers)
    unfinished = [service.connection() for _ in range(6)]
    try:
        for connection in unfinished:
            with contextlib.suppress(ConnectionError):  # what is too much is refused before it has come
                connection.sendall(head(len(large)) + large[:-1])
        assert service.send(large).status_code == 429
        assert service.works()
        assert max(worker.memory_info().rss for worker in service.workers) - before < 5 * MOST_BYTES
    finally:
        for connection in unfinished:
            connection.close()
    eventually(lambda: service.send(large).status_code == 200)


def test_two_requests_on_one_connection_are_answered_in_order(service: Served) -> None:
    body = json.dumps({"rows": [service.example]}).encode()
    with service.connection() as connection:
        first, second = (head(len(body), f"X-Request-Id: {name}") + body for name in ("first", "second"))
        connection.sendall(first + second)
        found = b""
        while found.count(b'"request_id"') < 2:
            found += connection.recv(65_536)
    assert found.index(b'"request_id":"first"') < found.index(b'"request_id":"second"')


@pytest.mark.parametrize(
    "sent", [b"\x16\x03\x01\x02\x00\x01\r\n\r\n", b"GET\r\n\r\n", b"POST /predict HTTP/9.9\r\n\r\n"]
)
def test_what_is_no_http_is_refused(service: Served, sent: bytes) -> None:
    with service.connection() as connection:
        connection.sendall(sent)
        assert received(connection)[:10] in (b"HTTP/1.1 4", b"")
    assert service.works()


def test_a_scan_of_paths_adds_one_series_to_the_metrics(service: Served) -> None:
    assert service.client.get("/wp-login.php").status_code == 404
    before = service.client.get("/metrics").text
    for number in range(100):
        for path in (f"/{number}", f"/predict/{number}", f"/static_content/{number}.js", f"/../{number}?x={number}"):
            answer = service.client.get(path)
            assert answer.status_code == 404, path
            assert answer.headers["x-request-id"]
    assert len(service.client.get("/metrics").text.splitlines()) == len(before.splitlines())
    assert service.count("bentoml_service_request_total", endpoint="/unknown", http_response_code="404") > 400


def test_what_bentoml_offers_beside_is_closed(service: Served) -> None:
    for path in ("/schema.json", "/static_content/index.css", "/predict/", "/docs"):
        assert service.client.get(path).status_code == 404


def test_a_websocket_is_refused(service: Served) -> None:
    with service.connection() as connection:
        upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13"
        key = "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ=="
        connection.sendall(f"GET /predict HTTP/1.1\r\nHost: here\r\n{upgrade}\r\n{key}\r\n\r\n".encode())
        assert received(connection).startswith((b"HTTP/1.1 403", b"HTTP/1.1 405"))
    assert not service.metrics("bentoml_service_websocket_connections")


def head(length: int, *headers: str) -> bytes:
    lines = ["POST /predict HTTP/1.1", "Host: here", "Content-Type: application/json", f"Content-Length: {length}"]
    return "\r\n".join([*lines, *headers, "", ""]).encode()


def received(connection: socket.socket) -> bytes:
    connection.settimeout(PATIENCE)
    return connection.recv(65_536)
