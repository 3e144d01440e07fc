import random

import h11

from bench.flood import garbage


def test_garbage_is_http_of_many_kinds_and_none_of_it_is_let_in() -> None:
    chosen = random.Random(1)
    seen = set()
    for number in range(64):
        server = h11.Connection(h11.SERVER)
        server.receive_data(garbage(number, chosen))
        request = server.next_event()
        assert isinstance(request, h11.Request)
        headers = dict(request.headers)
        assert b"x-twilio-signature" not in headers
        assert b"x-forwarded-for" in headers
        seen.add((request.method, request.target.split(b"/")[1][:6]))
    assert len(seen) >= 8


def test_it_comes_from_one_address_and_from_many() -> None:
    chosen = random.Random(1)
    text = b"".join(garbage(number, chosen) for number in range(200))
    assert text.count(b"203.0.113.9") == 100
    assert (
        len({text[i : i + 40] for i in range(len(text)) if text[i:].startswith(b"X-Forwarded-For: 198")}) > 20
    )
