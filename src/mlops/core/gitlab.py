"""A small client for GitLab's REST API, with errors as messages."""

from __future__ import annotations

from typing import Any

import requests

from mlops.core.errors import UserError
from mlops.core.rest import AGAIN, Client, limited

NEEDED = "the token needs the scope `api` and the role Developer in this project: docs/gitlab.md"


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
    """

    def __init__(self, url: str, token: str, timeout: float = 30) -> None:
        super().__init__(
            "GitLab",
            url,
            setting="CI_API_V4_URL",
            headers={"Accept": "application/json"},
            sign=("PRIVATE-TOKEN", token),
            hints={401: "the token is wrong or has expired: docs/gitlab.md", 403: NEEDED, 404: NEEDED},
            timeout=timeout,
        )

    def put(self, path: str, body: dict[str, Any]) -> Any:
        """Change an object and return its new state."""
        return self._json(self._send("PUT", path, json=body))

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
