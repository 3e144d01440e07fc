"""Offers and answers: what is agreed on, and what is refused."""

import pytest

from telephony.sip.errors import SdpRefused
from telephony.sip.sdp import MediaPlan, MediaSession
from tests.telephony.sip_support import OFFER

SOURCE = "198.51.100.9"


def session(**settings: object) -> MediaSession:
    return MediaSession(("192.0.2.1", 40_000), **{"codecs": ("PCMU", "PCMA"), "session_id": 7, **settings})


def answered(offer: str, **settings: object) -> tuple[str, MediaPlan]:
    body, plan = session(**settings).answer(offer.encode(), source=SOURCE)
    return body.decode(), plan


def test_the_callers_first_codec_and_key_type_are_taken() -> None:
    answer, plan = answered(OFFER.replace("101", "96"))
    assert plan == MediaPlan((SOURCE, 20_000), "PCMA", 8, 96, sending=True, receiving=True)
    assert answer == (
        "v=0\r\no=- 7 1 IN IP4 192.0.2.1\r\ns=-\r\nc=IN IP4 192.0.2.1\r\nt=0 0\r\n"
        "m=audio 40000 RTP/AVP 8 96\r\na=rtpmap:8 PCMA/8000\r\na=rtpmap:96 telephone-event/8000\r\n"
        "a=fmtp:96 0-15\r\na=ptime:20\r\na=sendrecv\r\n"
    )


def test_a_codec_under_a_dynamic_number_and_none_of_ours_before_it() -> None:
    offer = OFFER.replace("RTP/AVP 8 0 101", "RTP/AVP 18 9 97 101 102") + (
        "a=rtpmap:97 pcmu/8000/1\r\na=rtpmap:102 telephone-event/48000\r\n"
    )
    answer, plan = answered(offer)
    assert (plan.codec, plan.payload_type, plan.dtmf_payload_type) == ("PCMU", 97, 101)
    assert "m=audio 40000 RTP/AVP 97 101\r\n" in answer


def test_only_codecs_that_are_configured() -> None:
    _, plan = answered(OFFER, codecs=("PCMU",))
    assert plan.codec == "PCMU"


def test_a_number_that_means_something_else_is_not_taken_for_ours() -> None:
    with pytest.raises(SdpRefused, match="no codec"):
        answered(OFFER.replace("RTP/AVP 8 0 101", "RTP/AVP 0").replace("0 PCMU/8000", "0 L16/44100"))


def test_other_streams_keep_their_lines() -> None:
    video = "m=video 30000 RTP/AVP 96 97\r\na=rtpmap:96 H264/90000\r\n"
    secure = "m=audio 20002 RTP/SAVP 0\r\n"
    head, audio = OFFER.split("m=audio")
    answer, plan = answered(head + video + secure + "m=audio" + audio + "m=audio 20004 RTP/AVP 0\r\n")
    lines = [line for line in answer.split("\r\n") if line.startswith("m=")]
    assert lines == [
        "m=video 0 RTP/AVP 96",
        "m=audio 0 RTP/SAVP 0",
        "m=audio 40000 RTP/AVP 8 101",
        "m=audio 0 RTP/AVP 0",
    ]
    assert plan.remote == (SOURCE, 20_000)


@pytest.mark.parametrize(
    ("line", "direction", "sending", "receiving"),
    [
        ("a=sendrecv", "sendrecv", True, True),
        ("a=sendonly", "recvonly", False, True),
        ("a=recvonly", "sendonly", True, False),
        ("a=inactive", "inactive", False, False),
    ],
)
def test_the_direction_is_mirrored(line: str, direction: str, sending: bool, receiving: bool) -> None:
    answer, plan = answered(OFFER + line + "\r\n")
    assert f"a={direction}\r\n" in answer
    assert (plan.sending, plan.receiving) == (sending, receiving)
    # For the whole session, too.
    _, plan = answered(OFFER.replace("m=audio", f"{line}\r\nm=audio"))
    assert (plan.sending, plan.receiving) == (sending, receiving)


def test_hold_as_old_phones_say_it() -> None:
    answer, plan = answered(OFFER.replace("c=IN IP4 198.51.100.9", "c=IN IP4 0.0.0.0"))
    assert (plan.remote, plan.sending, plan.receiving) == (None, False, True)
    assert "a=recvonly\r\n" in answer


def test_the_streams_own_address_counts() -> None:
    _, plan = answered(OFFER + "c=IN IP4 198.51.100.77\r\n")
    assert plan.remote == ("198.51.100.77", 20_000)


def test_loopback_from_elsewhere_is_nobodys_address() -> None:
    offer = OFFER.replace("c=IN IP4 198.51.100.9", "c=IN IP4 127.0.0.1")
    _, plan = answered(offer)
    assert plan.remote is None
    assert plan.sending
    _, plan = session().answer(offer.encode(), source="127.0.0.1")
    assert plan.remote == ("127.0.0.1", 20_000)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        (("c=IN IP4 198.51.100.9", "c=IN IP4 phone.example.com"), 488),
        (("c=IN IP4 198.51.100.9", "c=IN IP4 localhost"), 488),
        (("c=IN IP4 198.51.100.9", "c=IN IP6 2001:db8::1"), 488),
        (("c=IN IP4 198.51.100.9", "c=IN IP4 224.0.0.1/127"), 488),
        (("c=IN IP4 198.51.100.9", "c=IN IP4 255.255.255.255"), 488),
        (("m=audio 20000", "m=audio 22"), 488),
        (("m=audio 20000", "m=audio 0"), 488),
        (("m=audio 20000", "m=image 20000"), 488),
        (("RTP/AVP 8 0 101", "RTP/SAVP 8 0 101"), 488),
        (("RTP/AVP 8 0 101", "RTP/AVP 18 101"), 488),
        (("c=IN IP4 198.51.100.9\r\n", ""), 400),
        (("c=IN IP4 198.51.100.9", "c=IN"), 400),
        (("m=audio 20000", "m=audio 99999"), 400),
        (("m=audio 20000 RTP/AVP 8 0 101", "m=audio"), 400),
        (("v=0", "v=1"), 400),
        (("s=-", "s=\udcff"), 400),
    ],
)
def test_what_is_refused(change: tuple[str, str], status: int) -> None:
    body = OFFER.replace(*change).encode("utf-8", "surrogateescape")
    with pytest.raises(SdpRefused) as refused:
        session().answer(body, source=SOURCE)
    assert refused.value.status == status


def test_too_many_streams() -> None:
    with pytest.raises(SdpRefused, match="too many"):
        answered(OFFER + "m=audio 0 RTP/AVP 0\r\n" * 100)


def test_the_version_goes_up_only_with_a_change() -> None:
    both = session()
    first, _ = both.answer(OFFER.encode(), source=SOURCE)
    again, _ = both.answer(OFFER.encode(), source=SOURCE)
    held, _ = both.answer((OFFER + "a=sendonly\r\n").encode(), source=SOURCE)
    assert b"o=- 7 1 " in first
    assert again == first
    assert b"o=- 7 2 " in held


def test_our_offer_and_its_answer() -> None:
    ours = session()
    assert b"m=audio 40000 RTP/AVP 0 8 101\r\n" in ours.offer()
    plan = ours.take_answer(OFFER.replace("8 0 101", "8").encode(), source=SOURCE)
    assert plan == MediaPlan((SOURCE, 20_000), "PCMA", 8, None, sending=True, receiving=True)
    with pytest.raises(SdpRefused, match="refused"):
        ours.take_answer(OFFER.replace("20000", "0").encode(), source=SOURCE)


def test_an_offer_in_a_call_with_video_keeps_its_lines() -> None:
    ours = session()
    ours.answer((OFFER + "m=video 30000 RTP/AVP 96\r\n").encode(), source=SOURCE)
    lines = [line for line in ours.offer().decode().split("\r\n") if line.startswith("m=")]
    assert lines == ["m=audio 40000 RTP/AVP 0 8 101", "m=video 0 RTP/AVP 96"]


def test_ipv6_throughout() -> None:
    six = MediaSession(("2001:db8::1", 40_000), codecs=("PCMU",), session_id=1)
    offer = OFFER.replace("IP4 198.51.100.9", "IP6 2001:db8::9")
    answer, plan = six.answer(offer.encode(), source="2001:db8::9")
    assert b"c=IN IP6 2001:db8::1\r\n" in answer
    assert plan.remote == ("2001:db8::9", 20_000)
