"""Many SIP phones from one process and one core: as little of SIP as a call needs, and RTP at 20 ms.

Packets that come are read when there is time, but the kernel stamps them when they arrive: what is measured
is the server's timing, not this process's. Times are seconds of the wall clock, as those stamps are.
"""

import re
import secrets
import socket
import struct
import time
from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from pipeline.line import AUDIO_FRAME_S, AUDIO_FRAME_SAMPLES
from telephony import g711
from telephony.rtp.ports import SO_TIMESTAMPNS

HOST: Final = "127.0.0.1"
SUB_TICKS: Final = 10
"""Phones are spread over so many moments of each 20 ms, as strangers' packets are."""

_SILENCE: Final = bytes((g711.SILENCE,)) * AUDIO_FRAME_SAMPLES
_HEADER: Final = struct.Struct("!BBHII")
_TIMESPEC: Final = struct.Struct("@qq")
_ANCILLARY_BYTES: Final = socket.CMSG_SPACE(16)
_MOST_BYTES: Final = 4_096
_RETRY_S: Final = 0.5
_GIVE_UP_S: Final = 10.0
_TAG: Final = re.compile(rb"^To:.*;tag=([^;\s]+)", re.MULTILINE | re.IGNORECASE)
_CONTACT: Final = re.compile(rb"^Contact:\s*<([^>]+)>", re.MULTILINE | re.IGNORECASE)
_MEDIA: Final = re.compile(rb"^m=audio (\d+)", re.MULTILINE)
_STATUS: Final = re.compile(rb"SIP/2\.0 (\d{3})")
_CALL_ID: Final = re.compile(rb"^(?:Call-ID|i):\s*(\S+)", re.MULTILINE | re.IGNORECASE)
_CSEQ: Final = re.compile(rb"^CSeq:\s*\d+ (\w+)", re.MULTILINE | re.IGNORECASE)


def stamped_socket() -> socket.socket:
    """A UDP socket on a free port of `HOST` whose datagrams bear the kernel's time of arrival."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
    sock.bind((HOST, 0))
    sock.setblocking(False)
    return sock


def received(sock: socket.socket) -> list[tuple[bytes, float]]:
    """All that waits, with its time of arrival."""
    found: list[tuple[bytes, float]] = []
    while True:
        try:
            datagram, ancillary, _, _ = sock.recvmsg(_MOST_BYTES, _ANCILLARY_BYTES)
        except (BlockingIOError, ConnectionRefusedError):
            return found
        seconds, nanoseconds = _TIMESPEC.unpack_from(ancillary[0][2])
        found.append((datagram, seconds + nanoseconds * 1e-9))


@dataclass(slots=True)
class Phone:
    """One call. `invite`, then `take` what belongs to it; `tick` while it is up; `bye`."""

    number: int
    line: Sequence[bytes]
    """What it says, AudioFrame by AudioFrame, at the beginning of each `cycle` of them."""
    cycle: int
    offset: int
    """AudioFrames of silence before the first words."""
    call_id: str = field(default_factory=lambda: secrets.token_hex(12))
    media: socket.socket = field(default_factory=stamped_socket)
    invited_s: float = 0.0
    answered_s: float | None = None
    over: str = ""
    arrived_s: "array[float]" = field(default_factory=lambda: array("d"))
    """Of every packet of the server's."""
    lost: int = 0
    """Holes in the sequence of the server's packets."""
    _tag: str = ""
    _contact: str = ""
    _media_port: int = 0
    _ticks: int = 0
    _ssrc: int = field(default_factory=lambda: secrets.randbits(32))
    _sequence: int = -1
    _invitation: bytes = b""
    _again_s: float = 0.0
    _wait_s: float = _RETRY_S

    def invite(self, server: tuple[str, int], signalling: socket.socket) -> None:
        port = self.media.getsockname()[1]
        body = (
            f"v=0\r\no=- 1 1 IN IP4 {HOST}\r\ns=-\r\nc=IN IP4 {HOST}\r\nt=0 0\r\n"
            f"m=audio {port} RTP/AVP 0 8 101\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-15\r\n"
            "a=ptime:20\r\na=sendrecv\r\n"
        )
        self._invitation = self._message("INVITE", server, signalling, body)
        self.invited_s = time.time()
        self._again_s = self.invited_s + self._wait_s
        signalling.sendto(self._invitation, server)

    def take(
        self, message: bytes, arrived_s: float, server: tuple[str, int], signalling: socket.socket
    ) -> None:
        """A response to this call's requests, or a request of the server's."""
        status = _STATUS.match(message)
        if status is None:
            if message.startswith(b"BYE"):
                self.over = self.over or "the server hung up"
                signalling.sendto(_answer(message), server)
            return
        code, method = int(status[1]), _CSEQ.search(message)
        if method is None or method[1] != b"INVITE" or code < 200:
            return
        if code >= 300:
            self.over = self.over or f"refused with {code}"
            return
        tag, contact, media = _TAG.search(message), _CONTACT.search(message), _MEDIA.search(message)
        if tag is None or contact is None or media is None:
            self.over = "a 200 without tag, Contact or audio"
            return
        if self.answered_s is None:
            self.answered_s = arrived_s
            self._tag, self._contact = tag[1].decode(), contact[1].decode()
            self._media_port = int(media[1])
        signalling.sendto(self._message("ACK", server, signalling), server)

    def retry(self, server: tuple[str, int], signalling: socket.socket) -> None:
        """The INVITE again, each time after twice as long (RFC 3261 section 17.1.1.2): it may be lost."""
        now = time.time()
        if self.answered_s is None and not self.over and now > self._again_s:
            self._wait_s *= 2
            self._again_s = now + self._wait_s
            if self._wait_s > _GIVE_UP_S:
                self.over = "no answer"
            else:
                signalling.sendto(self._invitation, server)

    def tick(self) -> None:
        """The next 20 ms, and what came."""
        if self.answered_s is None or self.over:
            return
        number, self._ticks = self._ticks, self._ticks + 1
        payload = self.next_payload(number)
        header = _HEADER.pack(0x80, 0, number & 0xFFFF, number * AUDIO_FRAME_SAMPLES, self._ssrc)
        self.media.sendto(header + payload, (HOST, self._media_port))

    def next_payload(self, number: int) -> bytes:
        """160 bytes of mu-law."""
        place = (number - self.offset) % self.cycle if number >= self.offset else self.cycle
        return self.line[place] if place < len(self.line) else _SILENCE

    def take_audio(self, datagram: bytes, arrived_s: float) -> None:
        """One packet of the server's."""
        self.arrived_s.append(arrived_s)

    def listen(self) -> None:
        for datagram, arrived_s in received(self.media):
            sequence = int.from_bytes(datagram[2:4], "big")
            if self._sequence >= 0:
                self.lost += (sequence - self._sequence - 1) & 0xFFFF
            self._sequence = sequence
            self.take_audio(datagram, arrived_s)

    def bye(self, server: tuple[str, int], signalling: socket.socket) -> None:
        if self.answered_s is not None and not self.over:
            self.over = "we hung up"
            signalling.sendto(self._message("BYE", server, signalling), server)

    def _message(
        self, method: str, server: tuple[str, int], signalling: socket.socket, body: str = ""
    ) -> bytes:
        host, port = signalling.getsockname()
        to_tag = f";tag={self._tag}" if self._tag else ""
        target = self._contact or f"sip:maya@{server[0]}:{server[1]}"
        return (
            f"{method} {target} SIP/2.0\r\n"
            f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{self.call_id}{method};rport\r\n"
            f"Max-Forwards: 70\r\n"
            f"From: <sip:load{self.number}@{host}>;tag={self.call_id}\r\n"
            f"To: <sip:maya@{server[0]}>{to_tag}\r\n"
            f"Call-ID: {self.call_id}\r\n"
            f"CSeq: {2 if method == 'BYE' else 1} {method}\r\n"
            f"Contact: <sip:load{self.number}@{host}:{port}>\r\n"
            + ("Content-Type: application/sdp\r\n" if body else "")
            + f"Content-Length: {len(body)}\r\n\r\n{body}"
        ).encode()


def _answer(request: bytes) -> bytes:
    """200 to a request of the server's."""
    head = request.partition(b"\r\n\r\n")[0].split(b"\r\n")
    kept = [
        line
        for line in head[1:]
        if line.split(b":")[0].lower() in (b"via", b"from", b"to", b"call-id", b"cseq")
    ]
    return b"\r\n".join([b"SIP/2.0 200 OK", *kept, b"Content-Length: 0", b"", b""])


class Load:
    """Phones that call one server: `call`, `run(seconds)`, `hang_up`, and `close` in the end."""

    def __init__(self, server: tuple[str, int]) -> None:
        self.server = server
        self.signalling = stamped_socket()
        self.phones: dict[bytes, Phone] = {}
        self.late_s: array[float] = array("d")
        """How late each sub-tick was: this process's own jitter, which no server can be blamed for."""
        self._groups: list[list[Phone]] = [[] for _ in range(SUB_TICKS)]
        self._began_s = time.monotonic()
        self._number = 0

    def call(self, phone: Phone) -> None:
        self.phones[phone.call_id.encode()] = phone
        self._groups[phone.number % SUB_TICKS].append(phone)
        phone.invite(self.server, self.signalling)

    def hang_up(self, phone: Phone) -> None:
        phone.bye(self.server, self.signalling)

    def forget(self, phone: Phone) -> None:
        self._groups[phone.number % SUB_TICKS].remove(phone)
        phone.media.close()

    def step(self) -> None:
        """One sub-tick, at its time."""
        step_s = AUDIO_FRAME_S / SUB_TICKS
        self._number += 1
        due = self._began_s + self._number * step_s
        now = time.monotonic()
        if due > now:
            time.sleep(due - now)
        self.late_s.append(time.monotonic() - due)
        group = self._groups[self._number % SUB_TICKS]
        for phone in group:
            phone.tick()
            phone.retry(self.server, self.signalling)
        # Those that were sent to half a round ago.
        for phone in self._groups[(self._number + SUB_TICKS // 2) % SUB_TICKS]:
            phone.listen()
        self.read()

    def read(self) -> None:
        """What came by way of signalling."""
        for message, arrived_s in received(self.signalling):
            call_id = _CALL_ID.search(message)
            called = self.phones.get(call_id[1]) if call_id is not None else None
            if called is not None:
                called.take(message, arrived_s, self.server, self.signalling)

    def run(self, seconds: float) -> None:
        steps = round(seconds / AUDIO_FRAME_S * SUB_TICKS)
        for _ in range(steps):
            self.step()

    def close(self) -> None:
        for phone in self.phones.values():
            self.hang_up(phone)
        self.run(0.3)
        for group in self._groups:
            for phone in group:
                phone.media.close()
        self.signalling.close()


def options(server: tuple[str, int], limit_s: float) -> bool:
    """Whether anything answers an OPTIONS within `limit_s`."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((HOST, 0))
        sock.settimeout(limit_s)
        host, port = sock.getsockname()
        sock.sendto(
            (
                f"OPTIONS sip:maya@{server[0]}:{server[1]} SIP/2.0\r\n"
                f"Via: SIP/2.0/UDP {host}:{port};branch=z9hG4bK{secrets.token_hex(8)};rport\r\n"
                f"Max-Forwards: 70\r\nFrom: <sip:load@{host}>;tag={secrets.token_hex(4)}\r\n"
                f"To: <sip:maya@{server[0]}>\r\nCall-ID: {secrets.token_hex(8)}\r\nCSeq: 1 OPTIONS\r\n"
                "Content-Length: 0\r\n\r\n"
            ).encode(),
            server,
        )
        try:
            return sock.recv(_MOST_BYTES).startswith(b"SIP/2.0 200")
        except OSError:
            return False
