"""Callers who hold the line until there is a place."""

from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest

from pipeline.line import LineInfo
from telephony.twilio.elsewhere import Found
from telephony.twilio.waiting import WaitingRoom, asked_before
from tests.telephony.test_twilio_resuming import Elsewhere
from tests.telephony.test_twilio_routes import RINGING, Twilio, twilio_for
from tests.telephony.twilio_support import CALL, Echo, config

WORDS = "All our lines are busy."


class House:
    """One place, which somebody may have; keeps what it was told."""

    def __init__(self) -> None:
        self.full = True
        self.told: list[tuple[str, str]] = []

    def take(self, call_id: str, *, goes_on: bool = False) -> bool:
        return not self.full

    def give_back(self, call_id: str) -> None:
        self.told.append(("gives back", call_id))

    def keep_turn(self, call_id: str, *, for_s: float, first: bool = False) -> None:
        self.told.append(("goes first" if first else "waits", call_id))

    def leave(self, call_id: str) -> None:
        self.told.append(("leaves", call_id))


@pytest.fixture
def house() -> House:
    return House()


@pytest.fixture
def twilio(house: House) -> Iterator[Twilio]:
    room = WaitingRoom(WORDS, 20.0, 5, house)
    yield from twilio_for(config(), Echo(), lines=house, waiting=room)


def verbs(response: ElementTree.Element) -> list[str]:
    return [verb.tag for verb in response]


def ask(twilio: Twilio, response: ElementTree.Element) -> Any:
    """What Twilio does at the redirect: to post, signed over the whole URL."""
    redirect = response.find("Redirect")
    assert redirect is not None
    assert redirect.text is not None
    assert redirect.attrib == {"method": "POST"}
    path = redirect.text.removeprefix(twilio.base)
    answer = twilio.post(path, RINGING | {"CallStatus": "in-progress"})
    assert answer.status_code == 200, answer.text
    return ElementTree.fromstring(answer.text)  # noqa: S314  (our own)


def test_a_caller_is_told_to_wait_and_connected_when_there_is_a_place(twilio: Twilio, house: House) -> None:
    first = twilio.voice()
    assert verbs(first) == ["Say", "Pause", "Redirect"]
    assert first[0].text == WORDS
    assert first[1].attrib == {"length": "5"}
    again = ask(twilio, first)
    assert verbs(again) == ["Pause", "Redirect"], "the words are not said every five seconds"
    house.full = False
    assert verbs(ask(twilio, again)) == ["Connect", "Redirect"]
    assert ("leaves", CALL) not in house.told


def test_waiting_ends_after_its_limit_and_the_caller_hears_that_all_is_busy(
    twilio: Twilio, house: House
) -> None:
    response, times = twilio.voice(), 0
    while "Redirect" in verbs(response):
        response, times = ask(twilio, response), times + 1
        assert times < 10
    assert verbs(response) == ["Say", "Hangup"]
    assert "busy" in str(response[0].text)
    assert times == 4, "20 s, asked every 5 s"
    assert house.told == [("waits", CALL)] * 5 + [("leaves", CALL)]


def test_a_caller_with_a_place_never_hears_of_it(twilio: Twilio, house: House) -> None:
    house.full = False
    assert verbs(twilio.voice()) == ["Connect", "Redirect"]


def test_a_call_that_was_lost_goes_on_before_those_who_wait(house: House) -> None:
    elsewhere = Elsewhere(Found(LineInfo(CALL, "twilio", "+15550100", "+15550199")))
    room = WaitingRoom(WORDS, 20.0, 5, house)
    for twilio in twilio_for(config(), Echo(), lines=house, waiting=room, elsewhere=elsewhere):
        assert [verb for verb, _ in twilio.after()] == ["Connect", "Redirect"]
    assert house.told == [("goes first", CALL)]


def test_the_words_come_again_after_half_a_minute() -> None:
    room = WaitingRoom(WORDS, 120.0, 5)
    said = [number for number in range(room.most) if "<Say>" in str(room.twiml("https://x/", number))]
    assert said == [0, 6, 12, 18]
    slow = WaitingRoom(WORDS, 120.0, 60)
    assert slow.most == 2
    assert "<Say>" in str(slow.twiml("https://x/", 1))


@pytest.mark.parametrize("query", ["", "?asked=", "?asked=-1", "?asked=1e3", "?asked=99999", "?asked=x"])
def test_a_request_that_we_did_not_write_is_refused(twilio: Twilio, query: str) -> None:
    assert twilio.post("/twilio/waiting" + query, RINGING).status_code == 400


def test_what_is_not_signed_is_refused(twilio: Twilio, house: House) -> None:
    assert twilio.post("/twilio/waiting?asked=1", RINGING, headers={}).status_code == 403
    assert house.told == []


def test_without_a_call_nobody_waits(twilio: Twilio) -> None:
    assert twilio.post("/twilio/waiting?asked=1", RINGING | {"CallSid": "../x"}).status_code == 400


def test_how_often_was_asked() -> None:
    assert [asked_before(told) for told in ("0", "12", None, "\u0663", "1 ")] == [0, 12, None, None, None]
