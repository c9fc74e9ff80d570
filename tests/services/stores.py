"""A real S3-compatible server on loopback, which goes when the tests are done."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

ACCESS, SECRET = "AKIATESTTESTTESTTEST", "not+a/real+secret/but+kept+like+one"


@contextmanager
def s3_server(folder: Path) -> Iterator[dict[str, str]]:
    """What the environment says of the server; its log is in the file `log` of the folder."""
    program = shutil.which("versitygw", path=f"{os.environ['PATH']}{os.pathsep}{Path.home() / 'go/bin'}")
    if program is None:
        pytest.fail("versitygw is not installed; run .ci/services")
    for name in ("buckets", "metadata", "users"):
        (folder / name).mkdir()
    with socket.create_server(("127.0.0.1", 0)) as free:
        host, port = free.getsockname()
    address = f"{host}:{port}"
    environment = {
        "AWS_ACCESS_KEY_ID": ACCESS,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "AWS_DEFAULT_REGION": "eu-central-1",
        "AWS_ENDPOINT_URL": f"http://{address}",
    }
    with (folder / "log").open("wb") as log:
        keys = ["--access", ACCESS, "--secret", SECRET, "--region", "eu-central-1", "--iam-dir", str(folder / "users")]
        posix = ["posix", "--sidecar", str(folder / "metadata"), str(folder / "buckets")]
        running = subprocess.Popen([program, *keys, "--port", address, *posix], stdout=log, stderr=log)
        try:
            while socket.socket().connect_ex((host, port)):
                assert running.poll() is None, (folder / "log").read_text()
                time.sleep(0.05)
            yield environment
        finally:
            running.terminate()
            running.wait()


def add_user(server: dict[str, str], name: str, secret: str) -> dict[str, str]:
    """A user who may do nothing yet, and the environment of one who is it."""
    program = shutil.which("versitygw", path=f"{os.environ['PATH']}{os.pathsep}{Path.home() / 'go/bin'}")
    assert program
    admin = ["--access", ACCESS, "--secret", SECRET, "--region", server["AWS_DEFAULT_REGION"]]
    create = ["create-user", "--access", name, "--secret", secret, "--role", "user"]
    where = ["--endpoint-url", server["AWS_ENDPOINT_URL"]]
    subprocess.run([program, "admin", *admin, *where, *create], check=True, capture_output=True)
    return {**server, "AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": secret}
