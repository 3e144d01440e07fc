"""Who is let in, what is refused with which status, and what happens under a flood."""

import pytest

from telephony.sip.core import CallOffered
from telephony.sip.errors import DialFailed
from telephony.sip.inbound import InboundCall
from telephony.sip.transactions import Flow
from tests.telephony.sip_support import PEER, Phone, World, open_config, statuses

STRANGER = Flow("UDP", "203.0.113.5", 5060)


@pytest.mark.parametrize(
    ("method", "status"),
    [("OPTIONS", 200), ("MESSAGE", 405), ("SUBSCRIBE", 405), ("FOO", 405), ("BYE", 481)]
    + [(method, 481) for method in ("UPDATE", "INFO", "NOTIFY", "REFER")],
)
def test_methods_outside_of_a_call(method: str, status: int) -> None:
    (response,) = World().say(Phone().request(method))
    assert statuses([response]) == [status]
    if status in (200, 405):
        assert "INVITE" in (response.headers.get("allow") or "")


def test_a_phone_that_insists_may_register_and_nothing_comes_of_it() -> None:
    world = World(open_config(users={"ann": "secret"}))
    (granted,) = world.say(Phone(contact="<sip:ann@198.51.100.9;ob>;q=1").request("REGISTER", Expires="3600"))
    assert statuses([granted]) == [200]
    assert granted.headers.get("contact") == "<sip:ann@198.51.100.9;ob>;expires=600"
    (gone,) = world.say(Phone(contact="*").request("REGISTER", Expires="0"))
    assert statuses([gone]) == [200]
    assert gone.headers.get("contact") is None
    assert statuses(world.say(Phone().request("REGISTER"), STRANGER)) == [401]
    assert world.agent.next_deadline() is None


def test_an_invite_within_a_call_that_is_not_known() -> None:
    assert statuses(World().say(Phone(to_tag="gone").invite())) == [481]


def test_extensions_that_are_required_and_not_known() -> None:
    (response,) = World().say(Phone().invite(Require="100rel, timer, precondition"))
    assert statuses([response]) == [420]
    assert response.headers.get("unsupported") == "100rel, precondition"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (("Content-Type: application/sdp", "Content-Type: application/isup"), 415),
        (("Content-Type: application/sdp", "Content-Type: application/sdp\r\nContent-Encoding: gzip"), 415),
        (("RTP/AVP 8 0 101", "RTP/AVP 18 96"), 488),
        (("c=IN IP4 198.51.100.9", "c=IN IP4 attacker.example.com"), 488),
        (("v=0", "x=0"), 400),
        (("Contact: <sip:ann@198.51.100.9:5060>", "X-Nothing: 1"), 400),
        (("Contact: <sip:ann@198.51.100.9:5060>", "Contact: <<>>"), 400),
        (("INVITE sip:maya@192.0.2.1:5060", "INVITE sips:maya@192.0.2.1"), 416),
        (("INVITE sip:maya@192.0.2.1:5060", "INVITE mailto:maya@192.0.2.1"), 416),
        (("m=audio 20000", "m=audio 20000 " + "x" * 20_000), 413),
    ],
)
def test_an_invite_that_is_no_call(change: tuple[str, str], status: int) -> None:
    world = World()
    text = Phone().invite()
    assert change[0] in text
    head, _, body = text.replace(*change).partition("\r\n\r\n")
    lines = [line for line in head.split("\r\n") if not line.startswith("Content-Length")]
    text = "\r\n".join([*lines, f"Content-Length: {len(body)}"]) + "\r\n\r\n" + body
    assert statuses(world.say(text)) == [status]
    assert world.events() == []
    assert world.agent.calls == {}


def test_a_stranger_hears_nothing_where_only_networks_are_listed() -> None:
    world, phone = World(), Phone()
    for text in (phone.invite(), phone.request("OPTIONS"), phone.request("REGISTER"), phone.invite(";;;")):
        assert world.say(text, STRANGER) == []
    assert world.say(phone.request("OPTIONS").replace("CSeq", "CSeq: 1 BYE\r\nX"), STRANGER) == []
    assert world.agent.counters["strangers"] == 4


def test_a_stranger_is_asked_for_a_secret_where_there_are_any_and_only_so_often() -> None:
    world, phone = World(open_config(users={"ann": "secret"})), Phone()
    (refused,) = world.say(phone.invite(), STRANGER)
    assert statuses([refused]) == [401]
    assert len(refused.headers.all("www-authenticate")) == 1
    wrong = 'Digest username="ann", realm="maya", nonce="1", uri="sip:maya@192.0.2.1", response="0", qop=auth'
    answered = 0
    for _ in range(40):
        world.now += 0.5
        answered += len(world.say(phone.invite(Authorization=wrong), STRANGER))
    assert 10 <= answered <= 13
    assert world.agent.calls == {}
    # Those who are listed are not asked.
    assert statuses(world.say(Phone(call_id="listed").invite())) == [100, 200]


def test_a_scanner_hears_nothing_even_from_a_listed_network() -> None:
    world = World()
    assert world.say(Phone().request("OPTIONS", User_Agent="friendly-scanner")) == []
    assert world.say(Phone().invite(User_Agent="sipvicious")) == []


def test_a_strangers_flood_is_cut_off_before_it_is_read() -> None:
    world, phone = World(open_config(users={"ann": "secret"})), Phone()
    answered = sum(len(world.say(phone.request("OPTIONS"), STRANGER)) for _ in range(200))
    assert answered == 30
    assert world.agent.counters["too many messages"] == 170
    world.now += 1.0
    assert len(world.say(phone.request("OPTIONS"), STRANGER)) == 1
    assert statuses(world.say(Phone(call_id="listed").invite())) == [100, 200]


def test_a_flood_of_invites_gets_503() -> None:
    world = World(open_config(invites_per_s=5.0))
    got = [statuses(world.say(Phone(call_id=f"call-{n}").invite()))[-1] for n in range(15)]
    assert got == [200] * 10 + [503] * 5
    world.now += 1.0
    assert statuses(world.say(Phone(call_id="later").invite())) == [100, 200]


def test_full_lines_are_busy() -> None:
    world = World(open_config(max_calls=2))
    phones = [Phone(call_id=f"call-{n}") for n in range(3)]
    assert [statuses(phone.call(world))[-1] for phone in phones] == [200, 200, 486]
    world.say(phones[0].request("BYE"))
    assert statuses(world.say(Phone(call_id="next").invite())) == [100, 200]
    full = world.say(Phone(call_id="full").invite())[0]
    assert (full.status, full.headers.get("retry-after")) == (486, "5")


def test_a_server_that_is_about_to_stop_sends_callers_elsewhere_and_keeps_its_calls() -> None:
    world = World()
    phone = Phone()
    phone.call(world)
    world.accepting = False
    refused = world.say(Phone(call_id="closing").invite())[0]
    assert (refused.status, refused.headers.get("retry-after")) == (503, "30")
    assert statuses(world.say(phone.request("BYE"))) == [200]


@pytest.mark.parametrize("busy", [486, 503])
def test_without_a_place_nobody_is_called(busy: int) -> None:
    world = World(open_config(busy=busy))
    world.lines.left = 1
    world.say(Phone(call_id="first").invite())
    refused = world.say(Phone(call_id="second").invite())
    assert statuses(refused) == [busy]
    assert refused[0].headers.get("retry-after") == "5"
    assert len(world.lines.taken) == 1


def test_a_place_is_given_back_when_the_caller_leaves_before_the_answer() -> None:
    world = World(take_calls=False)
    phone = Phone()
    world.say(phone.invite(branch="z9hG4bKx"))
    assert len(world.lines.taken) == 1
    assert statuses(world.say(phone.request("CANCEL", cseq=1, branch="z9hG4bKx"))) == [200, 487]
    assert world.lines.taken == []


def test_an_offer_that_cannot_be_answered_takes_no_place() -> None:
    world = World()
    assert statuses(world.say(Phone().invite(body="v=0\r\n"))) == [488]
    assert world.lines.taken == []


def test_one_source_does_not_take_every_line() -> None:
    world = World(open_config(max_calls_per_source=1))
    assert statuses(world.say(Phone(call_id="1").invite())) == [100, 200]
    assert statuses(world.say(Phone(call_id="2").invite())) == [486]
    other = Flow("UDP", "198.51.100.10", 5060)
    assert statuses(world.say(Phone(call_id="3", host="198.51.100.10").invite(), other)) == [100, 200]


def test_who_is_calling_and_what_else_is_told() -> None:
    world = World()
    world.say(
        Phone(user="sales").invite(
            X_Account="7",
            X_Odd_Name="caf\u00e9",
            P_Asserted_Identity='"A" <sip:+15550100123@trunk>, <tel:+15550100123>',
        )
    )
    offered = world.events()[0]
    assert isinstance(offered, CallOffered)
    call = offered.call
    assert (call.caller, call.called) == ("+15550100123", "sales")
    assert call.key.startswith("sip-")
    assert call.key.replace("-", "").isalnum()
    assert call.parameters == {
        "sip_user": "sales",
        "sip_call_id": "call-1",
        "sip_display_name": "Ann",
        "sip_header_x_account": "7",
        "sip_header_x_odd_name": "caf\u00e9",
    }


def test_calls_do_not_mix() -> None:
    world = World()
    one, two = Phone(call_id="one"), Phone(call_id="two", tag="eve")
    one.call(world)
    two.call(world)
    keys = list(world.agent.calls)
    # With another's tags nobody ends a call.
    forged = Phone(call_id="one", tag="eve", to_tag=two.to_tag, cseq=5)
    assert statuses(world.say(forged.request("BYE"))) == [481]
    world.say(one.request("BYE"))
    assert list(world.agent.calls) == keys[1:]


def test_nothing_is_kept_of_a_call_that_is_long_over() -> None:
    world = World()
    for number in range(50):
        phone = Phone(call_id=f"call-{number}")
        phone.call(world)
        world.say(phone.request("BYE"))
    world.wait(40.0)
    assert world.agent.calls == {}
    assert world.agent.next_deadline() is None
    layer = world.agent.layer
    assert not layer._servers and not layer._merge and not layer._clients


def test_keep_alives_are_not_messages() -> None:
    world = World()
    for data in (b"", b"\r\n\r\n", b"\0", b"\r\n"):
        assert world.say(data) == []
    assert world.agent.counters == {}


def test_a_number_that_is_never_dialled() -> None:
    world = World(open_config(never_dial=("+1876",)))
    for target in ("sip:911@198.51.100.9", "sip:+18765550100@198.51.100.9", "nonsense"):
        with pytest.raises(DialFailed):
            world.agent.dial(target, flow=PEER, port=1, caller="sip:maya@x", now=world.now)
    assert world.sent() == []


def test_our_own_calls_count_too() -> None:
    world = World(open_config(max_calls=1))
    target = "sip:bob@198.51.100.9"
    call = world.agent.dial(target, flow=PEER, port=1, caller="sip:maya@x", now=world.now)
    assert statuses(world.say(Phone().invite())) == [486]
    with pytest.raises(DialFailed, match="503"):
        world.agent.dial(target, flow=PEER, port=1, caller="sip:maya@x", now=world.now)
    world.do(call.hang_up)
    assert statuses(world.say(Phone(call_id="next").invite())) == [100, 200]


def test_refused_by_the_shell() -> None:
    world = World(take_calls=False)
    world.say(Phone().invite())
    (call,) = world.agent.calls.values()
    assert isinstance(call, InboundCall)
    assert statuses(world.do(call.ring)) == [180]
    assert statuses(world.do(lambda now: call.refuse(503, now))) == [503]
    assert world.agent.calls == {}
