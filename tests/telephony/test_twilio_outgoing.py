"""Calls that we place: the request to Twilio, and the webhooks that follow."""

import re
from typing import Any
from urllib.parse import parse_qs

import httpx
import pytest
from fastapi import FastAPI
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from telephony.twilio.account import TwilioAccount
from telephony.twilio.errors import TwilioAccountError
from telephony.twilio.outgoing import place_call
from telephony.twilio.routes import create_router
from tests.telephony.twilio_support import ACCOUNT, CALL, Echo, config, signature

PUBLIC = "https://maya.example.com"


def account(server: HTTPServer) -> TwilioAccount:
    return TwilioAccount(ACCOUNT, "token", api_base_url=server.url_for(""))


def place(server: HTTPServer, front_end: str = "") -> str:
    return place_call(
        account(server),
        config(),
        to="+12025550123",
        caller_id="+12025550199",
        order="o-1",
        ring_s=30,
        front_end=front_end,
    )


@pytest.mark.parametrize(("front_end", "at"), [("", ""), ("10.0.0.1_80_aa", "&at=10.0.0.1_80_aa")])
def test_a_call_is_placed_with_everything_that_it_needs(
    httpserver: HTTPServer, front_end: str, at: str
) -> None:
    asked: dict[str, list[str]] = {}

    def answer(request: Request) -> Response:
        asked.update(parse_qs(request.get_data(as_text=True)))
        return Response(f'{{"sid": "{CALL}", "status": "queued"}}', 201, content_type="application/json")

    httpserver.expect_request(
        f"/2010-04-01/Accounts/{ACCOUNT}/Calls.json", method="POST"
    ).respond_with_handler(answer)
    assert place(httpserver, front_end) == CALL
    assert asked == {
        "To": ["+12025550123"],
        "From": ["+12025550199"],
        "Url": [f"{PUBLIC}/twilio/answered?order=o-1{at}"],
        "Method": ["POST"],
        "StatusCallback": [f"{PUBLIC}/twilio/status?order=o-1{at}"],
        "StatusCallbackMethod": ["POST"],
        "StatusCallbackEvent": ["initiated", "ringing", "answered", "completed"],
        "Timeout": ["30"],
        "TimeLimit": ["14400"],
    }


def test_what_twilio_refuses_is_said_in_its_words(httpserver: HTTPServer) -> None:
    refused = {"code": 21219, "message": "The number is unverified.", "status": 400}
    httpserver.expect_request(re.compile(".*")).respond_with_json(refused, status=400)
    with pytest.raises(TwilioAccountError, match="The number is unverified"):
        place(httpserver)


class Webhooks:
    def __init__(self) -> None:
        self.over: list[tuple[str, str]] = []
        app = FastAPI()
        app.include_router(
            create_router(config(), Echo(), on_order_over=lambda *told: self.over.append(told))
        )
        self.web = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=PUBLIC)

    async def post(self, path: str, **fields: str) -> httpx.Response:
        form: dict[str, Any] = {"CallSid": CALL, "From": "+12025550199", "To": "+12025550123"} | fields
        headers = {"X-Twilio-Signature": signature(PUBLIC + path, form)}
        return await self.web.post(path, data=form, headers=headers)


async def test_an_answered_call_gets_a_stream_with_its_order_and_the_far_end_as_caller() -> None:
    answer = await Webhooks().post("/twilio/answered?order=o-1", CallStatus="in-progress")
    parameters = dict(re.findall(r'<Parameter name="(\w+)" value="([^"]+)" />', answer.text))
    assert parameters.pop("token")
    assert parameters == {"order": "o-1", "caller": "+12025550123", "called": "+12025550199"}


@pytest.mark.parametrize("query", ["", "?order=", "?order=a%20b", "?order=" + "x" * 65])
async def test_an_answered_call_that_names_no_order_is_refused(query: str) -> None:
    assert (await Webhooks().post(f"/twilio/answered{query}")).status_code == 400


async def test_the_order_is_part_of_what_is_signed() -> None:
    webhooks = Webhooks()
    form = {"CallSid": CALL}
    headers = {"X-Twilio-Signature": signature(f"{PUBLIC}/twilio/answered?order=o-1", form)}
    answer = await webhooks.web.post("/twilio/answered?order=o-2", data=form, headers=headers)
    assert answer.status_code == 403


@pytest.mark.parametrize("status", ["completed", "busy", "failed", "no-answer", "canceled"])
async def test_the_end_is_told_whichever_it_is(status: str) -> None:
    webhooks = Webhooks()
    await webhooks.post("/twilio/status?order=o-1", CallStatus="ringing")
    await webhooks.post("/twilio/status", CallStatus=status)
    assert webhooks.over == []
    assert (await webhooks.post("/twilio/status?order=o-1", CallStatus=status)).status_code == 204
    assert webhooks.over == [("o-1", status)]
