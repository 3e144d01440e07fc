"""Requests that come too often, are too long, or too slow; and those that calls need."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest

from infra.access.door import Door
from infra.access.guard import Guard, Message, Receive, Scope, Send
from infra.access.keys import digest_of, new_key
from infra.access.policy import AccessSettings
from telephony.simulator.virtual_loop import run_virtual

KEY = new_key()[0]
SETTINGS = AccessSettings(keys=(f"ann:viewer:never:{digest_of(KEY)}",))
STRANGER, TWILIO, FORGER = "203.0.113.9", "203.0.113.20", "203.0.113.30"


class House:
    """A guard before an application that reads each request whole and answers with `status`."""

    def __init__(self, settings: AccessSettings = SETTINGS) -> None:
        self.now = 0.0
        self.reached: list[str] = []
        self.bodies: list[bytes | None] = []
        self.status = 200
        self.door = Door(settings, public_url="https://maya.example.com", monotonic=lambda: self.now)
        self.guard = Guard(self.app, self.door, settings, monotonic=lambda: self.now)

    async def app(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.reached.append(scope["path"])
        body = b""
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.bodies.append(None)
                await send({"type": "http.response.start", "status": 400, "headers": []})
                await send({"type": "http.response.body", "body": b"broke off"})
                return
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        self.bodies.append(body)
        await send({"type": "http.response.start", "status": self.status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    async def ask(
        self,
        path: str = "/calls",
        *,
        peer: str = STRANGER,
        body: Iterable[bytes] = (),
        every_s: float = 0.0,
        **headers: str,
    ) -> "Answer":
        chunks = list(body)
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = Answer()

        async def receive() -> Message:
            if every_s:
                await asyncio.sleep(every_s)
            answer.reads += 1
            chunk = chunks.pop(0) if chunks else b""
            return {"type": "http.request", "body": chunk, "more_body": bool(chunks)}

        async def send(message: Message) -> None:
            answer.messages.append(message)

        scope: dict[str, Any] = {
            "type": "http",
            "method": "POST",
            "path": path,
            "scheme": "https",
            "headers": [(name.encode(), value.encode("latin-1")) for name, value in told.items()],
            "client": (peer, 5000),
        }
        await self.guard(scope, receive, send)
        return answer

    def statuses(self, count: int, path: str = "/calls", **how: Any) -> list[int]:
        return [run_virtual(self.ask(path, **how)).status for _ in range(count)]


class Answer:
    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.reads = 0

    @property
    def status(self) -> int:
        starts = [message["status"] for message in self.messages if message["type"].endswith("start")]
        assert len(starts) == 1
        assert self.messages[-1].get("more_body", False) is False
        return int(starts[0])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])


def test_a_thousand_requests_a_second_cost_the_application_a_few() -> None:
    house = House()
    served = 0
    for number in range(5_000):  # five seconds of it
        house.now = number / 1_000
        served += run_virtual(house.ask()).status == 200
    assert served == len(house.reached)
    assert served == pytest.approx(80 + 5 * 20, abs=3)
    assert house.door.turned_away == {429: 5_000 - served}


def test_from_many_addresses_together_no_more_than_all_may() -> None:
    house = House()
    answers = [run_virtual(house.ask(peer=f"198.51.{n // 250}.{n % 250}")).status for n in range(1_000)]
    assert answers.count(200) == 401
    house.now = 1.0
    assert house.statuses(300, peer="192.0.2.1").count(200) == 81  # its own allowance
    assert 100 <= sum(house.statuses(1, peer=f"192.0.3.{n}") == [200] for n in range(250)) <= 130


def test_whoever_has_a_key_is_not_held_up_by_those_who_have_none() -> None:
    house = House()
    for n in range(1_000):
        run_virtual(house.ask(peer=f"198.51.{n // 250}.{n % 250}"))
    assert house.statuses(50, authorization=f"Bearer {KEY}") == [200] * 50
    assert house.statuses(500, authorization=f"Bearer {KEY}").count(429) == 500 - (201 - 50)


def test_a_made_up_key_is_a_strangers() -> None:
    house = House()
    answers = [run_virtual(house.ask(authorization=f"Bearer wrong{n}")).status for n in range(200)]
    assert answers.count(200) == 81


def test_probes_go_on_while_strangers_flood_from_everywhere() -> None:
    house = House()
    for n in range(1_000):
        run_virtual(house.ask(peer=f"198.51.{n // 250}.{n % 250}"))
    assert house.statuses(1, "/calls", peer="192.0.2.1") == [429]
    assert house.statuses(3, "/readyz", peer="192.0.2.1") == [200] * 3


def test_an_answer_says_when_to_come_back() -> None:
    house = House()
    house.statuses(81)
    answer = run_virtual(house.ask())
    assert (answer.status, answer.headers[b"retry-after"]) == (429, b"1")
    assert b"connection" not in answer.headers  # to open another would cost both more


# What calls need


def test_five_hundred_webhooks_at_once_are_let_through() -> None:
    house = House()
    assert house.statuses(500, "/twilio/voice", peer=TWILIO, x_twilio_signature="good") == [200] * 500


@pytest.mark.parametrize("refusal", [307, 400, 403, 404, 405])
def test_forged_webhooks_are_held_back_and_twilios_are_not(refusal: int) -> None:
    house = House()
    run_virtual(house.ask("/twilio/voice", peer=TWILIO, x_twilio_signature="good"))
    house.status = refusal
    forged = house.statuses(200, "/twilio/voice", peer=FORGER, x_twilio_signature="forged")
    assert forged.count(refusal) == 20
    assert forged.count(429) == 180
    # A server whose secret is being changed refuses Twilio's for a while.
    assert house.statuses(200, "/twilio/voice", peer=TWILIO, x_twilio_signature="old") == [refusal] * 200
    house.status = 200
    assert house.statuses(200, "/twilio/voice", peer=TWILIO, x_twilio_signature="good") == [200] * 200


def test_behind_one_proxy_nobodys_forgeries_hold_twilio_back() -> None:
    house = House()
    house.status = 403
    house.statuses(200, "/twilio/voice", peer="10.0.0.2", x_twilio_signature="forged")
    house.status = 200
    assert house.statuses(5, "/twilio/voice", peer="10.0.0.2", x_twilio_signature="good") == [200] * 5


def test_a_webhook_without_a_signature_is_a_strangers() -> None:
    assert House().statuses(200, "/twilio/voice", peer=FORGER).count(429) == 200 - 81


def test_sockets_are_left_alone() -> None:
    seen: list[tuple[Any, ...]] = []

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        seen.append((scope, receive, send))

    door = Door(SETTINGS, public_url="https://maya.example.com")
    scope, receive, send = {"type": "websocket", "path": "/twilio/media"}, object(), object()
    for _ in range(1_000):
        run_virtual(Guard(app, door, SETTINGS)(scope, receive, send))  # type: ignore[arg-type]
    assert seen == [(scope, receive, send)] * 1_000


# Bodies


def test_ten_megabytes_are_refused_without_being_read() -> None:
    house = House()
    answer = run_virtual(house.ask(body=[b"x" * 16_384] * 640, content_length=str(640 * 16_384)))
    assert (answer.status, answer.headers[b"connection"]) == (413, b"close")
    assert house.reached == []
    assert answer.reads <= 16  # of 640: enough for the sender to come to the answer


def test_ten_megabytes_that_nobody_announced_are_refused_as_they_come() -> None:
    house = House()
    answer = run_virtual(house.ask(body=[b"x" * 16_384] * 640, transfer_encoding="chunked"))
    assert (answer.status, house.bodies) == (413, [None])
    assert answer.reads <= 22


@pytest.mark.parametrize("length", ["-1", "1e3", "9" * 5_000, "٣", ""])
def test_a_length_that_is_none(length: str) -> None:
    if not length.isascii():
        length = length.encode().decode("latin-1")
    assert run_virtual(House().ask(body=[b"x"], content_length=length)).status == 413


def test_a_body_as_long_as_may_be_goes_through_whole() -> None:
    house = House()
    chunks = [b"x" * 16_384] * 4
    assert run_virtual(house.ask(body=chunks, content_length=str(65_536))).status == 200
    assert run_virtual(house.ask(body=chunks, transfer_encoding="chunked")).status == 200
    assert house.bodies == [b"".join(chunks)] * 2
    assert run_virtual(house.ask(body=[*chunks, b"x"], transfer_encoding="chunked")).status == 413


def test_a_body_that_trickles_is_not_waited_for() -> None:
    house = House()

    async def trickle() -> tuple[int, float]:
        answer = await house.ask(body=[b"x"] * 100, every_s=1.0, content_length="100")
        return answer.status, asyncio.get_running_loop().time()

    status, took_s = run_virtual(trickle())
    assert (status, house.bodies) == (408, [None])
    assert 10.0 <= took_s <= 11.5


def test_a_slow_body_in_time_is_taken_and_what_follows_may_wait() -> None:
    house = House()
    assert run_virtual(house.ask(body=[b"x"] * 9, every_s=1.0, content_length="9")).status == 200
    assert house.bodies == [b"x" * 9]
