"""`maya dial` against a server that answers as ours does, or does not."""

from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from typer.testing import CliRunner, Result

from infra.cli import app

NUMBER = "+12025550123"
ORDER = {"id": "o-1", "number": NUMBER, "persona": "", "state": "waiting", "detail": "", "call_id": ""}


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infra.commands.dial._POLL_S", 0.0)
    for name in ("MAYA_API_KEY", "MAYA_SERVER"):
        monkeypatch.delenv(name, raising=False)


def dial(server: HTTPServer, *options: str) -> Result:
    where = ("--server", server.url_for("/"), "--key", "secret-key")
    return CliRunner().invoke(app, ["dial", NUMBER, *where, *options])


def answers(server: HTTPServer, body: Any, status: int = 202) -> None:
    server.expect_request("/calls", method="POST").respond_with_json(body, status=status)


def test_the_order_is_given_with_its_key_and_followed_to_its_end(httpserver: HTTPServer) -> None:
    httpserver.expect_ordered_request(
        "/calls",
        method="POST",
        json={"to": NUMBER, "persona": "clinic"},
        headers={"Authorization": "Bearer secret-key", "Idempotency-Key": "monday"},
    ).respond_with_json(ORDER, status=202)
    for state, detail in (("ringing", ""), ("ringing", ""), ("over", "message left")):
        httpserver.expect_ordered_request("/calls/o-1", method="GET").respond_with_json(
            ORDER | {"state": state, "detail": detail}
        )
    done = dial(httpserver, "--persona", "clinic", "--once", "monday")
    assert done.exit_code == 0
    assert done.output.splitlines() == [
        f"{NUMBER}: waiting",
        f"{NUMBER}: ringing",
        f"{NUMBER}: over (message left)",
    ]


def test_a_call_that_fails_is_an_exit_status(httpserver: HTTPServer) -> None:
    answers(httpserver, ORDER | {"state": "failed", "detail": "busy"})
    done = dial(httpserver)
    assert (done.exit_code, done.output.strip()) == (1, f"{NUMBER}: failed (busy)")


def test_one_need_not_wait(httpserver: HTTPServer) -> None:
    answers(httpserver, ORDER)
    assert dial(httpserver, "--no-wait").exit_code == 0


@pytest.mark.parametrize(
    ("body", "status", "told"),
    [
        ({"detail": "outside the calling hours"}, 409, "the server refuses: outside the calling hours"),
        ({"detail": "Not Found"}, 404, "makes no calls"),
        ([1], 202, "does not answer as a server of Maya does"),
        ({"state": "fine"}, 200, "does not answer as a server of Maya does"),
    ],
)
def test_refusals_say_why_and_no_secret(httpserver: HTTPServer, body: Any, status: int, told: str) -> None:
    answers(httpserver, body, status)
    done = dial(httpserver)
    assert done.exit_code != 0
    said = done.output + str(done.exception)
    assert told in said
    assert "secret-key" not in said


def test_without_a_key_nothing_is_asked(httpserver: HTTPServer) -> None:
    done = CliRunner().invoke(app, ["dial", NUMBER, "--server", httpserver.url_for("/")])
    assert "set MAYA_API_KEY" in done.output + str(done.exception)
    assert httpserver.log == []
