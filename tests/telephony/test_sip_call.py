"""Whole calls over SIP in virtual time: set up, held, transferred, refreshed, ended, with messages lost."""

import pytest

from telephony.sip.core import CallOffered, CallOver, CallUp, KeyByInfo, MediaAgreed, TransferNews
from telephony.sip.inbound import InboundCall
from telephony.sip.message import Request, Response
from telephony.sip.outbound import OutboundCall
from telephony.sip.transactions import Flow
from tests.telephony.sip_support import (
    OFFER,
    OUR_HOST,
    PEER,
    PEER_HOST,
    Phone,
    World,
    methods,
    open_config,
    reply,
    statuses,
)


def started(world: World, phone: Phone, **headers: str) -> InboundCall:
    """A call that is up; its events taken."""
    phone.call(world, **headers)
    offered = world.events()[0]
    assert isinstance(offered, CallOffered)
    return offered.call


def test_a_call_comes_goes_and_is_told_of_in_order() -> None:
    world, phone = World(), Phone()
    responses = world.say(phone.invite())
    assert statuses(responses) == [100, 200]
    answer = responses[1].body.decode()
    # The caller's first codec, at our port, its keys at the caller's number.
    assert f"c=IN IP4 {OUR_HOST}" in answer
    assert "m=audio 40000 RTP/AVP 8 101" in answer
    assert responses[1].headers.get("contact") == f"<sip:maya@{OUR_HOST}:5060>"
    assert world.kinds() == ["CallOffered", "MediaAgreed"]
    phone.learn(responses)
    assert world.say(phone.ack()) == []
    assert world.kinds() == ["CallUp"]
    assert statuses(world.say(phone.request("BYE"))) == [200]
    over = world.events()[0]
    assert isinstance(over, CallOver)
    assert over.reason == "caller hung up"
    assert world.agent.calls == {}
    assert statuses(world.say(phone.request("BYE"))) == [481]


def test_an_invite_that_comes_again_is_one_call() -> None:
    world, phone = World(), Phone()
    invite = phone.invite()
    first = world.say(invite)
    assert world.say(invite) == [first[1]]
    assert len(world.agent.calls) == 1
    phone.learn(first)
    world.say(phone.ack())
    # The 200 is not wanted any more, and the late copy neither makes a call nor ends this one.
    assert world.say(invite) == []
    assert len(world.agent.calls) == 1


def test_an_invite_over_two_paths_is_a_loop() -> None:
    world, phone = World(), Phone()
    world.say(phone.invite())
    assert statuses(world.say(phone.request("INVITE", OFFER, cseq=1))) == [482]
    assert len(world.agent.calls) == 1


def test_the_200_is_repeated_until_the_ack_and_not_for_ever() -> None:
    world, phone = World(), Phone()
    world.say(phone.invite())
    # 0.5, 1, 2 and 4 s, then every 4 s, up to 32 s.
    assert statuses(world.wait(31.9)) == [200] * 10
    after = world.wait(0.4)
    assert methods(after) == ["BYE"]
    assert world.kinds() == ["CallOffered", "MediaAgreed", "CallOver"]
    assert world.agent.calls == {}


def test_a_cancelled_call_gets_487() -> None:
    world, phone = World(take_calls=False), Phone()
    assert statuses(world.say(phone.invite(branch="z9hG4bKx"))) == [100]
    assert statuses(world.say(phone.request("CANCEL", cseq=1, branch="z9hG4bKx"))) == [200, 487]
    over = world.events()[-1]
    assert isinstance(over, CallOver)
    assert over.reason == "caller hung up"
    world.say(phone.request("ACK", cseq=1, branch="z9hG4bKx"))
    assert world.wait(60.0) == []


def test_a_cancel_after_the_answer_changes_nothing() -> None:
    world, phone = World(), Phone()
    phone.learn(world.say(phone.invite(branch="z9hG4bKx")))
    tag, phone.to_tag = phone.to_tag, ""
    assert statuses(world.say(phone.request("CANCEL", cseq=1, branch="z9hG4bKx"))) == [200]
    phone.to_tag = tag
    world.say(phone.ack())
    assert world.kinds() == ["CallOffered", "MediaAgreed", "CallUp"]


def test_a_cancel_of_nothing_gets_481() -> None:
    assert statuses(World().say(Phone().request("CANCEL"))) == [481]


def test_a_late_offer_is_ours_and_the_ack_answers_it() -> None:
    world, phone = World(), Phone()
    responses = world.say(phone.invite(""))
    offer = responses[1].body.decode()
    assert "m=audio 40000 RTP/AVP 0 8 101" in offer
    phone.learn(responses)
    assert world.kinds() == ["CallOffered"]
    world.say(phone.ack(OFFER))
    agreed, up = world.events()
    assert isinstance(agreed, MediaAgreed)
    assert agreed.plan.remote == (PEER_HOST, 20_000)
    assert isinstance(up, CallUp)


def test_a_late_offer_without_an_answer_is_no_call() -> None:
    world, phone = World(), Phone()
    phone.learn(world.say(phone.invite("")))
    assert methods(world.say(phone.ack())) == ["BYE"]
    assert world.kinds() == ["CallOffered", "CallOver"]


def test_hold_and_back() -> None:
    world, phone = World(), Phone()
    started(world, phone)
    held = world.say(phone.invite(OFFER + "a=sendonly\r\n"))
    assert statuses(held) == [200]
    assert b"a=recvonly" in held[0].body
    world.say(phone.ack())
    (agreed,) = world.events()
    assert isinstance(agreed, MediaAgreed)
    assert (agreed.plan.sending, agreed.plan.receiving) == (False, True)
    back = world.say(phone.invite())
    assert b"a=sendrecv" in back[0].body
    world.say(phone.ack())
    (agreed,) = world.events()
    assert isinstance(agreed, MediaAgreed)
    assert agreed.plan.sending


def test_an_offer_that_is_refused_leaves_the_call_as_it_was() -> None:
    world, phone = World(), Phone()
    started(world, phone)
    g729 = OFFER.replace("RTP/AVP 8 0 101", "RTP/AVP 18")
    assert statuses(world.say(phone.invite(g729))) == [488]
    assert world.events() == []
    assert statuses(world.say(phone.request("BYE"))) == [200]


def test_update_changes_the_media_without_an_ack() -> None:
    world, phone = World(), Phone()
    started(world, phone)
    (answer,) = world.say(phone.request("UPDATE", OFFER.replace("20000", "22000")))
    assert statuses([answer]) == [200]
    assert b"m=audio" in answer.body
    (agreed,) = world.events()
    assert isinstance(agreed, MediaAgreed)
    assert agreed.plan.remote == (PEER_HOST, 22_000)
    (refreshed,) = world.say(phone.request("UPDATE"))
    assert statuses([refreshed]) == [200]
    assert refreshed.body == b""


def test_a_reinvite_before_the_last_one_was_acknowledged_waits() -> None:
    world, phone = World(), Phone()
    started(world, phone)
    world.say(phone.invite())
    assert statuses(world.say(phone.invite())) == [491]


def test_requests_out_of_order_are_refused() -> None:
    world, phone = World(), Phone()
    started(world, phone)
    assert statuses(world.say(phone.request("INFO", cseq=phone.cseq))) == [500]


@pytest.mark.parametrize(
    ("kind", "body", "key"),
    [
        ("application/dtmf-relay", "Signal=5\r\nDuration=160\r\n", "5"),
        ("application/dtmf-relay", "Signal= 11\r\n", "#"),
        ("application/dtmf-relay", "Duration=160\nsignal=*", "*"),
        ("application/dtmf", "7", "7"),
        ("application/dtmf", "10", "*"),
        ("application/dtmf", "d\r\n", "D"),
    ],
)
def test_keys_by_info(kind: str, body: str, key: str) -> None:
    world, phone = World(), Phone()
    started(world, phone)
    assert statuses(world.say(phone.request("INFO", body, kind=kind))) == [200]
    (pressed,) = world.events()
    assert isinstance(pressed, KeyByInfo)
    assert pressed.digit == key


@pytest.mark.parametrize(
    ("kind", "body", "status"),
    [
        ("application/dtmf-relay", "Signal=99\r\n", 400),
        ("application/dtmf", "hello", 400),
        ("application/dtmf", "٣", 400),
        ("text/plain", "5", 415),
    ],
)
def test_info_that_is_no_key(kind: str, body: str, status: int) -> None:
    world, phone = World(), Phone()
    started(world, phone)
    assert statuses(world.say(phone.request("INFO", body, kind=kind))) == [status]
    assert world.events() == []


def test_info_without_a_body_is_a_sign_of_life() -> None:
    world, phone = World(), Phone()
    started(world, phone)
    assert statuses(world.say(phone.request("INFO"))) == [200]


def test_a_caller_cannot_make_us_dial() -> None:
    world, phone = World(), Phone()
    started(world, phone)
    assert statuses(world.say(phone.request("REFER", Refer_To="<sip:+15550100199@198.51.100.9>"))) == [603]
    assert world.raw == []


def test_other_methods_within_a_call() -> None:
    world, phone = World(), Phone()
    started(world, phone)
    (options,) = world.say(phone.request("OPTIONS"))
    assert statuses([options]) == [200]
    (message,) = world.say(phone.request("MESSAGE", "hello", kind="text/plain"))
    assert statuses([message]) == [405]
    assert "BYE" in (message.headers.get("allow") or "")
    assert statuses(world.say(phone.request("NOTIFY", Event="presence"))) == [489]
    assert statuses(world.say(phone.request("NOTIFY", Event="refer"))) == [481]


def test_our_bye_takes_the_recorded_route_back() -> None:
    world = World()
    phone = Phone(
        contact="<sip:ann@198.51.100.77:5080>",
        headers={"Record-Route": "<sip:198.51.100.9:5060;lr>, <sip:198.51.100.8;lr>"},
    )
    responses = world.say(phone.invite())
    assert responses[1].headers.all("record-route") == ["<sip:198.51.100.9:5060;lr>, <sip:198.51.100.8;lr>"]
    phone.learn(responses)
    world.say(phone.ack())
    call = next(iter(world.agent.calls.values()))
    call.hang_up(world.now)
    world.collect()
    ((data, flow),) = world.sent_raw()
    assert data.startswith(b"BYE sip:ann@198.51.100.77:5080 SIP/2.0\r\n")
    assert b"Route: <sip:198.51.100.9:5060;lr>, <sip:198.51.100.8;lr>\r\n" in data
    assert flow == Flow("UDP", "198.51.100.9", 5060)


def test_a_strict_router_gets_the_request_line() -> None:
    world = World()
    phone = Phone(headers={"Record-Route": "<sip:198.51.100.8>, <sip:198.51.100.7;lr>"})
    call = started(world, phone)
    (bye,) = world.do(call.hang_up)
    assert isinstance(bye, Request)
    assert bye.uri.text == "sip:198.51.100.8"
    assert bye.headers.get("route") == "<sip:198.51.100.7;lr>, <sip:ann@198.51.100.9:5060>"


@pytest.mark.parametrize(
    "contact",
    [
        "<sip:ann@192.168.1.20:5062>",
        "<sip:ann@phone.example.com>",
        "<sip:ann@127.0.0.1>",
        "<sip:ann@0.0.0.0>",
    ],
)
def test_a_phone_behind_a_nat_gets_our_bye_where_it_came_from(contact: str) -> None:
    world, phone = World(), Phone(contact=contact)
    behind = Flow("UDP", PEER_HOST, 61_000)
    phone.learn(world.say(phone.invite(), behind))
    world.say(phone.ack(), behind)
    next(iter(world.agent.calls.values())).hang_up(world.now)
    world.collect()
    ((_, flow),) = world.sent_raw()
    assert flow == behind


def test_responses_go_to_the_source_port_only_where_rport_asks() -> None:
    world, phone = World(), Phone(port=5077)
    elsewhere = Flow("UDP", PEER_HOST, 61_000)
    world.agent.receive(phone.request("OPTIONS").encode(), elsewhere, world.now)
    world.agent.receive(phone.request("OPTIONS").replace(";rport", "").encode(), elsewhere, world.now)
    world.collect()
    (with_rport, to_source), (without, to_via) = world.sent_raw()
    assert to_source == elsewhere
    assert b";received=198.51.100.9;rport=61000\r\n" in with_rport
    assert to_via == Flow("UDP", PEER_HOST, 5077)
    assert b";received=198.51.100.9\r\n" in without


def test_a_bye_of_ours_is_repeated_until_it_is_answered() -> None:
    world, phone = World(), Phone()
    call = started(world, phone)
    (bye,) = world.do(call.hang_up)
    assert methods([bye, *world.wait(3.6)]) == ["BYE"] * 4
    assert isinstance(bye, Request)
    world.say(reply(bye, 200))
    assert world.wait(60.0) == []


def test_hanging_up_before_the_ack_waits_for_it() -> None:
    world, phone = World(), Phone()
    responses = world.say(phone.invite())
    phone.learn(responses)
    call = next(iter(world.agent.calls.values()))
    assert world.do(call.hang_up) == []
    assert methods(world.say(phone.ack())) == ["BYE"]
    assert world.kinds() == ["CallOffered", "MediaAgreed", "CallOver"]


# Session timers


def test_a_session_that_is_not_refreshed_ends() -> None:
    world, phone = World(), Phone()
    responses = phone.call(world, Session_Expires="90;refresher=uac", Supported="timer")
    assert responses[1].headers.get("session-expires") == "90;refresher=uac"
    assert responses[1].headers.get("require") == "timer"
    world.events()
    assert methods(world.wait(59.0)) == []
    assert statuses(
        world.say(phone.request("UPDATE", Session_Expires="90;refresher=uac", Supported="timer"))
    ) == [200]
    assert methods(world.wait(59.0)) == []
    assert methods(world.wait(1.2)) == ["BYE"]
    (over,) = world.events()
    assert isinstance(over, CallOver)
    assert over.reason == "connection lost: the session was not refreshed"


def test_a_session_shorter_than_ours_is_refused_with_the_shortest() -> None:
    world, phone = World(), Phone()
    (refused,) = world.say(phone.invite(Session_Expires="30", Supported="timer"))
    assert statuses([refused]) == [422]
    assert refused.headers.get("min-se") == "90"


def test_we_refresh_where_that_is_our_part() -> None:
    world, phone = World(), Phone()
    phone.call(world, Session_Expires="120;refresher=uas", Supported="timer", Allow="INVITE, UPDATE")
    assert world.wait(59.0) == []
    (update,) = world.wait(1.2)
    assert isinstance(update, Request)
    assert update.method == "UPDATE"
    assert update.body == b""
    world.say(reply(update, 200, Session_Expires="120;refresher=uac"))
    # 60 s after that, again.
    assert methods(world.wait(59.0)) == []
    assert methods(world.wait(1.2)) == ["UPDATE"]


def test_we_refresh_by_invite_where_the_peer_does_not_know_update() -> None:
    world, phone = World(), Phone()
    phone.call(world, Session_Expires="120;refresher=uas", Supported="timer", Allow="INVITE, BYE")
    world.events()
    (invite,) = world.wait(60.2)
    assert isinstance(invite, Request)
    assert invite.method == "INVITE"
    assert b"m=audio 40000" in invite.body
    # While ours is open, theirs must wait.
    assert statuses(world.say(phone.invite())) == [491]
    (ack,) = world.say(
        reply(invite, 200, body=OFFER, Contact="<sip:ann@198.51.100.9>", Session_Expires="120;refresher=uac")
    )
    assert methods([ack]) == ["ACK"]
    assert world.kinds() == ["MediaAgreed"]


def test_a_peer_that_has_forgotten_the_call_ends_it() -> None:
    world, phone = World(), Phone()
    phone.call(world, Session_Expires="120;refresher=uas", Supported="timer", Allow="UPDATE")
    (update,) = world.wait(60.2)
    assert isinstance(update, Request)
    assert methods(world.say(reply(update, 481))) == ["BYE"]
    assert world.kinds()[-1] == "CallOver"


# Transfers


def referred(world: World, call: InboundCall) -> Request:
    (refer,) = world.do(lambda now: call.transfer("sip:+15550100199@198.51.100.9", now))
    assert isinstance(refer, Request)
    assert refer.headers.get("refer-to") == "<sip:+15550100199@198.51.100.9>"
    return refer


def notify(phone: Phone, fragment: str, state: str = "active;expires=60") -> str:
    return phone.request(
        "NOTIFY", fragment, kind="message/sipfrag;version=2.0", Event="refer", Subscription_State=state
    )


def test_a_transfer_is_done_when_the_notify_says_so() -> None:
    world, phone = World(), Phone()
    call = started(world, phone)
    refer = referred(world, call)
    world.say(reply(refer, 202))
    assert statuses(world.say(notify(phone, "SIP/2.0 100 Trying\r\n"))) == [200]
    assert statuses(world.say(notify(phone, "SIP/2.0 200 OK\r\n", "terminated;reason=noresource"))) == [200]
    news = world.events()
    assert news == [TransferNews(call, 100, final=False), TransferNews(call, 200, final=True)]
    assert call.over is None


@pytest.mark.parametrize(
    ("fragment", "state", "status"),
    [
        ("SIP/2.0 486 Busy Here\r\n", "terminated", 486),
        ("SIP/2.0 180 Ringing\r\n", "terminated;reason=timeout", 480),
        ("nonsense", "terminated", 480),
    ],
)
def test_a_transfer_that_failed_leaves_the_call_up(fragment: str, state: str, status: int) -> None:
    world, phone = World(), Phone()
    call = started(world, phone)
    world.say(reply(referred(world, call), 202))
    world.say(notify(phone, fragment, state))
    assert world.events() == [TransferNews(call, status, final=True)]
    assert call.over is None
    # And may be tried again.
    referred(world, call)


def test_a_refer_that_is_refused_or_never_answered() -> None:
    world, phone = World(), Phone()
    call = started(world, phone)
    world.say(reply(referred(world, call), 405))
    assert world.events() == [TransferNews(call, 405, final=True)]
    world.say(reply(referred(world, call), 202))
    world.wait(41.0)
    assert world.events() == [TransferNews(call, 408, final=True)]


def test_a_peer_that_hangs_up_before_it_takes_our_refer_has_hung_up() -> None:
    world, phone = World(), Phone()
    referred(world, started(world, phone))
    world.say(phone.request("BYE"))
    (over,) = world.events()
    assert isinstance(over, CallOver)
    assert over.reason == "caller hung up"


def test_a_peer_that_hangs_up_on_our_refer_was_transferred() -> None:
    world, phone = World(), Phone()
    call = started(world, phone)
    world.say(reply(referred(world, call), 202))
    world.say(phone.request("BYE"))
    (over,) = world.events()
    assert isinstance(over, CallOver)
    assert over.reason == "transferred"


# Calls of ours


def dialled(world: World, target: str = "sip:bob@198.51.100.9") -> tuple[OutboundCall, Request]:
    call = world.agent.dial(target, flow=PEER, port=40_002, caller=f"sip:maya@{OUR_HOST}", now=world.now)
    world.collect()
    (invite,) = world.sent()
    assert isinstance(invite, Request)
    return call, invite


CONTACT = "<sip:bob@198.51.100.9:5061>"


def test_a_call_of_ours_rings_and_is_taken() -> None:
    world = World()
    call, invite = dialled(world)
    assert b"m=audio 40002 RTP/AVP 0 8 101" in invite.body
    world.say(reply(invite, 100, tag=""))
    world.say(reply(invite, 180))
    (ack,) = world.say(reply(invite, 200, body=OFFER, Contact=CONTACT))
    assert isinstance(ack, Request)
    assert (ack.method, ack.cseq, ack.uri.text) == ("ACK", 1, "sip:bob@198.51.100.9:5061")
    assert world.kinds() == ["CallRinging", "MediaAgreed", "CallUp"]
    (again,) = world.say(reply(invite, 200, body=OFFER, Contact=CONTACT))
    assert again == ack
    (bye,) = world.do(call.hang_up)
    assert isinstance(bye, Request)
    assert bye.cseq == 2
    assert bye.to.tag == "bob"


def test_the_peer_of_our_call_may_hang_up() -> None:
    world = World()
    _, invite = dialled(world)
    world.say(reply(invite, 200, body=OFFER, Contact=CONTACT))
    theirs = Phone(call_id=invite.call_id, tag="bob", to_tag=invite.from_.tag)
    assert statuses(world.say(theirs.request("BYE"))) == [200]
    assert world.kinds()[-1] == "CallOver"


@pytest.mark.parametrize("status", [302, 404, 486, 503, 603])
def test_a_call_that_nobody_takes(status: int) -> None:
    world = World()
    call, invite = dialled(world)
    (ack,) = world.say(reply(invite, status, Contact="<sip:+19005550100@198.51.100.9>"))
    assert isinstance(ack, Request)
    assert ack.via.branch == invite.via.branch
    (over,) = world.events()
    assert isinstance(over, CallOver)
    assert over.status == status
    assert call.over is not None
    # Nothing is dialled that a redirect asks for; its copy is acknowledged again.
    assert world.say(reply(invite, status)) == [ack]


def test_a_call_that_nobody_answers_is_cancelled() -> None:
    world = World()
    call, invite = dialled(world)
    world.say(reply(invite, 180))
    (cancel,) = world.wait(60.2)
    assert isinstance(cancel, Request)
    assert (cancel.method, cancel.cseq, cancel.via.branch) == ("CANCEL", 1, invite.via.branch)
    world.say(reply(cancel, 200))
    assert methods(world.say(reply(invite, 487))) == ["ACK"]
    over = world.events()[-1]
    assert isinstance(over, CallOver)
    assert (over.status, call.over) == (408, "no answer")


def test_nothing_at_all_comes_back() -> None:
    world = World()
    _, invite = dialled(world)
    # 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s.
    again = world.wait(33.0)
    assert again == [invite] * 6
    over = world.events()[-1]
    assert isinstance(over, CallOver)
    assert over.status == 408


def test_an_answer_that_crosses_our_cancel_is_thanked_and_left() -> None:
    world = World()
    call, invite = dialled(world)
    world.say(reply(invite, 180))
    assert methods(world.do(call.hang_up)) == ["CANCEL"]
    assert methods(world.say(reply(invite, 200, body=OFFER, Contact=CONTACT))) == ["ACK", "BYE"]


def test_a_cancel_waits_for_the_first_response() -> None:
    world = World()
    call, invite = dialled(world)
    assert world.do(call.hang_up) == []
    assert methods(world.say(reply(invite, 100, tag=""))) == ["CANCEL"]


def test_the_second_phone_that_answers_is_left() -> None:
    world = World()
    _, invite = dialled(world)
    world.say(reply(invite, 200, body=OFFER, Contact=CONTACT))
    second = world.say(reply(invite, 200, tag="eve", body=OFFER, Contact="<sip:eve@198.51.100.9>"))
    assert methods(second) == ["ACK", "BYE"]
    assert second[1].to.tag == "eve"
    assert len(world.agent.calls) == 1


def test_a_longer_session_is_taken_as_asked() -> None:
    world = World(open_config(session_expires_s=120))
    _, invite = dialled(world)
    _, again = world.say(reply(invite, 422, Min_SE="600"))
    assert isinstance(again, Request)
    assert (again.cseq, again.headers.get("session-expires")) == (2, "600")
    assert again.call_id == invite.call_id


def test_an_answer_without_audio_is_no_call() -> None:
    world = World()
    _, invite = dialled(world)
    after = world.say(reply(invite, 200, body=OFFER.replace("m=audio 20000", "m=audio 0"), Contact=CONTACT))
    assert methods(after) == ["ACK", "BYE"]
    assert world.kinds()[-1] == "CallOver"


@pytest.mark.parametrize("seed", range(12))
def test_two_agents_talk_over_a_network_that_loses_every_third(seed: int) -> None:
    """Set up, hold, end: whatever is lost, both ends agree in the end, and no call is left over."""
    ann = World(open_config(host=PEER_HOST, allow=("192.0.2.0/24",)), host=PEER_HOST, tokens="a")
    maya = World()
    sent = 0

    def deliver() -> None:
        nonlocal sent
        for source, source_host, target in ((ann, PEER_HOST, maya), (maya, OUR_HOST, ann)):
            for data, _ in source.sent_raw():
                sent += 1
                if (sent * 7 + seed * 5) % 3:
                    target.agent.receive(data, Flow("UDP", source_host, 5060), target.now)
                    target.collect()

    def pass_time(seconds: float) -> None:
        for _ in range(round(seconds / 0.05)):
            for world in (ann, maya):
                world.agent.handle_timer(world.now)
                world.collect()
            deliver()
            for world in (ann, maya):
                world.now += 0.05

    ann.agent.dial(
        f"sip:maya@{OUR_HOST}", flow=Flow("UDP", OUR_HOST, 5060), port=40_004, caller="sip:ann@x", now=ann.now
    )
    ann.collect()
    pass_time(40.0)
    assert ann.kinds()[-1] == "CallUp"
    assert maya.kinds() == ["CallOffered", "MediaAgreed", "CallUp"]
    next(iter(ann.agent.calls.values())).hang_up(ann.now)
    ann.collect()
    pass_time(70.0)
    assert maya.kinds() == ["CallOver"]
    assert not ann.agent.calls and not maya.agent.calls
    assert isinstance(ann.seen[-1], CallOver)


def test_every_response_is_a_response() -> None:
    world, phone = World(), Phone()
    for message in phone.call(world):
        assert isinstance(message, Response)
        assert message.call_id == phone.call_id
