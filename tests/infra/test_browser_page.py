"""Whole calls through the page in Debian's Chromium, whose microphone is a WAV file."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("playwright", reason="infra/setup/programs.sh installs it")

from playwright.sync_api import Browser, Page, Playwright, expect, sync_playwright

from infra.loading import load
from infra.settings import CLINIC_PERSONA, Settings
from pipeline.events import (
    AgentTurn,
    AgentTurnedDown,
    CallEnded,
    CallerAudio,
    CallerTurn,
    CallStarted,
    KeyReceived,
)
from pipeline.line import LINE_RATE_HZ
from pipeline.persona import Persona, load_persona
from pipeline.resample import from_pcm, resample
from telephony.simulator.voices import speak
from tests.infra.browser_kit import (
    CHROMIUM,
    GREETING,
    MICROPHONE_HZ,
    browser,
    open_page,
    page_served,
    speech,
    stand_ins,
    write_microphone,
)
from tests.infra.served import served

pytestmark = [
    pytest.mark.realtime,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: infra/setup/programs.sh installs Debian's"),
]
PHONE = {"viewport": {"width": 390, "height": 844}, "is_mobile": True, "has_touch": True}
PASSWORD = "correct horse battery"


@pytest.fixture(scope="module")
def tool() -> Iterator[Playwright]:
    with sync_playwright() as started:
        yield started


@pytest.fixture(scope="module")
def chromium(tool: Playwright) -> Iterator[Browser]:
    """Its microphone beeps."""
    with browser(tool) as launched:
        yield launched


def phase_is(page: Page, phase: str, timeout_s: float = 10) -> None:
    expect(page.locator("body")).to_have_attribute("data-phase", phase, timeout=1000 * timeout_s)


def entries(page: Page) -> list[str]:
    return [
        f"{item.get_attribute('class')}: {item.locator('.words').inner_text()}"
        for item in page.locator("#entries > li").all()
    ]


def alert(page: Page) -> Any:
    return page.get_by_role("alert").filter(has=page.locator("strong"))


def fits(page: Page) -> bool:
    """Nothing sticks out to the side, and no button is below the fold."""
    return bool(
        page.evaluate(
            """() => document.documentElement.scrollWidth <= innerWidth
                && [...document.querySelectorAll('.controls button')].every((one) => {
                    const box = one.getBoundingClientRect();
                    return box.bottom <= innerHeight && box.right <= innerWidth;
                })"""
        )
    )


def test_a_whole_call_with_an_interruption(tool: Playwright, tmp_path: Path) -> None:
    microphone = write_microphone(
        tmp_path / "microphone.wav", [(4.0, speech("a question", 1.5)), (8.6, speech("another", 1.2))]
    )
    said = (
        "We are open from nine to noon on Saturday, and closed in the afternoon.",
        "We are closed on Sunday.",
    )
    with page_served(stand_ins(said=said)) as server, browser(tool, microphone) as chromium:
        page = open_page(chromium, server.url, **PHONE)
        page.get_by_role("button", name="Call").click()
        phase_is(page, "speaking")
        expect(page.locator("#entries")).to_contain_text(GREETING)
        phase_is(page, "listening")
        phase_is(page, "thinking")
        phase_is(page, "speaking")
        assert fits(page)
        expect(page.locator("#entries > li.caller")).to_have_text(re.compile("When are you open on Saturday"))
        expect(page.locator(".cut")).to_be_visible(timeout=10_000)
        expect(page.locator("#entries > li.agent")).to_have_count(3, timeout=10_000)
        phase_is(page, "listening")
        expect(page.locator("#entries .wait")).to_have_count(2)
        page.get_by_role("button", name="Hang up").click()
        expect(page.get_by_role("status")).to_have_text("You hung up.")
        shown = entries(page)
        waits = page.locator("#entries .total").all_inner_texts()
        greeted_ms = int(page.locator("body").get_attribute("data-greeted-ms") or 0)
        complaints = page.complaints  # type: ignore[attr-defined]
    _, interrupted, after = server.seen(AgentTurn)
    assert complaints == []
    assert (interrupted.interrupted, after.interrupted) == (True, False)
    assert server.seen(AgentTurnedDown)[0].down
    assert interrupted.heard
    assert len(interrupted.heard) < len(interrupted.text)
    assert shown == [
        f"agent: {GREETING}",
        f"caller: {server.seen(CallerTurn)[0].text}",
        f"agent: {interrupted.text}",
        f"caller: {server.seen(CallerTurn)[1].text}",
        f"agent: {after.text}",
    ]
    # What the page says that each answer took is what the server measured.
    assert waits == [f"{sum(turn.times.stages_ms().values()) / 1000:.2f} s" for turn in (interrupted, after)]
    assert 0 < greeted_ms < 5_000
    (end,) = server.seen(CallEnded)
    assert (end.reason, end.outcome) == ("caller hung up", "completed")


def test_maya_serve_keeps_a_call_from_the_page(chromium: Browser, tmp_path: Path) -> None:
    with served(tmp_path) as server:
        page = open_page(chromium, f"http://127.0.0.1:{server.port}")
        page.get_by_role("button", name="Call").click()
        phase_is(page, "speaking")
        expect(page.locator("#clock")).to_have_text("0:01")  # there is something to keep
        page.get_by_role("button", name="Keypad").click()
        page.keyboard.press("5")
        expect(page.locator("li.keys .words")).to_have_text("5")
        page.get_by_role("button", name="Hang up").click()
        expect(page.get_by_role("status")).to_have_text("You hung up.")
    (folder,) = (tmp_path / "calls").glob("web-*")
    kept = json.loads((folder / "transcript.json").read_text())
    assert (kept["call"]["line"], kept["outcome"]["reason"]) == ("browser", "caller hung up")
    assert [key["digit"] for key in kept["keys"]] == ["5"]
    assert (folder / "recording.wav").stat().st_size > 8_000


@pytest.mark.models
def test_a_call_on_the_bundled_models(tool: Playwright, tmp_path: Path) -> None:
    question = resample(
        from_pcm(speak("When are you open on Saturday?", "ruth")), LINE_RATE_HZ, MICROPHONE_HZ
    )
    microphone = write_microphone(tmp_path / "microphone.wav", [(6.0, question)])
    models = load(Settings(profile="embedded"))
    with (
        page_served(models, load_persona(CLINIC_PERSONA)) as server,
        browser(tool, microphone) as chromium,
    ):
        page = open_page(chromium, server.url)
        page.get_by_role("button", name="Call").click()
        phase_is(page, "speaking")
        expect(page.locator("#entries > li.caller")).to_contain_text("Saturday", timeout=30_000)
        expect(page.locator("#entries > li.agent").nth(1)).to_contain_text("noon", timeout=30_000)
        expect(page.locator("#entries .wait")).to_have_count(1, timeout=30_000)
        page.get_by_role("button", name="Hang up").click()
        expect(page.get_by_role("status")).to_have_text("You hung up.")
    assert page.complaints == []  # type: ignore[attr-defined]
    assert "saturday" in server.seen(CallerTurn)[0].text.lower()


def test_keys_by_click_and_by_keyboard(chromium: Browser) -> None:
    with page_served(stand_ins()) as server:
        page = open_page(chromium, server.url)
        page.get_by_role("button", name="Call").click()
        phase_is(page, "speaking")
        keypad = page.get_by_role("group", name="Keypad")
        expect(keypad).to_be_hidden()
        page.get_by_role("button", name="Keypad").click()
        for name in ("5", "hash"):
            keypad.get_by_role("button", name=name).click()
        page.keyboard.press("7")
        keys = page.locator("li.keys .words")
        expect(keys.last).to_contain_text("7")
        # The microphone's beeps may cut the greeting off between two keys.
        assert "".join(keys.all_inner_texts()) == "5#7"
        page.keyboard.press("Escape")
        expect(keypad).to_be_hidden()
        page.get_by_role("button", name="Hang up").click()
        expect(page.get_by_role("button", name="Call again")).to_be_visible()
    assert [event.digit for event in server.seen(KeyReceived)] == ["5", "#", "7"]


def test_a_muted_microphone_sends_silence(tool: Playwright, tmp_path: Path) -> None:
    microphone = write_microphone(tmp_path / "microphone.wav", [(2.0, speech("never ending", 25.0))])
    persona = Persona(name="Clinic", greeting="Hello.", system="You answer the phone.")
    with page_served(stand_ins(), persona) as server, browser(tool, microphone) as chromium:
        page = open_page(chromium, server.url)
        page.get_by_role("button", name="Call").click()
        phase_is(page, "speaking")
        phase_is(page, "listening")
        page.get_by_role("button", name="Mute").click()
        phase_is(page, "muted")
        page.wait_for_timeout(3_000)
        muted = server.seen(CallerAudio)[-50:]
        page.get_by_role("button", name="Unmute").click()
        page.wait_for_timeout(1_000)
        heard = server.seen(CallerAudio)[-25:]
        page.get_by_role("button", name="Hang up").click()
        expect(page.get_by_role("status")).to_have_text("You hung up.")
    assert max(np.abs(event.pcm).max() for event in muted) == 0
    assert max(np.abs(event.pcm).max() for event in heard) > 1_000


def test_a_refused_microphone_says_what_to_do_and_places_no_call(tool: Playwright) -> None:
    with page_served(stand_ins()) as server, browser(tool, ask=True) as chromium:
        page = open_page(chromium, server.url, **PHONE)
        page.get_by_role("button", name="Call").click()
        expect(alert(page)).to_contain_text("Microphone to Allow")
        expect(page.get_by_role("heading", level=1)).to_have_text("The call did not go through")
        expect(page.get_by_role("button", name="Call again")).to_be_focused()
        assert fits(page)
    assert server.seen(CallStarted) == []


def test_a_machine_without_a_microphone(tool: Playwright) -> None:
    with page_served(stand_ins()) as server, browser(tool, device=False) as chromium:
        page = open_page(chromium, server.url)
        page.get_by_role("button", name="Call").click()
        expect(alert(page)).to_contain_text("No microphone was found")
    assert server.seen(CallStarted) == []


def test_busy_lines_and_a_call_when_one_is_free_again(chromium: Browser) -> None:
    with page_served(stand_ins()) as server:
        page = open_page(chromium, server.url)
        server.accepting = False
        page.get_by_role("button", name="Call").click()
        expect(alert(page)).to_contain_text("All lines are busy")
        server.accepting = True
        page.get_by_role("button", name="Call again").click()
        phase_is(page, "speaking")
        expect(alert(page)).to_have_count(0)
        page.get_by_role("button", name="Hang up").click()


def test_a_lost_server_is_told_and_the_transcript_stays(chromium: Browser) -> None:
    with page_served(stand_ins()) as server:
        page = open_page(chromium, server.url)
        page.get_by_role("button", name="Call").click()
        expect(page.locator("#entries")).to_contain_text(GREETING)
        server.stop()
        expect(alert(page)).to_be_visible(timeout=10_000)
        expect(page.locator("#entries")).to_contain_text(GREETING)
        page.get_by_role("button", name="Call again").click()
        expect(alert(page)).to_contain_text("The server cannot be reached", timeout=10_000)


def test_logging_in(chromium: Browser) -> None:
    with page_served(stand_ins(), password=PASSWORD) as server:
        page = open_page(chromium, server.url, **PHONE)
        expect(page.get_by_role("button", name="Call")).to_be_hidden()
        expect(page.get_by_label("Password")).to_be_focused()
        page.keyboard.type("not the password")
        page.keyboard.press("Enter")
        expect(page.locator("#login-refusal")).to_have_text("That is not the password.")
        page.get_by_label("Password").fill(PASSWORD)
        page.get_by_role("button", name="Log in").click()
        page.get_by_role("button", name="Call").click()
        phase_is(page, "speaking")
        page.get_by_role("button", name="Hang up").click()
        # The login outlasts the page.
        page.reload()
        expect(page.get_by_role("button", name="Call")).to_be_visible()
