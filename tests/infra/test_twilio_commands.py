"""`maya twilio` through the real client, against a local server in the API's shapes."""

import sys
from pathlib import Path

import pytest
from pytest_httpserver import HTTPServer

from infra import cli
from tests.telephony.test_twilio_numbers import ACCOUNT, BASE, NUMBER, Api

URL = "https://maya.example.com"


@pytest.fixture
def api(httpserver: HTTPServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Api:
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", ACCOUNT)
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "token")
    monkeypatch.setenv("MAYA_TWILIO_API", httpserver.url_for(""))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return Api(httpserver)


def maya(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    monkeypatch.setattr(sys, "argv", ["maya", "twilio", *arguments])
    with pytest.raises(SystemExit) as exit_:
        cli.main()
    return int(exit_.value.code or 0)


def test_configure_shows_what_stood_there_and_undo_brings_it_back(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = dict(api.mine)
    assert maya(monkeypatch, "configure", NUMBER, "--public-url", URL) == 0
    said = capsys.readouterr().out
    assert f"voice_url: {before['voice_url']}  ->  {URL}/twilio/voice" in said
    assert f"maya twilio configure {NUMBER} --undo" in said
    assert api.mine["voice_url"] == f"{URL}/twilio/voice"
    assert maya(monkeypatch, "configure", NUMBER, "--undo") == 0
    assert api.mine["voice_url"] == before["voice_url"]
    assert f"->  {before['voice_url']}" in capsys.readouterr().out


def test_check_lists_the_numbers(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MAYA_PUBLIC_URL", raising=False)
    assert maya(monkeypatch, "check") == 0
    said = capsys.readouterr().out
    assert f"{NUMBER}  ->  https://demo.twilio.com/welcome/voice/" in said
    assert "not checked: whether Twilio reaches this server" in said


def test_check_says_what_is_wrong_with_the_way_here(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert maya(monkeypatch, "check", "--public-url", "http://127.0.0.1:9") == 1
    said = capsys.readouterr().out
    assert "NO  http://127.0.0.1:9/twilio/status cannot be reached" in said


def test_wrong_credentials_are_one_sentence_without_the_secret(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "b3a9c1-very-secret")
    api.server.clear()
    refused = {"code": 20003, "message": "Authenticate", "status": 401}
    api.server.expect_request(f"{BASE}.json").respond_with_json(refused, status=401)
    assert maya(monkeypatch, "check") == 2
    said = capsys.readouterr().err
    assert "refused the credentials" in said
    assert "very-secret" not in said


def test_without_a_public_url_nothing_is_changed(
    api: Api, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("MAYA_PUBLIC_URL", raising=False)
    before = dict(api.mine)
    assert maya(monkeypatch, "configure", NUMBER) == 2
    assert "--public-url" in capsys.readouterr().err
    assert api.mine == before
