"""The operator's page in Debian's Chromium."""

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("playwright", reason="infra/setup/programs.sh installs it")

from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from infra.access.keys import ApiKey, Role, new_key
from infra.local_server import local_server
from infra.records.keys import KeyRing
from infra.records.policy import RecordingPolicy
from infra.records.recorder import CallRecords
from pipeline.events import (
    AgentClause,
    AgentTurn,
    CallEnded,
    CallerSpeaks,
    CallerSpoke,
    CallerTurn,
    CallStarted,
    Fault,
    KeyReceived,
    RecordingPaused,
    ToolRan,
    TurnTimes,
)
from pipeline.line import LineInfo
from tests.infra.browser_kit import CHROMIUM, browser, open_page, speech, write_microphone
from tests.infra.call_files import ANSWERED, ASKED, constructed_call
from tests.infra.console_kit import ConsoleServer, console_served, open_console
from tests.infra.records_kit import KEY, as_text

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: infra/setup/programs.sh installs Debian's"),
]
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
HOSTILE = '<img src=x onerror="window.hacked=1"><script>window.hacked=1</script>"\'><b>&amp;\u202e'
TIMES = TurnTimes(
    1,
    speech_end_s=5.0,
    audible_end_s=5.0,
    transcribe_started_s=5.1,
    transcribed_s=5.3,
    committed_s=5.5,
    first_token_s=5.4,
    first_clause_s=5.5,
    first_audio_s=5.6,
    first_played_s=5.7,
    first_audible_s=5.75,
)


@pytest.fixture(scope="module")
def tool() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def chromium(tool: Playwright) -> Iterator[Browser]:
    with browser(tool) as launched:
        yield launched


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConsoleServer]:
    """On this machine only: no login is asked for."""
    with console_served(tmp_path_factory.mktemp("console")) as served:
        yield served


def key_of(role: Role, name: str = "ada") -> tuple[str, str]:
    """A key, and the line that the settings have of it."""
    key, digest = new_key()
    return key, ApiKey(name, role, None, digest).line()


@pytest.fixture
def guarded(tmp_path: Path) -> Iterator[Callable[..., Any]]:
    """Serves with the keys of these lines."""
    from contextlib import ExitStack

    with ExitStack() as stack:

        def serve(*lines: str, **changes: Any) -> ConsoleServer:
            told = {"insecure": False, "auth_token": "a" * 32, "access": {"keys": lines, **changes}}
            return stack.enter_context(console_served(tmp_path, **told))

        yield serve


def log_in(page: Page, key: str) -> None:
    page.get_by_label("Your key").fill(key)
    page.get_by_role("button", name="Log in").click()


def complaints(page: Page) -> list[str]:
    return page.complaints  # type: ignore[attr-defined, no-any-return]


def fits(page: Page) -> bool:
    return bool(page.evaluate("document.documentElement.scrollWidth <= innerWidth"))


def until(page: Page, expression: str, limit_s: float = 10) -> None:
    """The page's policy forbids what `wait_for_function` does."""
    deadline = time.monotonic() + limit_s
    while not page.evaluate(expression):
        assert time.monotonic() < deadline, expression
        page.wait_for_timeout(50)


def entries(page: Page, of: str = "#live-entries") -> list[str]:
    items = page.locator(f"{of} > li").all()
    return [f"{item.get_attribute('class')}: {item.locator('.words').inner_text()}" for item in items]


def test_a_call_shows_with_its_words_while_it_is_spoken(server: ConsoleServer, chromium: Browser) -> None:
    page = open_console(chromium, server.url, **PHONE)
    expect(page.get_by_text("Nobody is on the phone")).to_be_visible()
    info = LineInfo("CAspoken", "twilio", "+4930111", "+4930222")
    call = server.observer(info)
    server.report(call, CallStarted(0.0, info, "Greenfield Clinic"))
    row = page.locator('tr[data-id="CAspoken"]')
    expect(row).to_contain_text("+4930222")
    expect(row).to_contain_text("Greenfield Clinic")
    server.report(call, CallerSpeaks(1.0), CallerSpeaks(2.0, "are you open"))
    expect(row.locator(".state")).to_have_text("caller speaks")
    page.get_by_role("link", name="+4930111").click()
    expect(page.get_by_role("heading", name="+4930111 → +4930222")).to_be_focused()
    said = page.locator("#live-entries > li")
    expect(said.last).to_have_text(re.compile("are you open"))
    expect(said.last).to_have_attribute("data-partial", "true")
    server.report(call, CallerSpeaks(3.0, "are you open on Sunday"))
    expect(said.last.locator(".words")).to_have_text("are you open on Sunday")
    server.report(call, CallerSpoke(1.0, 3.5), CallerTurn(4.0, 1, "Are you open on Sunday?"))
    expect(page.locator("#opened-facts")).to_contain_text("thinking")
    server.report(call, AgentClause(5.5, 1, "On Sunday,"))
    expect(said.last.locator(".words")).to_have_text("On Sunday,")
    server.report(call, AgentClause(6.0, 1, "we are closed."))
    expect(said.last.locator(".words")).to_have_text("On Sunday, we are closed.")
    expect(page.locator("#opened-facts")).to_contain_text("agent speaks")
    server.report(call, AgentTurn(6.5, 1, "On Sunday, we are closed.", "On Sunday,", True, TIMES))
    expect(page.get_by_text("interrupted by the caller")).to_be_visible()
    expect(said.last.locator("s")).to_have_text("we are closed.")
    expect(said.last.locator(".total")).to_have_text("0.75 s")
    server.report(call, KeyReceived(7.0, "1"), ToolRan(7.5, 1, "find", {"a": 1}, "done", 0.2, "x"))
    expect(said.last).to_contain_text("find(a = 1): done after 0.2 s")
    server.report(call, RecordingPaused(8.0, "card"), CallerTurn(9.0, 2, "4111 1111"))
    expect(said.last.locator(".words")).to_have_text("[not recorded]")
    assert fits(page)
    server.report(call, CallEnded(10.0, "caller hung up", "completed"))
    expect(page.get_by_role("status").first).to_have_text("The call has ended: caller hung up")
    expect(page.locator("#end-call")).to_be_hidden()
    assert entries(page)[:3] == [
        "caller: Are you open on Sunday?",
        "agent: On Sunday, we are closed.",
        "keys: 1",
    ]
    assert complaints(page) == []
    page.context.close()


def test_two_hundred_calls_at_once(server: ConsoleServer, chromium: Browser) -> None:
    page = open_console(chromium, server.url)
    calls = server.begin(200)
    # Another test's call may have ended just now.
    expect(page.locator('#live-rows tr[data-id^="call"]')).to_have_count(200)
    server.go_on(calls, 12.0)
    expect(page.locator("#house")).to_contain_text("200 calls")
    expect(page.locator('#live-rows tr[data-state="agent"]').first).to_be_visible()
    expect(page.locator('#live-rows tr[data-state="caller"]').first).to_be_visible()
    page.get_by_label("Show only calls with these letters").fill(["call00", "CITY", "library"][1])
    shown = page.locator("#live-rows tr:visible")
    expect(shown.first).to_contain_text("City Library")
    assert 60 <= shown.count() <= 70
    server.in_loop(lambda: [call.end() for call in calls])
    page.get_by_label("Show only calls with these letters").fill("")
    expect(page.locator("#live-empty")).to_be_visible(timeout=15_000)
    expect(page.locator("#live-rows tr")).to_have_count(0)
    assert complaints(page) == []
    page.context.close()


def test_the_page_finds_the_server_again(tmp_path: Path, chromium: Browser) -> None:
    with console_served(tmp_path) as first:
        port = first.settings.port
        page = open_console(chromium, first.url)
        expect(page.get_by_text("Nobody is on the phone")).to_be_visible()
    expect(page.get_by_role("alert")).to_contain_text("connection to the server was lost")
    with console_served(tmp_path, port=port) as second:
        second.begin(1)
        expect(page.locator("#live-rows tr")).to_have_count(1, timeout=15_000)
        expect(page.locator("#alert")).to_be_hidden()
    page.context.close()


@pytest.mark.parametrize("encrypt", [False, True], ids=["readable", "encrypted"])
def test_a_past_call_is_found_and_played(
    tmp_path: Path, chromium: Browser, encrypt: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAYA_RECORDINGS_KEY", as_text(KEY))
    with console_served(tmp_path, recording={"encrypt": encrypt}) as server:
        store = server.calls.store
        assert store is not None
        policy = RecordingPolicy(encrypt=encrypt)
        records = CallRecords(tmp_path / "calls", policy, KeyRing([KEY]), inline=True)
        constructed_call(tmp_path, 6, records=records, also=store.observer)
        quiet = LineInfo("CAquiet", "sip", "+4930999", "+4930222")
        observer = store.observer(quiet)
        observer.observe(CallStarted(0.0, quiet, "library"))
        observer.observe(CallerTurn(1.0, 1, "Nothing of interest"))
        observer.observe(CallEnded(2.0, "caller hung up", "failed"))
        assert store.flush()
        page = open_console(chromium, server.url, "#/calls", **PHONE)
        rows = page.locator("#past-rows tr:not(.snippet)")
        expect(rows).to_have_count(2)
        page.get_by_label("Outcome").select_option("failed")
        page.get_by_role("button", name="Find").click()
        expect(rows).to_have_count(1)
        expect(rows).to_contain_text("+4930999")
        page.get_by_role("button", name="Clear").click()
        expect(rows).to_have_count(2)
        page.get_by_label("Words that were said").fill("FLU shot")
        page.keyboard.press("Enter")
        expect(rows).to_have_count(1)
        expect(page.locator("mark").first).to_have_text("flu shot")
        rows.get_by_role("link").click()
        expect(page.get_by_role("heading", name="+4930111 → +4930222")).to_be_visible()
        expect(page.locator("#waveform path.sound")).to_have_count(2)
        expect(page.locator("#timeline path.sound")).to_have_count(2)
        expect(page.locator('#timeline rect.bar-of[data-stage="2"]').first).to_be_attached()
        expect(page.locator("#turns mark").first).to_have_text("flu")
        assert entries(page, "#turns")[1:3] == [f"caller: {ASKED[0]}", f"agent: {ANSWERED[0]}"]
        assert fits(page)
        # From a turn on.
        page.get_by_role("button", name="Play from 0:07.9").click()
        expect(page.locator("#play-text")).to_have_text("Pause")
        until(page, "document.getElementById('audio').currentTime > 8.2")
        expect(page.locator('#turns > li[data-now="true"]')).to_contain_text(ANSWERED[0])
        page.get_by_label("agent", exact=True).check()
        until(page, "document.getElementById('audio').src.includes('voice=agent')")
        until(page, "document.getElementById('audio').currentTime > 8.2")
        page.get_by_role("button", name="Pause").click()
        # By keyboard.
        place = page.get_by_role("slider", name="Place in the recording")
        place.focus()
        page.keyboard.press("Home")
        page.keyboard.press("PageUp")
        page.keyboard.press("ArrowRight")
        expect(page.locator("#position")).to_have_text("0:22.0")
        expect(page.locator("#timeline svg")).to_have_attribute("aria-label", re.compile("from 0:20.0"))
        with page.expect_download() as download:
            page.get_by_role("link", name="Transcript").click()
        text = download.value.path().read_text(encoding="utf-8")
        assert f"Caller: {ASKED[0]}" in text
        assert download.value.suggested_filename == "CAconstructed.txt"
        assert complaints(page) == []
        page.context.close()


def test_charts_with_their_tables(tmp_path: Path, chromium: Browser) -> None:
    with console_served(tmp_path) as server:
        store = server.calls.store
        assert store is not None
        constructed_call(tmp_path / "calls", also=store.observer)
        assert store.flush()
        page = open_console(chromium, server.url, "#/charts", **PHONE)
        charts = page.locator("figure.chart")
        expect(charts).to_have_count(5)
        cover = page.locator("#charts-cover")
        expect(cover).to_have_text(
            re.compile(r"^All that is stored from .*: 1 call, 0 answers\. Nothing before ")
        )
        with page.expect_response(lambda answer: "hours=8760&ahead_min=" in answer.url) as asked:
            page.get_by_label("Of the last").select_option("year")
        assert asked.value.json()["covers"]["calls"] == 1
        calls = page.locator('figure[data-chart="calls"]')
        expect(calls.locator("rect.bar-0")).to_have_count(1)
        calls.get_by_text("Table").click()
        expect(calls.get_by_role("row").last).to_have_text(re.compile(r"100$"))
        assert fits(page)
        assert complaints(page) == []
        page.context.close()


def test_hostile_words_are_only_words(tmp_path: Path, chromium: Browser) -> None:
    with console_served(tmp_path) as server:
        store = server.calls.store
        assert store is not None
        info = LineInfo("CAhostile", "sip", HOSTILE, HOSTILE)
        call = server.observer(info)
        server.report(
            call,
            CallStarted(0.0, info, HOSTILE),
            CallerSpeaks(0.5, HOSTILE),
            CallerTurn(1.0, 1, HOSTILE),
            AgentClause(1.5, 1, HOSTILE),
            AgentTurn(2.0, 1, HOSTILE + HOSTILE, HOSTILE, True, TIMES),
            ToolRan(2.5, 1, HOSTILE, {HOSTILE: HOSTILE}, "done", 0.1, HOSTILE),
            Fault(3.0, HOSTILE, HOSTILE),
            KeyReceived(3.5, HOSTILE),
        )
        page = open_console(chromium, server.url, "#/live/CAhostile")
        expect(page.locator("#live-entries > li")).to_have_count(5)
        expect(page.locator("#live-entries > li.caller .words")).to_have_text(HOSTILE)
        expect(page.locator('tr[data-id="CAhostile"] a')).to_have_text(HOSTILE)
        server.report(call, CallEnded(4.0, HOSTILE, "completed"))
        expect(page.locator("#opened-facts")).to_contain_text("ended: <img")
        assert store.flush()
        page.goto(f"{server.url}/console#/calls?words=onerror")
        expect(page.locator("#past-rows tr.snippet").first).to_contain_text("<img src=x")
        page.locator("#past-rows a").first.click()
        expect(page.locator("#turns > li.caller .words")).to_have_text(HOSTILE)
        expect(page.locator("#call-facts")).to_contain_text("<script>")
        page.goto(f"{server.url}/console#/live/%3Cimg%20src=x%20onerror=alert(1)%3E")
        expect(page.locator("#opened-empty")).to_have_text("This call is not on any more.")
        page.goto(f"{server.url}/console#/%E0%A4%A/..%2f%2f")
        expect(page.locator("#live-heading")).to_be_visible()
        assert page.evaluate("window.hacked") is None
        assert page.locator("main img, main script").count() == 0
        assert complaints(page) == []
        page.context.close()


def test_logging_in_and_what_a_viewer_may_not(guarded: Callable[..., Any], chromium: Browser) -> None:
    viewer, viewers = key_of("viewer", "vera")
    operator, operators = key_of("operator", "otto")
    server = guarded(viewers, operators)
    server.begin(1)
    page = open_console(chromium, server.url, **PHONE)
    expect(page).to_have_url(re.compile("/login"))
    log_in(page, "maya_wrong")
    expect(page.get_by_role("alert")).to_be_visible()
    expect(page).to_have_url(re.compile("/login"))
    log_in(page, viewer)
    expect(page.locator("#who")).to_have_text("vera, viewer")
    page.locator("#live-rows a").click()
    expect(page.locator("#opened-heading")).to_be_visible()
    expect(page.locator("#opened-facts")).to_contain_text("Greenfield Clinic")
    expect(page.get_by_role("button", name="End politely")).to_be_hidden()
    status = page.evaluate(
        "fetch('/console/live/call00000/end', {method: 'POST'}).then((answer) => answer.status)"
    )
    assert status == 403
    page.get_by_role("button", name="Log out").click()
    expect(page).to_have_url(re.compile("/login"))
    assert page.context.request.get(f"{server.url}/console/calls").status == 401
    page.goto(f"{server.url}/console")
    log_in(page, operator)
    page.locator("#live-rows a").click()
    button = page.get_by_role("button", name="End politely")
    button.click()
    # Nobody ends a call by one slip.
    expect(page.get_by_role("button", name="Really end it?")).to_be_visible()
    page.get_by_role("button", name="Really end it?").click()
    expect(page.get_by_role("alert")).to_contain_text("that call is not on")
    page.context.close()


def test_a_login_that_ends_ends_the_stream(guarded: Callable[..., Any], chromium: Browser) -> None:
    viewer, line = key_of("viewer")
    server = guarded(line, session_s=4.0)
    server.begin(1)
    page = open_console(chromium, server.url)
    log_in(page, viewer)
    expect(page.locator("#live-rows tr")).to_have_count(1)
    expect(page).to_have_url(re.compile(r"/login\?next=/console"), timeout=15_000)
    page.context.close()


def test_a_real_call_is_seen_and_ended_politely(tool: Playwright, tmp_path: Path) -> None:
    """`maya serve` in a process of its own: one browser talks, another one looks on and ends the call."""
    operator, line = key_of("operator", "otto")
    microphone = write_microphone(tmp_path / "microphone.wav", [(4.0, speech("a question", 2.5))])
    options = ["--profile", "scripted", "--talk"]
    environ = {"MAYA_ACCESS_KEYS": line}
    with (
        local_server(tmp_path / "calls", tmp_path / "server.log", options, environ) as served,
        browser(tool, microphone) as chromium,
    ):
        served.wait_until_ready(lambda line: None, limit_s=60)
        url = f"http://127.0.0.1:{served.port}"
        console = open_console(chromium, url)
        log_in(console, operator)
        expect(console.get_by_text("Nobody is on the phone")).to_be_visible()
        talk = open_page(chromium, url)
        talk.get_by_role("button", name="Call").click()
        console.locator("#live-rows a").click()
        said = console.locator("#live-entries > li")
        expect(said.first).to_have_class("agent")
        expect(console.locator("#opened-facts")).to_contain_text("caller speaks", timeout=15_000)
        expect(console.locator("#live-entries > li.caller .words")).to_be_visible(timeout=15_000)
        expect(said).to_have_count(3, timeout=15_000)
        expect(said.last.locator(".total")).to_be_visible(timeout=20_000)
        words = talk.locator("#entries > li.caller .words").inner_text()
        expect(console.locator("#live-entries > li.caller .words")).to_have_text(words)
        expect(console.locator("#house")).to_contain_text("1 of 100 places taken")
        console.get_by_role("button", name="End politely").click()
        console.get_by_role("button", name="Really end it?").click()
        expect(talk.get_by_role("status")).to_have_text("The agent said goodbye.", timeout=15_000)
        expect(console.locator("#opened-facts")).to_contain_text("ended: goodbye")
        # It is among the past ones, with its sound.
        console.get_by_role("link", name="Calls").click()
        console.locator("#past-rows a").click()
        expect(console.locator("#waveform path.sound")).to_have_count(2)
        expect(console.locator("#turns > li.caller .words")).to_have_text(words)
        assert complaints(console) == []


def test_policies_of_the_page(server: ConsoleServer, chromium: Browser) -> None:
    """No script but ours runs, and nobody frames the page."""
    page = open_console(chromium, server.url)
    blocked = page.evaluate(
        """() => new Promise((done) => {
            document.addEventListener("securitypolicyviolation", (event) => done(event.violatedDirective));
            const script = document.createElement("script");
            script.textContent = "window.hacked = 1";
            document.body.append(script);
        })"""
    )
    assert blocked.startswith("script-src")
    assert page.evaluate("window.hacked") is None
    page.context.close()


def test_the_recordings_policy_is_the_pages_too(tmp_path: Path, chromium: Browser) -> None:
    with console_served(tmp_path, recording=RecordingPolicy(consent_required=True).model_dump()) as server:
        server.go_on(server.begin(1), 20.0)
        page = open_console(chromium, server.url, "#/live/call00000")
        expect(page.locator("#live-entries .words").first).to_have_text("[not recorded]")
        page.context.close()
