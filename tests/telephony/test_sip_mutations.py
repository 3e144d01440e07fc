"""10,000 mutated messages: the agent neither raises nor stops answering, and never looks a name up."""

import random
import socket
from collections.abc import Callable

import pytest

from telephony.sip.message import Request
from telephony.sip.transactions import Flow
from tests.telephony.sip_support import OFFER, OUR_HOST, PEER_HOST, Phone, World, open_config, reply, statuses

_WORDS = (b"198.51.100.9", b"PCMU", b"branch", b"SIP/2.0", b"application/sdp", b"CSeq: 1")
_LOOKUPS = ("getaddrinfo", "gethostbyname", "gethostbyname_ex", "gethostbyaddr", "getnameinfo", "getfqdn")
_ROUNDS = 10_000
_ALIVE_EVERY = 100
_CORPUS_EVERY = 20
_SNIPPETS = (
    b"\r\n",
    b"\r\n\r\n",
    b"\0",
    b"\xff\xfe",
    b'"',
    b"<",
    b">",
    b";",
    b",",
    b"%00",
    b"sip:",
    b"tel:+1",
    b" ",
    b"\t",
    b"[::1]",
    b"99999999999999999999",
    b"-1",
    b"c=IN IP4 attacker.example.com\r\n",
    b"Via: SIP/2.0/UDP attacker.example.com;branch=z9hG4bKx\r\n",
    b"Contact: <sip:x@attacker.example.com>\r\n",
    b"Record-Route: <sip:attacker.example.com>\r\n",
    b"Content-Length: 0\r\n",
    b"m=audio 1 RTP/AVP " + b"0 " * 300,
    b"a=rtpmap:0 PCMU/8000\r\n",
    b"A" * 5_000,
    b"\xd9\xa3",
)


def corpus(world: World, serial: int = 0) -> list[bytes]:
    """Valid messages of every kind: new to the agent, and of a call and a dialling that are on as these are
    made."""
    phone, other = Phone(call_id=f"corpus{serial}"), Phone(call_id=f"other{serial}")
    phone.call(world)
    world.agent.dial(
        "sip:bob@198.51.100.9",
        flow=Flow("UDP", PEER_HOST, 5060),
        port=40_002,
        caller=f"sip:maya@{OUR_HOST}",
        now=world.now,
    )
    world.collect()
    (invite,) = (message for message in world.sent() if isinstance(message, Request))
    digest = (
        'Digest username="ann", realm="maya", nonce="x", uri="sip:maya@192.0.2.1", response="00", '
        'algorithm=MD5, qop=auth, cnonce="y", nc=00000001'
    )
    challenge = 'Digest realm="x", nonce="y", qop="auth,auth-int", algorithm=MD5'
    texts = [
        other.invite(),
        other.invite(""),
        other.invite(Session_Expires="1800;refresher=uac", Supported="timer, 100rel", Min_SE="90"),
        other.invite(OFFER + "m=video 30000 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n", Require="timer"),
        other.invite(Authorization=digest, X_Account="7", P_Asserted_Identity='"Ann" <sip:+15550100@x>'),
        other.invite(Record_Route="<sip:198.51.100.8;lr>, <sip:198.51.100.7:5070;lr>"),
        other.request("REGISTER", Expires="3600"),
        other.request("MESSAGE", "hello", kind="text/plain"),
        phone.request("OPTIONS", Accept="application/sdp"),
        phone.request("UPDATE", OFFER + "a=sendonly\r\n"),
        phone.request("INFO", "Signal=5\r\nDuration=160\r\n", kind="application/dtmf-relay"),
        phone.request("REFER", Refer_To="<sip:bob@198.51.100.9?Replaces=a>"),
        phone.request("NOTIFY", "SIP/2.0 200 OK\r\n", kind="message/sipfrag", Event="refer"),
        phone.invite(Session_Expires="120", Supported="timer"),
        phone.ack(OFFER),
        phone.request("CANCEL"),
        phone.request("BYE"),
        reply(invite, 180),
        reply(invite, 200, body=OFFER, Contact="<sip:bob@198.51.100.9>"),
        reply(invite, 401, WWW_Authenticate=challenge),
        reply(invite, 422, Min_SE="3600"),
        reply(invite, 486),
    ]
    return [text.encode() for text in texts]


def mutate(message: bytes, others: list[bytes], chance: random.Random) -> bytes:
    data = bytearray(message)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(9):
            case 0 if data:
                data[at % len(data)] = chance.randrange(256)
            case 1:
                data[at:at] = chance.choice(_SNIPPETS)
            case 2:
                del data[at : at + chance.randint(1, 80)]
            case 3:
                data[at:at] = data[at : at + chance.randint(1, 200)] * chance.randint(1, 4)
            case 4:
                del data[at:]
            case 5:
                lines = bytes(data).split(b"\r\n")
                chance.shuffle(lines)
                data = bytearray(b"\r\n".join(lines))
            case 6:
                lines = bytes(data).split(b"\r\n")
                lines.insert(
                    chance.randrange(len(lines)), chance.choice(chance.choice(others).split(b"\r\n"))
                )
                data = bytearray(b"\r\n".join(lines))
            case 7:
                word = chance.choice(
                    [b"198.51.100.9", b"PCMU", b"branch", b"SIP/2.0", b"application/sdp", b"CSeq: 1"]
                )
                data = bytearray(data.replace(word, chance.choice(_SNIPPETS), chance.randint(1, 3)))
            case _:
                data[at:at] = chance.choice([b"a", b"%", b"=", b":", b"0"]) * chance.randint(1, 3_000)
    return bytes(data[:65_535])


@pytest.fixture
def no_lookups(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """Every way to look a name up, made to tell."""
    asked: list[object] = []

    def refuse(name: str) -> Callable[..., object]:
        def asked_for(*arguments: object, **_: object) -> object:
            asked.append((name, arguments))
            raise OSError("no names are looked up here")

        return asked_for

    for name in (
        "getaddrinfo",
        "gethostbyname",
        "gethostbyname_ex",
        "gethostbyaddr",
        "getnameinfo",
        "getfqdn",
    ):
        monkeypatch.setattr(socket, name, refuse(name))
    return asked


@pytest.mark.parametrize("seed", range(4))
def test_mutated_messages_leave_the_agent_alive(seed: int, no_lookups: list[object]) -> None:
    chance = random.Random(seed)
    world = World(
        open_config(users={"ann": "secret"}, messages_per_s=100_000, invites_per_s=100_000, max_calls=50),
        tokens="",
    )
    messages: list[bytes] = []
    alive = Phone(call_id="alive")
    for number in range(_ROUNDS // 4):
        if number % _CORPUS_EVERY == 0:
            for call in list(world.agent.calls.values()):
                call.end("over", world.now)
            world.collect()
            messages = corpus(world, number)
        data = mutate(chance.choice(messages), messages, chance)
        transport = chance.choice(("UDP", "UDP", "TCP"))
        source = Flow("TCP" if transport == "TCP" else "UDP", chance.choice((PEER_HOST, "203.0.113.5")), 5060)
        world.now += 0.02
        world.agent.receive(data, source, world.now)
        world.agent.handle_timer(world.now)
        world.collect()
        # Whatever we send is itself well-formed.
        world.sent()
        if number % _ALIVE_EVERY == 0:
            assert statuses(world.say(alive.request("OPTIONS"))) == [200]
    assert 0.2 < world.agent.counters["malformed"] / (_ROUNDS // 4) < 0.8
    # A whole call, still, when the calls that the mutants opened are gone.
    world.wait(40.0)
    for call in list(world.agent.calls.values()):
        call.end("over", world.now)
    world.wait(40.0)
    world.events()
    phone = Phone(call_id="after")
    assert statuses(phone.call(world)) == [100, 200]
    assert world.kinds() == ["CallOffered", "MediaAgreed", "CallUp"]
    assert statuses(world.say(phone.request("BYE"))) == [200]
    assert no_lookups == []
    # And nothing of them is kept.
    world.wait(40.0)
    assert world.agent.next_deadline() is None


def test_the_corpus_is_understood() -> None:
    """Else its mutants would all die at the door."""
    world = World()
    for message in corpus(world):
        world.agent.receive(message, Flow("UDP", PEER_HOST, 5060), world.now)
    assert world.agent.counters == {}
    kinds = set(world.kinds())
    assert kinds == {"CallOffered", "MediaAgreed", "CallUp"}
    assert {type(event).__name__ for event in world.agent.events()} >= {
        "KeyByInfo",
        "CallRinging",
        "CallOver",
    }
