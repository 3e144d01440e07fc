import random
import struct

import numpy as np
import pytest

from pipeline.line import AudioReceived, KeyPressed, Pcm
from telephony import g711
from telephony.rtp.packet import RtpPacket, build
from telephony.rtp.session import MediaTerms, RtpSession

PHONE = ("198.51.100.7", 4000)
STRANGER = ("192.0.2.66", 5000)
TICK_S = 0.02


def terms(
    remote: tuple[str, int] | None = PHONE,
    codec: g711.Codec = g711.PCMU,
    *,
    payload_type: int | None = None,
    keys: int | None = 101,
    sending: bool = True,
    receiving: bool = True,
) -> MediaTerms:
    number = codec.payload_type if payload_type is None else payload_type
    return MediaTerms(remote, codec, number, keys, sending=sending, receiving=receiving)


class Caller:
    """Sends one packet a tick; `session` hears it at once."""

    def __init__(self, session: RtpSession, *, source: tuple[str, int] = PHONE, ssrc: int = 42) -> None:
        self.session = session
        self.source = source
        self.ssrc = ssrc
        self.sequence = 10
        self.timestamp = 1_000
        self.now = 0.0

    def say(self, pcm: Pcm, codec: g711.Codec = g711.PCMU, payload_type: int | None = None) -> None:
        for start in range(0, pcm.size, 160):
            payload = codec.encode(pcm[start : start + 160])
            self.send(payload, codec.payload_type if payload_type is None else payload_type)
            self.timestamp += 160

    def send(self, payload: bytes, payload_type: int, marker: bool = False) -> None:
        self.now += TICK_S
        packet = RtpPacket(payload_type, self.sequence, self.timestamp, self.ssrc, marker, payload)
        self.session.receive(build(packet), self.source, self.now)
        self.sequence += 1
        self.session.hear(self.now)


def ready(offered: MediaTerms | None = None) -> RtpSession:
    session = RtpSession(0.0)
    session.configure(offered or terms(), 0.0)
    session.start(0.0)
    return session


def loud(n_samples: int, seed: int = 1) -> Pcm:
    return np.random.default_rng(seed).integers(-8_000, 8_000, n_samples).astype(np.int16)


def heard(session: RtpSession) -> Pcm:
    pieces = [event.pcm for event in session.events if isinstance(event, AudioReceived)]
    return np.concatenate(pieces) if pieces else np.zeros(0, np.int16)


@pytest.mark.parametrize("codec", g711.CODECS.values(), ids=lambda codec: codec.name)
def test_what_the_caller_says_is_heard(codec: g711.Codec) -> None:
    session = ready(terms(codec=codec))
    pcm = loud(1600)
    Caller(session).say(pcm, codec)
    assert np.array_equal(heard(session)[-1600:], codec.decode(codec.encode(pcm)))


def test_a_law_under_a_number_of_its_own_and_the_other_one_under_its_static_one() -> None:
    session = ready(terms(codec=g711.PCMA, payload_type=97))
    caller, pcm = Caller(session), loud(1600)
    caller.say(pcm[:800], g711.PCMA, 97)
    caller.say(pcm[800:], g711.PCMU, 0)
    truth = [g711.decode_alaw(g711.encode_alaw(pcm[:800])), g711.decode(g711.encode(pcm[800:]))]
    assert np.array_equal(heard(session)[-1600:], np.concatenate(truth))


def test_nobody_else_is_heard_nor_draws_the_audio() -> None:
    session = ready()
    caller, stranger = Caller(session), Caller(session, source=STRANGER, ssrc=666)
    pcm = loud(16_000)
    for start in range(0, 16_000, 160):
        caller.say(pcm[start : start + 160])
        stranger.now = caller.now
        packet = RtpPacket(0, 500 + start, start, 666, False, b"\x00" * 160)
        for _ in range(3):
            session.receive(build(packet), STRANGER, caller.now)
    assert np.array_equal(heard(session)[-16_000:], g711.decode(g711.encode(pcm)))
    assert session.counters["strange_source"] == 300
    assert session.latch.target == PHONE


def test_another_ssrc_from_the_right_address_is_refused_until_an_offer_or_a_silence() -> None:
    session = ready()
    caller = Caller(session)
    caller.say(loud(1600))
    size = heard(session).size
    intruder = Caller(session, ssrc=43)
    intruder.now = caller.now
    intruder.say(np.full(1600, 7_000, np.int16))
    assert session.counters["strange_ssrc"] == 10
    assert not (heard(session)[size:] == g711.decode(g711.encode(np.full(1, 7_000, np.int16)))[0]).any()

    session.configure(terms(), intruder.now)
    pcm = loud(1600, 2)
    intruder.say(pcm)
    assert np.array_equal(heard(session)[-1600:][32:], g711.decode(g711.encode(pcm))[32:])
    assert session.counters["ssrc_changed"] == 1

    # Two seconds without a word: whatever comes from that address then is the caller's new stream.
    restarted = Caller(session, ssrc=44)
    restarted.now = intruder.now + 2.1
    restarted.say(pcm)
    assert np.array_equal(heard(session)[-1600:][32:], g711.decode(g711.encode(pcm))[32:])
    assert session.counters["ssrc_changed"] == 2


def event(code: int, duration: int, end: bool = False) -> bytes:
    return struct.pack("!BBH", code, 0x80 if end else 0, duration)


def test_keys_between_words_are_pressed_once_and_miss_nothing() -> None:
    session = ready(terms(keys=96))
    caller, pcm = Caller(session), loud(3_200)
    caller.say(pcm[:1600])
    for n in range(8):
        caller.send(event(11, 160 * (n + 1), end=n >= 5), 96, marker=n == 0)
    caller.timestamp += 8 * 160
    caller.say(pcm[1600:])
    assert [event.digit for event in session.events if isinstance(event, KeyPressed)] == ["#"]
    audio = heard(session)
    truth = g711.decode(g711.encode(pcm))
    assert np.array_equal(audio[-1600:][32:], truth[1600:][32:])
    assert np.array_equal(audio[-3_200 - 8 * 160 :][:1600], truth[:1600])
    assert session.all_counters["lost"] == 0


def test_keys_that_came_another_way_stand_in_order() -> None:
    session = ready()
    caller = Caller(session)
    caller.say(loud(160))
    session.key_pressed("7")
    caller.say(loud(160))
    kinds = [type(event) for event in session.events]
    assert kinds.index(KeyPressed) not in (0, len(kinds) - 1)


def test_comfort_noise_is_silence_and_other_payloads_are_counted() -> None:
    session = ready()
    caller = Caller(session)
    caller.say(loud(1600))
    caller.send(b"\x40", 13)
    caller.send(b"opus?", 111)
    assert session.all_counters["strange_payload"] == 1
    assert session.all_counters["lost"] == 0


def test_what_comes_before_the_call_begins_is_not_heard() -> None:
    session = RtpSession(0.0)
    caller = Caller(session)
    caller.say(loud(160))
    assert session.counters["early"] == 1
    session.configure(terms(), caller.now)
    caller.say(loud(1600))
    assert not session.events
    session.start(caller.now)
    pcm = loud(1600, 2)
    caller.say(pcm)
    assert np.array_equal(heard(session), g711.decode(g711.encode(pcm)))


def test_a_hold_is_silence_in_real_time_and_no_time_out() -> None:
    session = ready()
    caller = Caller(session)
    caller.say(loud(1600))
    session.configure(terms(sending=False, receiving=False), caller.now)
    before = heard(session).size
    for n in range(1_500):
        session.hear(caller.now + TICK_S * n)
    assert session.silent_s(caller.now + 30) == 0.0
    held = heard(session)[before:]
    assert held.size == pytest.approx(30 * 8000, abs=0.08 * 8000)
    assert not held[480:].any()
    assert session.datagrams(1, 0) == []

    session.configure(terms(), caller.now + 30)
    assert session.silent_s(caller.now + 31) == pytest.approx(1.0)
    assert len(session.datagrams(1, 0)) == 1
    caller.now += 30
    caller.timestamp += 30 * 8000
    pcm = loud(1600, 3)
    caller.say(pcm)
    assert np.array_equal(heard(session)[-1600:][32:], g711.decode(g711.encode(pcm))[32:])


def test_silence_of_the_caller_is_timed_from_the_answer_on() -> None:
    session = RtpSession(0.0)
    session.configure(terms(), 0.0)
    assert session.silent_s(100.0) == 0.0
    session.start(100.0)
    assert session.silent_s(105.0) == 5.0
    caller = Caller(session)
    caller.now = 105.0
    caller.say(loud(160))
    assert session.silent_s(caller.now + 1) == pytest.approx(1.0)


def test_strangers_do_not_keep_a_dead_call_alive() -> None:
    session = ready()
    Caller(session).say(loud(160))
    for n in range(500):
        session.receive(build(RtpPacket(0, n, n * 160, 9, False, b"\xff" * 160)), STRANGER, 0.02 * n)
    assert session.silent_s(10.0) > 9.9


def test_reports_speak_of_the_callers_stream() -> None:
    session = ready()
    caller = Caller(session)
    caller.say(loud(1600))
    caller.sequence += 10
    caller.timestamp += 1600
    caller.say(loud(1600))
    session.datagrams(3, 0)
    # A sender report of the peer's, then ours.
    peers = struct.pack("!BBHIIIIII", 0x80, 200, 6, 42, 0, 0, 0, 0, 0)
    session.receive_rtcp(peers, (PHONE[0], 4001), 1.0)
    session.receive_rtcp(b"\x80", STRANGER, 1.0)
    report = session.report(5.0, 0.0)
    assert report[1] == 200
    source, loss, highest = struct.unpack("!III", report[28:40])
    assert (source, loss & 0xFFFFFF, highest) == (42, 10, 39)
    session.receive(peers, PHONE, 5.0)
    assert session.counters["rtcp"] == 1


def test_mutated_packets_break_nothing_and_the_caller_is_heard_on() -> None:
    session = ready()
    caller, noise = Caller(session), random.Random(9)
    caller.say(loud(1600))
    for n in range(10_000):
        packet = RtpPacket(
            noise.choice((0, 8, 13, 101, 77)), noise.randrange(65_536), n, 42, False, b"a" * 160
        )
        datagram = bytearray(build(packet))
        for _ in range(noise.randrange(1, 6)):
            datagram[noise.randrange(min(len(datagram), 20))] = noise.randrange(256)
        source = PHONE if n % 2 else STRANGER
        session.receive(bytes(datagram[: noise.randrange(1, 173)]), source, caller.now)
        if n % 50 == 0:
            caller.now += TICK_S
            session.hear(caller.now)
    session.configure(terms(), caller.now)
    fresh = Caller(session, ssrc=77)
    fresh.now = caller.now
    fresh.say(np.zeros(16_000, np.int16))
    pcm = loud(1600, 5)
    fresh.say(pcm)
    assert np.array_equal(heard(session)[-1600:], g711.decode(g711.encode(pcm)))
