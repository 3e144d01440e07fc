import pytest

from telephony.sip.errors import MalformedMessage
from telephony.sip.uri import parse_address, parse_uri, parse_via, split_outside_quotes


def test_a_uri_in_all_its_parts() -> None:
    uri = parse_uri("sip:al%69ce:secret@[2001:db8::1]:5070;transport=tcp;lr?Subject=x")
    assert (uri.scheme, uri.user, uri.host, uri.port) == ("sip", "alice", "2001:db8::1", 5070)
    assert uri.parameters == {"transport": "tcp", "lr": None}
    assert str(uri.literal) == "2001:db8::1"
    assert parse_uri("sip:example.com").literal is None
    assert parse_uri("tel:+1-555-0100;ext=3").user == "+1-555-0100"
    assert parse_uri("sip:user;par=1@host").user == "user;par=1"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "bob",
        "sip:",
        "sip:@host",
        "sip:a@b@c",
        "sip:a@",
        "sip:a@host:",
        "sip:a@host:0",
        "sip:a@host:65536",
        "sip:a@ho st",
        "sip:a@host\r\nX: y",
        "sip:a@[::1",
        "sip:a@[1.2.3.4]",
        "sip:a@[fe80::1%eth0]",
        "sip:a@-host",
        "sip:a@h\u00f6st",
        "tel:",
        "http://host",
        "sip:a@host" + ";p" * 100 + "".join(f";p{n}" for n in range(100)),
    ],
)
def test_what_is_no_uri(text: str) -> None:
    with pytest.raises(MalformedMessage):
        parse_uri(text)


def test_addresses() -> None:
    address = parse_address('"Ann \\"the <boss>\\"" <sip:ann@host;transport=udp>;tag=a;q="1;2"')
    assert address.display == 'Ann "the <boss>"'
    assert address.uri.parameters == {"transport": "udp"}
    assert address.parameters == {"tag": "a", "q": "1;2"}
    # Without brackets parameters are the header's, not the URI's.
    bare = parse_address("sip:ann@host;tag=b")
    assert bare.tag == "b"
    assert bare.uri.parameters == {}
    for wrong in ("<sip:a@b", "<sip:a@b> x", "", "Ann"):
        with pytest.raises(MalformedMessage):
            parse_address(wrong)


def test_a_via_says_where_it_really_came_from() -> None:
    via = parse_via("SIP / 2.0 / UDP 10.0.0.1:5062 ;branch=z9hG4bK1;rport;received=1.2.3.4")
    assert via.from_source("203.0.113.9", 6_000) == (
        "SIP/2.0/UDP 10.0.0.1:5062;branch=z9hG4bK1;received=203.0.113.9;rport=6000"
    )
    assert (
        parse_via("SIP/2.0/TCP [2001:db8::1];branch=x")
        .from_source("2001:db8::2", 1)
        .startswith("SIP/2.0/TCP [2001:db8::1];branch=x;received=2001:db8::2")
    )


def test_splitting_minds_quotes_and_brackets() -> None:
    assert split_outside_quotes('"a,b" <sip:x,y@z>, <sip:c@d>,, e', ",") == [
        '"a,b" <sip:x,y@z>',
        "<sip:c@d>",
        "e",
    ]
    assert split_outside_quotes('"a\\",b",c', ",") == ['"a\\",b"', "c"]
