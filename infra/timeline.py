"""A call as a picture: both voices on the call's clock, what each turn waited for, and the words.

Reads what `infra.records` left in a call's folder and writes timeline.png there. A call is drawn in strips,
one below the other like lines of text, so that 300 ms stay visible in a call of minutes.
"""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infra.records.keys import KeyRing
from infra.records.reader import CallFolder, RecordingError
from pipeline.line import LINE_RATE_HZ, Pcm

PICTURE = "timeline.png"
STRIP_S = 20.0
MOST_STRIPS = 18
"""A longer call gets longer strips."""
_WIDTH_IN = 19.0
_MARGIN_S = 0.02
_CHARACTERS_PER_STRIP = 250
_ENVELOPE_S = 0.01

CALLER_COLOUR = "#1f6f8b"
AGENT_COLOUR = "#d9822b"
INTERRUPTION_COLOUR = "#c62828"
UNHEARD_COLOUR = "#9e9e9e"
DUCK_COLOUR = "#7e57c2"


class TimelineError(Exception):
    """The folder holds no call that could be drawn; the message says what is missing."""


@dataclass(frozen=True, slots=True)
class Stage:
    """A bar from one moment of `TurnTimes` to another."""

    label: str
    begins: str
    ends: str
    colour: str


_LONGEST_DUCK_S = 1.0
"""A voice that is turned down is stopped or turned up again by then."""

STAGES = (
    Stage("end-of-turn wait", "speech_end_s", "committed_s", "#8e9aaf"),
    Stage("transcription", "transcribe_started_s", "transcribed_s", "#5b8e7d"),
    Stage("first token", "_answer_began_s", "first_token_s", "#8a6fb0"),
    Stage("first clause", "first_token_s", "first_clause_s", "#bc5090"),
    Stage("first audio", "first_clause_s", "first_audio_s", "#ef8354"),
    Stage("playout", "first_played_s", "_played_until_s", "#e0b34c"),
)


@dataclass(frozen=True, slots=True)
class Bar:
    lane: int
    start_s: float
    end_s: float
    stage: Stage

    @property
    def text(self) -> str:
        duration_ms = (self.end_s - self.start_s) * 1000
        shown = f"{duration_ms:.0f} ms" if duration_ms < 1000 else f"{duration_ms / 1000:.1f} s"
        return f"{self.stage.label} {shown}"


@dataclass(frozen=True, slots=True)
class Words:
    start_s: float
    room_s: float
    text: str
    unheard: str = ""


class Gap(NamedTuple):
    """From the caller's last sound to the agent's first. `parts_ms` are the stages of the wait in their
    order, which add up to it; empty where they are not known."""

    start_s: float
    end_s: float
    parts_ms: tuple[float, ...] = ()

    @property
    def text(self) -> str:
        parts = f" = {' + '.join(f'{part:.0f}' for part in self.parts_ms)} ms" if self.parts_ms else ""
        return f"gap {self.end_s - self.start_s:.2f} s{parts}"

    def label_at(self, start_s: float, end_s: float) -> tuple[float, Literal["left", "right"]] | None:
        """Where the strip from `start_s` to `end_s` writes the text, and which side of it stands there; None
        where another strip holds more of the gap."""
        shown_s = min(self.end_s, end_s) - max(self.start_s, start_s)
        if shown_s <= (self.end_s - self.start_s) / 2:
            return None
        if self.start_s > end_s - _GAP_TEXT_S:
            return end_s, "right"
        return max(self.start_s, start_s), "left"


@dataclass(frozen=True, slots=True)
class Drawing:
    """All that the picture shows, before any plotting."""

    title: str
    duration_s: float
    caller: Pcm
    agent: Pcm
    bars: Sequence[Bar]
    gaps: Sequence[Gap]
    caller_words: Sequence[Words]
    agent_words: Sequence[Words]
    interruptions_s: Sequence[float]
    turned_down: Sequence[tuple[float, float]] = ()


def render_timeline(folder: Path, keys: KeyRing | None = None) -> Path:
    """Draw `folder/timeline.png` and return its path. Blocks for some seconds. Raises `TimelineError`, and
    `RecordingKeyError` for an encrypted call whose key is not among `keys`. The picture is readable."""
    path = folder / PICTURE
    _plot(read_drawing(folder, keys), path)
    return path


def read_drawing(folder: Path, keys: KeyRing | None = None) -> Drawing:
    """Raises `TimelineError` when transcript or recording are missing or damaged, and `RecordingKeyError`."""
    call_folder = CallFolder(folder, keys)
    try:
        document = call_folder.transcript()
        both = call_folder.audio()
    except RecordingError as error:
        raise TimelineError(f"{folder} cannot be drawn: {error}") from error
    turns: list[dict[str, Any]] = document["turns"]
    duration_s = max(len(both) / LINE_RATE_HZ, document["call"]["duration_s"] or 0.0, 1.0)
    call = document["call"]
    outcome = document["outcome"] or {"outcome": "unfinished", "reason": "no end was recorded"}
    return Drawing(
        title=f"Call {call['id']}   persona {call['persona']}   {duration_s:.1f} s   "
        f"{outcome['outcome']}: {outcome['reason']}",
        duration_s=duration_s,
        caller=both[:, 0],
        agent=both[:, 1],
        bars=list(bars(turns)),
        gaps=[gap for turn in turns if (gap := gap_of(turn["times"])) is not None],
        caller_words=_caller_words(turns, document["utterances"], duration_s),
        agent_words=_agent_words(turns, duration_s),
        interruptions_s=[
            turn["agent_done_s"] for turn in turns if turn["interrupted"] and turn["agent_done_s"] is not None
        ],
        turned_down=_turned_down(
            document.get("turned_down", []),
            [turn["agent_done_s"] for turn in turns if turn["agent_done_s"] is not None],
        ),
    )


def gap_of(times: Mapping[str, Any]) -> Gap | None:
    """From the caller's last sound to the agent's first, by level where that is known, else as detected."""
    for begins, ends in (("audible_end_s", "first_audible_s"), ("speech_end_s", "first_played_s")):
        start_s, end_s = times.get(begins), times.get(ends)
        if start_s is not None and end_s is not None:
            return Gap(start_s, end_s, tuple((times.get("stages") or {}).values()))
    return None


def _turned_down(
    levels: Sequence[Mapping[str, Any]], silenced_s: Sequence[float]
) -> list[tuple[float, float]]:
    """When the agent's voice was turned down; until the next change, or until it was silent."""
    ends = [*(level["at_s"] for level in levels), *silenced_s]
    downs = [level["at_s"] for level in levels if level["down"]]
    longest = [down_s + _LONGEST_DUCK_S for down_s in downs]
    return [
        (down_s, min([last_s, *(end_s for end_s in ends if end_s > down_s)]))
        for down_s, last_s in zip(downs, longest, strict=True)
    ]


def bars(turns: Sequence[dict[str, Any]]) -> Iterator[Bar]:
    """The stages of turns as `infra.records.notes` writes them."""
    for turn in turns:
        times: dict[str, float | None] = dict(turn["times"])
        # The reply is begun on the words, before the turn is declared over.
        times["_answer_began_s"] = times.get("transcribed_s")
        times["_played_until_s"] = turn["agent_done_s"]
        for lane, stage in enumerate(STAGES):
            start_s, end_s = times.get(stage.begins), times.get(stage.ends)
            if start_s is not None and end_s is not None and end_s >= start_s:
                yield Bar(lane, start_s, end_s, stage)


def _caller_words(
    turns: Sequence[dict[str, Any]], utterances: Sequence[Mapping[str, float]], duration_s: float
) -> list[Words]:
    said = [turn for turn in turns if turn["caller"] and turn["caller_at_s"] is not None]
    starts = []
    after_s = -1.0
    for turn in said:
        own = [u["start_s"] for u in utterances if after_s < u["start_s"] <= turn["caller_at_s"]]
        starts.append(min(own, default=turn["caller_at_s"]))
        after_s = turn["caller_at_s"]
    ends = [*starts[1:], duration_s][: len(starts)]
    return [
        Words(start, end - start, turn["caller"]) for turn, start, end in zip(said, starts, ends, strict=True)
    ]


def _agent_words(turns: Sequence[dict[str, Any]], duration_s: float) -> list[Words]:
    spoken = []
    for turn in turns:
        start_s = turn["times"].get("first_played_s")
        if start_s is None and turn["clauses"]:
            start_s = turn["clauses"][0]["at_s"]
        if start_s is not None and turn["agent"]:
            spoken.append((start_s, turn))
    ends = [*(start for start, _ in spoken[1:]), duration_s][: len(spoken)]
    words = []
    for (start_s, turn), end_s in zip(spoken, ends, strict=True):
        text, heard = turn["agent"], turn["heard"]
        unheard = ""
        if turn["interrupted"]:
            unheard = text[len(heard) :].strip() if text.startswith(heard) else text
            text = heard
        words.append(Words(start_s, end_s - start_s, text, unheard))
    return words


def _plot(drawing: Drawing, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot
    from matplotlib.patches import Patch

    strips = min(MOST_STRIPS, max(1, round(drawing.duration_s / STRIP_S)))
    strip_s = float(np.ceil(drawing.duration_s / strips))
    height_in = 3.6 * strips + 1.1
    figure, panels = pyplot.subplots(strips, 1, figsize=(_WIDTH_IN, height_in), squeeze=False)
    try:
        for index, panel in enumerate(panels[:, 0]):
            _strip(panel, drawing, index * strip_s, strip_s)
        panels[-1, 0].set_xlabel("seconds since the line was answered")
        handles = [
            Patch(color=CALLER_COLOUR, label="caller"),
            Patch(color=AGENT_COLOUR, label="agent"),
            *(Patch(color=stage.colour, label=stage.label) for stage in STAGES),
            Patch(color=INTERRUPTION_COLOUR, label="interruption"),
            Patch(color=DUCK_COLOUR, alpha=0.25, label="turned down"),
        ]
        figure.legend(
            handles=handles,
            loc="upper center",
            ncols=len(handles),
            frameon=False,
            fontsize=10,
            bbox_to_anchor=(0.5, 1 - 0.42 / height_in),
        )
        figure.suptitle(drawing.title, fontsize=13, y=1 - 0.18 / height_in, va="top")
        figure.subplots_adjust(
            left=0.052, right=0.988, top=1 - 0.85 / height_in, bottom=0.5 / height_in, hspace=0.16
        )
        figure.savefig(path, dpi=100)
    finally:
        pyplot.close(figure)


# One strip's height is 0..100: words, caller, stages, agent, words.
_CALLER_MIDDLE, _AGENT_MIDDLE, _HALF_HEIGHT = 76.0, 26.0, 10.0
_LANES_TOP, _LANE_HEIGHT = 65.0, 4.7
_CALLER_WORDS_Y, _AGENT_WORDS_Y = 88.5, 15.0
_ROW, _MOST_ROWS = 5.2, 3
_GAP_TEXT_S = 3.5
"""Of a strip; so much does a gap's text take."""


def _strip(panel: Any, drawing: Drawing, start_s: float, strip_s: float) -> None:
    end_s = start_s + strip_s
    panel.set_xlim(start_s, end_s)
    panel.set_ylim(0, 100)
    panel.set_yticks([_CALLER_MIDDLE, 51, _AGENT_MIDDLE], ["caller", "stages", "agent"])
    panel.set_xticks(np.arange(start_s, end_s + 0.01, 1.0 if strip_s <= 30 else np.ceil(strip_s / 20)))
    panel.grid(axis="x", color="#eeeeee", linewidth=0.8)
    panel.set_axisbelow(True)
    for side in ("top", "right", "left"):
        panel.spines[side].set_visible(False)
    panel.tick_params(axis="y", length=0)
    for pcm, middle, colour in (
        (drawing.caller, _CALLER_MIDDLE, CALLER_COLOUR),
        (drawing.agent, _AGENT_MIDDLE, AGENT_COLOUR),
    ):
        times_s, level = envelope(pcm, start_s, end_s)
        panel.fill_between(
            times_s, middle - level * _HALF_HEIGHT, middle + level * _HALF_HEIGHT, color=colour, linewidth=0.4
        )
        panel.axhline(middle, color=colour, linewidth=0.5)
    for gap in drawing.gaps:
        gap_start_s, gap_end_s = gap.start_s, gap.end_s
        if start_s <= gap_end_s and gap_start_s < end_s:
            panel.axvspan(gap_start_s, gap_end_s, ymin=0.36, ymax=0.66, color="#f3f3f3", zorder=0)
            if (label := gap.label_at(start_s, end_s)) is not None:
                x, side = label
                panel.text(x, 66.5, gap.text, fontsize=9, weight="bold", ha=side)
    for bar in drawing.bars:
        _bar(panel, bar, start_s, end_s)
    for down_s, up_s in drawing.turned_down:
        if start_s <= up_s and down_s < end_s:
            panel.axvspan(down_s, up_s, ymin=0.14, ymax=0.36, color=DUCK_COLOUR, alpha=0.25, zorder=0)
    for moment_s in drawing.interruptions_s:
        if start_s <= moment_s < end_s:
            panel.axvline(moment_s, ymin=0.14, ymax=0.88, color=INTERRUPTION_COLOUR, linewidth=1.6)
            near_edge = moment_s > end_s - 1.2
            panel.text(
                moment_s + (-0.05 if near_edge else 0.05),
                _AGENT_MIDDLE + (9 if near_edge else 2),
                "interrupted",
                color=INTERRUPTION_COLOUR,
                fontsize=9,
                ha="right" if near_edge else "left",
            )
    _lane(panel, drawing.caller_words, _CALLER_WORDS_Y, CALLER_COLOUR, start_s, strip_s)
    _lane(panel, drawing.agent_words, _AGENT_WORDS_Y, AGENT_COLOUR, start_s, strip_s)


def _bar(panel: Any, bar: Bar, start_s: float, end_s: float) -> None:
    if bar.end_s < start_s or bar.start_s >= end_s:
        return
    top = _LANES_TOP - bar.lane * _LANE_HEIGHT
    width_s = max(bar.end_s - bar.start_s, 0.02)
    panel.broken_barh(
        [(bar.start_s, width_s)], (top - _LANE_HEIGHT + 0.5, _LANE_HEIGHT - 1.0), color=bar.stage.colour
    )
    text_s = bar.start_s + width_s + _MARGIN_S
    inside = width_s > 2.2
    if inside:  # a long bar carries its own label
        text_s = max(bar.start_s, start_s) + _MARGIN_S * 2
    if start_s <= text_s < end_s - 0.3:
        panel.text(text_s, top - _LANE_HEIGHT / 2, bar.text, fontsize=7.5, va="center", clip_on=True)


def _lane(panel: Any, lane: Sequence[Words], y: float, colour: str, start_s: float, strip_s: float) -> None:
    """The words of one voice in one strip; those that would cover the ones before them make way."""
    taken_s, rows = start_s, 0
    for words in lane:
        if not start_s <= words.start_s < start_s + strip_s:
            continue
        at_s, align, said, lost = _typeset(words, start_s, strip_s)
        width_s = max(map(len, [*said, *lost, ""])) * strip_s / _CHARACTERS_PER_STRIP
        begin_s = at_s - width_s if align == "right" else at_s
        skipped = rows if begin_s < taken_s else 0
        lost = lost[: max(0, _MOST_ROWS - skipped - len(said))]
        taken_s, rows = begin_s + width_s, skipped + len(said) + len(lost)
        # The caller's words stand on the waveform, the agent's hang below theirs.
        top = y - skipped * _ROW if y < 50 else y + rows * _ROW
        for row, text in enumerate([*said, *lost]):
            shade = colour if row < len(said) else UNHEARD_COLOUR
            panel.text(at_s, top - row * _ROW, text, fontsize=9, color=shade, va="top", ha=align)


def _typeset(words: Words, start_s: float, strip_s: float) -> tuple[float, str, list[str], list[str]]:
    """Where the words stand, their alignment, and the lines of what was heard and what was not."""
    left_s = start_s + strip_s - words.start_s
    room_s = min(words.room_s, left_s)
    at_s, align = words.start_s, "left"
    if left_s < 3.0:  # too near the edge: let the words end there instead
        at_s, align, room_s = start_s + strip_s, "right", 5.0
    columns = max(12, int(room_s / strip_s * _CHARACTERS_PER_STRIP) - 2)
    said = textwrap.wrap(words.text, columns)
    lost = textwrap.wrap(f"[unheard: {words.unheard}]", columns) if words.unheard else []
    if len(said) > _MOST_ROWS:
        said = [*said[:2], said[2][: columns - 3] + "..."]
    return at_s, align, said, lost


def envelope(pcm: Pcm, start_s: float, end_s: float) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Peak of each 10 ms between two moments, scaled so that full speech fills the height: times (n,) s and
    levels (n,) in 0..1."""
    size = int(_ENVELOPE_S * LINE_RATE_HZ)
    part = pcm[int(start_s * LINE_RATE_HZ) : int(end_s * LINE_RATE_HZ)]
    part = part[: len(part) // size * size].reshape(-1, size)
    peaks = np.abs(part.astype(np.int32)).max(axis=1) if len(part) else np.zeros(0, np.int32)
    loudest = max(float(np.abs(pcm.astype(np.int32)).max()) if len(pcm) else 0.0, 3000.0)
    times_s = start_s + (np.arange(len(peaks), dtype=np.float64) + 0.5) * _ENVELOPE_S
    return times_s, peaks.astype(np.float64) / loudest
