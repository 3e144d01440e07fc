"""The door in an application: roles on routes, the login's page and cookies."""

import contextlib
import re
from typing import Annotated

import pytest
from fastapi import Depends, FastAPI, WebSocket, WebSocketDisconnect
from fastapi.testclient import TestClient
from starlette.testclient import WebSocketDenialResponse

from infra.access.keys import digest_of, new_key
from infra.access.policy import AccessSettings
from infra.access.web import Principal, install, require, still_admitted

URL = "https://maya.example.com"
FEED = "wss://maya.example.com/feed"
KEY, VIEWER = new_key()[0], new_key()[0]
LINES = (f"ann:operator:never:{digest_of(KEY)}", f"vic:viewer:never:{digest_of(VIEWER)}")
BEARER = {"Authorization": f"Bearer {KEY}"}


def client(url: str = URL, *, insecure: bool = False, lines: tuple[str, ...] = LINES) -> TestClient:
    app = FastAPI()
    install(app, AccessSettings(keys=lines), public_url=url, insecure=insecure)

    @app.get("/look")
    async def look(who: Annotated[Principal, Depends(require("viewer"))]) -> str:
        return who.name

    @app.post("/act")
    async def act(who: Annotated[Principal, Depends(require("operator"))]) -> str:
        return who.name

    @app.get("/page")
    async def page(who: Annotated[Principal, Depends(require("viewer", page=True))]) -> str:
        return who.name

    @app.websocket("/feed")
    async def feed(websocket: WebSocket, who: Annotated[Principal, Depends(require("viewer"))]) -> None:
        await websocket.accept()
        with contextlib.suppress(WebSocketDisconnect):
            while True:
                await websocket.receive_text()
                await websocket.send_json(still_admitted(websocket, "viewer"))

    return TestClient(app, base_url=url, client=("127.0.0.1", 5000), follow_redirects=False)


def form_of(web: TestClient, path: str = "/login") -> dict[str, str]:
    page = web.get(path).text
    return dict(re.findall(r'<input type="hidden" name="(\w+)" value="([^"]*)">', page))


def log_in(web: TestClient, key: str = KEY, then: str = "/look") -> None:
    answer = web.post("/login", data={**form_of(web), "key": key, "next": then}, headers={"Origin": URL})
    assert (answer.status_code, answer.headers["location"]) == (303, then)


def test_without_a_key_one_is_asked_for_and_a_page_leads_to_the_login() -> None:
    web = client()
    answer = web.get("/look")
    assert (answer.status_code, answer.headers["www-authenticate"]) == (401, "Bearer")
    page = web.get("/page")
    assert (page.status_code, page.headers["location"]) == (303, "/login?next=/page")
    assert form_of(web, page.headers["location"])["next"] == "/page"


def test_roles_hold_on_routes() -> None:
    web = client()
    assert web.get("/look", headers=BEARER).json() == "ann"
    assert web.post("/act", headers=BEARER).json() == "ann"
    refused = web.post("/act", headers={"Authorization": f"Bearer {VIEWER}"})
    assert (refused.status_code, refused.json()) == (
        403,
        {"detail": "this needs the role operator, and vic is viewer"},
    )


@pytest.mark.parametrize("shown", ["Basic YTpi", "Bearer", "Bearer ", f"bearer  {VIEWER[:-1]}", "\x7f"])
def test_what_is_no_key_is_refused(shown: str) -> None:
    assert client().get("/look", headers={"Authorization": shown}).status_code == 401


def test_a_login_by_the_page_and_its_end() -> None:
    web = client()
    log_in(web, then="/page")
    assert web.get("/page").json() == "ann"
    assert web.get("/whoami").json() == {"name": "ann", "role": "operator"}
    cookie = dict(web.cookies)
    assert web.post("/act").status_code == 403  # a page of somebody else's
    assert web.post("/act", headers={"Origin": URL}).json() == "ann"
    assert web.post("/logout", headers={"Origin": URL}).status_code == 303
    assert web.get("/whoami").status_code == 401
    again = web.get(
        "/look", headers={"Cookie": "; ".join(f"{name}={value}" for name, value in cookie.items())}
    )
    assert again.status_code == 401  # whoever kept it has nothing


def test_the_cookie_is_out_of_reach() -> None:
    web = client()
    answer = web.post("/login", data={**form_of(web), "key": KEY}, headers={"Origin": URL})
    (cookie,) = answer.headers.get_list("set-cookie")
    parts = [part.strip().lower() for part in cookie.split(";")]
    assert parts[0].startswith("__host-maya_session=")
    assert {"httponly", "secure", "samesite=strict", "path=/", "max-age=43200"} <= set(parts)
    assert not any(part.startswith("domain") for part in parts)


def test_a_wrong_key_shows_the_form_again_and_a_form_is_good_once() -> None:
    web = client()
    form = form_of(web)
    wrong = web.post("/login", data={**form, "key": "wrong"}, headers={"Origin": URL})
    assert wrong.status_code == 401
    assert "wrong key, or one that has expired" in wrong.text
    reused = web.post("/login", data={**form, "key": KEY}, headers={"Origin": URL})
    assert reused.status_code == 403
    fresh = dict(re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', reused.text))
    assert web.post("/login", data={**fresh, "key": KEY}, headers={"Origin": URL}).status_code == 303


def test_too_many_logins_are_told_when_to_come_back() -> None:
    web = client()
    for _ in range(5):
        web.post("/login", data={**form_of(web), "key": "wrong"}, headers={"Origin": URL})
    late = web.post("/login", data={**form_of(web), "key": KEY}, headers={"Origin": URL})
    assert late.status_code == 429
    assert 1 <= int(late.headers["retry-after"]) <= 11


@pytest.mark.parametrize(
    "then",
    [
        "//evil.example",
        "https://evil.example",
        "/\\evil.example",
        "\\\\evil",
        "/a\r\nSet-Cookie: x",
        "evil",
        "/\t/e",
    ],
)
def test_a_login_leads_nowhere_else(then: str) -> None:
    web = client()
    form = {**form_of(web), "key": KEY, "next": then}
    answer = web.post("/login", data=form, headers={"Origin": URL})
    assert (answer.status_code, answer.headers["location"]) == (303, "/whoami")


def test_the_page_shows_what_it_is_given_as_text() -> None:
    page = client().get("/login", params={"next": '/"><script>alert(1)</script>'})
    assert "<script" not in page.text
    assert "default-src 'none'" in page.headers["content-security-policy"]
    assert page.headers["x-frame-options"] == "DENY"
    assert page.headers["referrer-policy"] == "same-origin"


@pytest.mark.parametrize(
    ("body", "kind"),
    [
        (b"\xff\x00" * 10, "application/x-www-form-urlencoded"),
        (b"key=" + b"a" * 5_000, "application/x-www-form-urlencoded"),
        (b"&".join(b"a=1" for _ in range(100)), "application/x-www-form-urlencoded"),
        (b'{"key": "x"}', "application/json"),
        (b"", ""),
    ],
)
def test_garbage_at_the_login(body: bytes, kind: str) -> None:
    answer = client().post("/login", content=body, headers={"Origin": URL, "Content-Type": kind})
    assert answer.status_code == 400


def test_a_feed_is_opened_by_a_key_or_from_our_own_page() -> None:
    web = client()
    with web.websocket_connect(FEED, headers=BEARER) as feed:
        feed.send_text("?")
        assert feed.receive_json() is True
    for headers in ({}, {"Origin": URL}, {"Authorization": "Bearer wrong"}):
        with pytest.raises(WebSocketDenialResponse), web.websocket_connect(FEED, headers=headers):
            pass


def test_a_feed_learns_that_its_login_has_ended() -> None:
    web = client()
    log_in(web)
    with (
        pytest.raises(WebSocketDenialResponse),
        web.websocket_connect(FEED, headers={"Origin": "https://e"}),
    ):
        pass
    with web.websocket_connect(FEED, headers={"Origin": URL}) as feed:
        feed.send_text("?")
        assert feed.receive_json() is True
        web.post("/logout", headers={"Origin": URL})
        feed.send_text("?")
        assert feed.receive_json() is False


def test_on_this_machine_nobody_needs_a_key() -> None:
    web = client("http://127.0.0.1:8080", insecure=True, lines=())
    assert web.get("/page").json() == "this machine"
    assert web.get("/page", headers={"Host": "rebound.example"}).status_code == 303
