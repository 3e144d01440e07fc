"""sipp calls us: media both ways."""

from pathlib import Path

from telephony.sip.server import SipServer
from tests.sip_peers.agents import Agent, loopback, place_of, speechlike, through_mu_law
from tests.sip_peers.programs import needs
from tests.sip_peers.sipp import play

pytestmark = needs("sipp")


async def test_a_plain_call_carries_every_sample_both_ways(tmp_path: Path) -> None:
    """sipp sends back what it hears, so what we said for a second must stand in what we heard."""
    said = speechlike(1, 1.0)
    agent = Agent(lambda _: said)
    async with SipServer(loopback(), agent) as server:
        await play("plain", server, tmp_path)
        talk = await agent.call()
        assert talk.ended == "caller hung up"
        assert place_of(through_mu_law(said), talk.heard()) is not None
        assert server.live == 0
