import pytest

from telephony.sip.message import Request, parse_message
from telephony.sip.session_timer import Refresher, SessionTimer, Terms, seconds, terms_for, too_short
from telephony.sip.timers import Timers
from tests.telephony.sip_support import Phone


def invite(**headers: str) -> Request:
    message = parse_message(Phone().invite(**headers).encode())
    assert isinstance(message, Request)
    return message


@pytest.mark.parametrize(
    ("headers", "terms"),
    [
        ({}, None),
        ({"Supported": "timer"}, Terms(1_800, "uac")),
        ({"Supported": "timer", "Session-Expires": "600"}, Terms(600, "uac")),
        ({"Supported": "timer", "Session-Expires": "600;refresher=uas"}, Terms(600, "uas")),
        ({"Supported": "timer", "Session-Expires": "7200 ; Refresher = UAC"}, Terms(1_800, "uac")),
        ({"Supported": "timer", "Session-Expires": "7200", "Min-SE": "3600"}, Terms(3_600, "uac")),
        # A proxy asks, the caller knows nothing of it: then it is for us to refresh.
        ({"x": "600;refresher=uac"}, Terms(600, "uas", False)),
        ({"Session-Expires": "30"}, Terms(90, "uas", False)),
        ({"Session-Expires": "soon"}, None),
    ],
)
def test_what_we_answer(headers: dict[str, str], terms: Terms | None) -> None:
    assert terms_for(invite(**headers), session_s=1_800, min_s=90) == terms


def test_too_short_is_only_said_to_those_who_understand() -> None:
    assert too_short(invite(Supported="timer", Session_Expires="30"), 90)
    assert not too_short(invite(Session_Expires="30"), 90)
    assert not too_short(invite(Supported="timer", Session_Expires="90"), 90)


def test_seconds() -> None:
    assert seconds("90;refresher=uac") == 90
    assert seconds("999999999") == 86_400
    for odd in (None, "", "-1", "1e3", "٣", "9" * 30):
        assert seconds(odd) is None


@pytest.mark.parametrize(
    ("refresher", "ours", "happens"),
    [
        ("uac", "uac", [(60.0, "refresh"), (88.0, "expired")]),
        ("uas", "uac", [(88.0, "expired")]),
        ("uas", "uas", [(60.0, "refresh"), (88.0, "expired")]),
    ],
)
def test_when_it_rings(refresher: Refresher, ours: Refresher, happens: list[tuple[float, str]]) -> None:
    timers, seen = Timers(), []
    timer = SessionTimer(
        timers,
        on_refresh=lambda now: seen.append((now, "refresh")),
        on_expired=lambda now: seen.append((now, "expired")),
    )
    timer.start(Terms(120, refresher), ours=ours, now=0.0)
    while (deadline := timers.next_deadline()) is not None:
        timers.run(deadline)
    assert seen == happens
    timer.start(Terms(120, refresher), ours=ours, now=0.0)
    timer.start(None, ours=ours, now=1.0)
    assert timers.next_deadline() is None
