"""Digest authentication, both ways (RFC 7616, RFC 8760; MD5 as RFC 2617 has it, for phones know little else).

    gate = DigestGate({"ann": "secret"}, realm="maya", key=..., random=...)
    user = gate.check(request, now)         # None: answer 401 with gate.challenges(now)
    draft = DigestClient("ann", "secret", random=...).authorize(draft, response)

Nonces carry their time and a MAC, so nothing is kept for those who never come back; a nonce count is taken
once.
"""

import hashlib
import hmac
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from telephony.sip.errors import MalformedMessage
from telephony.sip.message import Draft, Request, Response
from telephony.sip.uri import TOKEN, parse_uri, quoted, split_outside_quotes, unquoted

Algorithm = Literal["SHA-256", "MD5"]
_HASHES: Final[dict[Algorithm, str]] = {"SHA-256": "sha256", "MD5": "md5"}
_NONCE_TTL_S: Final = 120.0
_NONCES_KEPT: Final = 10_000
_MAX_NC: Final = 0xFFFF_FFFF


def parse_auth(value: str) -> tuple[str, dict[str, str]]:
    """Scheme in lower case and parameters of one challenge or of credentials. Raises `MalformedMessage`."""
    scheme, _, rest = value.strip().partition(" ")
    fields: dict[str, str] = {}
    for part in split_outside_quotes(rest, ","):
        name, equals, text = part.partition("=")
        name = name.strip().lower()
        if not equals or not TOKEN.fullmatch(name) or name in fields or len(fields) >= 32:
            raise MalformedMessage("odd credentials")
        fields[name] = unquoted(text.strip())
    return scheme.lower(), fields


def digest_response(
    algorithm: Algorithm,
    *,
    user: str,
    realm: str,
    secret: str,
    method: str,
    uri: str,
    nonce: str,
    nc: str,
    cnonce: str,
    qop: str,
) -> str:
    """The `response` field. `qop` "" is RFC 2069's form, which only old registrars ask for."""

    def hashed(text: str) -> str:
        data = text.encode("utf-8", "surrogateescape")
        return hashlib.new(_HASHES[algorithm], data, usedforsecurity=False).hexdigest()

    secret_hash = hashed(f"{user}:{realm}:{secret}")
    request_hash = hashed(f"{method}:{uri}")
    if not qop:
        return hashed(f"{secret_hash}:{nonce}:{request_hash}")
    return hashed(f"{secret_hash}:{nonce}:{nc}:{cnonce}:{qop}:{request_hash}")


@dataclass(frozen=True, slots=True)
class Verdict:
    """`user` is None where access is refused; `stale` when only the nonce was too old; `tried` when there
    were credentials at all."""

    user: str | None
    stale: bool = False
    tried: bool = False


class DigestGate:
    """Asks callers for a name and secret of `users`. `key` signs nonces; `random()` makes them differ.
    `algorithms` are those that callers may use, the preferred one first."""

    def __init__(
        self,
        users: Mapping[str, str],
        *,
        realm: str,
        key: bytes,
        random: Callable[[], str],
        algorithms: tuple[Algorithm, ...] = tuple(_HASHES),
    ) -> None:
        self._users = users
        self._realm = realm
        self._key = key
        self._random = random
        self._algorithms = algorithms
        # Nonce -> the highest count taken with it.
        self._counts: OrderedDict[str, int] = OrderedDict()

    def challenges(self, now: float, *, stale: bool = False) -> tuple[tuple[str, str], ...]:
        """The headers of a 401, in our order: a client takes the first that it knows (RFC 8760)."""
        mark = ", stale=true" if stale else ""
        nonce = self._nonce(now)
        return tuple(
            (
                "WWW-Authenticate",
                f"Digest realm={quoted(self._realm)}, nonce={quoted(nonce)}, algorithm={algorithm}, "
                f'qop="auth"{mark}',
            )
            for algorithm in self._algorithms
        )

    def check(self, request: Request, now: float) -> Verdict:
        """Whose request this is. Never raises; takes the same time for unknown names."""
        tried = False
        for value in request.headers.all("authorization"):
            try:
                scheme, fields = parse_auth(value)
            except MalformedMessage:
                return Verdict(None, tried=True)
            if scheme != "digest" or fields.get("realm") != self._realm:
                continue
            tried = True
            verdict = self._check(request, fields, now)
            if verdict.user is not None or verdict.stale:
                return verdict
        return Verdict(None, tried=tried)

    def _check(self, request: Request, fields: dict[str, str], now: float) -> Verdict:
        refused = Verdict(None, tried=True)
        algorithm = fields.get("algorithm", "MD5").upper()
        if algorithm not in self._algorithms or fields.get("qop", "").lower() != "auth":
            return refused
        if not _same_target(fields.get("uri", ""), request):
            return refused
        nonce, nc, user = fields.get("nonce", ""), fields.get("nc", ""), fields.get("username", "")
        known = user in self._users
        expected = digest_response(
            "MD5" if algorithm == "MD5" else "SHA-256",
            user=user,
            realm=self._realm,
            secret=self._users[user] if known else self._random(),
            method=request.method,
            uri=fields.get("uri", ""),
            nonce=nonce,
            nc=nc,
            cnonce=fields.get("cnonce", ""),
            qop=fields["qop"],
        )
        given = fields.get("response", "").lower().encode("utf-8", "surrogateescape")
        if not hmac.compare_digest(expected.encode(), given) or not known:
            return refused
        made_at = self._made_at(nonce)
        if made_at is None or not 0 <= now - made_at <= _NONCE_TTL_S or not self._take_count(nonce, nc):
            # Right secret, used-up nonce: the client tries again by itself.
            return Verdict(None, stale=True, tried=True)
        return Verdict(user, tried=True)

    def _take_count(self, nonce: str, nc: str) -> bool:
        try:
            count = int(nc, 16) if 1 <= len(nc) <= 8 else 0
        except ValueError:
            return False
        if not self._counts.get(nonce, 0) < count <= _MAX_NC:
            return False
        self._counts[nonce] = count
        self._counts.move_to_end(nonce)
        if len(self._counts) > _NONCES_KEPT:
            self._counts.popitem(last=False)
        return True

    def _nonce(self, now: float) -> str:
        head = f"{int(now * 1000):x}.{self._random()}"
        return f"{head}.{self._mac(head)}"

    def _made_at(self, nonce: str) -> float | None:
        head, _, mac = nonce.rpartition(".")
        if not hmac.compare_digest(self._mac(head).encode(), mac.encode("utf-8", "surrogateescape")):
            return None
        return int(head.partition(".")[0], 16) / 1000

    def _mac(self, head: str) -> str:
        data = head.encode("utf-8", "surrogateescape")
        return hmac.new(self._key, data, hashlib.sha256).hexdigest()[:32]


class DigestClient:
    """Answers the challenges of a registrar or a trunk with one name and secret."""

    def __init__(self, user: str, secret: str, *, random: Callable[[], str]) -> None:
        self._user = user
        self._secret = secret
        self._random = random

    def authorize(self, draft: Draft, response: Response) -> Draft | None:
        """`draft` again with credentials for the 401 or 407 in `response`, its CSeq one higher. None where
        that would not help: no challenge that we know, or our credentials were just refused."""
        proxy = response.status == 407
        name = "Proxy-Authorization" if proxy else "Authorization"
        challenge = self._choose(response.headers.all("proxy-authenticate" if proxy else "www-authenticate"))
        if challenge is None:
            return None
        algorithm, fields = challenge
        tried = draft.header(name.lower())
        if tried and fields.get("stale", "").lower() != "true":
            return None
        offered = {word.strip().lower() for word in fields.get("qop", "").split(",")}
        qop = "auth" if "auth" in offered else ""
        cnonce, nc = self._random(), "00000001"
        realm, nonce = fields.get("realm", ""), fields.get("nonce", "")
        answer = digest_response(
            algorithm,
            user=self._user,
            realm=realm,
            secret=self._secret,
            method=draft.method,
            uri=draft.uri,
            nonce=nonce,
            nc=nc,
            cnonce=cnonce,
            qop=qop,
        )
        value = (
            f"Digest username={quoted(self._user)}, realm={quoted(realm)}, nonce={quoted(nonce)}, "
            f"uri={quoted(draft.uri)}, response={quoted(answer)}, algorithm={algorithm}"
        )
        if qop:
            value += f", qop={qop}, cnonce={quoted(cnonce)}, nc={nc}"
        if "opaque" in fields:
            value += f", opaque={quoted(fields['opaque'])}"
        again = draft.with_headers((name, value))
        return Draft(again.method, again.uri, draft.cseq + 1, again.headers, again.body)

    def _choose(self, challenges: list[str]) -> tuple[Algorithm, dict[str, str]] | None:
        """The strongest challenge that we can meet."""
        found: dict[Algorithm, dict[str, str]] = {}
        for value in challenges:
            try:
                scheme, fields = parse_auth(value)
            except MalformedMessage:
                continue
            algorithm = fields.get("algorithm", "MD5").upper()
            qop = fields.get("qop", "")
            if qop and "auth" not in {word.strip().lower() for word in qop.split(",")}:
                continue
            if scheme == "digest" and algorithm in _HASHES and "nonce" in fields:
                found.setdefault("MD5" if algorithm == "MD5" else "SHA-256", fields)
        return next(((algorithm, found[algorithm]) for algorithm in _HASHES if algorithm in found), None)


def _same_target(text: str, request: Request) -> bool:
    """Whether credentials were made for this request (RFC 7616 section 3.4.6); parameters may differ."""
    try:
        uri = parse_uri(text)
    except MalformedMessage:
        return False
    ours = request.uri
    return (uri.user, uri.host.lower()) == (ours.user, ours.host.lower())
