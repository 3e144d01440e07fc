"""Calls that we make: ordered over HTTP, dialled in turn, answered on a media stream, opted out of."""

import asyncio
import itertools
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import FastAPI

from infra.access.keys import new_key
from infra.access.policy import AccessSettings
from infra.access.web import install
from infra.outbound.api import create_router
from infra.outbound.dialler import CarrierRefused, Dialler, Order
from infra.outbound.ledger import CallLedger, DoNotCall
from infra.outbound.office import opt_out
from infra.outbound.policy import OutboundSettings, Refused
from pipeline.events import CallerTurn
from pipeline.line import LineInfo
from pipeline.persona import Persona
from pipeline.routing import Hours
from telephony.twilio.elsewhere import RESUMED_PARAMETER

KEY, HASH = new_key()
NUMBER, OTHER = "+12025550123", "+12025550124"
NOON = datetime(2026, 11, 27, 12, 0, tzinfo=UTC)
PERSONA = Persona(name="Clinic", greeting="Clinic.", system="You are Maya.")
SETTINGS = OutboundSettings(
    allowed_prefixes=("+1202",),
    caller_id="+12025550199",
    hours=Hours(timezone="UTC", weekdays="09:00-18:00"),
    calls_per_s=20,
    most_at_once=3,
    most_waiting=3,
    api_keys=(HASH,),
)


class Carrier:
    """Notes what it is asked to dial, and when."""

    def __init__(self) -> None:
        self.placed: list[tuple[str, float]] = []
        self.error: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def place(self, order: Order) -> str:
        self.placed.append((order.number, asyncio.get_running_loop().time()))
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return f"CA{len(self.placed)}"


class House:
    def __init__(self, folder: Path, settings: OutboundSettings = SETTINGS) -> None:
        self.carrier = Carrier()
        self.rehearsed: list[Persona] = []
        self.now = NOON
        self.accepting = True
        self.personas = {"": PERSONA, "clinic": PERSONA}
        self.unwanted = DoNotCall(folder / "do-not-call.txt")
        self.dialler = Dialler(
            settings,
            self.carrier,
            CallLedger(folder / "dialled.jsonl"),
            self.unwanted,
            persona_named=lambda name: self.personas.get(name),
            rehearse=self._rehearse,
            accepting=lambda: self.accepting,
            wall=lambda: self.now,
        )
        app = FastAPI()
        install(app, AccessSettings(), public_url="http://maya", operator_hashes=settings.api_keys)
        app.include_router(create_router(self.dialler))
        self.web = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://maya")

    async def _rehearse(self, persona: Persona) -> None:
        self.rehearsed.append(persona)

    @asynccontextmanager
    async def running(self) -> AsyncIterator["House"]:
        running = asyncio.create_task(self.dialler.run())
        try:
            yield self
        finally:
            running.cancel()
            await self.web.aclose()

    async def post(self, body: Any, **headers: str) -> httpx.Response:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        sent = {"Authorization": f"Bearer {KEY}"} | {k.replace("_", "-"): v for k, v in headers.items()}
        return await self.web.post("/calls", content=content, headers=sent)

    async def until(self, order_id: str, state: str) -> Order:
        async with asyncio.timeout(5):
            while True:
                order = self.dialler.status(order_id)
                assert order is not None
                if order.state == state:
                    return order
                await asyncio.sleep(0.005)


async def test_an_order_is_dialled_answered_and_over(tmp_path: Path) -> None:
    async with House(tmp_path).running() as house:
        answer = await house.post({"to": "+1 202 555 0123", "persona": "clinic"})
        assert answer.status_code == 202
        order = answer.json()
        assert (order["number"], order["state"]) == (NUMBER, "waiting")
        ringing = await house.until(order["id"], "ringing")
        assert ringing.call_id == "CA1"
        assert [persona.greeting for persona in house.rehearsed] == [PERSONA.calling().greeting]
        ours = house.dialler.answered(order["id"])
        assert ours is not None
        assert ours[1].greeting.startswith("Hello, this is an automated call.")
        assert house.dialler.answered(order["id"]) is None  # a second line with the same id
        house.dialler.over(order["id"], "goodbye")
        house.dialler.over(order["id"], "completed")
        shown = (
            await house.web.get(f"/calls/{order['id']}", headers={"Authorization": f"Bearer {KEY}"})
        ).json()
        assert (shown["state"], shown["detail"]) == ("over", "goodbye")


async def test_one_key_makes_one_call(tmp_path: Path) -> None:
    async with House(tmp_path).running() as house:
        both = await asyncio.gather(
            *(house.post({"to": NUMBER}, Idempotency_Key="monday") for _ in range(2)),
        )
        again = await house.post({"to": NUMBER}, Idempotency_Key="monday")
        assert {answer.json()["id"] for answer in (*both, again)} == {both[0].json()["id"]}
        other = await house.post({"to": OTHER}, Idempotency_Key="monday")
        assert other.status_code == 409
        await house.until(both[0].json()["id"], "ringing")
        assert [number for number, _ in house.carrier.placed] == [NUMBER]


async def test_one_key_for_two_calls_at_once_makes_one_and_refuses_the_other(tmp_path: Path) -> None:
    house = House(tmp_path)
    one, other = await asyncio.gather(
        *(house.post({"to": number}, Idempotency_Key="monday") for number in (NUMBER, OTHER))
    )
    assert sorted((one.status_code, other.status_code)) == [202, 409]


async def test_what_still_waits_is_not_forgotten(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.outbound.dialler._ORDERS_KEPT", 2)
    house = House(tmp_path)
    orders = [await house.dialler.order(f"+1202555010{n}", key=str(n)) for n in range(3)]
    assert all(house.dialler.status(order.id) is not None for order in orders)
    house.dialler.cancel(orders[1].id)
    assert house.dialler.status(orders[1].id) is None
    assert await house.dialler.order("+12025550100", key="0") == orders[0]


async def test_an_order_that_is_forgotten_while_it_is_made_ready_stops_nobody(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.outbound.dialler._ORDERS_KEPT", 1)
    house, ready = House(tmp_path), asyncio.Event()
    house.dialler._rehearse = lambda persona: ready.wait()  # type: ignore[assignment,return-value]
    async with house.running():
        first = await house.dialler.order(NUMBER)
        await asyncio.sleep(0.01)
        house.dialler.cancel(first.id)
        second = await house.dialler.order(OTHER)
        assert house.dialler.status(first.id) is None
        ready.set()
        await house.until(second.id, "ringing")
    assert [number for number, _ in house.carrier.placed] == [OTHER]


async def test_nothing_is_dialled_while_the_server_stops(tmp_path: Path) -> None:
    house = House(tmp_path)
    order = await house.dialler.order(NUMBER)
    house.accepting = False
    assert (await house.post({"to": OTHER})).status_code == 503
    async with house.running():
        failed = await house.until(order.id, "failed")
    assert failed.detail == "this server is about to stop"
    assert house.carrier.placed == []


async def test_who_wants_no_calls_is_not_called_after_waiting_for_the_pace(tmp_path: Path) -> None:
    house = House(tmp_path, SETTINGS.model_copy(update={"calls_per_s": 5.0}))
    async with house.running():
        first = await house.dialler.order(NUMBER)
        second = await house.dialler.order(OTHER)
        await house.until(first.id, "ringing")
        house.unwanted.add(OTHER, "said on another call")
        assert "do-not-call" in (await house.until(second.id, "failed")).detail
    assert [number for number, _ in house.carrier.placed] == [NUMBER]


async def test_the_persona_of_a_call_is_the_one_that_was_made_ready(tmp_path: Path) -> None:
    async with House(tmp_path).running() as house:
        order = await house.dialler.order(NUMBER, "clinic")
        await house.until(order.id, "ringing")
        assert house.dialler.ringing == 1
        del house.personas["clinic"]  # its file has gone meanwhile
        ours = house.dialler.answered(order.id)
        assert ours is not None
        assert ours[1] == house.rehearsed[0]
        assert house.dialler.ringing == 0


async def test_a_call_of_which_nothing_is_heard_does_not_ring_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("infra.outbound.dialler._UNHEARD_S", -SETTINGS.ring_s + 0.05)
    async with House(tmp_path).running() as house:
        order = await house.dialler.order(NUMBER)
        failed = await house.until(order.id, "failed")
    assert failed.detail == "the carrier has not said what became of it"


async def test_a_carrier_that_fails_after_somebody_answered_has_lost_nothing(tmp_path: Path) -> None:
    async with House(tmp_path).running() as house:
        house.carrier.gate.clear()
        house.carrier.error = CarrierRefused("no answer within 10 s")
        order = await house.dialler.order(NUMBER)
        await house.until(order.id, "dialling")
        assert house.dialler.answered(order.id) is not None
        house.carrier.gate.set()
        await asyncio.sleep(0.02)
        house.dialler.over(order.id, "goodbye")
        assert (await house.until(order.id, "over")).detail == "goodbye"


async def test_the_carriers_pace_is_kept(tmp_path: Path) -> None:
    async with House(tmp_path).running() as house:
        orders = [(await house.post({"to": f"+1202555010{n}"})).json() for n in range(3)]
        for order in orders:
            await house.until(order["id"], "ringing")
        moments = [at for _, at in house.carrier.placed]
        assert all(later - earlier >= 0.049 for earlier, later in itertools.pairwise(moments))


async def test_no_more_ring_at_once_than_the_house_can_talk_to(tmp_path: Path) -> None:
    settings = SETTINGS.model_copy(update={"most_at_once": 2})
    async with House(tmp_path, settings).running() as house:
        first, second, third = [(await house.post({"to": f"+1202555010{n}"})).json()["id"] for n in range(3)]
        await house.until(first, "ringing")
        await house.until(second, "ringing")
        await asyncio.sleep(0.1)
        assert len(house.carrier.placed) == 2
        assert house.dialler.answered(first) is not None
        house.dialler.over(second, "no-answer")
        await house.until(third, "ringing")


async def test_more_than_may_wait_are_told_to_come_again(tmp_path: Path) -> None:
    house = House(tmp_path)  # whose queue nobody empties
    answers = [await house.post({"to": f"+1202555010{n}"}) for n in range(4)]
    assert [answer.status_code for answer in answers] == [202, 202, 202, 429]
    assert answers[3].headers["retry-after"] == "60"


async def test_what_changed_while_an_order_waited_counts(tmp_path: Path) -> None:
    house = House(tmp_path)
    order = (await house.post({"to": NUMBER})).json()
    house.unwanted.add(NUMBER, "wrote a letter")
    async with house.running():
        failed = await house.until(order["id"], "failed")
    assert "do-not-call" in failed.detail
    assert house.carrier.placed == []


async def test_daily_limits_count_calls_that_the_carrier_refused(tmp_path: Path) -> None:
    async with House(tmp_path).running() as house:
        house.carrier.error = CarrierRefused("no money left on the account")
        for _ in range(2):
            order = (await house.post({"to": NUMBER})).json()
            assert (await house.until(order["id"], "failed")).detail == "no money left on the account"
        third = await house.post({"to": NUMBER})
        assert third.status_code == 429
        assert "2 times" in third.json()["detail"]


async def test_a_webhook_may_come_before_the_carriers_answer(tmp_path: Path) -> None:
    async with House(tmp_path).running() as house:
        house.carrier.gate.clear()
        order = (await house.post({"to": NUMBER})).json()
        await house.until(order["id"], "dialling")
        assert house.dialler.answered(order["id"]) is not None
        house.carrier.gate.set()
        await asyncio.sleep(0.02)
        shown = house.dialler.status(order["id"])
        assert shown is not None
        assert (shown.state, shown.call_id) == ("answered", "CA1")


async def test_waiting_orders_can_be_taken_back(tmp_path: Path) -> None:
    house = House(tmp_path)
    order = (await house.post({"to": NUMBER})).json()
    bearer = {"Authorization": f"Bearer {KEY}"}
    assert (await house.web.delete(f"/calls/{order['id']}", headers=bearer)).status_code == 204
    async with house.running():
        await asyncio.sleep(0.05)
        assert house.carrier.placed == []
        assert (await house.web.delete(f"/calls/{order['id']}", headers=bearer)).status_code == 409
        assert (await house.web.delete("/calls/none", headers=bearer)).status_code == 404


@pytest.mark.parametrize("key", ["", "Bearer", "Bearer wrong", f"Basic {KEY}", f"Bearer {HASH}", KEY])
async def test_without_a_key_nothing_is_told_and_nothing_done(tmp_path: Path, key: str) -> None:
    house = House(tmp_path)
    headers = {"Authorization": key} if key else {}
    answer = await house.web.post("/calls", json={"to": NUMBER}, headers=headers)
    assert answer.status_code == 401
    assert (await house.web.get("/calls/x", headers=headers)).status_code == 401
    assert (await house.web.delete("/calls/x", headers=headers)).status_code == 401


@pytest.mark.parametrize(
    ("body", "status", "detail"),
    [
        (b"{", 422, "JSON"),
        ({"to": "911"}, 422, "emergency"),
        ({"to": NUMBER, "persona": "nobody"}, 422, "no persona is named 'nobody'"),
        ({"to": NUMBER, "url": "https://evil.example"}, 422, "url"),
        ({"to": 12025550123}, 422, "to"),
        ({}, 422, "to"),
        (b'"' + b"x" * 5000 + b'"', 413, "too long"),
        ({"to": "+12125551234"}, 403, "allowed_prefixes"),
    ],
)
async def test_bad_orders_say_what_is_wrong(tmp_path: Path, body: Any, status: int, detail: str) -> None:
    answer = await House(tmp_path).post(body)
    assert answer.status_code == status, answer.text
    assert detail in answer.json()["detail"]


async def test_records_that_cannot_be_read_stop_all_calls(tmp_path: Path) -> None:
    (tmp_path / "do-not-call.txt").mkdir()
    with pytest.raises(Refused, match="nobody is called") as refused:
        await House(tmp_path).dialler.order(NUMBER)
    assert refused.value.status == 503


@pytest.mark.parametrize(
    "said",
    [
        "Please don't call me again.",
        "Stop calling this number!",
        "Take me off your list.",
        "I want you to remove my number.",
        "Never call here again.",
        "Can I opt out?",
        "No more calls, thank you.",
        "I don’t want any more calls from you.",
        "Don't you ever call me again.",
        "We do not want to be called.",
        "Stop contacting us.",
        "Lose my number.",
    ],
)
async def test_whoever_wants_no_calls_is_never_called_again(tmp_path: Path, said: str) -> None:
    house = House(tmp_path)
    order = await house.dialler.order(NUMBER)
    house.dialler.opt_out_observer(order.number).observe(CallerTurn(1.0, 1, said))
    async with asyncio.timeout(5):
        while NUMBER not in house.unwanted.numbers():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    with pytest.raises(Refused, match="do-not-call"):
        await house.dialler.order(NUMBER)


@pytest.mark.parametrize(
    "said",
    [
        "Don't hang up.",
        "Call me again tomorrow.",
        "What is the call about?",
        "I stopped by.",
        "Don't bother.",
    ],
)
async def test_others_are(tmp_path: Path, said: str) -> None:
    house = House(tmp_path)
    order = await house.dialler.order(NUMBER)
    house.dialler.opt_out_observer(order.number).observe(CallerTurn(1.0, 1, said))
    await asyncio.sleep(0.02)
    assert house.unwanted.numbers() == frozenset()


async def test_whoever_wants_no_calls_is_heard_though_the_line_was_lost(tmp_path: Path) -> None:
    """The call goes on at a front-end that does not know its order."""
    house = House(tmp_path)
    info = LineInfo("CA1", "twilio", caller=NUMBER, parameters={RESUMED_PARAMETER: "outbound"})
    observer = opt_out(house.dialler, info)
    assert observer is not None
    observer.observe(CallerTurn(1.0, 1, "Take me off your list."))
    async with asyncio.timeout(5):
        while NUMBER not in house.unwanted.numbers():  # noqa: ASYNC110
            await asyncio.sleep(0.005)
    for other in ({RESUMED_PARAMETER: "inbound"}, {}):
        assert opt_out(house.dialler, LineInfo("CA2", "twilio", caller=NUMBER, parameters=other)) is None
