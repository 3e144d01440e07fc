"""What sipp says out of the ordinary, and how it is answered."""

import asyncio
from pathlib import Path

import pytest

from pipeline.line import Line
from telephony.rtp.media import RtpMedia
from telephony.sip.server import SipServer
from tests.sip_peers.agents import Agent, heard_at, loopback, speechlike, through_mu_law
from tests.sip_peers.programs import needs, until
from tests.sip_peers.sipp import calling, play

pytestmark = [needs("sipp"), pytest.mark.realtime, pytest.mark.timeout(60)]

SAID = speechlike(1, 1.0)
USERS = {"users": {"ann": "a secret of ann's"}, "insecure": False}
G729 = """v=0
      o=sipp 1 1 IN IP4 127.0.0.1
      s=-
      c=IN IP4 127.0.0.1
      t=0 0
      m=audio [media_port] RTP/AVP 18
      a=rtpmap:18 G729/8000"""
NAMED = """v=0
      o=sipp 1 1 IN IP4 127.0.0.1
      s=-
      c=IN IP4 phone.example.com
      t=0 0
      m=audio [media_port] RTP/AVP 0"""


class SlowServer(SipServer):
    """Takes a second to answer."""

    async def _open_media(self, *arguments: object) -> RtpMedia:
        await asyncio.sleep(1.0)
        return await super()._open_media(*arguments)  # type: ignore[arg-type]


async def test_a_caller_who_hangs_up_before_we_answer(tmp_path: Path) -> None:
    agent = Agent()
    async with SlowServer(loopback(), agent) as server:
        await play("cancels", server, tmp_path)
        assert server.live == 0
        await asyncio.sleep(1.0)
        assert agent.talks == []


async def test_an_invite_that_comes_again_is_one_call(tmp_path: Path) -> None:
    agent = Agent(lambda _: SAID)
    async with SlowServer(loopback(), agent) as server:
        sipp = await play("repeated_invite", server, tmp_path, "-nr")
        talk = await agent.call()
        assert len(agent.talks) == 1
        assert heard_at(through_mu_law(SAID), talk.heard()) is not None
        answers = sipp.received("SIP/2.0 200 OK")
        assert len({tag_of(answer) for answer in answers}) == 1


async def test_the_200_is_sent_again_until_it_is_acknowledged(tmp_path: Path) -> None:
    """At once, after 0.5 s, after 1 s more; not once the ACK came (RFC 3261 section 13.3.1.4)."""
    agent = Agent(lambda _: SAID)
    async with SipServer(loopback(), agent) as server:
        sipp = await play("late_ack", server, tmp_path)
        answers = [answer for answer in sipp.received("SIP/2.0 200 OK") if "1 INVITE" in answer]
        assert len(answers) == 3
        assert len(set(answers)) == 1
        assert heard_at(through_mu_law(SAID), (await agent.call()).heard()) is not None


@pytest.mark.parametrize(("sdp", "why"), [(G729, "no codec in common"), (NAMED, "a host name")])
async def test_what_we_cannot_speak_is_488(sdp: str, why: str, tmp_path: Path) -> None:
    agent = Agent()
    async with SipServer(loopback(), agent) as server:
        sipp = await play("refused", server, tmp_path, status="488", sdp=sdp)
        (answer,) = sipp.received("SIP/2.0 488")
        assert why in answer
        assert agent.talks == []
        assert server.live == 0


async def test_the_right_secret_lets_in(tmp_path: Path) -> None:
    agent = Agent(lambda _: SAID)
    async with SipServer(loopback(**USERS), agent) as server:
        await play("right_secret", server, tmp_path, *proof(server, "ann", "a secret of ann's"))
        assert heard_at(through_mu_law(SAID), (await agent.call()).heard()) is not None


@pytest.mark.parametrize(("user", "secret"), [("ann", "guessed"), ("bob", "a secret of ann's")])
async def test_a_wrong_secret_does_not(user: str, secret: str, tmp_path: Path) -> None:
    agent = Agent()
    async with SipServer(loopback(**USERS), agent) as server:
        await play("wrong_secret", server, tmp_path, *proof(server, user, secret))
        assert agent.talks == []
        assert server.agent.counters["wrong credentials"] == 1


async def test_a_full_house_is_486(tmp_path: Path) -> None:
    agent = Agent()
    async with SipServer(loopback(max_calls=1), agent) as server:
        async with calling("plain", server.port, tmp_path) as sipp:
            await until(lambda: bool(agent.talks))
            await play("refused", server, tmp_path, status="486")
            await sipp.succeeds()
        assert len(agent.talks) == 1


async def test_our_bye_goes_along_the_route(tmp_path: Path) -> None:
    async def goodbye(line: Line) -> None:
        await asyncio.sleep(0.3)
        await line.hang_up("goodbye")

    agent = Agent(then=goodbye)
    async with SipServer(loopback(), agent) as server:
        await play("routed", server, tmp_path)
        assert (await agent.call()).ended == "we hung up: goodbye"


async def test_a_session_is_refreshed(tmp_path: Path) -> None:
    agent = Agent(lambda _: SAID)
    async with SipServer(loopback(), agent) as server:
        await play("session_timer", server, tmp_path)
        talk = await agent.call()
        assert talk.ended == "caller hung up"
        assert heard_at(through_mu_law(SAID), talk.heard()) is not None


async def test_a_session_that_is_too_short_is_422(tmp_path: Path) -> None:
    agent = Agent()
    async with SipServer(loopback(), agent) as server:
        await play("short_session", server, tmp_path)
        assert agent.talks == []


def proof(server: SipServer, user: str, secret: str) -> tuple[str, ...]:
    """Options of sipp. Left alone it proves its secret for another URI than it asks for."""
    return "-au", user, "-ap", secret, "-auth_uri", f"maya@127.0.0.1:{server.port}"


def tag_of(message: str) -> str:
    to = next(line for line in message.splitlines() if line.startswith("To: "))
    return to.partition(";tag=")[2]
