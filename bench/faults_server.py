"""One front-end of `maya bench faults`: `maya serve` with stand-in models that answer at length, and by what
stands in the history.

Its voice says every word of these answers in tones of its own (`bench.word_tones`), so that they can be
found in the caller's audio. The first question gets `REPLY`, sentence by sentence; every later one is
answered by whether the history holds that reply, whole and once. Run with settings from the environment.
"""

import os
from collections.abc import Sequence

import infra.server
from bench.word_tones import WordBook, WordTones
from infra.logs import configure_logging
from infra.settings import Settings, load_settings
from models.base import Message, Models
from models.scripted import EnergyVoiceActivity, ScriptedChat, ScriptedTranscriber

SENTENCES = (
    "We open at nine in the morning on every weekday.",
    "At noon there is a break, which lasts for one hour.",
    "After that we are here until six in the evening.",
    "On Sundays and on holidays there is nobody here.",
)
REPLY = " ".join(SENTENCES)
REMEMBERS = "Yes, I remember all of that."
FORGOT = "I know nothing of that."
BOOK = WordBook(f"{REPLY} {REMEMBERS} {FORGOT}")


def answer(messages: Sequence[Message]) -> str:
    asked = sum(message.role == "user" for message in messages)
    if asked == 1:
        return REPLY
    told = [message.content for message in messages if message.role == "assistant"]
    return REMEMBERS if told and told[0] == REPLY else FORGOT


def stand_ins(settings: Settings) -> Models:
    return Models(
        transcriber=ScriptedTranscriber(lambda audio: "Tell me about your hours.", latency_s=0.1),
        chat=ScriptedChat(answer, prefill_s=0.1, first_token_s=0.2, tokens_per_s=25),
        synthesizer=WordTones(BOOK, latency_s=0.1, realtime_factor=0.2),
        voice_activity=EnergyVoiceActivity(),
    )


def main() -> None:
    settings = load_settings(os.environ)
    configure_logging(settings.log_level)
    infra.server.load = stand_ins  # type: ignore[attr-defined]
    infra.server.serve(settings)


if __name__ == "__main__":
    main()
