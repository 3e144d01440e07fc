"""One call's page, from the document that `infra.records.notes` describes: what was said, and the stages of
each turn on the call's clock as `infra.timeline` draws them. No I/O.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from infra.console.live import heard_and_lost, latency_of
from infra.timeline import bars, gap_of

Document = Mapping[str, Any]


def page_of(document: Document) -> dict[str, Any]:
    """`{call, entries, bars, gaps, cuts}`: entries in the order in which they were said; `bars` are
    `[turn, stage, from_s, to_s]`, `gaps` `[turn, from_s, to_s]`, `cuts` the moments of interruptions."""
    turns: Sequence[dict[str, Any]] = document["turns"]
    call, outcome = document["call"], document.get("outcome")
    gaps = [(turn["turn"], gap) for turn in turns if (gap := gap_of(turn["times"])) is not None]
    return {
        "call": {
            "id": call["id"],
            "caller": call["caller"],
            "called": call["called"],
            "way": call["line"],
            "persona": call["persona"],
            "began": call["started_at"],
            "duration_s": call["duration_s"],
            "outcome": outcome["outcome"] if outcome else "unfinished",
            "reason": outcome["reason"] if outcome else "no end was recorded",
        },
        "entries": entries_of(document),
        "bars": [
            [turn["turn"], bar.lane, round(bar.start_s, 3), round(bar.end_s, 3)]
            for turn in turns
            for bar in bars([turn])
        ],
        "gaps": [[turn, round(gap.start_s, 3), round(gap.end_s, 3)] for turn, gap in gaps],
        "cuts": [
            round(turn["agent_done_s"], 3)
            for turn in turns
            if turn["interrupted"] and turn["agent_done_s"] is not None
        ],
    }


def entries_of(document: Document) -> list[dict[str, Any]]:
    """As `infra.console.live.Entry` shows them, with `turn`, and `play_s`: where to listen from."""
    entries = [*_spoken(document["turns"], document.get("utterances") or ()), *_beside(document)]
    entries.sort(key=lambda entry: entry["at_s"])
    return [{"number": number, **entry} for number, entry in enumerate(entries)]


def _spoken(
    turns: Sequence[dict[str, Any]], utterances: Sequence[Mapping[str, float]]
) -> Iterator[dict[str, Any]]:
    after_s = -1.0
    for turn in turns:
        times: Mapping[str, Any] = turn["times"]
        number = turn["turn"]
        asked_s = turn["caller_at_s"]
        if turn["caller"] and asked_s is not None:
            own = [u["start_s"] for u in utterances if after_s < u["start_s"] <= asked_s]
            start_s = min(own, default=max(0.0, asked_s - 3.0))
            after_s = asked_s
            yield _entry("caller", start_s, turn["caller"], number)
        if not (turn["agent"] or turn["heard"]):
            continue
        start_s = times.get("first_played_s")
        if start_s is None:
            clauses = turn["clauses"]
            start_s = clauses[0]["at_s"] if clauses else (asked_s or 0.0)
        heard, lost = heard_and_lost(turn["agent"], turn["heard"], interrupted=turn["interrupted"])
        stages = times.get("stages") or {}
        yield _entry("agent", start_s, heard, number) | {
            "lost": lost,
            "interrupted": turn["interrupted"],
            "stages": stages,
            "latency_ms": latency_of(stages, times.get("speech_end_s"), times.get("first_played_s")),
        }


def _beside(document: Document) -> Iterator[dict[str, Any]]:
    for tool in document.get("tools") or ():
        told = ", ".join(f"{name} = {value}" for name, value in (tool["arguments"] or {}).items())
        text = f"{tool['name'] or 'no tool'}({told}): {tool['outcome']} after {tool['seconds']:.1f} s"
        yield _entry("tool", tool["at_s"], text)
    for keys in document.get("entered") or ():
        yield _entry("keys", keys["at_s"], keys["digits"])
    for message in document.get("messages") or ():
        text = f"Message from {message['name']} ({message['number']}): {message['text']}"
        yield _entry("note", message["at_s"], text)
    if (passed := document.get("transferred")) is not None:
        yield _entry("note", passed["at_s"], f"Passed on to {passed['name']}")
    for pause in document.get("pauses") or ():
        yield _entry("note", pause["from_s"], "Recording paused")
        if pause["to_s"] is not None:
            yield _entry("note", pause["to_s"], "Recording goes on")
    for fault in document.get("faults") or ():
        yield _entry("note", fault["at_s"], f"Fault: {fault['where']}: {fault['detail']}")


def _entry(who: str, at_s: float, text: str, turn: int = -1) -> dict[str, Any]:
    return {"who": who, "at_s": round(at_s, 3), "text": text, "turn": turn}


def transcript_text(page: Mapping[str, Any]) -> str:
    """To read, and to pass on: one line for each thing that was said."""
    call = page["call"]
    lines = [
        f"Call {call['id']}, {call['began']}",
        f"{call['caller'] or 'unknown'} called {call['called'] or 'unknown'} ({call['way']}), "
        f"persona {call['persona']}",
        f"{call['outcome']}: {call['reason']}",
        "",
    ]
    names = {"caller": "Caller", "agent": "Agent", "keys": "Keys", "tool": "Tool", "note": "Note"}
    for entry in page["entries"]:
        minutes, seconds = divmod(int(entry["at_s"]), 60)
        lost = f" [not heard: {entry['lost']}]" if entry.get("lost") else ""
        text = " ".join(entry["text"].split())
        lines.append(f"[{minutes}:{seconds:02}] {names[entry['who']]}: {text}{lost}")
    return "\n".join(lines) + "\n"
