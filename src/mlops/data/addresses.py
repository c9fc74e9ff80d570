"""Which URLs may be read: allowed protocols, and no address inside a private network.

`data.source` is part of a pull request. The machine that reads it can reach more than the author of the pull request:
its own files, the metadata service of its cloud, servers behind a firewall.
"""

from __future__ import annotations

import asyncio
import ipaddress
import os
import socket
from contextvars import ContextVar
from typing import Any
from urllib.parse import unquote

from mlops.core.errors import UserError

# an environment variable, because a pull request can edit params.yaml
ALLOW = "ALLOW_PRIVATE_ADDRESSES"

WEB = ("http", "https")
# The host comes from the environment or from the provider, never from the URL.
STORES = ("s3", "s3a", "gs", "gcs", "abfs", "abfss", "az", "adl", "oci", "oss", "hf")
# The host is in the URL, and the connection is made by a library that offers no place to check it.
SERVERS = ("ftp", "sftp", "ssh", "smb", "hdfs", "arrow_hdfs", "webhdfs")
# Wrappers around another file system. libarchive is excluded: its mtree format includes local files by path.
LAYERS = ("simplecache", "filecache", "blockcache", "cached", "zip", "tar")

NAT64 = ipaddress.ip_network("64:ff9b::/96")
# Python considers these global, but Oracle and Azure use them for services of their virtual machines.
CLOUDS = (ipaddress.ip_network("192.0.0.0/24"), ipaddress.ip_network("168.63.129.16/32"))

_through_proxy = ContextVar("through_proxy", default=False)


def private_allowed() -> bool:
    """Whether this machine may read from its own network."""
    return os.environ.get(ALLOW) == "yes"


def check_protocols(url: str) -> list[str]:
    """Check each part of a URL that fsspec may chain, such as ``zip://t.csv::simplecache::https://host/t.zip``.

    Returns
    -------
    list of str
        Protocols, outermost first; the last one is where the bytes come from.

    Raises
    ------
    UserError
        If the bytes would come from this machine, or over a protocol that is not on the list.
    """
    from fsspec.utils import get_protocol

    parts = url.split("::")
    protocols = [get_protocol(part) if "://" in part else part for part in parts]
    *layers, end = protocols
    if end in ("file", "local"):
        raise UserError(
            f"params.yaml: data.source: {url} is a local file", "copy it to data/raw and set data.source to that path"
        )
    if end in SERVERS and not private_allowed():
        raise UserError(
            f"params.yaml: data.source: {end}:// may reach a private network",
            f"use http://, https:// or s3://, or export {ALLOW}=yes to allow private networks",
        )
    allowed = (*WEB, *STORES, *SERVERS)
    refused = [layer for layer in layers if layer not in LAYERS] + ([] if end in allowed else [end])
    if refused or "://" not in parts[-1]:
        ends = ", ".join(f"{name}://" for name in (*WEB, *STORES))
        hint = f"one of {ends}; before it {', '.join(f'{name}::' for name in LAYERS)}"
        if "://[" in url:
            hint = "write an IPv6 address in full, because :: chains file systems"
        raise UserError(f"params.yaml: data.source: {url} is rejected: {(refused or [end])[0]!r} is not allowed", hint)
    return protocols


def is_public(address: str) -> bool:
    """Whether an IP address belongs to the public internet."""
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        # an IPv6 address that a gateway or the system translates to an IPv4 address
        inner = ip.ipv4_mapped or ip.sixtofour
        if ip in NAT64:
            inner = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF)
        if inner:
            ip = inner
    special = ip.is_multicast or ip.is_reserved or (ip.version == 6 and ip.is_site_local)
    return ip.is_global and not special and not any(ip in network for network in CLOUDS)


async def client(**options: Any) -> Any:
    """Make a session of aiohttp that connects to public addresses only; fsspec's `get_client`."""
    import aiohttp

    connector = aiohttp.TCPConnector(socket_factory=_socket)
    return aiohttp.ClientSession(connector=connector, middlewares=(_check,), **options)


class PrivateAddressError(OSError):
    """A connection to a private address. Constant text, because aiohttp merges differing errors into another one."""

    def __init__(self) -> None:
        super().__init__("a private address")


def _socket(address: tuple[Any, ...]) -> socket.socket:
    """Open the socket of one connection, after names are resolved and redirects followed."""
    family, kind, protocol, _, place = address
    if not (_through_proxy.get() or private_allowed() or is_public(place[0])):
        raise PrivateAddressError
    return socket.socket(family, kind, protocol)


async def _check(request: Any, handler: Any) -> Any:
    """Middleware of aiohttp around every request, including those after a redirect."""
    import aiohttp

    # The proxy comes from the environment and may be private. It connects to the URL's host, which is checked instead.
    _through_proxy.set(request.proxy is not None)
    if request.proxy is not None and not private_allowed():
        # a proxy may decode the host or ignore a dot at its end
        found = await _resolved(unquote(request.url.raw_host).rstrip("."))
        if not all(map(is_public, found)):
            raise _refusal(request.url.host)
    try:
        return await handler(request)
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, PrivateAddressError):
            raise _refusal(request.url.host) from None
        raise


async def _resolved(host: str) -> list[str]:
    """Addresses of a host in any notation; none if only the proxy can resolve its name."""
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return []
    return [str(place[0]) for *_, place in found]


def _refusal(host: str) -> UserError:
    return UserError(
        f"params.yaml: data.source: {host} has a private address",
        f"use a public address, or export {ALLOW}=yes to allow private networks",
    )
