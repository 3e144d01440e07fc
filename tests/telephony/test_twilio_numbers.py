"""Configuring a number through Twilio's own client, against a server that answers in the API's shapes."""

import json
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from telephony.twilio.account import TwilioAccount
from telephony.twilio.errors import TwilioAccountError
from telephony.twilio.numbers import NumberSettings, PhoneNumbers

ACCOUNT = "AC" + "a" * 32
NUMBER = "+15550100123"
PUBLIC = "https://maya.example.com"
BASE = f"/2010-04-01/Accounts/{ACCOUNT}"

OURS = {
    "voice_url": f"{PUBLIC}/twilio/voice",
    "voice_fallback_url": f"{PUBLIC}/twilio/after",
    "status_callback": f"{PUBLIC}/twilio/status",
}


class Api:
    """The part of api.twilio.com that we use, with one account and two numbers."""

    def __init__(self, server: HTTPServer) -> None:
        self.server = server
        self.numbers = {"PN" + "1" * 32: self.number(NUMBER), "PN" + "2" * 32: self.number(NUMBER + "9")}
        self.updates: list[dict[str, str]] = []
        server.expect_request(f"{BASE}.json", method="GET").respond_with_handler(self.account)
        server.expect_request(f"{BASE}/IncomingPhoneNumbers.json", method="GET").respond_with_handler(
            self.find
        )
        server.expect_request(
            re.compile(re.escape(BASE) + "/IncomingPhoneNumbers/PN[0-9]+.json"), method="POST"
        ).respond_with_handler(self.update)

    @staticmethod
    def number(phone_number: str) -> dict[str, Any]:
        return {
            "account_sid": ACCOUNT,
            "address_requirements": "none",
            "api_version": "2010-04-01",
            "beta": False,
            "capabilities": {"voice": True, "sms": True, "mms": True, "fax": False},
            "date_created": "Thu, 30 Jul 2015 23:19:04 +0000",
            "date_updated": "Thu, 30 Jul 2015 23:19:04 +0000",
            "friendly_name": phone_number,
            "phone_number": phone_number,
            "origin": "twilio",
            "sms_url": "https://old.example/sms",
            "status_callback": "",
            "status_callback_method": "POST",
            "trunk_sid": None,
            "voice_application_sid": "",
            "voice_caller_id_lookup": False,
            "voice_fallback_method": "POST",
            "voice_fallback_url": None,
            "voice_method": "GET",
            "voice_url": "https://demo.twilio.com/welcome/voice/",
        }

    @property
    def mine(self) -> dict[str, Any]:
        return self.numbers["PN" + "1" * 32]

    def account(self, request: Request) -> Response:
        assert request.authorization is not None
        assert (request.authorization.username, request.authorization.password) == (ACCOUNT, "token")
        return answer(
            {
                "sid": ACCOUNT,
                "friendly_name": "My Account",
                "status": "active",
                "type": "Full",
                "auth_token": "x",
            }
        )

    def find(self, request: Request) -> Response:
        wanted = request.args.get("PhoneNumber", "")
        found = [
            {"sid": sid} | fields for sid, fields in self.numbers.items() if wanted in fields["phone_number"]
        ]
        return answer(
            {
                "incoming_phone_numbers": found,
                "page": 0,
                "page_size": 50,
                "first_page_uri": f"{BASE}/IncomingPhoneNumbers.json?Page=0",
                "next_page_uri": None,
                "previous_page_uri": None,
                "start": 0,
                "end": len(found),
                "uri": f"{BASE}/IncomingPhoneNumbers.json",
            }
        )

    def update(self, request: Request) -> Response:
        sid = request.path.rsplit("/", 1)[1].removesuffix(".json")
        fields = dict(parse_qsl(request.get_data(as_text=True), keep_blank_values=True))
        self.updates.append(fields)
        for name, value in fields.items():
            key = re.sub(r"(?<!^)(?=[A-Z])", "_", name).lower()
            assert key in self.numbers[sid]
            self.numbers[sid][key] = value or None
        return answer({"sid": sid} | self.numbers[sid])


def answer(body: dict[str, Any], status: int = 200) -> Response:
    return Response(json.dumps(body), status=status, content_type="application/json")


def refusal(status: int, code: int, message: str) -> Response:
    return answer(
        {
            "code": code,
            "message": message,
            "more_info": f"https://www.twilio.com/docs/errors/{code}",
            "status": status,
        },
        status,
    )


@pytest.fixture
def api(httpserver: HTTPServer) -> Api:
    return Api(httpserver)


def numbers_at(server: HTTPServer, state_file: Path, timeout_s: float = 5.0) -> PhoneNumbers:
    account = TwilioAccount(ACCOUNT, "token", api_base_url=server.url_for(""), timeout_s=timeout_s)
    return PhoneNumbers(account, state_file)


@pytest.fixture
def state_file(tmp_path: Path) -> Path:
    return tmp_path / "state" / "numbers.json"


@pytest.fixture
def numbers(api: Api, state_file: Path) -> PhoneNumbers:
    return numbers_at(api.server, state_file)


def test_check_reads_the_account_and_its_numbers(numbers: PhoneNumbers) -> None:
    found = numbers.check()
    assert (found.name, found.status, found.kind) == ("My Account", "active", "Full")
    there = "https://demo.twilio.com/welcome/voice/"
    assert found.numbers == ((NUMBER, there), (NUMBER + "9", there))


def test_configure_points_the_number_here_and_tells_what_stood_there(numbers: PhoneNumbers, api: Api) -> None:
    change = numbers.configure(NUMBER, PUBLIC + "/")
    assert {name: api.mine[name] for name in OURS} == OURS
    assert api.mine["voice_method"] == "POST"
    assert api.mine["sms_url"] == "https://old.example/sms"
    assert change.before.voice_url == "https://demo.twilio.com/welcome/voice/"
    assert change.changed == {
        "voice_url": ("https://demo.twilio.com/welcome/voice/", OURS["voice_url"]),
        "voice_method": ("GET", "POST"),
        "voice_fallback_url": ("", OURS["voice_fallback_url"]),
        "status_callback": ("", OURS["status_callback"]),
    }
    (sent,) = api.updates
    assert set(sent) == {"VoiceUrl", "VoiceMethod", "VoiceFallbackUrl", "StatusCallback"}
    assert api.numbers["PN" + "2" * 32]["voice_url"] == "https://demo.twilio.com/welcome/voice/"


def test_a_fallback_of_ones_own(numbers: PhoneNumbers, api: Api) -> None:
    numbers.configure(NUMBER, PUBLIC, fallback_url="https://handler.twilio.com/twiml/EH1")
    assert api.mine["voice_fallback_url"] == "https://handler.twilio.com/twiml/EH1"


def test_undo_puts_everything_back(numbers: PhoneNumbers, api: Api) -> None:
    before = dict(api.mine)
    numbers.configure(NUMBER, PUBLIC)
    change = numbers.undo(NUMBER)
    assert change.before.voice_url == OURS["voice_url"]
    assert {name: value or "" for name, value in api.mine.items()} == {
        name: value or "" for name, value in before.items()
    }
    with pytest.raises(TwilioAccountError, match="nothing can be undone"):
        numbers.undo(NUMBER)


def test_configuring_twice_undoes_to_the_first_state(
    numbers: PhoneNumbers, api: Api, state_file: Path
) -> None:
    numbers.configure(NUMBER, "https://first.example")
    numbers.configure(NUMBER, "https://second.example")
    numbers.configure(NUMBER, "https://second.example")
    assert len(api.updates) == 2
    # Another process undoes.
    numbers_at(api.server, state_file).undo(NUMBER)
    assert api.mine["voice_url"] == "https://demo.twilio.com/welcome/voice/"


def test_an_application_and_a_trunk_would_overrule_us_and_come_back(numbers: PhoneNumbers, api: Api) -> None:
    api.mine["voice_application_sid"] = "AP" + "1" * 32
    change = numbers.configure(NUMBER, PUBLIC)
    assert not api.mine["voice_application_sid"]
    assert change.changed["voice_application_sid"] == ("AP" + "1" * 32, "")
    numbers.undo(NUMBER)
    assert api.mine["voice_application_sid"] == "AP" + "1" * 32
    api.mine["trunk_sid"] = "TK" + "1" * 32
    numbers.configure(NUMBER, PUBLIC)
    assert not api.mine["trunk_sid"]


def test_undo_does_not_overwrite_what_somebody_else_set_since(numbers: PhoneNumbers, api: Api) -> None:
    numbers.configure(NUMBER, PUBLIC)
    api.mine["voice_url"] = "https://other.example/voice"
    with pytest.raises(TwilioAccountError, match=r"changed since by somebody else.*other\.example"):
        numbers.undo(NUMBER)
    assert api.mine["voice_url"] == "https://other.example/voice"
    numbers.undo(NUMBER, force=True)
    assert api.mine["voice_url"] == "https://demo.twilio.com/welcome/voice/"


def test_configuring_over_somebody_elses_change_undoes_to_theirs(numbers: PhoneNumbers, api: Api) -> None:
    numbers.configure(NUMBER, PUBLIC)
    api.mine["voice_url"] = "https://other.example/voice"
    numbers.configure(NUMBER, PUBLIC)
    numbers.undo(NUMBER)
    assert api.mine["voice_url"] == "https://other.example/voice"


@pytest.mark.parametrize(
    "number", ["", "5550100", "15550100123", "+0123456789", "+1 555 0100", "+1555010012345678"]
)
def test_what_is_not_a_number(numbers: PhoneNumbers, number: str) -> None:
    with pytest.raises(TwilioAccountError, match="is not a phone number"):
        numbers.configure(number, PUBLIC)


def test_a_number_of_somebody_else(numbers: PhoneNumbers, api: Api) -> None:
    with pytest.raises(TwilioAccountError, match="not a number of account"):
        numbers.configure("+4930123456", PUBLIC)
    # The API finds parts of numbers as well.
    with pytest.raises(TwilioAccountError, match="not a number of account"):
        numbers.configure("+1555010", PUBLIC)
    assert api.updates == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:8080", "maya.example.com", "http://maya.example.com", ""])
def test_a_url_that_twilio_cannot_reach(numbers: PhoneNumbers, api: Api, url: str) -> None:
    with pytest.raises(TwilioAccountError, match="https://"):
        numbers.configure(NUMBER, url)
    assert api.updates == []


@pytest.mark.parametrize(("sid", "token"), [("", "t"), ("AC1", ""), (" ", " ")])
def test_credentials_must_be_there(sid: str, token: str) -> None:
    with pytest.raises(TwilioAccountError, match="both needed"):
        TwilioAccount(sid, token)


# The API in trouble

FAULTS = [
    (refusal(401, 20003, "Authenticate"), 401, "refused the credentials.*primary auth token"),
    (refusal(403, 20003, "Forbidden"), 403, "refused the credentials"),
    (refusal(404, 20404, "The requested resource was not found"), 404, "knows no such thing"),
    (refusal(400, 21502, "Invalid VoiceUrl"), 400, "Invalid VoiceUrl"),
    (refusal(429, 20429, "Too Many Requests"), 429, "slow down.*Wait a minute"),
    (refusal(500, 20500, "Internal server error"), 500, "trouble of its own, status 500"),
    (refusal(503, 20503, "Service unavailable"), 503, "trouble of its own, status 503"),
    (Response("<html>Bad gateway</html>", status=502, content_type="text/html"), 502, ""),
    (Response("<html>Sign in to this network</html>", content_type="text/html"), 0, "not Twilio's API"),
    (answer({"hello": "world"}), 0, "not Twilio's API|Look at the number"),
    (answer([]), 0, "not Twilio's API"),  # type: ignore[arg-type]
    (Response("", status=204), 0, "not Twilio's API"),
    (Response("", status=307, headers={"Location": "https://elsewhere.example"}), 0, "not Twilio's API"),
]


@pytest.mark.parametrize(("response", "status", "message"), FAULTS)
@pytest.mark.parametrize("when", ["finding", "updating", "checking"])
def test_every_fault_becomes_a_sentence(
    httpserver: HTTPServer, state_file: Path, response: Response, status: int, message: str, when: str
) -> None:
    if when == "updating":
        api = Api(httpserver)
        httpserver.clear_all_handlers()
        httpserver.expect_request(f"{BASE}/IncomingPhoneNumbers.json").respond_with_handler(api.find)
        httpserver.expect_request(re.compile(".*")).respond_with_response(response)
    else:
        httpserver.expect_request(re.compile(".*")).respond_with_response(response)
    numbers = numbers_at(httpserver, state_file)
    with pytest.raises(TwilioAccountError) as caught:
        if when == "checking":
            numbers.check()
        else:
            numbers.configure(NUMBER, PUBLIC)
    text = str(caught.value)
    assert re.search(message, text), text
    assert status == 0 or caught.value.status == status
    assert "Traceback" not in text
    assert "\033" not in text
    assert text.endswith("."), text


def test_a_failed_change_leaves_an_undo_that_does_no_harm(numbers: PhoneNumbers, api: Api) -> None:
    api.server.clear_all_handlers()
    api.server.expect_request(f"{BASE}/IncomingPhoneNumbers.json").respond_with_handler(api.find)
    api.server.expect_request(re.compile(".*")).respond_with_response(
        refusal(429, 20429, "Too Many Requests")
    )
    with pytest.raises(TwilioAccountError, match="slow down"):
        numbers.configure(NUMBER, PUBLIC)
    change = numbers.undo(NUMBER)
    assert change.changed == {}


def test_no_answer_in_time(httpserver: HTTPServer, state_file: Path) -> None:
    def slow(request: Request) -> Response:
        import time

        time.sleep(0.5)
        return answer({})

    httpserver.expect_request(re.compile(".*")).respond_with_handler(slow)
    with pytest.raises(TwilioAccountError, match=r"did not answer within 0\.1 s"):
        numbers_at(httpserver, state_file, timeout_s=0.1).check()


def test_no_connection(state_file: Path) -> None:
    account = TwilioAccount(ACCOUNT, "token", api_base_url="http://127.0.0.1:9", timeout_s=1)
    with pytest.raises(TwilioAccountError, match="cannot be reached"):
        PhoneNumbers(account, state_file).check()


# The undo file


def test_the_undo_file_is_the_owners_alone_and_whole(numbers: PhoneNumbers, state_file: Path) -> None:
    numbers.configure(NUMBER, PUBLIC)
    assert stat.S_IMODE(state_file.stat().st_mode) == 0o600
    record = json.loads(state_file.read_text())[NUMBER]
    assert record["before"]["voice_url"] == "https://demo.twilio.com/welcome/voice/"
    assert list(state_file.parent.iterdir()) == [state_file]


@pytest.mark.parametrize(
    "content", ["{", "[]", f'{{"{NUMBER}": 5}}', f'{{"{NUMBER}": {{"before": []}}}}', "\udc80"]
)
def test_a_damaged_undo_file_stops_us_before_anything_changes(
    numbers: PhoneNumbers, api: Api, state_file: Path, content: str
) -> None:
    state_file.parent.mkdir()
    state_file.write_bytes(content.encode(errors="surrogateescape"))
    with pytest.raises(TwilioAccountError, match="is damaged"):
        numbers.configure(NUMBER, PUBLIC)
    with pytest.raises(TwilioAccountError, match="is damaged"):
        numbers.undo(NUMBER)
    assert api.updates == []


def test_an_undo_file_that_cannot_be_written_stops_us_too(api: Api, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    numbers = numbers_at(api.server, tmp_path / "file" / "numbers.json")
    with pytest.raises(TwilioAccountError, match="undo file"):
        numbers.configure(NUMBER, PUBLIC)
    assert api.updates == []


def test_settings_of_a_newer_file_are_read_as_far_as_known(
    numbers: PhoneNumbers, api: Api, state_file: Path
) -> None:
    numbers.configure(NUMBER, PUBLIC)
    records = json.loads(state_file.read_text())
    records[NUMBER]["before"]["colour"] = "blue"
    state_file.write_text(json.dumps(records))
    assert numbers.undo(NUMBER).after == NumberSettings(
        voice_url="https://demo.twilio.com/welcome/voice/", voice_method="GET"
    )


@pytest.fixture(autouse=True)
def quiet_client(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The client logs whole requests; none of them may hold the token."""
    caplog.set_level("DEBUG")
    yield
    assert "token" not in caplog.text.replace("auth_token", "")
