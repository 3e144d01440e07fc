"""The page's endpoints under a real ASGI stack."""

import json
import re
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from starlette.websockets import WebSocketDisconnect

from telephony.browser.assets import FOLDER, load_assets
from telephony.browser.desk import BrowserDesk
from telephony.browser.routes import create_router
from tests.telephony.browser_support import (
    EPOCH_S,
    PASSWORD,
    PUBLIC_URL,
    START,
    STOP,
    config,
    local_config,
    media,
)
from tests.telephony.twilio_support import Echo

LOCAL = "http://127.0.0.1:8080"


def client(of: Any = None, **desk: Any) -> TestClient:
    settings = of or local_config()
    app = FastAPI()
    app.include_router(create_router(BrowserDesk(settings, desk.pop("agent", Echo()), **desk)))
    base = settings.origin
    return TestClient(app, base_url=base, headers={"origin": base})


def log_in(browser: TestClient, password: str = PASSWORD) -> Any:
    return browser.post("/talk/login", json={"password": password})


# The page


def test_the_page_and_everything_that_it_names() -> None:
    browser = client()
    page = browser.get("/talk")
    assert page.status_code == 200
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    named = set(re.findall(r'(?:href|src)="([^"]+)"', page.text))
    assert len(named) >= 4
    for path in named:
        answer = browser.get("/" + path)
        assert answer.status_code == 200, path
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_every_module_is_there_under_the_name_by_which_others_import_it() -> None:
    names = set(load_assets())
    for path in FOLDER.glob("*.js"):
        for imported in re.findall(r'(?:from|URL\()\s*"(?:\./)?([\w.-]+\.js)"', path.read_text("utf-8")):
            assert imported in names, f"{path.name} imports {imported}"


def test_the_page_trusts_nothing_but_its_own_files() -> None:
    page = client().get("/talk")
    policy = page.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "http" not in policy
    assert page.headers["referrer-policy"] == "no-referrer"
    everything = "".join(path.read_text("utf-8") for path in FOLDER.iterdir())
    hosts = set(re.findall(r"https?://[\w.:-]+", everything))
    assert hosts <= {"http://www.w3.org", "https://", "http://localhost"}
    assert not re.search(r"<script(?![^>]*src=)|style=|onclick=", (FOLDER / "talk.html").read_text("utf-8"))


@pytest.mark.parametrize(
    "name", ["../routes.py", "%2e%2e/routes.py", "..%2froutes.py", "nothing.js", "routes.py", ""]
)
def test_no_other_file_is_served(name: str) -> None:
    assert client().get(f"/talk/static/{name}").status_code == 404


def test_a_file_that_the_browser_has_is_not_sent_again() -> None:
    browser = client()
    first = browser.get("/talk/static/main.js")
    again = browser.get("/talk/static/main.js", headers={"if-none-match": first.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


def test_a_page_that_is_off_is_not_there() -> None:
    assert client(config(password="")).get("/talk").status_code == 404


def test_this_machine_only_without_a_password() -> None:
    browser = client()
    for path in ("/talk", "/talk/session", "/talk/static/main.js"):
        assert browser.get(path, headers={"host": "evil.example"}).status_code == 403
        assert browser.get(path, headers={"x-forwarded-for": "1.2.3.4"}).status_code == 403


# Logging in


def test_the_session_says_whether_a_login_is_needed() -> None:
    assert client().get("/talk/session").json() == {"title": "Maya", "logged_in": True}
    browser = client(config(title="Ada"))
    assert browser.get("/talk/session").json() == {"title": "Ada", "logged_in": False}
    assert log_in(browser).json() == {"logged_in": True}
    assert browser.get("/talk/session").json() == {"title": "Ada", "logged_in": True}


def test_the_cookie_is_for_this_page_and_for_no_script() -> None:
    cookie = log_in(client(config(session_s=100))).headers["set-cookie"]
    parts = {part.strip().lower() for part in cookie.split(";")}
    assert {"httponly", "samesite=strict", "secure", "path=/talk", "max-age=100"} <= parts
    assert PASSWORD not in cookie
    under = log_in(client(config(public_url=PUBLIC_URL + "/maya"))).headers["set-cookie"].lower()
    assert "path=/maya/talk" in under
    local = log_in(client(local_config(password=PASSWORD))).headers["set-cookie"].lower()
    assert "secure" not in local
    assert "httponly" in local


def test_an_expired_login() -> None:
    wall = [EPOCH_S]
    browser = client(config(session_s=60), wall=lambda: wall[0])
    log_in(browser)
    wall[0] += 61
    assert browser.get("/talk/session").json()["logged_in"] is False


def test_wrong_passwords() -> None:
    browser = client(config())
    answers = [log_in(browser, "wrong wrong wrong") for _ in range(6)]
    assert [answer.status_code for answer in answers] == [401] * 5 + [429]
    assert "set-cookie" not in answers[0].headers
    assert 1 <= int(answers[-1].headers["retry-after"]) <= 11


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"[]", 400),
        (b'{"password":7}', 400),
        (b"\xff\xfe", 400),
        (b"[" * 4000, 400),
        (b"x" * 5000, 413),
    ],
)
def test_bad_bodies(body: bytes, status: int) -> None:
    assert client(config()).post("/talk/login", content=body).status_code == status


def test_another_page_cannot_log_in_for_its_visitor() -> None:
    answer = client(config()).post(
        "/talk/login", json={"password": PASSWORD}, headers={"origin": "https://evil.example"}
    )
    assert answer.status_code == 403
    assert "set-cookie" not in answer.headers


# The socket


def test_a_call_over_the_socket() -> None:
    agent = Echo()
    with client(agent=agent).websocket_connect("/talk/media", headers={"host": "127.0.0.1:8080"}) as socket:
        socket.send_text(START)
        socket.send_bytes(media(0, b"\x55" * 160))
        assert socket.receive_bytes() == b"\x55" * 160
        assert json.loads(socket.receive_text()) == {"event": "mark", "id": 1}
        socket.send_text(STOP)
        with pytest.raises(WebSocketDisconnect) as closed:
            socket.receive_text()
    assert closed.value.code == 1000
    assert agent.ends == ["caller hung up"]


def connects(browser: TestClient, **headers: str) -> bool:
    try:
        with browser.websocket_connect("/talk/media", headers=headers) as socket:
            socket.send_text(STOP)
        return True
    except WebSocketDisconnect:
        return False


def test_the_socket_wants_our_page_and_a_login() -> None:
    browser = client(config())
    assert not connects(browser, host="maya.example.com")
    cookie = log_in(browser).headers["set-cookie"].partition(";")[0]
    assert connects(browser, host="maya.example.com", cookie=cookie)
    assert not connects(browser, host="maya.example.com", cookie=cookie + "x")
    assert not connects(browser, host="maya.example.com", cookie=cookie, origin="https://evil.example")


def test_the_socket_of_this_machine_wants_our_page() -> None:
    browser = client()
    assert connects(browser, host="127.0.0.1:8080")
    assert not connects(browser, host="127.0.0.1:8080", origin="https://evil.example")
    assert not connects(browser, host="evil.example", origin="http://evil.example")
