"""A client for a REST API, with errors as messages: what GitHub's and GitLab's have in common.

The token is sent only to the API: redirects are not followed with it, and no message contains it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3 import Retry

from mlops.core.errors import UserError
from mlops.core.report import shortened

AGAIN = "run the job again"
MOST_PAGES = 100


class Client:
    """A session with a REST API.

    Parameters
    ----------
    name : str
        Whose API it is, for messages.
    url : str
        Address of the API, which must be https.
    setting : str
        The environment variable that holds the address, for messages.
    headers : mapping of str to str
        Sent with each request.
    sign : tuple of str
        Name and value of the header that holds the token.
    hints : mapping of int to str
        What to do where the API answers with a status.
    timeout : float
        Seconds without a response before a request fails.
    """

    def __init__(
        self,
        name: str,
        url: str,
        *,
        setting: str,
        headers: Mapping[str, str],
        sign: tuple[str, str],
        hints: Mapping[int, str],
        timeout: float,
    ) -> None:
        if not url.startswith("https://"):
            raise UserError(f"{setting} must begin with https://, since a token is sent there")
        self.name = name
        self.url = url.rstrip("/")
        self.timeout = timeout
        self.hints = hints
        self.session = requests.Session()
        self.session.headers.update({"User-Agent": "mlops-review", **headers})
        self.session.auth = _signed(*sign)
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
        """The API's response as JSON."""
        return self._json(self._send("GET", path, params=parameters))

    def post(self, path: str, body: dict[str, Any], refusal: int = 0) -> Any:
        """Create an object and return it; None if the API responds with the status `refusal`."""
        response = self._send("POST", path, expected=(201, refusal), json=body)
        return self._json(response) if response.status_code == 201 else None

    def pages(self, path: str, **parameters: str | int) -> list[Any]:
        """All items of a paginated list."""
        found: list[Any] = []
        for page in range(1, MOST_PAGES + 1):
            response = self._send("GET", path, params={**parameters, "per_page": 100, "page": page})
            found += self._json(response)
            if "next" not in response.links:
                return found
        raise UserError(f"{self.name} lists more than {len(found):,} items at {path}")

    def _send(
        self, method: str, path: str, expected: tuple[int, ...] = (200,), base: str = "", **options: Any
    ) -> requests.Response:
        what = f"{method} {path}"
        try:
            response = self.session.request(
                method, f"{base or self.url}{path}", timeout=self.timeout, allow_redirects=False, **options
            )
        except requests.Timeout:
            raise UserError(f"{self.name} did not answer {what} within {self.timeout:g} s", AGAIN) from None
        except requests.RequestException as error:
            raise UserError(f"{self.name} cannot be reached for {what}: {type(error).__name__}", AGAIN) from None
        status, headers = response.status_code, response.headers
        limited = headers.get("x-ratelimit-remaining") == "0" or "retry-after" in headers
        if status == 429 or (status == 403 and limited):
            raise UserError(f"{self.name}'s rate limit is used up at {what}", f"{AGAIN} {_when(headers)}")
        if status not in expected:
            problem = f"{self.name} answers {status} to {what}: {_message(response)}"
            raise UserError(problem, self.hints.get(status, AGAIN))
        return response

    def _json(self, response: requests.Response) -> Any:
        try:
            return response.json()
        except requests.JSONDecodeError:
            raise UserError(f"{self.name}'s answer to {response.request.method} is no JSON", AGAIN) from None


def limited(response: requests.Response, most: int) -> bytes:
    """The content of a streamed response, if it has at most `most` bytes."""
    content = bytearray()
    for part in response.iter_content(65536):
        content += part
        if len(content) > most:
            raise UserError(f"the download has more than {most:,} bytes, and was broken off")
    return bytes(content)


def _signed(name: str, value: str) -> Any:
    """Add the token to a request; a function, so that a `.netrc` does not replace it."""

    def sign(request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers[name] = value
        return request

    return sign


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
