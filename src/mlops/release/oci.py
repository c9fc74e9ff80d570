"""Reads and sets tags of a container registry.

Builders push and pull images; this module only reads and sets tags, with the OCI distribution API. The manifest
stays byte for byte as pushed, so the tag names the digest that was checked.
"""

from __future__ import annotations

import base64
import hashlib
import re
from typing import Any
from urllib.parse import urlsplit

import requests

from mlops.core.errors import UserError
from mlops.core.report import shortened
from mlops.release.builder import is_loopback

TYPES = (
    "application/vnd.oci.image.index.v1+json",
    "application/vnd.oci.image.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.list.v2+json",
    "application/vnd.docker.distribution.manifest.v2+json",
)
CHALLENGE = re.compile(r'(\w+)="([^"]*)"')
MOST_BYTES = 4_000_000


class Repository:
    """The images of one name, such as `ghcr.io/ada/model`.

    Parameters
    ----------
    name : str
        Registry and path.
    user, token : str
        Who asks; sent to the registry and to the service that it names for signing in.
    """

    def __init__(self, name: str, user: str, token: str, timeout: float = 60) -> None:
        host, _, path = name.partition("/")
        self.name = name
        self.host = host
        self.path = path
        self.url = f"{'http' if is_loopback(name) else 'https'}://{host}/v2/{path}"
        self.account = (user, token)
        self.timeout = timeout

    def digest(self, reference: str) -> str | None:
        """The digest that a tag names; None where there is no such tag."""
        response = self._send("GET", reference, (200, 404))
        return None if response.status_code == 404 else _digest(response.content)

    def tag(self, digest: str, tag: str) -> bool:
        """Let a tag name a digest, for good: one that names another stays as it is.

        Returns
        -------
        bool
            False where it named this digest already.

        Raises
        ------
        UserError
            Where the tag names another digest, or the registry refuses.
        """
        present = self.digest(tag)
        if present == digest:
            return False
        if present is not None:
            raise UserError(
                f"{self.name}:{tag} already names {present}, not {digest}",
                "releases are immutable; tag the next version",
            )
        found = self._send("GET", digest, (200,))
        if _digest(found.content) != digest:
            raise UserError(f"the registry returned content that does not match {digest}")
        headers = {"Content-Type": found.headers["Content-Type"]}
        self._send("PUT", tag, (201,), data=found.content, headers=headers)
        if self.digest(tag) != digest:
            raise UserError(
                f"{self.name}:{tag} does not name {digest}, although the registry accepted it", "run the job again"
            )
        return True

    def _send(self, method: str, reference: str, expected: tuple[int, ...], **options: Any) -> requests.Response:
        url = f"{self.url}/manifests/{reference}"
        headers = {"Accept": ", ".join(TYPES), "User-Agent": "mlops-release", **options.pop("headers", {})}
        response = self._request(method, url, headers=headers, **options)
        if response.status_code == 401:
            signed = {**headers, "Authorization": self._sign_in(response.headers.get("WWW-Authenticate", ""), method)}
            response = self._request(method, url, headers=signed, **options)
        if response.status_code not in expected:
            message = shortened(response.text)
            hint = "the job needs `permissions:` with packages: write" if response.status_code in (401, 403) else ""
            raise UserError(f"{self.host} answers {response.status_code} to {method} {reference}: {message}", hint)
        if len(response.content) > MOST_BYTES:
            raise UserError(f"the manifest {reference} is larger than {MOST_BYTES:,} bytes")
        return response

    def _sign_in(self, challenge: str, method: str) -> str:
        scheme, _, rest = challenge.partition(" ")
        asked = dict(CHALLENGE.findall(rest))
        if scheme.lower() == "basic":
            return "Basic " + base64.b64encode(":".join(self.account).encode()).decode()
        realm = asked.pop("realm", "")
        if scheme.lower() != "bearer" or not (urlsplit(realm).scheme == "https" or is_loopback(self.name)):
            raise UserError(f"{self.host} requires an unsupported way of signing in: {shortened(challenge)}")
        # what is wanted, and not what the registry thinks: some only ever offer to read
        asked["scope"] = f"repository:{self.path}:{'pull,push' if method == 'PUT' else 'pull'}"
        response = self._request("GET", realm, params=asked, auth=self.account)
        if response.status_code != 200:
            hint = "the job needs `permissions:` with packages: write"
            raise UserError(f"{urlsplit(realm).hostname} answers {response.status_code} to the sign-in", hint)
        answer = response.json()
        return f"Bearer {answer.get('token') or answer['access_token']}"

    def _request(self, method: str, url: str, **options: Any) -> requests.Response:
        options.setdefault("auth", _unsigned)
        try:
            return requests.request(method, url, timeout=self.timeout, allow_redirects=False, **options)
        except requests.RequestException as error:
            raise UserError(f"{self.host} cannot be reached: {type(error).__name__}", "run the job again") from None


def _unsigned(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """As a function, so that no `.netrc` takes the place of a header."""
    return request


def _digest(manifest: bytes) -> str:
    return f"sha256:{hashlib.sha256(manifest).hexdigest()}"
