"""The endpoints as Twilio calls them: webhooks and handshakes through the ASGI application."""

import asyncio
import logging
import warnings
from collections.abc import Iterator
from typing import Any
from xml.etree import ElementTree

import pytest
from fastapi import FastAPI
from starlette.datastructures import FormData
from starlette.websockets import WebSocketDisconnect

from pipeline.line import Line
from telephony.twilio.config import TwilioConfig
from telephony.twilio.routes import create_router
from telephony.twilio.tokens import StreamTokens
from tests.telephony.twilio_support import (
    AUTH_TOKEN,
    CALL,
    CONNECTED,
    EPOCH_S,
    PUBLIC_URL,
    Echo,
    Outcome,
    config,
    dtmf,
    insecure_config,
    media,
    signature,
    start,
    stop,
)

with warnings.catch_warnings():
    # Starlette would rather have httpx2, and says so at import.
    warnings.simplefilter("ignore")
    from starlette.testclient import TestClient

RINGING = {
    "CallSid": CALL,
    "AccountSid": "AC1",
    "From": "+15550100",
    "To": "+15550199",
    "CallStatus": "ringing",
    "ApiVersion": "2010-04-01",
    "Direction": "inbound",
    "CallerName": "",
    "SipHeader_X-Odd": " a&b <c> ",
}
SOCKET_SIGNATURE = {"x-twilio-signature": signature("wss://maya.example.com/twilio/media")}


def parsed(twiml: str) -> ElementTree.Element:
    return ElementTree.fromstring(twiml)  # noqa: S314  (our own)


class Twilio:
    """Calls our endpoints, signed."""

    def __init__(self, client: TestClient, base: str = PUBLIC_URL) -> None:
        self.client = client
        self.base = base

    def post(self, path: str, fields: dict[str, str], headers: dict[str, str] | None = None) -> Any:
        signed = {"x-twilio-signature": signature(self.base + path, FormData(fields))}
        return self.client.post(path, data=fields, headers=signed if headers is None else headers)

    def voice(self, **fields: str) -> ElementTree.Element:
        response = self.post("/twilio/voice", RINGING | fields)
        assert response.status_code == 200, response.text
        assert response.headers["content-type"].startswith("text/xml")
        return parsed(response.text)

    def after(self, call_sid: str = CALL) -> list[tuple[str, str | None]]:
        response = self.post("/twilio/after", {"CallSid": call_sid})
        assert response.status_code == 200
        return [(verb.tag, verb.text) for verb in parsed(response.text)]

    def token(self, call_sid: str = CALL) -> str:
        parameter = self.voice(CallSid=call_sid).find("Connect/Stream/Parameter[@name='token']")
        assert parameter is not None
        return parameter.attrib["value"]

    def stream(self, **headers: str) -> Any:
        return self.client.websocket_connect("/twilio/media", headers=SOCKET_SIGNATURE | headers)


def twilio_for(
    settings: TwilioConfig, agent: Any, client_url: str = "http://testserver", **options: Any
) -> Iterator[Twilio]:
    app = FastAPI()
    app.include_router(create_router(settings, agent, **options))
    with TestClient(app, base_url=client_url) as client:
        yield Twilio(client)


@pytest.fixture
def agent() -> Echo:
    return Echo()


@pytest.fixture
def twilio(agent: Echo) -> Iterator[Twilio]:
    yield from twilio_for(config(), agent)


@pytest.fixture
def insecure(agent: Echo) -> Iterator[Twilio]:
    yield from twilio_for(insecure_config(), agent, "http://127.0.0.1:8080")


# Webhooks


def test_voice_answers_with_a_stream_and_what_follows_it(twilio: Twilio) -> None:
    response = twilio.voice()
    assert [verb.tag for verb in response] == ["Connect", "Redirect"]
    stream = response.find("Connect/Stream")
    assert stream is not None
    assert stream.attrib == {
        "url": "wss://maya.example.com/twilio/media",
        "statusCallback": "https://maya.example.com/twilio/stream-status",
        "statusCallbackMethod": "POST",
    }
    parameters = {each.attrib["name"]: each.attrib["value"] for each in stream}
    assert set(parameters) == {"token", "caller", "called", "sip_header_x_odd"}
    assert parameters["sip_header_x_odd"] == " a&b <c> "
    assert (parameters["caller"], parameters["called"]) == ("+15550100", "+15550199")
    assert all(len(name) + len(value) < 500 for name, value in parameters.items())
    redirect = response.find("Redirect")
    assert redirect is not None
    assert (redirect.text, redirect.attrib) == ("https://maya.example.com/twilio/after", {"method": "POST"})


@pytest.mark.parametrize("caller", ['sip:"<x>&y"@z', "a\x00b\x1f\n", "\u202e+1", "ä" * 1000, ""])
def test_whatever_the_caller_is_called_the_twiml_stays_well_formed(twilio: Twilio, caller: str) -> None:
    stream = twilio.voice(From=caller).find("Connect/Stream")
    assert stream is not None
    for parameter in stream:
        assert len(parameter.attrib["value"]) < 480


@pytest.mark.parametrize("call_sid", ["", "../x", "a b", "x" * 65])
def test_voice_without_a_usable_call_sid(twilio: Twilio, call_sid: str) -> None:
    assert twilio.post("/twilio/voice", RINGING | {"CallSid": call_sid}).status_code == 400


def test_voice_when_the_server_is_full_or_drains(agent: Echo) -> None:
    for twilio in twilio_for(config(), agent, accepting=lambda: False):
        verbs = list(twilio.voice())
        assert [verb.tag for verb in verbs] == ["Say", "Hangup"]
        assert "busy" in str(verbs[0].text)


@pytest.mark.parametrize("path", ["/twilio/status", "/twilio/stream-status", "/twilio/status/"])
def test_status_callbacks_are_taken_note_of(
    twilio: Twilio, path: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    fields = {
        "CallSid": CALL,
        "CallStatus": "completed",
        "CallDuration": "7",
        "StreamEvent": "stream-error\nforged line",
        "StreamError": "31921",
    }
    assert twilio.post(path, fields).status_code == 204
    (record,) = [record for record in caplog.records if record.name == "telephony.twilio.routes"]
    assert CALL in record.getMessage()
    assert "\n" not in record.getMessage()


@pytest.mark.parametrize("path", ["voice", "after", "status", "stream-status"])
@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-twilio-signature": ""},
        {"x-twilio-signature": signature(f"{PUBLIC_URL}/twilio/voice", {"CallSid": "other"})},
        {"x-twilio-signature": signature(f"{PUBLIC_URL}/twilio/voice", RINGING, token="wrong")},
    ],
)
def test_unsigned_requests_get_403_and_nothing_else(
    twilio: Twilio, path: str, headers: dict[str, str]
) -> None:
    response = twilio.post(f"/twilio/{path}", RINGING, headers)
    assert response.status_code == 403
    assert response.text == "refused\n"


def test_bodies_without_end_are_cut_off(twilio: Twilio) -> None:
    assert twilio.client.post("/twilio/voice", content=b"x" * 100_000).status_code == 413


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE"])
def test_other_methods(twilio: Twilio, method: str) -> None:
    assert twilio.client.request(method, "/twilio/voice").status_code == 405


# What follows the stream


def call(twilio: Twilio, *messages: str, call_sid: str = CALL) -> None:
    """A whole stream, until the server closes it or we do after the last message."""
    token = twilio.token(call_sid)
    with twilio.stream() as socket:
        for message in (CONNECTED, start(call_sid, token=token), *messages):
            socket.send_text(message)
        if messages and '"stop"' in messages[-1]:
            return
        with pytest.raises(WebSocketDisconnect):
            while True:
                socket.receive_text()


def test_after_a_goodbye_the_call_ends(twilio: Twilio) -> None:
    call(twilio, media(0), dtmf("#"))
    assert twilio.after() == [("Hangup", None)]
    assert twilio.after() == [("Hangup", None)]


@pytest.mark.parametrize("key", ["0", "9"])
def test_after_a_failure_the_caller_hears_an_apology(twilio: Twilio, key: str) -> None:
    call(twilio, media(0), dtmf(key))
    (say, text), (hangup, _) = twilio.after()
    assert (say, hangup) == ("Say", "Hangup")
    assert "sorry" in str(text)


def test_after_a_protocol_error_the_caller_hears_an_apology(twilio: Twilio) -> None:
    call(twilio, CONNECTED)
    assert [verb for verb, _ in twilio.after()] == ["Say", "Hangup"]


def test_after_a_call_we_know_nothing_of(twilio: Twilio) -> None:
    assert [verb for verb, _ in twilio.after("CAunknown")] == ["Say", "Hangup"]


def test_after_a_stop(twilio: Twilio, agent: Echo) -> None:
    call(twilio, media(0), stop())
    for _ in range(100):
        if agent.ends:
            break
        twilio.after()
    assert agent.ends == ["caller hung up"]
    assert twilio.after() == [("Hangup", None)]


def test_a_line_that_filled_up_between_ringing_and_stream(agent: Echo) -> None:
    room = [True]
    for twilio in twilio_for(config(), agent, accepting=lambda: room[0]):
        token = twilio.token()
        room[0] = False
        with twilio.stream() as socket:
            socket.send_text(start(token=token))
            with pytest.raises(WebSocketDisconnect) as caught:
                socket.receive_text()
        assert caught.value.code == 1013
        assert "busy" in str(twilio.after()[0][1])


# The handshake


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-twilio-signature": "x"},
        {"x-twilio-signature": signature("https://maya.example.com/twilio/media")},
        {"x-twilio-signature": signature("wss://maya.example.com/twilio/media", token="wrong")},
    ],
)
def test_unsigned_handshakes_are_refused_before_accept(twilio: Twilio, headers: dict[str, str]) -> None:
    with (
        pytest.raises(WebSocketDisconnect),
        twilio.client.websocket_connect("/twilio/media", headers=headers),
    ):
        pass


def test_a_trailing_slash_is_no_reason_to_refuse(twilio: Twilio) -> None:
    signed = {"x-twilio-signature": signature("wss://maya.example.com/twilio/media/")}
    for path in ("/twilio/media", "/twilio/media/"):
        with twilio.client.websocket_connect(path, headers=signed) as socket:
            socket.send_text(start(token=twilio.token()))
            socket.send_text(media(0))
            assert '"media"' in socket.receive_text()
            socket.send_text(dtmf("#"))
            with pytest.raises(WebSocketDisconnect):
                while True:
                    socket.receive_text()


@pytest.mark.parametrize("token", ["", "forged"])
def test_a_signed_handshake_without_a_token_gets_no_call(twilio: Twilio, agent: Echo, token: str) -> None:
    with twilio.stream() as socket:
        socket.send_text(start(token=token))
        with pytest.raises(WebSocketDisconnect) as caught:
            socket.receive_text()
    assert caught.value.code == 1008
    assert agent.lines == []


def test_an_expired_token(agent: Echo) -> None:
    token = StreamTokens((AUTH_TOKEN,), 30.0, lambda: EPOCH_S).issue(CALL)
    for twilio in twilio_for(config(token_ttl_s=30), agent, wall=lambda: EPOCH_S + 30):
        with twilio.stream() as socket:
            socket.send_text(start(token=token))
            with pytest.raises(WebSocketDisconnect) as caught:
                socket.receive_text()
        assert caught.value.reason == "token refused"


def test_sockets_that_wait_are_capped(agent: Echo) -> None:
    for twilio in twilio_for(config(max_pending_sockets=2), agent):
        with twilio.stream(), twilio.stream(), pytest.raises(WebSocketDisconnect), twilio.stream():
            pass


# Insecure


def test_insecure_takes_any_media_streams_client(insecure: Twilio, agent: Echo) -> None:
    with insecure.client.websocket_connect("/twilio/media", headers={"host": "localhost:8080"}) as socket:
        socket.send_text(start())
        socket.send_text(media(0))
        assert '"media"' in socket.receive_text()
        socket.send_text(stop())
    stream = parsed(insecure.client.post("/twilio/voice", data=RINGING).text).find("*/Stream")
    assert stream is not None
    assert stream.attrib["url"] == "ws://127.0.0.1:8080/twilio/media"
    assert {each.attrib["name"] for each in stream} == {"caller", "called", "sip_header_x_odd"}


@pytest.mark.parametrize(
    "headers",
    [{"host": "maya.example.com"}, {"x-forwarded-for": "1.2.3.4"}, {"origin": "https://evil.example"}],
)
def test_insecure_refuses_the_world(insecure: Twilio, headers: dict[str, str]) -> None:
    assert insecure.client.post("/twilio/voice", data=RINGING, headers=headers).status_code == 403
    with (
        pytest.raises(WebSocketDisconnect),
        insecure.client.websocket_connect("/twilio/media", headers=headers),
    ):
        pass


def test_an_answer_that_never_reads_is_still_over_when_it_returns() -> None:
    async def brief(line: Line) -> Outcome:
        await asyncio.sleep(0)
        return Outcome(completed=True, reason="said nothing")

    for twilio in twilio_for(config(), brief):
        call(twilio)
        assert twilio.after() == [("Hangup", None)]
