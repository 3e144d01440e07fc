"""One question through each way in, to one `maya serve` with the real bundled models: every call leaves the
same transcript."""

import asyncio
import json
import re
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from infra.local_server import LocalServer, local_server
from pipeline.line import Pcm
from telephony.simulator.voices import speak
from tests.ways_in import (
    Visitor,
    over_audiosocket,
    over_browser,
    over_chan_websocket,
    over_sip,
    over_twilio,
    twilio_account,
)

pytestmark = [pytest.mark.models, pytest.mark.realtime, pytest.mark.timeout(300)]

SECRET = "one-secret-for-asterisk"
QUESTION = "What time do you open on Saturdays?"
LINE_DIFFERENCE_S = 0.25
"""No line may add so much more to the wait than Twilio's. Loose, for this machine does other things too;
`maya bench sip` measures what they add."""

Way = AbstractAsyncContextManager[Visitor]


@dataclass
class Call:
    """`gap_s` is the caller's wait for the answer, `document` the server's account."""

    gap_s: float
    document: dict[str, Any]

    @property
    def turns(self) -> list[tuple[str, str]]:
        return [(turn["caller"], turn["agent"]) for turn in self.document["turns"]]

    @property
    def line_s(self) -> float:
        """The part of the wait that the server did not see: the way there and back, with whatever buffers
        stand in it. Where voices end is reckoned otherwise here, so only differences mean anything."""
        (times,) = (turn["times"] for turn in self.document["turns"] if turn["caller"])
        return float(self.gap_s - (times["first_audible_s"] - times["audible_end_s"]))


def settings(folder: Path) -> Path:
    path = folder / "maya.toml"
    path.write_text(
        f"""
        profile = "embedded"
        talk = true

        [sip]
        host = "127.0.0.1"
        port = 0
        allow = ["127.0.0.0/8"]

        [asterisk]
        secret = "{SECRET}"
        audiosocket_port = 0
        """,
        encoding="utf-8",
    )
    return path


def ways_into(server: LocalServer) -> dict[str, Way]:
    """By the line's name in the transcript."""
    log = "\n".join(server.log_lines())
    sip = re.search(r"SIP on 127\.0\.0\.1 port (\d+)", log)
    audiosocket = re.search(r"AudioSocket listens on 127\.0\.0\.1 port (\d+)", log)
    assert sip and audiosocket, log
    host = f"127.0.0.1:{server.port}"
    return {
        "twilio": over_twilio(f"http://{host}/twilio/voice", twilio_account(server.auth_token)),
        "sip": over_sip(int(sip[1])),
        "asterisk": over_chan_websocket(f"ws://{host}", SECRET),
        "audiosocket": over_audiosocket("127.0.0.1", int(audiosocket[1])),
        "browser": over_browser(server.port),
    }


async def ask(way: Way, question: Pcm) -> float:
    """Hear the greeting, ask, hear the answer, hang up. How long the answer took, s."""
    async with way as caller:
        await caller.until(sounding=True)
        await caller.until(sounding=False, for_s=1.0)
        await caller.say(question)
        await caller.until(sounding=True)
        await caller.until(sounding=False, for_s=1.0)
        return caller.answered_after_s()


async def transcript_of(calls: Path, line: str) -> dict[str, Any]:
    """Of the one call over `line`, once it is complete."""
    async with asyncio.timeout(10):
        while True:
            for path in await asyncio.to_thread(lambda: list(calls.glob("*/transcript.json"))):
                document: dict[str, Any] = json.loads(await asyncio.to_thread(path.read_text))
                if document["call"]["line"] == line and document["outcome"] is not None:
                    return document
            await asyncio.sleep(0.1)


def words(text: str) -> list[str]:
    return re.findall(r"[a-z0-9']+", text.lower())


async def test_one_call_through_each_way_in_leaves_the_same_transcript(tmp_path: Path) -> None:
    question = await asyncio.to_thread(speak, QUESTION, "ruth")
    calls: dict[str, Call] = {}
    options = ["--config", str(settings(tmp_path))]
    with local_server(tmp_path / "calls", tmp_path / "server.log", options) as server:
        await asyncio.to_thread(server.wait_until_ready, lambda line: None, 100)
        for line, way in ways_into(server).items():
            gap_s = await ask(way, question)
            calls[line] = Call(gap_s, await transcript_of(tmp_path / "calls", line))
            print(f"{line:12} waited {gap_s:.3f} s, {calls[line].line_s:+.3f} s on the line")

    for line, call in calls.items():
        greeting, (asked, answer) = call.turns
        assert greeting[1].startswith("Greenfield Clinic"), line
        assert words(asked) == words(QUESTION), line
        assert {"9", "noon"} & set(words(answer)), line
        assert call.document["outcome"]["outcome"] == "completed", line
        assert call.document["outcome"]["reason"] == "caller hung up", line
        assert call.document["faults"] == [], line
        assert call.turns == calls["twilio"].turns, line
        assert call.line_s - calls["twilio"].line_s < LINE_DIFFERENCE_S, line
    log = "\n".join(server.log_lines())
    assert "Traceback" not in log
    assert SECRET not in log
