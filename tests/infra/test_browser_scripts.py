"""The page's own modules, run in Chromium: codec, resampling, playing, and what it shows of a call."""

import json
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import pytest

pytest.importorskip("playwright", reason="infra/setup/programs.sh installs it")

from playwright.sync_api import sync_playwright

from telephony import g711
from tests.infra.browser_kit import CHROMIUM, browser, open_page, page_served, stand_ins

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium: infra/setup/programs.sh installs Debian's"
)

Run = Callable[..., Any]
"""run(body, argument): the value of a JavaScript function's body that has every module at hand by name."""


@pytest.fixture(scope="module")
def run() -> Iterator[Run]:
    with page_served(stand_ins()) as server, sync_playwright() as tool, browser(tool) as chromium:
        page = open_page(chromium, server.url)

        def evaluate(body: str, argument: Any = None) -> Any:
            imports = "".join(
                f"const {name} = await import('/talk/static/{name}.js');"
                for name in ("mulaw", "resampler", "playout", "conversation", "errors")
            )
            # No eval under the page's policy: playwright compiles outside of it.
            return page.evaluate(f"async (argument) => {{ {imports} {body} }}", argument)

        yield evaluate


# Codec


def test_every_mu_law_byte_is_decoded_as_here(run: Run) -> None:
    decoded = run("return Array.from({ length: 256 }, (_, byte) => 32768 * mulaw.decode(byte));")
    assert decoded == g711.decode(bytes(range(256))).tolist()


def test_samples_are_encoded_as_here(run: Run) -> None:
    pcm = np.arange(-32768, 32768, 7, dtype=np.int16)
    encoded = run("return argument.map((sample) => mulaw.encode(sample / 32768));", pcm.tolist())
    # Where two codes are equally near, either is right: what is heard is compared.
    ours, theirs = g711.decode(g711.encode(pcm)).astype(int), g711.decode(bytes(encoded)).astype(int)
    error, least = np.abs(theirs - pcm), np.abs(ours - pcm)
    assert np.all(error <= np.maximum(least, np.abs(pcm.astype(int)) // 32 + 4))
    assert run("return [0, 1, -1, 2, -2, NaN].map((sample) => mulaw.encode(sample));")[:5] == [
        0xFF,
        0x80,
        0x00,
        0x80,
        0x00,
    ]


# Resampling


def resampled(run: Run, hz: float, from_hz: int, to_hz: int) -> np.ndarray[Any, Any]:
    """Half a second of a tone of amplitude 1, the first 50 ms left out."""
    out = run(
        """const [hz, from, to] = argument;
        const one = new resampler.Resampler(from, to);
        const out = [];
        for (let n = 0; n < from / 2; n += 1) {
          one.push(Math.sin((2 * Math.PI * hz * n) / from), (sample) => out.push(sample));
        }
        return out;""",
        [hz, from_hz, to_hz],
    )
    assert len(out) == to_hz / 2
    return np.array(out[to_hz // 20 :])


@pytest.mark.parametrize("rate", [48_000, 44_100, 16_000, 96_000])
@pytest.mark.parametrize("hz", [200.0, 1000.0, 3300.0])
def test_the_telephone_band_passes_in_both_directions(run: Run, rate: int, hz: float) -> None:
    for pair in ((rate, 8000), (8000, rate)):
        level = np.sqrt(2 * np.mean(resampled(run, hz, *pair) ** 2))
        assert 20 * np.log10(level) == pytest.approx(0.0, abs=0.3)


@pytest.mark.parametrize("hz", [4_300.0, 5_000.0, 7_000.0, 11_000.0, 15_000.0])
def test_what_is_above_the_band_does_not_fold_into_it(run: Run, hz: float) -> None:
    level = np.sqrt(2 * np.mean(resampled(run, hz, 48_000, 8000) ** 2))
    assert 20 * np.log10(level) < -60


def test_no_image_of_the_band_is_played(run: Run) -> None:
    played = resampled(run, 3_000.0, 8000, 48_000)
    spectrum = np.abs(np.fft.rfft(played * np.hanning(played.size)))
    hz = np.fft.rfftfreq(played.size, 1 / 48_000)
    assert 20 * np.log10(spectrum[hz > 4_500].max() / spectrum.max()) < -60


def test_pulling_gives_the_same_samples_as_pushing(run: Run) -> None:
    pushed, pulled = run(
        """const source = Float32Array.from({ length: 800 }, (_, n) => Math.sin(n / 3));
        const a = new resampler.Resampler(8000, 44100);
        const b = new resampler.Resampler(8000, 44100);
        const pushed = [];
        for (const sample of source) a.push(sample, (out) => pushed.push(out));
        let n = 0;
        const pulled = pushed.map(() => b.pull(() => source[n++]));
        return [pushed, pulled];"""
    )
    assert len(pushed) == 4410
    assert pushed == pulled


# Playing


def play(run: Run, *steps: Any) -> list[Any]:
    """["add", [...]], ["mark", id], ["read", n], ["clear"] in order; what read and clear gave, and marks."""
    done: list[Any] = run(
        """const queue = new playout.Playout();
        const done = [];
        for (const [what, value] of argument) {
          if (what === "add") queue.add(Float32Array.from(value));
          if (what === "mark") queue.mark(value);
          if (what === "clear") done.push(queue.clear());
          if (what === "read") {
            done.push(Array.from({ length: value }, () => queue.read()));
            done.push(queue.reached());
          }
        }
        done.push(queue.queued);
        return done;""",
        [step if len(step) > 1 else [*step, None] for step in steps],
    )
    return done


def test_samples_are_played_in_order_and_silence_where_there_are_none(run: Run) -> None:
    done = play(run, ["read", 1], ["add", [1, 2]], ["add", [3]], ["mark", 7], ["read", 2], ["read", 2])
    assert done == [[0], [], [1, 2], [], [3, 0], [7], 0]


def test_a_mark_in_an_empty_queue_is_reached_at_once(run: Run) -> None:
    assert play(run, ["mark", 1], ["read", 1]) == [[0], [1], 0]


def test_a_clear_says_which_marks_were_heard(run: Run) -> None:
    tone = [1.0] * 100
    done = play(run, ["add", tone], ["mark", 1], ["add", tone], ["mark", 2], ["read", 99], ["clear"])
    assert done[1:3] == [[], {"heard": [], "dropped": [1, 2]}]
    done = play(run, ["add", tone], ["mark", 1], ["add", tone], ["mark", 2], ["read", 100], ["clear"])
    assert done[1:3] == [[1], {"heard": [], "dropped": [2]}]


def test_what_is_cut_fades_out_within_five_milliseconds(run: Run) -> None:
    (_, _, _, after, _, left) = play(run, ["add", [1.0] * 400], ["read", 10], ["clear"], ["read", 60])
    assert after[0] > 0.95
    assert all(a >= b for a, b in pairwise(after))
    assert after[40:] == [0] * 20
    assert left == 0


def test_a_voice_that_is_turned_down_goes_on_without_a_gap(run: Run) -> None:
    done = play(run, ["add", [1.0] * 400], ["read", 10], ["clear"], ["add", [0.25] * 400], ["read", 60])
    after = done[3]
    assert max(abs(a - b) for a, b in pairwise(after)) < 0.03
    assert after[40:] == [0.25] * 20


def test_marks_after_a_clear_count_from_there(run: Run) -> None:
    done = play(
        run,
        ["add", [1.0] * 400],
        ["read", 10],
        ["clear"],
        ["add", [1.0] * 5],
        ["mark", 3],
        ["read", 4],
        ["read", 1],
    )
    assert done[4] == []
    assert done[6] == [3]


# What is shown of a call


def shown(run: Run, *messages: dict[str, Any]) -> dict[str, Any]:
    """The conversation after `messages`, each with its time `at_ms`."""
    result: dict[str, Any] = run(
        """const shown = conversation.newConversation();
        for (const { at_ms, ...message } of argument) conversation.hear(shown, message, at_ms);
        return shown;""",
        [{"at_ms": 0, **message} for message in messages],
    )
    return result


READY = {"event": "ready", "persona": "Clinic"}
SPOKE = {"event": "caller_spoke", "end_s": 1}
CLAUSE = {"event": "agent_clause", "turn": 1, "text": "We are open."}


def levels(mic: float = 0.0, queued: int = 0, at_ms: float = 0) -> dict[str, Any]:
    return {"event": "levels", "mic": mic, "agent": 0.0, "queued": queued, "at_ms": at_ms}


def agent_turn(**changes: Any) -> dict[str, Any]:
    return {
        "event": "agent_turn",
        "turn": 1,
        "text": "We are open.",
        "heard": "We are open.",
        "interrupted": False,
        "stages": {},
    } | changes


@pytest.mark.parametrize(
    ("messages", "phase"),
    [
        ([], "calling"),
        ([levels(queued=9)], "calling"),
        ([READY], "listening"),
        ([READY, levels(queued=9)], "speaking"),
        ([READY, levels(queued=9), levels()], "listening"),
        ([READY, CLAUSE, levels(queued=9), levels(at_ms=600)], "speaking"),
        ([READY, CLAUSE, levels(queued=9), levels(at_ms=800)], "listening"),
        ([READY, CLAUSE, levels(queued=9), agent_turn(), levels(at_ms=20)], "listening"),
        ([READY, SPOKE], "thinking"),
        ([READY, SPOKE, levels(mic=0.001)], "thinking"),
        ([READY, SPOKE, levels(mic=0.1)], "listening"),
        ([READY, SPOKE, levels(queued=9)], "speaking"),
        ([READY, SPOKE, levels(at_ms=8001)], "listening"),
        ([READY, levels(queued=9), SPOKE], "speaking"),
    ],
)
def test_who_has_the_floor(run: Run, messages: list[dict[str, Any]], phase: str) -> None:
    assert shown(run, *messages)["phase"] == phase


@pytest.mark.parametrize(
    ("messages", "deaf"),
    [
        ([levels(at_ms=5_000)], False),
        ([levels(at_ms=7_000)], True),
        ([levels(mic=0.0005), levels(at_ms=7_000)], False),
        ([levels(at_ms=7_000), levels(mic=0.0005, at_ms=7_020)], False),
    ],
)
def test_a_microphone_that_is_switched_off(run: Run, messages: list[dict[str, Any]], deaf: bool) -> None:
    assert shown(run, READY, *messages)["deaf"] is deaf


def test_a_turn_that_goes_on_has_one_entry(run: Run) -> None:
    turns = [{"event": "caller_turn", "turn": 1, "text": text} for text in ("When are", "When are you open?")]
    entries = shown(run, READY, turns[0], CLAUSE, turns[1], CLAUSE, agent_turn())["entries"]
    assert [(entry["who"], entry["text"]) for entry in entries] == [
        ("caller", "When are you open?"),
        ("agent", "We are open."),
    ]
    assert entries[1]["clauses"] == ["We are open."]


def test_the_voice_is_turned_down_until_it_comes_back_or_the_reply_ends(run: Run) -> None:
    down, up = ({"event": "turned_down", "down": down} for down in (True, False))
    assert shown(run, READY, CLAUSE, down)["turnedDown"]
    assert not shown(run, READY, CLAUSE, down, up)["turnedDown"]
    assert not shown(run, READY, CLAUSE, down, agent_turn(interrupted=True))["turnedDown"]


def test_keys_in_a_row_stand_together(run: Run) -> None:
    keys = [{"event": "key", "digit": digit} for digit in "42"]
    entries = shown(run, READY, *keys, CLAUSE, {"event": "key", "digit": "#"})["entries"]
    assert [entry["text"] for entry in entries] == ["42", "", "#"]


def test_a_reply_that_was_cut_before_its_first_word_is_not_shown(run: Run) -> None:
    assert shown(run, READY, agent_turn(text="", heard="", interrupted=True))["entries"] == []


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({}, ["We are open.", ""]),
        ({"interrupted": True, "heard": "We are"}, ["We are", "open."]),
        ({"interrupted": True, "heard": ""}, ["", "We are open."]),
        ({"interrupted": True, "heard": "something else"}, ["something else", ""]),
    ],
)
def test_what_was_heard_and_what_was_not(run: Run, changes: dict[str, Any], parts: list[str]) -> None:
    entry = shown(run, READY, agent_turn(**changes))["entries"][0]
    assert run("return conversation.heardAndLost(argument);", entry) == parts


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("caller hung up", "You hung up."),
        ("goodbye", "said goodbye"),
        ("busy", "All lines are busy"),
        ("connection lost", "connection was lost"),
        ("no media for 10 s", "No sound came from your microphone"),
        ("protocol error: an old copy of the page: load it again", "Load the page again."),
        ("protocol error: start in state 'talking'", "Something went wrong"),
        ("server shut down", "being restarted"),
    ],
)
def test_every_ending_says_what_happened(run: Run, reason: str, words: str) -> None:
    said = run(
        """const end = errors.ending(argument);
        return end.text ?? `${end.error.title}. ${end.error.advice}`;""",
        reason,
    )
    assert words in said


def test_the_modules_are_json_clean(run: Run) -> None:
    """What the page keeps of a call can be written down, so that nothing of the page hides in it."""
    assert json.loads(json.dumps(shown(run, READY, CLAUSE))) == shown(run, READY, CLAUSE)
