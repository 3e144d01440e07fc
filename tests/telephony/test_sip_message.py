"""Parsing and writing messages, whole and cut, valid and not."""

import time

import pytest

from telephony.sip.errors import MalformedMessage
from telephony.sip.message import (
    MAX_BODY_BYTES,
    MAX_HEADER_BYTES,
    Draft,
    Request,
    Response,
    StreamSplitter,
    parse_message,
    shown,
)

# RFC 3261 section 24.2, with a display name.
INVITE = (
    "INVITE sip:bob@biloxi.com SIP/2.0\r\n"
    "Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKnashds8, SIP/2.0/TCP a.b:5080;branch=z9hG4bKx\r\n"
    "Max-Forwards: 70\r\n"
    "To: Bob <sip:bob@biloxi.com>\r\n"
    'From: "A. \\"L\\", Alice" <sip:alice@atlanta.com>;tag=1928301774\r\n'
    "Call-ID: a84b4c76e66710\r\n"
    "CSeq: 314159 INVITE\r\n"
    "Contact: <sip:alice@pc33.atlanta.com>\r\n"
    "Content-Type: application/sdp ; charset=utf-8\r\n"
    "Content-Length: 4\r\n"
    "\r\n"
    "v=0\n"
)


def parsed(text: str | bytes) -> Request:
    message = parse_message(text.encode() if isinstance(text, str) else text)
    assert isinstance(message, Request)
    return message


def test_an_invite_is_read() -> None:
    request = parsed(INVITE)
    assert (request.method, request.uri.user, request.uri.host) == ("INVITE", "bob", "biloxi.com")
    assert (request.via.host, request.via.branch) == ("pc33.atlanta.com", "z9hG4bKnashds8")
    assert request.from_.display == 'A. "L", Alice'
    assert request.from_.tag == "1928301774"
    assert (request.cseq, request.cseq_method) == (314159, "INVITE")
    assert request.content_type == "application/sdp"
    assert request.body == b"v=0\n"
    contact = request.contact()
    assert contact is not None
    assert contact.host == "pc33.atlanta.com"


def test_compact_folded_and_odd_spaced_headers_are_the_same() -> None:
    compact = (
        INVITE.replace("Via:", "v :")
        .replace("To:", "t\t:")
        .replace("From:", "F:")
        .replace("Call-ID", "I")
        .replace("Contact", "m")
        .replace("Content-Type", "C")
        .replace("Content-Length", "L")
        .replace(";tag=1928", "\r\n ;tag=1928")
        .replace("Max-Forwards: 70", "Max-Forwards:70")
    )
    short, long = parsed(compact), parsed(INVITE)
    assert short.from_.tag == long.from_.tag
    assert short.call_id == long.call_id
    assert short.contact() == long.contact()
    assert (short.body, short.content_type) == (long.body, long.content_type)


def test_a_response_repeats_what_it_must() -> None:
    request = parsed(INVITE).seen_from("203.0.113.7", 9_999)
    text = request.response(180, tag="314", headers=(("Contact", "<sip:x@y>"),)).decode()
    assert text.startswith("SIP/2.0 180 Ringing\r\n")
    assert (
        "Via: SIP/2.0/UDP pc33.atlanta.com;branch=z9hG4bKnashds8;received=203.0.113.7, SIP/2.0/TCP a.b:5080"
        in text
    )
    assert "To: Bob <sip:bob@biloxi.com>;tag=314\r\n" in text
    response = parse_message(text.encode())
    assert isinstance(response, Response)
    assert (response.status, response.cseq, response.to.tag) == (180, 314159, "314")


def test_bytes_that_are_no_utf8_come_back_as_they_came() -> None:
    raw = INVITE.encode().replace(b"Alice", b"\xe9\xff")
    request = parsed(raw)
    assert b'From: "A. \\"L\\", \xe9\xff" <sip:alice' in request.response(200)
    assert shown(request.from_.display) == 'A. "L", ??'


def test_what_stands_behind_the_body_is_left_out() -> None:
    assert parsed(INVITE + "smuggled").body == b"v=0\n"


def test_without_content_length_a_datagram_is_its_own_end() -> None:
    assert parsed(INVITE.replace("Content-Length: 4\r\n", "")).body == b"v=0\n"


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (("Content-Length: 4", "Content-Length: 5"), 400),
        (("Content-Length: 4", "Content-Length: -4"), 400),
        (("Content-Length: 4", "Content-Length: 4, 4"), 400),
        (("CSeq: 314159 INVITE", "CSeq: 314159 BYE"), 400),
        (("SIP/2.0\r\nVia", "SIP/3.0\r\nVia"), 505),
        (("sip:bob@biloxi.com SIP", "http://biloxi.com SIP"), 416),
        (("sip:bob@biloxi.com SIP", "sip:bob@biloxi.com:99999 SIP"), 400),
        ((";tag=1928301774", ""), 400),
        (("Max-Forwards: 70", "Max-Forwards 70"), 400),
        (("Max-Forwards: 70", "Max-Forwards: 7\x000"), 400),
        (("Max-Forwards: 70", "Max-Forwards: 70\nX: injected"), 400),
    ],
)
def test_what_can_be_answered_is(change: tuple[str, str], status: int) -> None:
    with pytest.raises(MalformedMessage) as fault:
        parse_message(INVITE.replace(*change).encode())
    assert fault.value.status == status
    assert fault.value.request is not None
    assert f"SIP/2.0 {status} ".encode() in fault.value.request.response(fault.value.status)


@pytest.mark.parametrize(
    "change",
    [
        ("\r\n\r\n", "\r\n"),
        ("Via:", "Vai:"),
        ("Call-ID: a84b4c76e66710", "Call-ID: "),
        ("Call-ID: a84b4c76e66710", "Call-ID: a b"),
        ("CSeq: 314159", "CSeq: 99999999999"),
        ("CSeq: 314159", "CSeq: ٣"),
        ("CSeq: 314159 INVITE", "CSeq: 1 INVITE\r\nCSeq: 2 INVITE"),
        ("Call-ID:", "Call-ID: other\r\nCall-ID:"),
        ("Content-Length: 4", "Content-Length: 4\r\nl: 0"),
        ("From:", "To:"),
        ("<sip:bob@biloxi.com>", "<sip:bob@biloxi.com"),
        ("SIP/2.0/UDP pc33", "SIP/2.0 UDP pc33"),
        ("branch=z9hG4bKnashds8", 'branch="a b"'),
        ("INVITE sip:bob@biloxi.com SIP/2.0", "INVITE"),
        ("INVITE sip:bob@biloxi.com SIP/2.0", "SIP/2.0 999 No"),
        ("INVITE sip:bob@biloxi.com SIP/2.0", "SIP/2.0"),
    ],
)
def test_what_cannot_be_answered_is_dropped(change: tuple[str, str]) -> None:
    with pytest.raises(MalformedMessage) as fault:
        parse_message(INVITE.replace(*change).encode())
    assert fault.value.request is None


def test_every_cut_of_a_message_fails_in_the_one_way() -> None:
    data = INVITE.encode()
    for end in range(len(data)):
        with pytest.raises(MalformedMessage):
            parse_message(data[:end])


def test_header_bombs_are_refused_before_they_are_read() -> None:
    long = INVITE.replace("Max-Forwards: 70", "X: " + "a" * MAX_HEADER_BYTES)
    many = INVITE.replace("Max-Forwards: 70", "\r\n".join(f"X{n}: 1" for n in range(200)))
    for bomb in (long, many):
        with pytest.raises(MalformedMessage) as fault:
            parse_message(bomb.encode())
        assert fault.value.request is None
    fat = INVITE.replace("Content-Length: 4\r\n", "") + "a" * (MAX_BODY_BYTES + 1)
    with pytest.raises(MalformedMessage) as fault:
        parse_message(fat.encode())
    assert fault.value.status == 413


@pytest.mark.parametrize(
    "hostile",
    [
        'From: "' + '\\"' * 7_000 + "<sip:a@b>",
        "From: <sip:a@b>" + ';a="b"' * 2_000,
        "From: <sip:" + "a." * 7_000 + ">",
        "Contact: " + "<" * 10_000,
        "Authorization: Digest " + ", ".join(['a="b"'] * 1_500) + "!",
        "Via: SIP/2.0/UDP " + "a-" * 7_000,
    ],
)
def test_reading_takes_time_in_proportion(hostile: str) -> None:
    """CPU time, with a margin of a hundred: what backtracks takes minutes."""
    data = INVITE.replace("Max-Forwards: 70", hostile).encode()
    began = time.process_time()
    try:
        request = parse_message(data)
        assert isinstance(request, Request)
        request.headers.listed("contact")
    except MalformedMessage:
        pass
    assert time.process_time() - began < 2.0


def test_a_draft_is_written_and_read_back() -> None:
    draft = Draft(
        "INFO",
        "sip:bob@biloxi.com",
        7,
        (("From", "<sip:a@b>;tag=1"), ("To", "<sip:c@d>;tag=2"), ("Call-ID", "x")),
        b"Signal=1",
    )
    request = parsed(draft.to_bytes("SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bK1;rport"))
    assert (request.method, request.cseq, request.to.tag, request.body) == ("INFO", 7, "2", b"Signal=1")
    assert draft.with_headers(("call-id", "y")).header("call-id") == "y"


# Streams


def test_a_stream_is_cut_the_same_however_it_comes() -> None:
    one, two = INVITE.encode(), INVITE.replace("314159", "314160").encode()
    stream = b"\r\n" + one + b"\r\n\r\n" + two
    for size in (1, 2, 3, 7, 100, len(stream)):
        splitter = StreamSplitter()
        messages = [
            message for at in range(0, len(stream), size) for message in splitter.feed(stream[at : at + size])
        ]
        assert messages == [one, two], size
        assert splitter.pings == 1


@pytest.mark.parametrize(
    "bad",
    [
        INVITE.replace("Content-Length: 4\r\n", ""),
        INVITE.replace("Content-Length: 4", "Content-Length: 4\r\nl: 4"),
        INVITE.replace("Content-Length: 4", "Content-Length: 4x"),
        INVITE.replace("Content-Length: 4", "Content-Length: 9999999"),
        "a" * (MAX_HEADER_BYTES + 1),
    ],
)
def test_a_stream_that_cannot_be_followed(bad: str) -> None:
    with pytest.raises(MalformedMessage):
        StreamSplitter().feed(bad.encode())
