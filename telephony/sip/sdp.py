"""Session descriptions for one audio stream: reading, offering, answering (RFC 8866, RFC 3264).

    session = MediaSession(("192.0.2.1", 40000), codecs=("PCMU", "PCMA"), session_id=7)
    answer, plan = session.answer(body, source="198.51.100.9")      # their offer
    offer = session.offer(); plan = session.take_answer(body, source=...)   # ours

Addresses are literal: a host name in a description is refused, never looked up. Video and other streams keep
their line in the answer, with port 0.
"""

import re
from dataclasses import dataclass, field
from typing import Final, Literal

from telephony.sip.errors import SdpRefused
from telephony.sip.uri import literal

Codec = Literal["PCMU", "PCMA"]
Direction = Literal["sendrecv", "sendonly", "recvonly", "inactive"]

_STATIC: Final[dict[int, str]] = {0: "PCMU/8000", 8: "PCMA/8000"}
_STATIC_OF: Final[dict[Codec, int]] = {"PCMU": 0, "PCMA": 8}
OFFERED_DTMF_TYPE: Final = 101
_DIRECTIONS: Final = ("sendrecv", "sendonly", "recvonly", "inactive")
_ON_HOLD: Final = ("", 0)
_PROFILES: Final = ("RTP/AVP", "RTP/AVPF")
_MAX_STREAMS: Final = 32
_LOWEST_PORT: Final = 1_024
"""Nobody's audio lives below; a description that says so wants our packets to hit something else."""
_MEDIA: Final = re.compile(r"([A-Za-z0-9_-]{1,32}) ([0-9]{1,5})(?:/[0-9]{1,5})? ([A-Za-z0-9/_-]{1,32}) (.+)")
_PAYLOAD_TYPE: Final = re.compile(r"[0-9]{1,3}", re.ASCII)


@dataclass(frozen=True, slots=True)
class MediaPlan:
    """What was agreed on. `remote` None: nowhere to send yet (on hold, or an address that cannot be right);
    the peer's first packet shows where it is. `sending` and `receiving` are ours."""

    remote: tuple[str, int] | None
    codec: Codec
    payload_type: int
    dtmf_payload_type: int | None
    sending: bool
    receiving: bool


@dataclass(slots=True)
class _Stream:
    kind: str
    port: int
    profile: str
    formats: tuple[str, ...]
    maps: dict[int, str] = field(default_factory=dict)
    direction: Direction | None = None
    host: str | None = None


@dataclass(slots=True)
class _Description:
    streams: list[_Stream] = field(default_factory=list)
    host: str | None = None
    direction: Direction | None = None


class MediaSession:
    """Our side of one call's media, through every offer and answer. `local` is the address that stands in
    `c=` and the port of the audio; `codecs` in our order of preference."""

    def __init__(self, local: tuple[str, int], *, codecs: tuple[Codec, ...], session_id: int) -> None:
        self.plan: MediaPlan | None = None
        self._host, self._port = local
        self._codecs = codecs
        self._session_id = session_id
        self._version = 0
        self._last: tuple[str, ...] = ()
        self._offered_dtmf = OFFERED_DTMF_TYPE
        self._refused: list[str] = []
        """Lines of streams that we refused, by place; "" is where the audio stands."""

    def answer(self, body: bytes, *, source: str) -> tuple[bytes, MediaPlan]:
        """Answer an offer from `source`, the address that it came from. Raises `SdpRefused`; what was agreed
        before then still holds (RFC 3264 section 8)."""
        description = _parse(body)
        chosen = next((stream for stream in description.streams if _usable(stream)), None)
        if chosen is None:
            raise SdpRefused("no audio over plain RTP is offered")
        agreed = self._common(chosen)
        if agreed is None:
            raise SdpRefused(f"no codec in common: we speak {' and '.join(self._codecs)} at 8 kHz")
        plan = self._plan(description, chosen, agreed, source)
        lines = []
        for stream in description.streams:
            if stream is not chosen:
                # Tokens were matched when it was read; formats must be repeated (RFC 3264 section 6).
                lines.append(f"m={stream.kind} 0 {stream.profile} {' '.join(stream.formats[:1])}")
                continue
            lines += self._audio(chosen.profile, [plan.codec], plan.payload_type, plan.dtmf_payload_type)
            lines.append(f"a={_direction(plan)}")
        self._refused = [
            "" if stream is chosen else f"m={stream.kind} 0 {stream.profile} {stream.formats[0]}"
            for stream in description.streams
        ]
        self.plan = plan
        if plan.dtmf_payload_type is not None:
            self._offered_dtmf = plan.dtmf_payload_type
        return self._written(lines), plan

    def offer(self) -> bytes:
        """An offer of ours: all our codecs, both directions; streams that were refused stay so."""
        lines: list[str] = []
        for refused in self._refused or [""]:
            if refused:
                lines.append(refused)
                continue
            lines += self._audio("RTP/AVP", list(self._codecs), None, self._offered_dtmf)
            lines.append("a=sendrecv")
        return self._written(lines)

    def take_answer(self, body: bytes, *, source: str) -> MediaPlan:
        """The answer to our last offer. Raises `SdpRefused`."""
        description = _parse(body)
        chosen = next((stream for stream in description.streams if _usable(stream)), None)
        if chosen is None:
            raise SdpRefused("our audio was refused")
        agreed = self._common(chosen)
        if agreed is None:
            raise SdpRefused("an answer with a codec that we did not offer")
        self.plan = plan = self._plan(description, chosen, agreed, source)
        return plan

    def _common(self, stream: _Stream) -> tuple[Codec, int] | None:
        """The first of their formats that is ours too: the order is theirs (RFC 3264 section 6.1)."""
        for number in _payload_types(stream):
            name = stream.maps.get(number, _STATIC.get(number, "")).upper()
            for codec in self._codecs:
                if name in (f"{codec}/8000", f"{codec}/8000/1"):
                    return codec, number
        return None

    def _plan(
        self, description: _Description, stream: _Stream, agreed: tuple[Codec, int], source: str
    ) -> MediaPlan:
        dtmf = next(
            (
                number
                for number in _payload_types(stream)
                if stream.maps.get(number, "").upper() in ("TELEPHONE-EVENT/8000", "TELEPHONE-EVENT/8000/1")
            ),
            None,
        )
        direction = stream.direction or description.direction or "sendrecv"
        remote = self._remote(stream.host or description.host, stream.port, source)
        held = remote == _ON_HOLD
        return MediaPlan(
            remote=None if held else remote,
            codec=agreed[0],
            payload_type=agreed[1],
            dtmf_payload_type=dtmf,
            # c=0.0.0.0 is how RFC 2543 puts on hold: nothing may be sent, whatever the direction says.
            sending=not held and direction in ("sendrecv", "recvonly"),
            receiving=direction in ("sendrecv", "sendonly"),
        )

    def _remote(self, host: str | None, port: int, source: str) -> tuple[str, int] | None:
        """Where their audio goes, or `_ON_HOLD`."""
        if host is None:
            raise SdpRefused("a description without c=", 400)
        address = literal(host)
        if address is None:
            raise SdpRefused("a host name in c=; give an address")
        if address.is_unspecified:
            return _ON_HOLD
        ours = literal(self._host)
        if ours is not None and address.version != ours.version:
            raise SdpRefused(f"an IPv{address.version} address; this server speaks IPv{ours.version}")
        if address.is_multicast or str(address) == "255.255.255.255" or port < _LOWEST_PORT:
            raise SdpRefused("an address that nobody's audio has")
        came_from = literal(source)
        if address.is_loopback and came_from is not None and not came_from.is_loopback:
            # Ours, not theirs: their first packet will show where they are.
            return None
        return str(address), port

    def _audio(
        self, profile: str, codecs: list[Codec], payload_type: int | None, dtmf: int | None
    ) -> list[str]:
        numbered = [(_STATIC_OF[codec] if payload_type is None else payload_type, codec) for codec in codecs]
        formats = [str(number) for number, _ in numbered] + ([str(dtmf)] if dtmf is not None else [])
        lines = [f"m=audio {self._port} {profile} {' '.join(formats)}"]
        lines += [f"a=rtpmap:{number} {codec}/8000" for number, codec in numbered]
        if dtmf is not None:
            lines += [f"a=rtpmap:{dtmf} telephone-event/8000", f"a=fmtp:{dtmf} 0-15"]
        lines.append("a=ptime:20")
        return lines

    def _written(self, lines: list[str]) -> bytes:
        family = "IP6" if ":" in self._host else "IP4"
        if tuple(lines) != self._last:
            # A description that differs from the one before carries a higher version (RFC 3264 section 8).
            self._version += 1
            self._last = tuple(lines)
        head = [
            "v=0",
            f"o=- {self._session_id} {self._version} IN {family} {self._host}",
            "s=-",
            f"c=IN {family} {self._host}",
            "t=0 0",
        ]
        return "".join(f"{line}\r\n" for line in head + lines).encode("ascii")


def _direction(plan: MediaPlan) -> Direction:
    if plan.sending:
        return "sendrecv" if plan.receiving else "sendonly"
    return "recvonly" if plan.receiving else "inactive"


def _usable(stream: _Stream) -> bool:
    return stream.kind == "audio" and stream.port > 0 and stream.profile.upper() in _PROFILES


def _payload_types(stream: _Stream) -> list[int]:
    return [int(text) for text in stream.formats if _PAYLOAD_TYPE.fullmatch(text) and int(text) < 128]


def _parse(body: bytes) -> _Description:
    """Raises `SdpRefused` with 400 where it is no description at all."""
    try:
        text = body.decode("utf-8")
    except UnicodeDecodeError:
        raise SdpRefused("a description that is no UTF-8", 400) from None
    lines = text.replace("\r\n", "\n").split("\n")
    if lines[0].strip() != "v=0":
        raise SdpRefused("no session description", 400)
    description = _Description()
    stream: _Stream | None = None
    for line in lines[1:]:
        kind, value = line[:2], line[2:].strip()
        if kind == "m=":
            if len(description.streams) >= _MAX_STREAMS:
                raise SdpRefused("too many streams", 400)
            stream = _parse_stream(value)
            description.streams.append(stream)
        elif kind == "c=":
            words = value.split()
            if len(words) != 3 or words[0] != "IN" or words[1] not in ("IP4", "IP6"):
                raise SdpRefused("an odd c=", 400)
            # Behind the slash: time to live and count of a multicast address, which we refuse.
            (stream or description).host = words[2].partition("/")[0]
        elif kind == "a=":
            _take_attribute(description, stream, value)
    return description


def _parse_stream(value: str) -> _Stream:
    match = _MEDIA.fullmatch(value)
    if match is None or int(match[2]) > 65_535:
        raise SdpRefused("an odd m=", 400)
    formats = tuple(match[4].split())
    if not formats or any(not re.fullmatch(r"[\x21-\x7e]{1,64}", text) for text in formats):
        raise SdpRefused("an odd m=", 400)
    return _Stream(match[1], int(match[2]), match[3], formats)


def _take_attribute(description: _Description, stream: _Stream | None, value: str) -> None:
    if value in _DIRECTIONS:
        (stream or description).direction = value  # type: ignore[assignment]
        return
    if stream is not None and value.startswith("rtpmap:"):
        number, _, encoding = value.removeprefix("rtpmap:").strip().partition(" ")
        if _PAYLOAD_TYPE.fullmatch(number) and len(stream.maps) < 128:
            stream.maps[int(number)] = encoding.strip()
