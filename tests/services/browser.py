"""A page in headless Chromium, driven over its debugging protocol: questions, clicks, dark mode, sizes, pictures."""

from __future__ import annotations

import base64
import contextlib
import fcntl
import itertools
import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

SECONDS = 120


class Page:
    """A page that is open.

    Parameters
    ----------
    to, back : file
        Chromium's pipes: messages are JSON and end with a zero byte.
    """

    def __init__(self, to: IO[bytes], back: IO[bytes]) -> None:
        self.to, self.back = to, back
        self.numbers = itertools.count(1)
        self.session: dict[str, str] = {}
        self.origin = "file:"
        self.problems: list[str] = []
        """What the page or its policy complained of."""
        targets = self.send("Target.getTargets")["targetInfos"]
        target = next(each["targetId"] for each in targets if each["type"] == "page")
        self.session = {"sessionId": self.send("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]}
        for domain in ("Page", "Runtime", "Log", "Network"):
            self.send(f"{domain}.enable")

    def send(self, method: str, **parameters: Any) -> dict[str, Any]:
        number = next(self.numbers)
        self.to.write(
            json.dumps({"id": number, "method": method, "params": parameters, **self.session}).encode() + b"\0"
        )
        self.to.flush()
        while True:
            answer = json.loads(self._message())
            if answer.get("id") == number:
                assert "error" not in answer, answer
                return dict(answer["result"])
            self._heard(answer)

    def _message(self) -> bytes:
        parts = []
        while (letter := self.back.read(1)) != b"\0":
            assert letter, "chromium has ended"
            parts.append(letter)
        return b"".join(parts)

    def _heard(self, event: dict[str, Any]) -> None:
        kind, said = event.get("method"), event.get("params", {})
        if kind == "Log.entryAdded" and said["entry"]["level"] in ("error", "warning"):
            self.problems.append(said["entry"]["text"])
        elif kind == "Runtime.exceptionThrown":
            self.problems.append(said["exceptionDetails"]["text"])
        elif kind == "Page.javascriptDialogOpening":
            self.problems.append(f"a dialog: {said['message']}")
        elif kind == "Network.requestWillBeSent" and not said["request"]["url"].startswith((self.origin, "data:,")):
            self.problems.append(f"a request to {said['request']['url']}")

    def open(self, page: Path | str) -> None:
        """Open a file, or an address; then each request to another origin is a problem."""
        address = page if isinstance(page, str) else page.resolve().as_uri()
        self.origin = "file:" if isinstance(page, Path) else address
        self.send("Page.navigate", url=address)
        self.wait(f"document.readyState === 'complete' && location.href.startsWith({json.dumps(self.origin)})")

    def wait(self, true: str) -> None:
        """Wait until an expression is true."""
        end = time.monotonic() + SECONDS
        while not self.ask(true):
            assert time.monotonic() < end, true
            time.sleep(0.05)

    def ask(self, script: str) -> Any:
        """The value of an expression on the page."""
        answer = self.send("Runtime.evaluate", expression=script, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def size(self, width: int, height: int = 800, scale: float = 1) -> None:
        screen = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 600}
        self.send("Emulation.setDeviceMetricsOverride", **screen)
        self.send("Emulation.setScrollbarsHidden", hidden=True)

    def dark(self, on: bool = True) -> None:
        scheme = {"name": "prefers-color-scheme", "value": "dark" if on else "light"}
        self.send("Emulation.setEmulatedMedia", features=[scheme])

    def picture(self, path: Path) -> None:
        path.write_bytes(base64.b64decode(self.send("Page.captureScreenshot")["data"]))


@contextlib.contextmanager
def chromium(folder: Path) -> Iterator[Page]:
    """Start Chromium with a profile in an empty folder, and stop it afterwards."""
    program = shutil.which("chromium")
    assert program, "chromium is not installed; run .ci/services"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"]
    flags += ["--remote-debugging-pipe", f"--user-data-dir={folder / 'profile'}", "about:blank"]
    pipes = [*os.pipe(), *os.pipe()]
    # Chromium reads its file descriptor 3 and writes to 4, so none of ours may be one of them
    theirs, to, back, ours = (fcntl.fcntl(each, fcntl.F_DUPFD_CLOEXEC, 10) for each in pipes)
    for each in pipes:
        os.close(each)
    command = ["bash", "-c", f'exec "$@" 3<&{theirs} 4>&{ours}', "bash", program, *flags]
    environment = {**os.environ, "HOME": str(folder)}
    process = subprocess.Popen(command, env=environment, pass_fds=(theirs, ours), stderr=subprocess.DEVNULL)
    os.close(theirs)
    os.close(ours)
    late = threading.Timer(SECONDS, process.kill)  # then the pipe ends, and the test fails
    late.start()
    try:
        with open(to, "wb") as sent, open(back, "rb") as received:  # noqa: PTH123
            yield Page(sent, received)
    finally:
        late.cancel()
        process.kill()
        process.wait()
