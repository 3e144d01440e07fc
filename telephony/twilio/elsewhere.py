"""Calls that no stream of this process carries: lost ones that may go on here, and those of other front-ends.

Behind a load balancer Twilio's requests about a call may come to any front-end. One that does not hold the
call passes the request on, as it came, to the one that does: the signature is over the public URL, which all
of them share. Where that one is gone, the call goes on here.
"""

import asyncio
import logging
import urllib.error
import urllib.request
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from pipeline.line import LineInfo

logger = logging.getLogger(__name__)

RESUMED_PARAMETER: Final = "resumed"
"""Of a stream: its call goes on. The value is "inbound" or "outbound"."""
FORWARDED_HEADER: Final = "x-maya-forwarded"
"""Of a request that another front-end has passed on: it is not passed on again."""

_ANSWER_LIMIT_S: Final = 1.5
"""Twilio waits 15 s, the caller hears nothing meanwhile. Who is gone mostly refuses at once."""
_LARGEST_ANSWER: Final = 65_536
_PASSED_ON: Final = ("content-type", "x-twilio-signature", "x-twilio-webhooks-signature-settings")


@dataclass(frozen=True, slots=True)
class Found:
    """A call that is not over. `held_by` is the URL of the front-end that holds it, or held it; None where
    nobody does. `info` is what was known of it."""

    info: LineInfo
    held_by: str | None = None


class CallsElsewhere(Protocol):
    """What all front-ends know together. Raises nothing but cancellation."""

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


async def pass_on(
    front_end: str, path: str, query: str, headers: Mapping[str, str], body: bytes
) -> Answered | None:
    """Post to `front_end` what Twilio has posted to us. None where it is gone, or answers an error."""
    return await asyncio.to_thread(_post, front_end, path, query, headers, body)


def _post(front_end: str, path: str, query: str, headers: Mapping[str, str], body: bytes) -> Answered | None:
    url = front_end.rstrip("/") + path + (f"?{query}" if query else "")
    if not url.startswith("http://"):
        return None
    passed = {name: headers[name] for name in _PASSED_ON if name in headers} | {FORWARDED_HEADER: "1"}
    request = urllib.request.Request(url, body, passed, method="POST")  # noqa: S310  (checked above)
    # A proxy for the internet is no way to a neighbour.
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(request, timeout=_ANSWER_LIMIT_S) as response:
            return Answered(
                response.status,
                response.read(_LARGEST_ANSWER),
                response.headers.get("content-type", "text/plain"),
            )
    except urllib.error.HTTPError as refusal:
        logger.warning("front-end %s answered %d to %s", front_end, refusal.code, path)
    except (OSError, ValueError) as error:
        logger.info("front-end %s is gone (%s)", front_end, getattr(error, "reason", None) or error)
    return None
