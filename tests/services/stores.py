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
from typing import Any

import fsspec
import pytest

ACCESS, SECRET = "AKIATESTTESTTESTTEST", "not+a/real+secret/but+kept+like+one"


@contextmanager
def s3_server(folder: Path, host: str = "127.0.0.1") -> Iterator[dict[str, str]]:
    """What the environment says of the server; its log is in the file `log` of the folder."""
    program = shutil.which("versitygw", path=f"{os.environ['PATH']}{os.pathsep}{Path.home() / 'go/bin'}")
    if program is None:
        pytest.fail("versitygw is not installed; run .ci/services")
    for name in ("buckets", "metadata", "users"):
        (folder / name).mkdir()
    with socket.create_server((host, 0)) as free:
        port = free.getsockname()[1]
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


def files(server: dict[str, str]) -> Any:
    """The server's buckets as a file system."""
    where = {"endpoint_url": server["AWS_ENDPOINT_URL"], "region_name": server["AWS_DEFAULT_REGION"]}
    keys = {"key": server["AWS_ACCESS_KEY_ID"], "secret": server["AWS_SECRET_ACCESS_KEY"]}
    return fsspec.filesystem("s3", **keys, client_kwargs=where)


def add_user(server: dict[str, str], name: str, secret: str) -> dict[str, str]:
    """A user who may do nothing yet, and the environment of one who is it."""
    program = shutil.which("versitygw", path=f"{os.environ['PATH']}{os.pathsep}{Path.home() / 'go/bin'}")
    assert program
    admin = ["--access", ACCESS, "--secret", SECRET, "--region", server["AWS_DEFAULT_REGION"]]
    create = ["create-user", "--access", name, "--secret", secret, "--role", "user"]
    where = ["--endpoint-url", server["AWS_ENDPOINT_URL"]]
    subprocess.run([program, "admin", *admin, *where, *create], check=True, capture_output=True)
    return {**server, "AWS_ACCESS_KEY_ID": name, "AWS_SECRET_ACCESS_KEY": secret}
