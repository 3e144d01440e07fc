"""When is a turn over? Candidates on one curve of dead air against cut-offs, with pipecat's default beside
it.

Every policy sees the same turns of the corpus, through the real voice detector, transcriber and language
model (`endpoints_evidence`), and is judged by the truth of their making. *Cut off*: a turn with pauses
inside in which the policy took the floor at one of them. *Dead air*: from the last sample of a turn to the
policy's word that it is over.

A policy's curve is all that its knob can do: seconds for silence alone, threshold and patience for
smart-turn, `endpoint_silence_s` for those built like the pipeline's. "At 5 % cut-offs" is the least dead
air of a curve where at most 5 % of the turns with pauses are cut off. The rivals' knobs are so turned on
the quoted turns themselves, ours was set on the tuning part."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.corpus import PartName, corpus
from bench.endpoints_evidence import WatchedTurn, watch
from bench.endpoints_policies import (
    PIPECAT_STOP_S,
    Delays,
    Outcome,
    Plan,
    learning,
    ours,
    play,
    score,
    silence,
    smart_turn,
    with_smart_turn,
    with_words,
    words_only,
)
from bench.endpoints_smart_turn import fetch
from bench.report import Report, rate
from models.store import default_root
from pipeline.persona import TurnTaking, load_persona

PERSONA = Path(__file__).parents[1] / "infra" / "personas" / "clinic.toml"
TOLERATED = 0.05
"""Turns with pauses inside that may be cut off."""

DELAYS = {
    "embedded": Delays(text_s=0.55, ends_s=0.8, audible_s=0.95),
    "tiny": Delays(text_s=0.35, ends_s=0.45, audible_s=0.55),
}
"""On 2 cores: pause of 0.128 s, transcription, first step of the reply, first clause and voice."""

_EVEN_S = np.arange(0.4, 3.01, 0.05)
_MARKED_S = (1.0, 1.3, 1.6, 2.0)
"""Settings of ours that the picture names."""
_SILENCES_S = np.arange(0.3, 3.51, 0.05)
_THRESHOLDS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.96, 0.97, 0.975, 0.98, 0.984, 0.987, 0.99)
_PATIENCES_S = (0.6, 0.8, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.25, 2.5, 3.0)
_RESAMPLED = 1000
_SEED = 7

OURS = "language model (shipped)"
SMART_TURN = "smart-turn v3.2"
PIPECAT = "pipecat's default"


@dataclass(frozen=True, slots=True)
class Curve:
    """One policy at each setting of its knob: (n_settings, n_turns)."""

    name: str
    cut_off: NDArray[np.bool_]
    """Only turns with pauses inside can be."""
    dead_air_s: NDArray[np.float64]

    def points(self, pick: NDArray[np.intp], pauses: NDArray[np.bool_]) -> tuple[NDArray[np.float64], ...]:
        """(cut-off rates, mean seconds of dead air) of each setting, over the turns `pick`."""
        cut = (self.cut_off[:, pick] & pauses[pick]).sum(axis=1) / max(1, pauses[pick].sum())
        return cut, self.dead_air_s[:, pick].mean(axis=1)

    def at_tolerated(self, pick: NDArray[np.intp], pauses: NDArray[np.bool_]) -> float:
        """Least mean dead air, s, of the settings that cut off few enough; NaN where none does."""
        cut, dead = self.points(pick, pauses)
        return float(dead[cut <= TOLERATED].min()) if (cut <= TOLERATED).any() else float("nan")


def run(
    *,
    part: PartName = "held_out",
    profile: str = "embedded",
    picture: Path | None = None,
    cache: Path | None = None,
    progress: Callable[[str], None] = lambda line: None,
) -> Report:
    """Compare the policies on the turns of `part`, heard by the models of `profile`. `picture` is a png to
    draw the curves to. What the models said is kept in the folder `cache`; without it, the first run takes
    10 minutes and fetches smart-turn (12 MB). Raises `ModelMissing`."""
    folder = cache or default_root().parent / "bench"
    turns = watch(
        corpus(part).turns,
        profile=profile,
        persona=load_persona(PERSONA),
        smart_turn=fetch(folder),
        cache=folder,
        progress=progress,
    )
    return report(turns, part=part, profile=profile, picture=picture)


def report(turns: Sequence[WatchedTurn], *, part: str, profile: str, picture: Path | None = None) -> Report:
    """The figures of `turns`, whose evidence is known."""
    delays = DELAYS.get(profile, DELAYS["embedded"])
    pauses = np.array([turn.pauses_inside for turn in turns])
    everybody = np.arange(len(turns))
    curves = {curve.name: curve for curve in _curves(turns, delays)}
    dead = {name: curve.at_tolerated(everybody, pauses) for name, curve in curves.items()}
    shipped_s = TurnTaking().endpoint_silence_s
    shipped = play(turns, ours(shipped_s, delays))
    pipecat = play(turns, smart_turn(0.5, PIPECAT_STOP_S))
    if picture is not None:
        from bench.endpoints_picture import Point, draw

        points = {f"shipped: {shipped_s:g} s": _point(shipped), PIPECAT: _point(pipecat)}
        lines = {
            name: tuple(zip(*curve.points(everybody, pauses), strict=True)) for name, curve in curves.items()
        }
        draw(
            picture,
            {name: [Point(cut, air) for cut, air in line] for name, line in lines.items()},
            points,
            {f"{even_s:g} s": _point(play(turns, ours(even_s, delays))) for even_s in _MARKED_S},
            tolerated=TOLERATED,
            title=f"{part.replace('_', '-')} part: {len(turns)} turns, {int(pauses.sum())} with pauses "
            f"inside; {profile} models",
        )
    figures: dict[str, object] = {
        "dead_air_ratio": round(dead[OURS] / dead[SMART_TURN], 3),
        "dead_air_ratio_interval": _ratio_interval(curves[OURS], curves[SMART_TURN], pauses),
        **_rate("cutoff_rate", shipped),
        **_seconds("dead_air", shipped),
        **_rate("pipecat_cutoff_rate", pipecat),
        **_seconds("pipecat_dead_air", pipecat),
        **_heard(turns, delays, shipped_s),
        "endpoint_silence_s": shipped_s,
        "turns_n": len(turns),
        "pauses_n": sum(1 for turn in turns for pause in turn.pauses if pause.over_s is not None),
    }
    return Report(
        figures,
        notes=(
            f"{part} part, {profile} models; words are taken to be known {delays.text_s:g} s into a pause, "
            f"the language model's opinion {delays.ends_s:g} s, the agent's voice possible "
            f"{delays.audible_s:g} s",
            "cutoff_rate: turns with pauses inside at one of which the turn was declared over; audible_*: "
            "the agent could be heard before the caller went on, and the dead air includes the time to its "
            "first sound",
            "dead_air_ratio: mean dead air at 5 % cut-offs, ours over smart-turn's; its threshold and "
            "patience are the best for these very turns",
        ),
        details={
            "dead_air_s_at_5_percent": {
                name: None if np.isnan(value) else round(value, 3) for name, value in dead.items()
            },
            "cut_off": [outcome.turn.id for outcome in shipped if outcome.cut_off],
        },
    )


def _curves(turns: Sequence[WatchedTurn], delays: Delays) -> list[Curve]:
    patient = [smart_turn(threshold, s) for threshold in _THRESHOLDS for s in _PATIENCES_S]
    knobs: Mapping[str, Sequence[Plan]] = {
        "silence alone": [silence(float(s)) for s in _SILENCES_S],
        SMART_TURN: patient,
        "words": [words_only(float(s), delays) for s in _EVEN_S],
        OURS: [ours(float(s), delays) for s in _EVEN_S],
        "shipped and words": [with_words(float(s), delays) for s in _EVEN_S],
        "shipped and the caller's own pauses": [learning(float(s), delays) for s in _EVEN_S],
        "shipped and smart-turn": [with_smart_turn(float(s), delays) for s in _EVEN_S],
    }
    return [_curve(name, turns, plans) for name, plans in knobs.items()]


def _curve(name: str, turns: Sequence[WatchedTurn], plans: Sequence[Plan]) -> Curve:
    played = [play(turns, plan) for plan in plans]
    return Curve(
        name,
        np.array([[outcome.cut_off for outcome in outcomes] for outcomes in played]),
        np.array([[outcome.dead_air_s for outcome in outcomes] for outcomes in played]),
    )


def _ratio_interval(mine: Curve, theirs: Curve, pauses: NDArray[np.bool_]) -> tuple[float, float]:
    """95 % of the ratio over turns drawn again and again with replacement."""
    generator = np.random.default_rng(_SEED)
    ratios = []
    for _ in range(_RESAMPLED):
        pick = generator.integers(0, len(pauses), len(pauses))
        ratios.append(mine.at_tolerated(pick, pauses) / theirs.at_tolerated(pick, pauses))
    low, high = np.nanpercentile(ratios, (2.5, 97.5))
    return round(float(low), 3), round(float(high), 3)


def _heard(turns: Sequence[WatchedTurn], delays: Delays, shipped_s: float) -> dict[str, object]:
    outcomes = play(turns, ours(shipped_s, delays), audible_s=delays.audible_s)
    return {**_rate("audible_cutoff_rate", outcomes), **_seconds("audible_dead_air", outcomes)}


def _rate(name: str, outcomes: Sequence[Outcome]) -> dict[str, object]:
    scored = score(outcomes)
    return rate(name, scored.cut_offs, scored.n)


def _seconds(name: str, outcomes: Sequence[Outcome]) -> dict[str, object]:
    scored = score(outcomes)
    return {
        f"{name}_mean_s": round(scored.mean_s, 3),
        f"{name}_p50_s": round(scored.p50_s, 3),
        f"{name}_p95_s": round(scored.p95_s, 3),
    }


def _point(outcomes: Sequence[Outcome]) -> tuple[float, float]:
    scored = score(outcomes)
    return scored.rate, scored.mean_s
