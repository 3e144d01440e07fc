"""Registering with a registrar that challenges, grants less, fails, and comes back."""

import itertools

from telephony.sip.config import TrunkConfig
from telephony.sip.digest import DigestClient, DigestGate
from telephony.sip.message import Request
from telephony.sip.registration import KEEP_ALIVE, Registration
from tests.telephony.sip_support import PEER, World, counted_tokens, open_config, reply


class Registrar:
    """Says what the test wants; checks digests with the real gate."""

    def __init__(self) -> None:
        self.world = World(open_config())
        self.changes: list[tuple[bool, str]] = []
        self.gate = DigestGate({"maya": "secret"}, realm="pbx", key=b"k", random=counted_tokens())
        trunk = TrunkConfig(
            host="198.51.100.9", user="maya", secret="secret", domain="pbx.example.com", expires_s=600
        )
        self.registration = self.world.agent.registration(
            trunk,
            PEER,
            credentials=DigestClient("maya", "secret", random=counted_tokens("c")),
            on_change=lambda registered, why: self.changes.append((registered, why)),
        )

    def start(self) -> Request:
        return self.one(self.world.do(self.registration.start))

    def one(self, messages: list[object]) -> Request:
        requests = [message for message in messages if isinstance(message, Request)]
        assert len({message.cseq for message in requests}) == 1
        assert requests[0].method == "REGISTER"
        return requests[0]

    def challenge(self, request: Request) -> Request:
        headers = self.gate.challenges(self.world.now)
        data = request.response(401, tag="r", headers=headers)
        return self.one(self.world.say(data))

    def grant(self, request: Request, seconds: int = 600) -> list[object]:
        contact = request.headers.get("contact")
        others = "<sip:maya@203.0.113.1>;expires=3600"
        return list(self.world.say(reply(request, 200, Contact=f"{others}, {contact};expires={seconds}")))


def test_it_registers_with_its_secret_and_stays() -> None:
    registrar = Registrar()
    first = registrar.start()
    assert first.uri.text == "sip:pbx.example.com"
    assert first.headers.get("to") == "<sip:maya@pbx.example.com>"
    assert first.headers.get("contact") == "<sip:maya@192.0.2.1:5060>"
    second = registrar.challenge(first)
    assert second.cseq == first.cseq + 1
    assert second.call_id == first.call_id
    assert registrar.gate.check(second, registrar.world.now).user == "maya"
    registrar.grant(second, 300)
    assert registrar.changes == [(True, "for 300 s")]
    assert registrar.registration.registered
    # A minute before it lapses, again.
    assert registrar.world.wait(239.0) == []
    again = registrar.one(list(registrar.world.wait(1.2)))
    registrar.grant(registrar.challenge(again), 300)
    assert registrar.changes == [(True, "for 300 s")]


def test_a_nat_is_kept_open_between() -> None:
    registrar = Registrar()
    registrar.grant(registrar.start())
    registrar.world.agent.sends()
    registrar.world.raw.clear()
    world = registrar.world
    deadline = world.agent.next_deadline()
    assert deadline is not None
    assert deadline - world.now <= 25.0
    end = world.now + 100.0
    pings = 0
    while (deadline := world.agent.next_deadline()) is not None and deadline <= end:
        world.agent.handle_timer(deadline)
        pings += sum(data == KEEP_ALIVE for data, _ in world.agent.sends())
    assert pings == 4


def test_the_wrong_secret_is_not_tried_without_end() -> None:
    registrar = Registrar()
    again = registrar.challenge(registrar.start())
    headers = registrar.gate.challenges(registrar.world.now)
    assert registrar.world.say(again.response(401, tag="r", headers=headers)) == []
    assert registrar.changes == [(False, "401 Unauthorized")]
    # 5, 10, 20, ... s later, not at once.
    assert registrar.world.wait(4.9) == []
    registrar.one(list(registrar.world.wait(0.2)))


def test_a_registrar_that_is_down_is_asked_ever_more_rarely() -> None:
    registrar = Registrar()
    registrar.start()
    tries: list[float] = []
    seen = set()
    for _ in range(4_000):
        for message in registrar.world.wait(1.0):
            if isinstance(message, Request) and message.cseq not in seen:
                seen.add(message.cseq)
                tries.append(registrar.world.now)
    gaps = [later - earlier for earlier, later in itertools.pairwise(tries)]
    assert gaps == sorted(gaps)
    assert 600 <= gaps[-1] <= 640
    while not (sent := registrar.world.wait(1.0)):
        pass
    registrar.grant(registrar.one(list(sent)))
    assert registrar.changes[-1] == (True, "for 600 s")


def test_a_longer_interval_is_taken_as_asked() -> None:
    registrar = Registrar()
    again = registrar.one(list(registrar.world.say(reply(registrar.start(), 423, Min_Expires="3600"))))
    assert again.headers.get("expires") == "3600"


def test_it_unregisters_when_it_stops() -> None:
    registrar = Registrar()
    registrar.grant(registrar.start())
    last = registrar.one(registrar.world.do(registrar.registration.stop))
    assert last.headers.get("expires") == "0"
    registrar.world.say(reply(last, 200))
    assert registrar.world.wait(2_000.0) == []
    assert isinstance(registrar.registration, Registration)
