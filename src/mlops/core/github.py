"""A small client for GitHub's REST API, with errors as messages."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import requests

from mlops.core.errors import UserError
from mlops.core.rest import AGAIN, Client, limited

UPLOADS = "uploads.github.com"
NEEDED = "the job needs `permissions:` with actions: read and pull-requests: write"


class Api(Client):
    """A session with GitHub's REST API.

    Parameters
    ----------
    url : str
        Address of the API, such as `https://api.github.com`.
    token : str
        Token for the requests.
    timeout : float
        Seconds without a response before a request fails.
    needed : str
        Hint for the case that the token lacks a permission.
    """

    def __init__(self, url: str, token: str, timeout: float = 30, needed: str = NEEDED) -> None:
        super().__init__(
            "GitHub",
            url,
            setting="GITHUB_API_URL",
            headers={"Accept": "application/vnd.github+json", "X-GitHub-Api-Version": "2022-11-28"},
            sign=("Authorization", f"Bearer {token}"),
            hints={401: "the job's GITHUB_TOKEN is wrong or has expired", 403: needed, 404: needed},
            timeout=timeout,
        )

    def user(self) -> Any:
        """The user of the token; None for the token of a workflow."""
        response = self._send("GET", "/user", expected=(200, 403))
        return self._json(response) if response.status_code == 200 else None

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        """Change an object and return its new state."""
        return self._json(self._send("PATCH", path, json=body))

    def upload(self, address: str, name: str, content: bytes) -> Any:
        """Attach a file to a release, at the address that the release names for it."""
        parts = urlsplit(address)
        if parts.scheme != "https" or parts.netloc not in (urlsplit(self.url).netloc, UPLOADS):
            raise UserError(
                "GitHub names an address for uploads that is not its own, and the token would be sent there"
            )
        base, headers = f"https://{parts.netloc}", {"Content-Type": "application/octet-stream"}
        response = self._send("POST", parts.path, (201,), base, params={"name": name}, data=content, headers=headers)
        return self._json(response)

    def download(self, path: str, most: int) -> bytes:
        """Download the file at `path`, if it has at most `most` bytes."""
        address = self._send("GET", path, expected=(302,)).headers.get("Location", "")
        if not address.startswith("https://"):
            raise UserError(f"GitHub leads from {path} to an address that is not https")
        try:
            # a separate session, because the storage is another host, which must not receive the token
            with requests.get(
                address,
                stream=True,
                timeout=self.timeout,
                allow_redirects=False,
                auth=_unsigned,
                headers={"Accept-Encoding": "identity"},
            ) as response:
                if response.status_code != 200:
                    raise UserError(f"GitHub's storage answers {response.status_code} to the download", AGAIN)
                return limited(response, most)
        except requests.RequestException as error:
            raise UserError(f"the download from GitHub's storage broke off: {type(error).__name__}", AGAIN) from None


def compare_page(environment: Mapping[str, str], pull: Mapping[str, str]) -> str:
    """The page on which a person opens a pull request, where workflows may not; `pull` has title, head and base."""
    server = environment.get("GITHUB_SERVER_URL", "https://github.com")
    page = f"{server}/{environment['GITHUB_REPOSITORY']}/compare/{pull['base']}...{quote(pull['head'])}"
    return f"{page}?{urlencode({'expand': 1, 'title': pull['title']})}"


def _unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
