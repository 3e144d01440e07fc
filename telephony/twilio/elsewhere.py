"""Calls that no stream of this process carries: lost ones that may go on here, and those of other front-ends.

Behind a load balancer Twilio's requests about a call may come to any front-end. One that does not hold the
call passes the request on, as it came, to the one that does: the signature is over the public URL, which all
of them share. Where that one is gone, the call goes on here.
"""

import asyncio
import logging
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

import httpx

from pipeline.line import LineInfo

logger = logging.getLogger(__name__)

RESUMED_PARAMETER: Final = "resumed"
"""Of a stream: its call goes on. The value is "inbound" or "outbound"."""
FORWARDED_HEADER: Final = "x-maya-forwarded"
"""Of a request that another front-end has passed on: it is not passed on again."""
FRONT_END_PARAMETER: Final = "at"
"""In the query of a URL that Twilio is given, or of a stream: the name of the front-end that gave it, and
where what comes by it belongs."""
SIGNATURES: Final = ("x-twilio-signature", "x-twilio-webhooks-signature-settings")

_ANSWER_LIMIT_S: Final = 1.5
"""Twilio waits 15 s, the caller hears nothing meanwhile. Who is gone mostly refuses at once."""
_SILENT_S: Final = 5.0
"""How long a front-end that let us wait, as one whose machine is gone does, is not asked again: of those who
hear of its calls in that time one a time waits, not each."""
_LARGEST_ANSWER: Final = 65_536
_PASSED_ON: Final = ("content-type", *SIGNATURES)


@dataclass(frozen=True, slots=True)
class Found:
    """A call that is not over. `held_by` is the URL of the front-end that holds it, or held it; None where
    nobody does. `info` is what was known of it."""

    info: LineInfo
    held_by: str | None = None


class CallsElsewhere(Protocol):
    """What all front-ends know together. Raises nothing but cancellation."""

    @property
    def here(self) -> str:
        """This front-end's name, for URLs; "" where the others cannot reach it."""
        ...

    def address(self, front_end: str) -> str | None:
        """The URL of the front-end of that name; None where that is this one, or its place, or none."""
        ...

    async def find(self, call_id: str) -> Found | None:
        """None for a call that is over or was never known, or where there is no knowing."""
        ...

    async def ended_well(self, call_id: str) -> bool:
        """True for a call that another front-end has ended on purpose."""
        ...

    async def use_once(self, nonce: str, until_s: float) -> bool:
        """False where `nonce` was used before, on any front-end. `until_s`: seconds since 1970, when it ends
        being good."""
        ...


class NowhereElse:
    """There is only this process, and what it does not know is lost."""

    here = ""

    def address(self, front_end: str) -> str | None:
        return None

    async def find(self, call_id: str) -> Found | None:
        return None

    async def ended_well(self, call_id: str) -> bool:
        return False

    async def use_once(self, nonce: str, until_s: float) -> bool:
        return True


@dataclass(frozen=True, slots=True)
class Answered:
    """What another front-end answered."""

    status: int
    body: bytes
    media_type: str


@dataclass(frozen=True, slots=True)
class NeighbourTls:
    """How front-ends that have TLS are known: whatever their address, `context` checks that the certificate
    is for `name`, the host of the public URL that all of them share."""

    context: ssl.SSLContext
    name: str


class Neighbours:
    """The other front-ends, asked over HTTP without a thread; with `tls` at https://, too. One that does not
    answer in time keeps nobody waiting for a while. `clock()` is monotonic, in seconds."""

    def __init__(
        self, tls: NeighbourTls | None = None, *, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._tls = tls
        self._clock = clock
        self._silent: dict[str, float] = {}
        """Until when those that did not answer are not asked."""
        self._http: httpx.AsyncClient | None = None

    async def pass_on(
        self, front_end: str, path: str, query: str, headers: Mapping[str, str], body: bytes
    ) -> Answered | None:
        """Post to `front_end` what Twilio has posted to us. None where it is gone, or answers an error."""
        url = front_end.rstrip("/") + path + (f"?{query}" if query else "")
        schemes = ("http://",) if self._tls is None else ("http://", "https://")
        if not url.startswith(schemes) or not self._may_ask(front_end):
            return None
        passed = {name: headers[name] for name in _PASSED_ON if name in headers} | {FORWARDED_HEADER: "1"}
        try:
            async with asyncio.timeout(_ANSWER_LIMIT_S):
                answered = await self._post(url, passed, body)
        except TimeoutError:
            self._silent[front_end] = self._clock() + _SILENT_S
            logger.warning("front-end %s does not answer; for %.0f s it is not asked", front_end, _SILENT_S)
            return None
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            # It refuses, which costs no time.
            self._silent.pop(front_end, None)
            if (why := not_known(error)) is not None:
                logger.error(
                    "front-end %s is there, but its certificate is not good here: %s", front_end, why
                )
            else:
                logger.info("front-end %s is gone (%s)", front_end, error or type(error).__name__)
            return None
        self._silent.pop(front_end, None)
        if answered.status >= 300:
            logger.warning("front-end %s answered %d to %s", front_end, answered.status, path)
            return None
        return answered

    def _may_ask(self, front_end: str) -> bool:
        """Not while it is silent; then one may see whether it is back."""
        until = self._silent.get(front_end)
        now = self._clock()
        if until is None:
            return True
        if now < until:
            return False
        self._silent[front_end] = now + _SILENT_S
        return True

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answered:
        if self._http is None:
            self._http = httpx.AsyncClient(
                trust_env=False,  # a proxy for the internet is no way to a neighbour
                # Where nobody has TLS there is nothing to check; authorities would be read on the loop.
                verify=self._tls.context if self._tls is not None else False,
                timeout=None,  # noqa: S113  (the caller has one over all)
                # No connection waits for the next question: a neighbour that stops would close it under that.
                limits=httpx.Limits(max_connections=None, max_keepalive_connections=0),
            )
        named = {"sni_hostname": self._tls.name} if self._tls is not None else {}
        async with self._http.stream(
            "POST", url, content=body, headers=dict(headers), extensions=named
        ) as response:
            told = b""
            async for piece in response.aiter_bytes():
                told += piece
                if len(told) > _LARGEST_ANSWER:
                    raise ValueError("its answer is too long")
            return Answered(response.status_code, told, response.headers.get("content-type", "text/plain"))


def not_known(error: BaseException) -> str | None:
    """What is wrong with the other side's certificate, where that is why nothing was asked."""
    at: BaseException | None = error
    while at is not None:
        if isinstance(at, ssl.SSLCertVerificationError):
            return at.verify_message
        at = at.__cause__ or at.__context__
    return None
