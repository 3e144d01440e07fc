"""HTTP requests as tools, described in a persona's TOML.

The host is the persona's alone: the model's words come into the path's segments, the query and the body,
encoded, and nowhere else. Names are resolved here, addresses that are not public are refused, and the request
goes to the very address that was looked at, so that a name cannot mean something else a moment later.
Redirects are not followed. The answer is read up to a limit, uncompressed, and only when it is text.
"""

import asyncio
import codecs
import ipaddress
import json
import os
import re
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Literal, cast
from urllib.parse import quote, urlencode, urlsplit, urlunsplit

import httpx
from pydantic import BaseModel, ConfigDict, Field, create_model

from pipeline.tools.desk import Desk
from pipeline.tools.settings import PLACEHOLDER, SECRET, HttpTool, Parameter, is_loopback
from pipeline.tools.tool import Example, Tool, ToolError, ToolFailed

_TYPES: dict[str, type] = {"string": str, "integer": int, "number": float, "boolean": bool}
_TEXT = re.compile(r"^(text/|application/([a-z0-9.-]+\+)?(json|xml|yaml)\b)", re.IGNORECASE)

Resolve = Callable[[str, int], Awaitable[Sequence[str]]]
"""Addresses of a host, by its name and port."""


async def resolve(host: str, port: int) -> Sequence[str]:
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


def http_tool(
    settings: HttpTool,
    environment: Mapping[str, str] = os.environ,
    *,
    resolve: Resolve = resolve,
    transport: httpx.AsyncBaseTransport | None = None,
) -> Tool:
    """One `[[tools.http]]`. Raises `ToolError` when a secret is not in `environment`. `transport` stands for
    the network in tests."""
    headers = {
        name: _with_secrets(settings.name, value, environment) for name, value in settings.headers.items()
    }

    async def use(arguments: BaseModel, desk: Desk) -> object:
        given = {
            name: value
            for name in type(arguments).model_fields
            if (value := getattr(arguments, name)) is not None
        }
        return await _ask(settings, given, headers, resolve, transport)

    return Tool(
        name=settings.name,
        description=settings.description,
        arguments=_arguments(settings),
        use=use,
        side_effects=settings.changes_something,
        cancellable=settings.cancellable,
        timeout_s=settings.timeout_s,
        example=Example(**settings.example.model_dump()) if settings.example else None,
    )


def _with_secrets(tool: str, value: str, environment: Mapping[str, str]) -> str:
    missing = [name for name in SECRET.findall(value) if not environment.get(name)]
    if missing:
        raise ToolError(f"{tool}: the environment variable {missing[0]} is not set, which a header needs")
    return SECRET.sub(lambda found: environment[found[1]], value)


def _arguments(settings: HttpTool) -> type[BaseModel]:
    fields: dict[str, Any] = {name: _field(parameter) for name, parameter in settings.parameters.items()}
    made: type[BaseModel] = create_model(settings.name, __config__=ConfigDict(extra="forbid"), **fields)
    return made


def _field(parameter: Parameter) -> tuple[object, Any]:
    kind: object = Literal[parameter.enum] if parameter.enum else _TYPES[parameter.type]
    described = parameter.description or None
    if parameter.required:
        return kind, Field(description=described)
    return cast(Any, kind) | None, Field(default=None, description=described)


async def _ask(
    settings: HttpTool,
    given: Mapping[str, object],
    headers: Mapping[str, str],
    resolve: Resolve,
    transport: httpx.AsyncBaseTransport | None,
) -> str:
    url, body = request_of(settings, given)
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    address = await _address(host, port, settings, resolve)
    shown = f"[{address}]" if ":" in address else address
    pinned = urlunsplit((parts.scheme, f"{shown}:{port}", parts.path, parts.query, ""))
    sent = {
        "User-Agent": "maya",
        "Accept": "application/json, text/plain",
        **headers,
        "Host": parts.netloc,
        # What is compressed small may be large.
        "Accept-Encoding": "identity",
    }
    async with (
        # No proxies and no .netrc of the machine: what is sent where is the persona's affair.
        httpx.AsyncClient(
            trust_env=False, follow_redirects=False, timeout=settings.timeout_s, transport=transport
        ) as client,
        client.stream(
            settings.method,
            pinned,
            json=body,
            headers=sent,
            extensions={"sni_hostname": host},
        ) as response,
    ):
        return await _text_of(response, settings.max_bytes)


def request_of(settings: HttpTool, given: Mapping[str, object]) -> tuple[str, dict[str, object] | None]:
    """URL and JSON body of one request. Raises `ToolFailed` for what no path may hold."""
    parts = urlsplit(settings.url)
    used = set(PLACEHOLDER.findall(settings.url))

    def fill(text: str) -> str:
        return PLACEHOLDER.sub(lambda found: quote(_written(given.get(found[1])), safe=""), text)

    # Not for the whole path at once: a value must not become another segment.
    path = "/".join(_segment(segment, fill(segment)) for segment in parts.path.split("/"))
    query = [fill(pair) for pair in parts.query.split("&") if pair and not _left_out(pair, given)]
    rest = {name: value for name, value in given.items() if name not in used}
    body: dict[str, object] | None = None
    if settings.body is not None:
        body = {name: _in_body(value, given) for name, value in settings.body.items()}
    elif settings.method == "GET":
        query += [urlencode({name: _written(value)}, quote_via=quote) for name, value in rest.items()]
    else:
        body = rest
    return urlunsplit((parts.scheme, parts.netloc, path, "&".join(query), "")), body


def _segment(pattern: str, filled: str) -> str:
    if pattern != filled and filled in ("", ".", ".."):
        raise ToolFailed("That is not a valid value.")
    return filled


def _left_out(pair: str, given: Mapping[str, object]) -> bool:
    """An optional parameter that is not given takes its part of the query with it."""
    return any(name not in given for name in PLACEHOLDER.findall(pair))


def _in_body(value: str, given: Mapping[str, object]) -> object:
    alone = PLACEHOLDER.fullmatch(value)
    if alone is not None:
        return given.get(alone[1])
    return PLACEHOLDER.sub(lambda found: _written(given.get(found[1])), value)


def _written(value: object) -> str:
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)


async def _address(host: str, port: int, settings: HttpTool, resolve: Resolve) -> str:
    """Where to connect to. Every address of the name must be allowed, or it is a name to stay away from."""
    try:
        addresses = await resolve(host, port)
    except OSError:
        addresses = []
    if not addresses:
        raise ToolFailed("The service cannot be reached.")
    for address in addresses:
        if not _allowed(address, host, settings):
            raise ToolFailed("The service cannot be reached.")
    return addresses[0]


def _allowed(address: str, host: str, settings: HttpTool) -> bool:
    try:
        ip = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = getattr(ip, "ipv4_mapped", None) or getattr(ip, "sixtofour", None)
    ip = mapped or ip
    if ip.is_loopback and is_loopback(host):
        return True  # The persona's author named this machine.
    if ip.is_multicast or ip.is_unspecified or ip.is_link_local:
        return False  # Cloud metadata live on link-local addresses; nobody's service does.
    return ip.is_global or settings.allow_private


async def _text_of(response: httpx.Response, max_bytes: int) -> str:
    if response.is_redirect:
        raise ToolFailed("The service is not available.")
    if response.headers.get("content-encoding", "identity").lower() not in ("", "identity"):
        raise ToolFailed("The service gave no readable answer.")
    kept = bytearray()
    async for chunk in response.aiter_raw():
        kept += chunk[: max_bytes - len(kept)]
        if len(kept) >= max_bytes:
            break
    if response.status_code == 404:
        raise ToolFailed("Nothing was found.")
    if response.is_error:
        raise ToolFailed(f"The service refused it ({response.status_code}).")
    if not kept:
        return "Done."
    if not _TEXT.match(response.headers.get("content-type", "text/plain")):
        raise ToolFailed("The service gave no readable answer.")
    text = kept.decode(_charset(response), errors="replace")
    try:
        return json.dumps(json.loads(text), ensure_ascii=False, separators=(", ", ": "))
    except ValueError:
        return text


def _charset(response: httpx.Response) -> str:
    """A name that Python knows; anything else is read as UTF-8."""
    try:
        return codecs.lookup(response.charset_encoding or "utf-8").name
    except LookupError:
        return "utf-8"
