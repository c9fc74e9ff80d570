"""A small client for GitLab's REST API, with errors as messages."""

from __future__ import annotations

import re
from typing import Any

import requests

from mlops.core.errors import UserError
from mlops.core.markdown import JOINER
from mlops.core.rest import AGAIN, Client, limited

NEEDED = "the token needs the scope `api` and the role Developer in this project: docs/gitlab.md"
FENCE = re.compile(r"(?ms)^(`{3,}).*?^\1 *$")


class Api(Client):
    """A session with GitLab's REST API.

    Parameters
    ----------
    url : str
        Address of the API, such as `https://gitlab.com/api/v4`.
    token : str
        Access token for the requests.
    timeout : float
        Seconds without a response before a request fails.
    header : str
        What carries the token: `PRIVATE-TOKEN`, or `JOB-TOKEN` for that of a job.
    needed : str
        Hint for the case that the token lacks a permission.
    """

    def __init__(
        self, url: str, token: str, timeout: float = 30, header: str = "PRIVATE-TOKEN", needed: str = NEEDED
    ) -> None:
        super().__init__(
            "GitLab",
            url,
            setting="CI_API_V4_URL",
            headers={"Accept": "application/json"},
            sign=(header, token),
            hints={401: "the token is wrong or has expired: docs/gitlab.md", 403: needed, 404: needed},
            timeout=timeout,
        )

    def put(self, path: str, body: dict[str, Any]) -> Any:
        """Change an object and return its new state."""
        return self._json(self._send("PUT", path, json=body))

    def upload(self, path: str, content: bytes) -> None:
        """Put a file at `path` of the package registry."""
        self._send("PUT", path, expected=(201,), data=content, headers={"Content-Type": "application/octet-stream"})

    def download(self, path: str, most: int) -> bytes | None:
        """Download the file at `path`, if it has at most `most` bytes; None if there is none."""
        headers = {"Accept": "*/*", "Accept-Encoding": "identity"}
        with self._send("GET", path, expected=(200, 404), stream=True, headers=headers) as response:
            if response.status_code == 404:
                return None
            try:
                return limited(response, most)
            except requests.RequestException as error:
                raise UserError(f"the download from GitLab broke off: {type(error).__name__}", AGAIN) from None


def quiet(markdown: str) -> str:
    """Break what only GitLab reads in a text: quick actions at the start of a line, and references such as `!1`.

    Texts of a report are escaped already. But GitLab finds references after it has resolved the escapes, and a quick
    action is carried out with the rights of who writes the note.
    """
    parts, end = [], 0
    for fence in FENCE.finditer(markdown):
        parts += [_quiet(markdown[end : fence.start()]), fence[0]]
        end = fence.end()
    return "".join([*parts, _quiet(markdown[end:])])


def _quiet(text: str) -> str:
    text = re.sub(r"(?m)^([\s>]*)/", r"\1&#47;", text)
    text = re.sub(r"&#(33|38|94|126);", rf"\g<0>{JOINER}", text)
    return re.sub(r"""%(?=[\w"'&])""", f"%{JOINER}", text)
