"""One call's media, without I/O: datagrams and ticks go in, datagrams and line events come out."""

import secrets
from collections import Counter, deque
from dataclasses import dataclass
from typing import Final

from pipeline.line import AudioReceived, KeyPressed, LineEvent, Pcm
from telephony import g711
from telephony.rtp.dtmf import KeyReceiver
from telephony.rtp.errors import MalformedPacket
from telephony.rtp.jitter import JitterBuffer
from telephony.rtp.latch import Address, Latch
from telephony.rtp.packet import RtpPacket, is_rtcp, parse
from telephony.rtp.rtcp import Reporter, Sent
from telephony.rtp.sender import Sender

_COMFORT_NOISE: Final = 13
_QUIET_S: Final = 2.0
"""A source that has said nothing for so long may have been replaced."""


@dataclass(frozen=True, slots=True)
class MediaTerms:
    """What an offer and its answer agreed on. `remote` is the SDP's literal address, None while unknown (late
    offer). `payload_type` and `key_payload_type` are what both sides write into their packets."""

    remote: Address | None
    codec: g711.Codec
    payload_type: int
    key_payload_type: int | None
    sending: bool
    receiving: bool


class RtpSession:
    """`configure`, `start`, then `receive` and `hear`, `datagrams`. Events gather in `events`.

    Audio of the caller's source alone is heard: its address is latched (`telephony.rtp.latch`), and its SSRC
    too. Another SSRC from the same address is believed after a re-offer, or when the former one has been
    silent for two seconds: a peer that restarted its stream without a word of it would be deaf otherwise.
    `counters` tells what was refused, by reason.
    """

    def __init__(self, now: float) -> None:
        self.events: deque[LineEvent] = deque()
        self.counters: Counter[str] = Counter()
        self.sender = Sender(secrets.randbits(32), secrets.randbits(15), secrets.randbits(32))
        self.latch = Latch()
        self._terms: MediaTerms | None = None
        self._laws: dict[int, g711.Codec] = {}
        self._jitter = JitterBuffer(now)
        self._keys = KeyReceiver()
        self._reporter = Reporter(secrets.token_hex(8))
        self._started = False
        self._ssrc: int | None = None
        self._ssrc_may_change = True
        self._heard_at = now

    # What signalling says

    def configure(self, terms: MediaTerms, now: float) -> None:
        before = self._terms
        self._terms = terms
        # A peer may answer in the other law without saying so; both are known by their static numbers.
        self._laws = {law.payload_type: law for law in g711.CODECS.values()}
        self._laws[terms.payload_type] = terms.codec
        if terms.key_payload_type is not None:
            self._laws.pop(terms.key_payload_type, None)
        self.sender.configure(terms.codec, terms.payload_type, terms.key_payload_type, sending=terms.sending)
        self.latch.open(terms.remote, quiet=now - self._heard_at > _QUIET_S)
        self._ssrc_may_change = True
        if terms.receiving and not (before and before.receiving):
            self._heard_at = now

    def start(self, now: float) -> None:
        """The caller's timeline begins: what came before is not heard."""
        self._started = True
        self._jitter = JitterBuffer(now)
        self._keys.restart()
        self._heard_at = now

    def key_pressed(self, digit: str) -> None:
        """A key that came another way (SIP INFO)."""
        self.events.append(KeyPressed(digit))

    def silent_s(self, now: float) -> float:
        """How long nothing of the caller's has come, while it should; 0.0 in a hold and before `start`."""
        if not self._started or self._terms is None or not self._terms.receiving:
            return 0.0
        return now - self._heard_at

    # What comes in

    def receive(self, datagram: bytes, source: Address, arrived: float) -> None:
        """One datagram of the RTP port. Never raises: what is odd is counted."""
        if self._terms is None:
            self.counters["early"] += 1
        elif is_rtcp(datagram):
            self.counters["rtcp"] += 1
        else:
            try:
                packet = parse(datagram)
            except MalformedPacket:
                self.counters["malformed"] += 1
                return
            if not self.latch.accepts(source):
                self.counters["strange_source"] += 1
            elif self._is_the_callers(packet.ssrc, arrived):
                self._heard_at = arrived
                self._take(packet, arrived)
            else:
                self.counters["strange_ssrc"] += 1

    def receive_rtcp(self, datagram: bytes, source: Address, now: float) -> None:
        """One datagram of the RTCP port; of the latched IP's only, for their port may be anything."""
        target = self.latch.target
        if target is not None and source[0] == target[0]:
            self._reporter.receive(datagram, now)

    def _is_the_callers(self, ssrc: int, arrived: float) -> bool:
        if ssrc == self._ssrc:
            return True
        if not self._ssrc_may_change and arrived - self._heard_at < _QUIET_S:
            return False
        if self._ssrc is not None:
            self.counters["ssrc_changed"] += 1
        self._ssrc = ssrc
        self._ssrc_may_change = False
        self._jitter.restart()
        self._keys.restart()
        self._reporter.restart()
        return True

    def _take(self, packet: RtpPacket, arrived: float) -> None:
        terms = self._terms
        if not self._started or terms is None or not terms.receiving:
            return
        payload_type, sequence, timestamp, _, marker, payload = packet
        law = self._laws.get(payload_type)
        if law is not None:
            self._jitter.put(sequence, timestamp, marker, law.decode(payload), arrived)
            return
        self._jitter.note(sequence)
        if payload_type == terms.key_payload_type:
            try:
                digit = self._keys.receive(timestamp, marker, payload)
            except MalformedPacket:
                self.counters["malformed"] += 1
                return
            if digit is not None:
                self.events.append(KeyPressed(digit))
        elif payload_type != _COMFORT_NOISE:
            self.counters["strange_payload"] += 1

    # The clock

    def hear(self, now: float) -> None:
        """Put the caller's samples that are due into `events`."""
        if self._started:
            for pcm in self._jitter.take(now):
                self.events.append(AudioReceived(pcm))

    def datagrams(self, packets: int, skipped: int) -> list[bytes]:
        """What to send to `latch.target` for so many ticks."""
        sender = self.sender
        if skipped:
            sender.skip(skipped)
        going: list[bytes] = []
        for _ in range(packets):
            self.events.extend(sender.marks_reached())
            datagram = sender.next_datagram()
            if datagram is not None:
                going.append(datagram)
        return going

    def report(self, now: float, wall_s: float) -> bytes:
        """An RTCP report, for the port behind `latch.target`'s."""
        sender = self.sender
        sent = Sent(sender.ssrc, sender.packets, sender.octets, sender.timestamp)
        return self._reporter.report(sent, self._ssrc, self._jitter.reception, now, wall_s)

    # What the call says

    def send_audio(self, pcm: Pcm, now: float) -> None:
        self.sender.send_audio(pcm, now)

    def clear(self, now: float) -> None:
        self.events.extend(self.sender.clear(now))

    @property
    def all_counters(self) -> dict[str, int]:
        """Everything odd about this call's media, `lost` packets, and how much was made up for them."""
        counters = self.counters + self._jitter.counters
        reception = self._jitter.reception
        if reception is not None:
            counters["lost"] = max(0, reception.expected - reception.received)
        return dict(sorted(counters.items()))
