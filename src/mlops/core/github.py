"""A small client for GitHub's REST API, with errors as messages.

The token is sent only to the API: redirects are followed without it, and no message contains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from mlops.core.errors import UserError
from mlops.core.report import shortened

AGAIN = "run the job again"
MOST_PAGES = 100
UPLOADS = "uploads.github.com"
NEEDED = "the job needs `permissions:` with actions: read and pull-requests: write"


class Api:
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
        if not url.startswith("https://"):
            raise UserError("GITHUB_API_URL must begin with https://, since a token is sent there")
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.hints = {401: "the job's GITHUB_TOKEN is wrong or has expired", 403: needed, 404: needed}
        self.session = requests.Session()
        self.session.headers.update(
            {
                "Accept": "application/vnd.github+json",
                "X-GitHub-Api-Version": "2022-11-28",
                "User-Agent": "mlops-review",
            }
        )
        self.session.auth = _bearer(token)
        # only requests that are safe to repeat, and never after a timeout
        retry = Retry(
            total=2,
            read=False,
            backoff_factor=0.2,
            status_forcelist=(500, 502, 503, 504),
            raise_on_status=False,
            respect_retry_after_header=False,
        )
        self.session.mount("https://", HTTPAdapter(max_retries=retry))

    def get(self, path: str, **parameters: str | int) -> Any:
        """GitHub's response as JSON."""
        return self._json(self._send("GET", path, params=parameters))

    def user(self) -> Any:
        """The user of the token; None for the token of a workflow."""
        response = self._send("GET", "/user", expected=(200, 403))
        return self._json(response) if response.status_code == 200 else None

    def patch(self, path: str, body: dict[str, Any]) -> Any:
        """Change an object and return its new state."""
        return self._json(self._send("PATCH", path, json=body))

    def post(self, path: str, body: dict[str, Any], refusal: int = 0) -> Any:
        """Create an object and return it; None if GitHub responds with the status `refusal`."""
        response = self._send("POST", path, expected=(201, refusal), json=body)
        return self._json(response) if response.status_code == 201 else None

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

    def pages(self, path: str, **parameters: str | int) -> list[Any]:
        """All items of a paginated list."""
        found: list[Any] = []
        for page in range(1, MOST_PAGES + 1):
            response = self._send("GET", path, params={**parameters, "per_page": 100, "page": page})
            found += self._json(response)
            if "next" not in response.links:
                return found
        raise UserError(f"GitHub lists more than {len(found):,} items at {path}")

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
                content = bytearray()
                for part in response.iter_content(65536):
                    content += part
                    if len(content) > most:
                        raise UserError(f"the download has more than {most:,} bytes, and was broken off")
                return bytes(content)
        except requests.RequestException as error:
            raise UserError(f"the download from GitHub's storage broke off: {type(error).__name__}", AGAIN) from None

    def _send(
        self, method: str, path: str, expected: tuple[int, ...] = (200,), base: str = "", **options: Any
    ) -> requests.Response:
        what = f"{method} {path}"
        try:
            response = self.session.request(
                method, f"{base or self.url}{path}", timeout=self.timeout, allow_redirects=False, **options
            )
        except requests.Timeout:
            raise UserError(f"GitHub did not answer {what} within {self.timeout:g} s", AGAIN) from None
        except requests.RequestException as error:
            raise UserError(f"GitHub cannot be reached for {what}: {type(error).__name__}", AGAIN) from None
        status, headers = response.status_code, response.headers
        limited = headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers
        if status == 429 or (status == 403 and limited):
            raise UserError(f"GitHub's rate limit is used up at {what}", f"{AGAIN} {_when(headers)}")
        if status not in expected:
            raise UserError(f"GitHub answers {status} to {what}: {_message(response)}", self.hints.get(status, AGAIN))
        return response

    @staticmethod
    def _json(response: requests.Response) -> Any:
        try:
            return response.json()
        except requests.JSONDecodeError:
            raise UserError(f"GitHub's answer to {response.request.method} is no JSON", AGAIN) from None


def compare_page(environment: Mapping[str, str], pull: Mapping[str, str]) -> str:
    """The page on which a person opens a pull request, where workflows may not; `pull` has title, head and base."""
    server = environment.get("GITHUB_SERVER_URL", "https://github.com")
    page = f"{server}/{environment['GITHUB_REPOSITORY']}/compare/{pull['base']}...{quote(pull['head'])}"
    return f"{page}?{urlencode({'expand': 1, 'title': pull['title']})}"


def _bearer(token: str) -> Any:
    """Add the token to a request; a function, so that a `.netrc` does not replace it."""

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {token}"
        return request

    return sign


def _unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _when(headers: Any) -> str:
    reset = headers.get("x-ratelimit-reset", "")
    if headers.get("retry-after", "").isdecimal():
        return f"in {headers['retry-after']} s"
    if reset.isdecimal() and len(reset) < 12:
        return f"after {datetime.fromtimestamp(int(reset), UTC):%H:%M} UTC"
    return "later"


def _message(response: requests.Response) -> str:
    try:
        return shortened(response.json()["message"])
    except (ValueError, KeyError, TypeError):
        return shortened(response.reason)
