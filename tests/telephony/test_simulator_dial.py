import pytest

from telephony.simulator.dial import (
    Account,
    Stream,
    ask_for_stream,
    follow_up,
    read_twiml,
    report_stream_status,
)
from telephony.simulator.errors import CannotCall

HOOK = "http://127.0.0.1:8080/twilio/voice"
ACCOUNT = Account("AC1", "CA1", "MZ1", "+1500", "+1600", "token")


def twiml(stream: str = '<Stream url="wss://h/media"/>', after: str = "<Redirect>/after</Redirect>") -> str:
    return f'<?xml version="1.0"?><Response><Connect>{stream}</Connect>{after}</Response>'


def test_the_stream_of_the_documentation():
    stream = read_twiml(
        twiml(
            '<Stream url="wss://h/media" name="s" statusCallback="https://h/status">'
            '<Parameter name="token" value="a&amp;b"/><Parameter name="n" value=""/></Stream>'
        ),
        HOOK,
    )
    assert stream.url == "wss://h/media"
    assert stream.parameters == {"token": "a&b", "n": ""}
    assert (stream.name, stream.status_callback) == ("s", "https://h/status")
    assert [verb.tag for verb in stream.then] == ["Redirect"]
    assert stream.violations == ()


def test_a_relative_url_is_the_webhooks_host():
    assert read_twiml(twiml('<Stream url="/media"/>'), HOOK).url == "ws://127.0.0.1:8080/media"
    assert read_twiml(twiml('<Stream url="/media"/>'), "https://h/x/voice").url == "wss://h/media"


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (twiml('<Stream url="wss://h/media?x=1"/>'), "31920"),
        (twiml('<Stream url="ws://h/media"/>'), "31922"),
        (
            twiml(f'<Stream url="wss://h/m"><Parameter name="a" value="{"v" * 499}"/></Stream>'),
            "500 characters",
        ),
        (twiml(after=""), "drop the caller"),
    ],
)
def test_what_twilio_would_not_like(answer, words):
    (violation,) = read_twiml(answer, HOOK).violations
    assert words in violation


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "hello",
        "<Response/>",
        "<Response><Say>busy</Say><Hangup/></Response>",
        "<Connect><Stream/></Connect>",
    ],
)
def test_no_stream_no_call(answer):
    with pytest.raises(CannotCall):
        read_twiml(answer, HOOK)


async def test_the_webhook_gets_a_signed_form(httpserver):
    from twilio.request_validator import RequestValidator

    url = httpserver.url_for("/voice")
    httpserver.expect_oneshot_request("/voice", method="POST").respond_with_data(
        twiml(), content_type="text/xml"
    )
    await ask_for_stream(url, ACCOUNT)
    ((request, _),) = httpserver.log
    form = request.form.to_dict()
    assert (form["CallSid"], form["CallStatus"], form["From"], form["To"]) == (
        "CA1",
        "ringing",
        "+1500",
        "+1600",
    )
    assert RequestValidator("token").validate(url, form, request.headers["X-Twilio-Signature"])


async def test_without_a_token_nothing_is_signed(httpserver):
    httpserver.expect_request("/voice").respond_with_data(twiml(), content_type="application/xml")
    await ask_for_stream(httpserver.url_for("/voice"), Account("AC1", "CA1", "MZ1", "", "", None))
    ((request, _),) = httpserver.log
    assert "X-Twilio-Signature" not in request.headers


async def test_a_webhook_that_answers_no_twiml(httpserver):
    httpserver.expect_request("/html").respond_with_data("<Response/>", content_type="text/html")
    httpserver.expect_request("/broken").respond_with_data("oh", status=500)
    with pytest.raises(CannotCall, match="not TwiML"):
        await ask_for_stream(httpserver.url_for("/html"), ACCOUNT)
    with pytest.raises(CannotCall, match="500"):
        await ask_for_stream(httpserver.url_for("/broken"), ACCOUNT)


async def test_the_redirect_behind_connect_is_followed(httpserver):
    httpserver.expect_request("/after").respond_with_data(
        "<Response><Hangup/></Response>", content_type="text/xml"
    )
    stream = read_twiml(twiml(), httpserver.url_for("/voice"))
    assert await follow_up(httpserver.url_for("/voice"), stream, ACCOUNT) == "<Response><Hangup/></Response>"
    ((request, _),) = httpserver.log
    assert request.form["CallStatus"] == "in-progress"


async def test_other_verbs_behind_connect_are_told_as_they_are():
    stream = read_twiml(twiml(after="<Say>Sorry.</Say><Hangup/>"), HOOK)
    assert await follow_up(HOOK, stream, ACCOUNT) == "<Say>Sorry.</Say><Hangup />"
    assert await follow_up(HOOK, Stream("wss://h"), ACCOUNT) is None


async def test_stream_status_goes_where_the_twiml_wants_it(httpserver):
    httpserver.expect_request("/status").respond_with_data("", status=204)
    hook = httpserver.url_for("/voice")
    stream = Stream("wss://h", name="n", status_callback="/status")
    assert await report_stream_status(hook, stream, ACCOUNT, "stream-started") is None
    assert httpserver.log[0][0].form["StreamEvent"] == "stream-started"
    failing = Stream("wss://h", status_callback="/nowhere")
    assert "statusCallback" in (await report_stream_status(hook, failing, ACCOUNT, "stream-stopped") or "")
    assert await report_stream_status(hook, Stream("wss://h"), ACCOUNT, "stream-started") is None
