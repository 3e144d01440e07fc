"""What the Twilio tests share: the messages of a call, an agent to answer it, Twilio's signatures."""

import asyncio
import base64
import json
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from twilio.request_validator import RequestValidator  # type: ignore[import-untyped]

from pipeline.line import AudioReceived, KeyPressed, Line, LineClosed, MarkReached
from telephony import g711
from telephony.twilio.config import TwilioConfig

AUTH_TOKEN = "0123456789abcdef0123456789abcdef"
OLD_TOKEN = "fedcba9876543210fedcba9876543210"
PUBLIC_URL = "https://maya.example.com"
STREAM = "MZ18ad3ab5a668481ce02b83e7395059f0"
CALL = "CA5d0d0d8047bf685c3f0ff980fe62c123"
ACCOUNT = "AC5d0d0d8047bf685c3f0ff980fe62c456"
EPOCH_S = 1_800_000_000.0

CONNECTED = json.dumps({"event": "connected", "protocol": "Call", "version": "1.0.0"})


def config(**changes: Any) -> TwilioConfig:
    settings: dict[str, Any] = {
        "public_url": PUBLIC_URL,
        "auth_tokens": (AUTH_TOKEN,),
        "account_sid": ACCOUNT,
    }
    return TwilioConfig(**(settings | changes))


def insecure_config(**changes: Any) -> TwilioConfig:
    return TwilioConfig(**({"public_url": "http://127.0.0.1:8080", "insecure": True} | changes))


def start(call_sid: str = CALL, stream_sid: str = STREAM, **parameters: str) -> str:
    return json.dumps(
        {
            "event": "start",
            "sequenceNumber": "1",
            "start": {
                "accountSid": ACCOUNT,
                "streamSid": stream_sid,
                "callSid": call_sid,
                "tracks": ["inbound"],
                "mediaFormat": {"encoding": "audio/x-mulaw", "sampleRate": 8000, "channels": 1},
                "customParameters": parameters,
            },
            "streamSid": stream_sid,
        }
    )


def media(n: int, mulaw: bytes = b"\xff" * 160, stream_sid: str = STREAM) -> str:
    return json.dumps(
        {
            "event": "media",
            "sequenceNumber": str(n + 2),
            "media": {
                "track": "inbound",
                "chunk": str(n + 1),
                "timestamp": str(20 * n),
                "payload": base64.b64encode(mulaw).decode(),
            },
            "streamSid": stream_sid,
        }
    )


def dtmf(digit: str, stream_sid: str = STREAM) -> str:
    return json.dumps(
        {"event": "dtmf", "streamSid": stream_sid, "dtmf": {"track": "inbound_track", "digit": digit}}
    )


def stop(call_sid: str = CALL, stream_sid: str = STREAM) -> str:
    return json.dumps(
        {
            "event": "stop",
            "stop": {"accountSid": ACCOUNT, "callSid": call_sid},
            "streamSid": stream_sid,
        }
    )


def mark_echo(message: str | bytes) -> str:
    fields = json.loads(message)
    assert fields["event"] == "mark"
    return json.dumps(fields)


@dataclass(frozen=True)
class Outcome:
    completed: bool
    reason: str


class Echo:
    """Sends back what it hears, a mark after each piece; `#` makes it hang up, `*` clear, `0` say sorry,
    `9` fail. Keeps what happened on every call."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self.heard: dict[str, bytes] = {}
        self.marks: list[MarkReached] = []
        self.ends: list[str] = []
        self.answered = asyncio.Event()
        self.before_return: Callable[[], Awaitable[None]] | None = None

    async def __call__(self, line: Line) -> Outcome:
        self.lines.append(line)
        self.heard[line.info.call_id] = b""
        self.answered.set()
        try:
            async for event in line.events():
                await self._react(line, event)
        except LineClosed as closed:
            self.ends.append(closed.reason)
            if self.before_return is not None:
                await self.before_return()
            return Outcome(completed=True, reason=closed.reason)
        raise AssertionError("events() must end by LineClosed")

    async def _react(self, line: Line, event: object) -> None:
        if isinstance(event, AudioReceived):
            self.heard[line.info.call_id] += g711.encode(event.pcm)
            await line.send_audio(event.pcm)
            await line.send_mark("piece")
        elif isinstance(event, MarkReached):
            self.marks.append(event)
        elif isinstance(event, KeyPressed):
            if event.digit == "#":
                await line.hang_up("goodbye")
            elif event.digit == "0":
                await line.hang_up("apology")
            elif event.digit == "*":
                await line.clear()
            elif event.digit == "9":
                raise RuntimeError("the agent broke")


def signature(url: str, params: Any = None, token: str = AUTH_TOKEN) -> str:
    """As Twilio computes it over exactly this URL."""
    return str(RequestValidator(token).compute_signature(url, params or {}))
