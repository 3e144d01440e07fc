"""Retransmissions and time-outs on both sides, by the clock of RFC 3261 section 17."""

from telephony.sip.message import Draft, Request, Response, parse_message
from telephony.sip.timers import Timers
from telephony.sip.transactions import ClientTransaction, Flow, TransactionLayer
from tests.telephony.sip_support import PEER, Phone, counted_tokens, reply

TCP = Flow("TCP", "198.51.100.9", 5060)


class Bench:
    def __init__(self) -> None:
        self.timers = Timers()
        self.sent: list[tuple[float, bytes]] = []
        self.now = 0.0
        self.layer = TransactionLayer(
            self.timers,
            lambda data, flow: self.sent.append((self.now, data)),
            local=lambda flow: ("192.0.2.1", 5060),
            token=counted_tokens(),
            limit=3,
        )
        self.statuses: list[int] = []
        self.timeouts: list[float] = []

    def run(self, until: float) -> list[float]:
        """When something was sent meanwhile."""
        self.sent.clear()
        while (deadline := self.timers.next_deadline()) is not None and deadline <= until:
            self.now = deadline
            self.timers.run(deadline)
        self.now = until
        return [at for at, _ in self.sent]

    def ask(self, method: str, flow: Flow = PEER) -> tuple[ClientTransaction, Request]:
        draft = Draft(
            method,
            "sip:bob@198.51.100.9",
            1,
            (("From", "<sip:maya@x>;tag=a"), ("To", "<sip:bob@x>"), ("Call-ID", "c")),
        )
        transaction = self.layer.request(
            draft,
            flow,
            self.now,
            on_response=lambda transaction, response, now: self.statuses.append(response.status),
            on_timeout=lambda transaction, now: self.timeouts.append(now),
        )
        message = parse_message(self.sent[-1][1])
        assert isinstance(message, Request)
        return transaction, message

    def answer(self, request: Request, status: int) -> bool:
        message = parse_message(reply(request, status).encode())
        assert isinstance(message, Response)
        return self.layer.take_response(message, self.now)


def test_other_requests_are_repeated_up_to_every_four_seconds() -> None:
    bench = Bench()
    bench.ask("BYE")
    assert bench.run(33.0) == [0.5, 1.5, 3.5, 7.5, 11.5, 15.5, 19.5, 23.5, 27.5, 31.5]
    assert bench.timeouts == [32.0]


def test_nothing_is_repeated_over_a_stream_but_time_runs_all_the_same() -> None:
    bench = Bench()
    bench.ask("INVITE", TCP)
    assert bench.run(33.0) == []
    assert bench.timeouts == [32.0]


def test_an_invite_that_rings_is_neither_repeated_nor_timed_out() -> None:
    bench = Bench()
    _, request = bench.ask("INVITE")
    assert bench.run(0.6) == [0.5]
    bench.answer(request, 180)
    assert bench.run(600.0) == []
    assert (bench.statuses, bench.timeouts) == ([180], [])


def test_a_final_response_is_told_once() -> None:
    bench = Bench()
    _, request = bench.ask("BYE")
    assert bench.answer(request, 200)
    assert bench.answer(request, 200)
    assert bench.statuses == [200]
    bench.run(40.0)
    assert not bench.answer(request, 200)


def test_responses_that_are_not_ours() -> None:
    bench = Bench()
    _, request = bench.ask("BYE")
    for change in (("z9hG4bK", "z9hG4bKx"), ("Call-ID: c", "Call-ID: d"), ("CSeq: 1 BYE", "CSeq: 2 BYE")):
        message = parse_message(reply(request, 200).replace(*change).encode())
        assert isinstance(message, Response)
        assert not bench.layer.take_response(message, 0.0)
    assert bench.statuses == []


def served(bench: Bench, text: str, status: int, flow: Flow = PEER) -> None:
    request = parse_message(text.encode())
    assert isinstance(request, Request)
    bench.layer.open(request, flow).respond(request.response(status, tag="t"), status, bench.now)


def test_a_refusal_is_repeated_until_its_ack() -> None:
    bench, phone = Bench(), Phone()
    served(bench, phone.invite(branch="z9hG4bK1"), 486)
    assert bench.run(4.0) == [0.5, 1.5, 3.5]
    ack = parse_message(phone.request("ACK", cseq=1, branch="z9hG4bK1").encode())
    assert isinstance(ack, Request)
    assert bench.layer.take_ack(ack)
    assert bench.run(40.0) == []


def test_a_refusal_over_a_stream_goes_once_and_an_acceptance_more_often() -> None:
    bench = Bench()
    served(bench, Phone(call_id="1").invite(), 486, TCP)
    assert bench.run(40.0) == []
    served(bench, Phone(call_id="2").invite(), 200, TCP)
    assert bench.run(41.6) == [40.5, 41.5]


def test_a_repeated_request_is_answered_as_before() -> None:
    bench, phone = Bench(), Phone()
    text = phone.request("OPTIONS")
    served(bench, text, 200)
    request = parse_message(text.encode())
    assert isinstance(request, Request)
    assert bench.layer.replay(request)
    assert bench.sent[0][1] == bench.sent[1][1]
    bench.run(33.0)
    assert not bench.layer.replay(request)


def test_an_old_phone_without_branches_is_told_apart_too() -> None:
    bench = Bench()
    old = Phone(call_id="old").invite(branch="1")
    served(bench, old, 200)
    request = parse_message(old.encode())
    other = parse_message(Phone(call_id="old", tag="eve").invite(branch="1").encode())
    assert isinstance(request, Request) and isinstance(other, Request)
    assert bench.layer.replay(request)
    assert not bench.layer.replay(other)


def test_a_full_layer_says_so() -> None:
    bench = Bench()
    for number in range(3):
        assert not bench.layer.full
        served(bench, Phone(call_id=str(number)).request("OPTIONS"), 200)
    assert bench.layer.full
    bench.run(33.0)
    assert not bench.layer.full
