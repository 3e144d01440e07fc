"""Digest both ways, with the RFCs' own examples."""

import itertools

import pytest

from telephony.sip.digest import DigestClient, DigestGate, digest_response, parse_auth
from telephony.sip.errors import MalformedMessage
from telephony.sip.message import Draft, Request, Response, parse_message
from tests.telephony.sip_support import OFFER, Phone, World, counted_tokens, open_config, statuses


def test_the_example_of_rfc_7616() -> None:
    fields = {
        "user": "Mufasa",
        "realm": "http-auth@example.org",
        "secret": "Circle of Life",
        "method": "GET",
        "uri": "/dir/index.html",
        "nonce": "7ypf/xlj9XXwfDPEoM4URrv/xwf94BcCAzFZH4GiTo0v",
        "nc": "00000001",
        "cnonce": "f2/wE4q74E6zIJEtWaHKaf5wv/H5QzzpXusqGemxURZJ",
        "qop": "auth",
    }
    assert digest_response("MD5", **fields) == "8ca523f5e9506fed4657c9700eebdbec"
    assert (
        digest_response("SHA-256", **fields)
        == "753927fa0e85d155564e2e272a28d1802ca10daf4496794697cf8db5856cb6c1"
    )


def test_the_example_of_rfc_2069() -> None:
    assert (
        digest_response(
            "MD5",
            user="Mufasa",
            realm="testrealm@host.com",
            secret="CircleOfLife",
            method="GET",
            uri="/dir/index.html",
            nonce="dcd98b7102dd2f0e8b11d0f600bfb0c093",
            nc="",
            cnonce="",
            qop="",
        )
        == "1949323746fe6a43ef61f9606e7febea"
    )


def test_quoted_commas_are_no_separators() -> None:
    scheme, fields = parse_auth('Digest realm="a, \\"b\\"", qop="auth,auth-int", nonce=x')
    assert scheme == "digest"
    assert fields == {"realm": 'a, "b"', "qop": "auth,auth-int", "nonce": "x"}
    for wrong in ("Digest realm", 'Digest a="b", a="c"', "Digest =x"):
        with pytest.raises(MalformedMessage):
            parse_auth(wrong)


class Conversation:
    """A gate and a client that asks it."""

    def __init__(self, secret: str, user: str) -> None:
        tokens = counted_tokens()
        self.gate = DigestGate({"ann": "secret"}, realm="maya", key=b"key", random=tokens)
        self.client = DigestClient(user, secret, random=tokens)
        self.draft = Draft(
            "INVITE",
            "sip:maya@192.0.2.1",
            1,
            (("From", "<sip:ann@x>;tag=1"), ("To", "<sip:maya@192.0.2.1>"), ("Call-ID", "c")),
        )

    def request(self, draft: Draft) -> Request:
        message = parse_message(draft.to_bytes("SIP/2.0/UDP 198.51.100.9;branch=z9hG4bK1"))
        assert isinstance(message, Request)
        return message

    def challenge(self, now: float, *, keep: str = "", stale: bool = False, status: int = 401) -> Response:
        headers = tuple(pair for pair in self.gate.challenges(now, stale=stale) if keep in pair[1])
        message = parse_message(self.request(self.draft).response(status, tag="x", headers=headers))
        assert isinstance(message, Response)
        return message


@pytest.mark.parametrize("algorithm", ["SHA-256", "MD5"])
def test_the_gate_lets_its_client_in_once_for_each_count(algorithm: str) -> None:
    talk = Conversation("secret", "ann")
    assert talk.gate.check(talk.request(talk.draft), 100.0).tried is False
    again = talk.client.authorize(talk.draft, talk.challenge(100.0, keep=algorithm))
    assert again is not None
    assert again.cseq == 2
    assert f"algorithm={algorithm}" in again.header("authorization")
    request = talk.request(again)
    assert talk.gate.check(request, 101.0).user == "ann"
    replayed = talk.gate.check(request, 102.0)
    assert (replayed.user, replayed.stale) == (None, True)


def test_only_what_is_asked_for_is_taken() -> None:
    """Phones give up at a challenge that they do not know: a server asks for MD5 alone unless it is told."""
    talk = Conversation("secret", "ann")
    again = talk.client.authorize(talk.draft, talk.challenge(100.0))
    assert again is not None
    assert "algorithm=SHA-256" in again.header("authorization")
    talk.gate = DigestGate(
        {"ann": "secret"}, realm="maya", key=b"key", random=counted_tokens(), algorithms=("MD5",)
    )
    (challenge,) = talk.gate.challenges(100.0)
    assert "algorithm=MD5" in challenge[1]
    assert talk.gate.check(talk.request(again), 101.0).user is None
    assert open_config().digest == ("MD5",)


def test_the_stronger_challenge_is_taken() -> None:
    talk = Conversation("secret", "ann")
    again = talk.client.authorize(talk.draft, talk.challenge(1.0))
    assert again is not None
    assert "algorithm=SHA-256" in again.header("authorization")


def test_an_old_nonce_is_stale_and_the_client_tries_again() -> None:
    talk = Conversation("secret", "ann")
    again = talk.client.authorize(talk.draft, talk.challenge(100.0))
    assert again is not None
    verdict = talk.gate.check(talk.request(again), 300.0)
    assert (verdict.user, verdict.stale) == (None, True)
    third = talk.client.authorize(again, talk.challenge(300.0, stale=True))
    assert third is not None
    assert talk.gate.check(talk.request(third), 301.0).user == "ann"


@pytest.mark.parametrize(("secret", "user"), [("wrong", "ann"), ("secret", "eve"), ("", "")])
def test_wrong_credentials(secret: str, user: str) -> None:
    talk = Conversation(secret, user)
    again = talk.client.authorize(talk.draft, talk.challenge(1.0))
    assert again is not None
    verdict = talk.gate.check(talk.request(again), 1.0)
    assert (verdict.user, verdict.stale, verdict.tried) == (None, False, True)
    # The client does not try its secret a second time.
    assert talk.client.authorize(again, talk.challenge(1.0)) is None


def test_credentials_cannot_be_bent() -> None:
    """Each field changed, or taken from another request."""
    talk = Conversation("secret", "ann")
    good = talk.client.authorize(talk.draft, talk.challenge(1.0, keep="MD5"))
    assert good is not None
    value = good.header("authorization")
    changes = [
        ("nc=00000001", "nc=00000002"),
        ("nc=00000001", "nc=zz"),
        ("qop=auth", "qop=auth-int"),
        ("qop=auth, ", ""),
        ("sip:maya@192.0.2.1", "sip:bob@192.0.2.1"),
        ('realm="maya"', 'realm="other"'),
        ("algorithm=MD5", "algorithm=SHA-256"),
        ("algorithm=MD5", "algorithm=none"),
        ('username="ann"', 'username="ann2"'),
        ('nonce="', 'nonce="0'),
        ("Digest ", "Basic "),
        ('response="', 'response="\xe9'),
    ]
    for before, after in changes:
        assert before in value, before
        bent = good.with_headers(("Authorization", value.replace(before, after)))
        assert talk.gate.check(talk.request(bent), 1.0).user is None, after
    other = Draft("OPTIONS", good.uri, good.cseq, good.headers)
    assert talk.gate.check(talk.request(other), 1.0).user is None
    assert talk.gate.check(talk.request(good), 1.0).user == "ann"


def test_a_forged_nonce_never_counts() -> None:
    talk = Conversation("secret", "ann")
    stranger = DigestGate({}, realm="maya", key=b"other", random=counted_tokens())
    headers = stranger.challenges(1.0)
    message = parse_message(talk.request(talk.draft).response(401, tag="x", headers=headers))
    assert isinstance(message, Response)
    again = talk.client.authorize(talk.draft, message)
    assert again is not None
    assert talk.gate.check(talk.request(again), 1.0).user is None


def test_a_proxys_challenge_and_one_without_qop() -> None:
    talk = Conversation("secret", "ann")
    request = talk.request(talk.draft)
    headers = (("Proxy-Authenticate", 'Digest realm="p", nonce="n", opaque="o"'),)
    response = parse_message(request.response(407, tag="x", headers=headers))
    assert isinstance(response, Response)
    again = talk.client.authorize(talk.draft, response)
    assert again is not None
    value = again.header("proxy-authorization")
    assert 'opaque="o"' in value
    assert "qop" not in value
    for useless in (
        'Digest realm="p", nonce="n", qop="auth-int"',
        'Digest realm="p"',
        "Basic x",
        "Digest ,,=",
    ):
        response = parse_message(request.response(407, tag="x", headers=(("Proxy-Authenticate", useless),)))
        assert isinstance(response, Response)
        assert talk.client.authorize(talk.draft, response) is None


def test_counts_go_on_from_a_phone_that_keeps_its_nonce() -> None:
    talk = Conversation("secret", "ann")
    first = talk.client.authorize(talk.draft, talk.challenge(1.0, keep="MD5"))
    assert first is not None
    _, fields = parse_auth(first.header("authorization"))
    for count in itertools.chain((1,), (2, 5)):
        nc = f"{count:08x}"
        answer = digest_response(
            "MD5",
            user="ann",
            realm="maya",
            secret="secret",
            method="INVITE",
            uri=fields["uri"],
            nonce=fields["nonce"],
            nc=nc,
            cnonce="c",
            qop="auth",
        )
        value = (
            f'Digest username="ann", realm="maya", nonce="{fields["nonce"]}", uri="{fields["uri"]}", '
            f'response="{answer}", algorithm=MD5, qop=auth, cnonce="c", nc={nc}'
        )
        request = talk.request(first.with_headers(("Authorization", value)))
        assert talk.gate.check(request, 2.0).user == "ann"


def test_a_phone_calls_with_its_secret() -> None:
    """The whole way, as a softphone does it: INVITE, 401, ACK, INVITE."""
    world = World(open_config(allow=(), users={"ann": "secret"}))
    phone = Phone()
    (refused,) = world.say(phone.invite())
    assert isinstance(refused, Response)
    assert refused.status == 401
    world.say(phone.request("ACK", cseq=1))
    client = DigestClient("ann", "secret", random=counted_tokens())
    draft = client.authorize(Draft("INVITE", "sip:maya@192.0.2.1:5060", 1, ()), refused)
    assert draft is not None
    invite = phone.request("INVITE", OFFER, Authorization=draft.header("authorization"))
    responses = world.say(invite)
    assert statuses(responses) == [100, 200]
    # Its retransmission is the same call, though the nonce's count is used up.
    assert statuses(world.say(invite)) == [200]
    assert len(world.agent.calls) == 1
    (call,) = world.agent.calls.values()
    assert call.parameters["sip_account"] == "ann"  # type: ignore[attr-defined]
