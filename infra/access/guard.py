"""Turns away, before anything else is done for them, requests that come too often, are too long, or too slow.

An ASGI application around another. What calls need goes through: WebSockets untouched, and Twilio's webhooks,
of which hundreds may come at once from few addresses, uncounted. Those are only held back from an address of
the open internet whose signed requests were refused and, for an hour, none answered.
"""

import asyncio
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any, Final

from starlette.requests import cookie_parser

from infra.access.door import Door, Visit, is_private
from infra.access.limits import Buckets
from infra.access.policy import AccessSettings

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

WEBHOOKS: Final = "/twilio/"
_SIGNATURE: Final = "x-twilio-signature"
_PROBES: Final = frozenset({"/healthz", "/readyz"})
_STRANGERS: Final = "strangers"
_REFUSED_PER_S: Final = 1.0
_REFUSED_AT_ONCE: Final = 20
"""Webhooks of one address that were refused, or that are none: anybody can send the header."""
_VOUCHED_S: Final = 3600.0
_MOST_VOUCHED: Final = 1_000
_LONGEST_WEBHOOK: Final = 65_536
_LINGER_BYTES: Final = 262_144
_LINGER_S: Final = 1.0
"""How much of a refused body is still read, so that its sender comes to see the answer: whoever closes a
connection with unread bytes on it resets it."""


class Guard:
    """`monotonic()` is seconds on a clock that does not run backwards."""

    def __init__(
        self,
        app: App,
        door: Door,
        settings: AccessSettings,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._app = app
        self._door = door
        self._max_body_bytes = settings.max_body_bytes
        self._request_s = settings.request_s
        self._monotonic = monotonic
        self._addresses = Buckets(settings.requests_per_s, int(4 * settings.requests_per_s) + 1)
        self._keys = Buckets(settings.key_requests_per_s, int(2 * settings.key_requests_per_s) + 1)
        self._strangers = Buckets(settings.strangers_per_s, int(2 * settings.strangers_per_s) + 1)
        self._forgers = Buckets(_REFUSED_PER_S, _REFUSED_AT_ONCE)
        self._vouched: OrderedDict[str, float] = OrderedDict()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        visit = _visit(scope)
        webhook = scope["path"].startswith(WEBHOOKS) and _SIGNATURE in visit.headers
        address = self._door.address_of(visit)
        wait_s = self._webhook_wait_s(address) if webhook else self._wait_s(scope["path"], visit, address)
        body = _Body(receive, self._longest(webhook), self._request_s) if _has_body(visit) else None
        if wait_s:
            await self._refuse(429, "too many requests", body, send, wait_s)
            return
        if body is not None and body.announced_too_long(visit.headers.get("content-length", "0")):
            await self._refuse(413, "too long", body, send)
            return
        answer = _Answer(send, body)
        await self._app(scope, body.receive if body is not None else receive, answer.send)
        if webhook:
            self._note(address, answer.status)
        if body is not None and body.fault and not answer.status:
            await self._refuse(body.fault, "too long" if body.fault == 413 else "too slow", body, send)

    def _longest(self, webhook: bool) -> int:
        return max(self._max_body_bytes, _LONGEST_WEBHOOK) if webhook else self._max_body_bytes

    def _wait_s(self, path: str, visit: Visit, address: str) -> float:
        """0 when the request may go on; else in how many seconds another may."""
        now = self._monotonic()
        if (who := self._door.identify(visit)) is not None:
            return self._keys.take(who.name, now)
        if wait_s := self._addresses.take(address, now):
            return wait_s
        # Whoever floods us from everywhere must not make us look dead.
        return 0.0 if path in _PROBES else self._strangers.take(_STRANGERS, now)

    def _webhook_wait_s(self, address: str) -> float:
        now = self._monotonic()
        if is_private(address) or now - self._vouched.get(address, -_VOUCHED_S) < _VOUCHED_S:
            return 0.0  # a proxy's, behind which everybody is, or Twilio's
        return self._forgers.wait_s(address, now)

    def _note(self, address: str, status: int) -> None:
        """What became of a webhook of this address."""
        now = self._monotonic()
        if 300 <= status < 500:  # Twilio is never sent elsewhere
            self._forgers.take(address, now)
        elif 200 <= status < 300:
            self._vouched[address] = now
            self._vouched.move_to_end(address)
            if len(self._vouched) > _MOST_VOUCHED:
                self._vouched.popitem(last=False)

    async def _refuse(
        self, status: int, why: str, body: "_Body | None", send: Send, wait_s: float = 0.0
    ) -> None:
        self._door.turned_away[status] += 1
        text = f'{{"detail":"{why}"}}'.encode()
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(text)).encode()),
        ]
        if wait_s:
            headers.append((b"retry-after", str(int(wait_s) + 1).encode()))
        if body is not None:
            headers.append((b"connection", b"close"))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": text, "more_body": body is not None})
        if body is not None:
            await body.linger()
            await send({"type": "http.response.body", "body": b"", "more_body": False})


class _Body:
    """A request's body on its way to the application: no longer than allowed, and there in time."""

    def __init__(self, receive: Receive, longest: int, within_s: float) -> None:
        self._receive = receive
        self._longest = longest
        self._within_s = within_s
        self._ends_at: float | None = None
        self._length = 0
        self._over = False
        self.fault = 0
        """413 or 408 where the application was told that the client had gone."""

    def announced_too_long(self, content_length: str) -> bool:
        # Twenty digits are more than anybody means, and int() must not get a million.
        return not content_length.isdecimal() or int(content_length[:20]) > self._longest

    async def receive(self) -> Message:
        if self.fault:
            return {"type": "http.disconnect"}
        if self._over:
            return await self._receive()
        loop = asyncio.get_running_loop()
        if self._ends_at is None:
            self._ends_at = loop.time() + self._within_s
        try:
            async with asyncio.timeout_at(self._ends_at):
                message = await self._receive()
        except TimeoutError:
            self.fault = 408
            return {"type": "http.disconnect"}
        self._length += len(message.get("body", b""))
        if self._length > self._longest:
            self.fault = 413
            return {"type": "http.disconnect"}
        self._over = not message.get("more_body", False)
        return message

    async def linger(self) -> None:
        """Read on a little, and forget it."""
        read = 0
        try:
            async with asyncio.timeout(_LINGER_S):
                while not self._over and read < _LINGER_BYTES:
                    message = await self._receive()
                    read += len(message.get("body", b""))
                    self._over = not message.get("more_body", False)
        except TimeoutError:
            pass


class _Answer:
    """The application's answer on its way out. What it says to a client that has gone, as it believes, nobody
    hears."""

    def __init__(self, send: Send, body: _Body | None) -> None:
        self._send = send
        self._body = body
        self.status = 0

    async def send(self, message: Message) -> None:
        if not self.status and self._body is not None and self._body.fault:
            return
        if message["type"] == "http.response.start":
            self.status = message["status"]
        await self._send(message)


def _visit(scope: Scope) -> Visit:
    headers = {name.decode("latin-1"): value.decode("latin-1") for name, value in scope["headers"]}
    cookie = headers.get("cookie", "")
    client = scope.get("client")
    return Visit(
        headers=headers,
        peer=client[0] if client else "",
        scheme=scope.get("scheme", "http"),
        method=scope["method"],
        cookies=cookie_parser(cookie) if cookie else None,
    )


def _has_body(visit: Visit) -> bool:
    return visit.headers.get("content-length", "0") != "0" or "transfer-encoding" in visit.headers
