import numpy as np

from models.base import AgentSpeech, CallerSpeech, Speech
from models.csm.context import Said, Segment
from models.csm.remembered import MOST_CODEC_FRAMES, ContextKind, Remembered

SOUND = np.full(8_000, 0.1, np.float32)
CODES = np.full((3, 32), 5, np.int32)


def remembered(kind: ContextKind = "audio", shared: dict[str, list[Said]] | None = None) -> Remembered:
    return Remembered(shared or {}, kind, 0, 1)


def shown(segments: list[Segment]) -> list[tuple[int, str, int]]:
    return [(s.speaker, s.text, 0 if s.codes is None else len(s.codes)) for s in segments]


def speak(memory: Remembered, key: str, text: str, n: int) -> Said:
    said = memory.begin(key, text)
    for _ in range(n):
        said.add(np.full(32, 9, np.int32))
    return said


def test_both_sides_with_their_sound() -> None:
    memory = remembered()
    speak(memory, "a", "Yes.", 4)
    context = (CallerSpeech("c", " Open\nnow? ", SOUND), AgentSpeech("a", "Yes."))
    assert [speech.key for speech in memory.to_encode(context)] == ["c"]
    memory.asked("c")
    assert memory.to_encode(context) == [] and memory.on_their_way(context) == ["c"]
    assert shown(memory.segments(context)) == [], "nothing after what is still on its way"
    memory.encoded("c", CODES)
    assert memory.on_their_way(context) == []
    assert shown(memory.segments(context)) == [(1, "Open now?", 3), (0, "Yes.", 4)]


def test_codes_that_came_too_late_wait_for_a_rebuild() -> None:
    memory = remembered()
    context = (CallerSpeech("c", "Well.", SOUND),)
    memory.asked("c")
    memory.settle(context)
    assert shown(memory.segments(context)) == [(1, "Well.", 0)]
    assert not memory.unsettle(), "they are not there yet"
    memory.encoded("c", CODES)
    assert shown(memory.segments(context)) == [(1, "Well.", 0)]
    assert memory.unsettle()
    assert shown(memory.segments(context)) == [(1, "Well.", 3)]


def test_speech_that_cannot_be_encoded_is_words_and_is_not_asked_again() -> None:
    memory = remembered()
    context = (CallerSpeech("c", "Well.", SOUND),)
    memory.asked("c")
    memory.encoded("c", None)
    assert memory.to_encode(context) == []
    assert shown(memory.segments(context)) == [(1, "Well.", 0)]


def test_a_very_long_turn_is_words_only() -> None:
    memory = remembered()
    half_a_minute = np.zeros(30 * 8_000, np.float32)
    assert len(memory.to_encode((CallerSpeech("c", "Well.", half_a_minute),))) == 1
    context = (CallerSpeech("d", "Well.", np.zeros(30 * 8_000 + 1, np.float32)),)
    assert memory.to_encode(context) == [] and memory.on_their_way(context) == []
    assert shown(memory.segments(context)) == [(1, "Well.", 0)]


def test_codes_of_an_abandoned_turn_are_forgotten() -> None:
    memory = remembered()
    memory.asked("c")
    memory.asked("d")
    assert memory.stale((CallerSpeech("d", "Well.", SOUND),)) == ["c"]
    memory.encoded("c", CODES)
    assert [speech.key for speech in memory.to_encode((CallerSpeech("c", "Well.", SOUND),))] == ["c"]


def test_sound_that_the_caller_no_longer_shows_is_still_known() -> None:
    memory = remembered()
    memory.asked("c")
    memory.encoded("c", CODES)
    assert shown(memory.segments((CallerSpeech("c", "Well.", None),))) == [(1, "Well.", 3)]


def test_unknown_utterances_and_wordless_ones() -> None:
    context: tuple[Speech, ...] = (
        AgentSpeech("unknown", "Hello  there."),
        AgentSpeech("unknown", " "),
        CallerSpeech("c", " "),
    )
    assert shown(remembered().segments(context)) == [(0, "Hello there.", 0)]


def test_shared_utterances_are_known_and_ones_own_come_first() -> None:
    shared = {"shared/x": [speak(remembered(), "", "Welcome.", 6)]}
    memory = remembered(shared=shared)
    context = (AgentSpeech("shared/x", "Welcome."),)
    assert shown(memory.segments(context)) == [(0, "Welcome.", 6)]
    assert shown(memory.segments(context, prompt_key="shared/x")) == []
    speak(memory, "shared/x", "Welcome.", 2)
    assert shown(memory.segments(context)) == [(0, "Welcome.", 2)]


def test_an_utterance_spoken_anew_replaces_the_old() -> None:
    memory = remembered()
    speak(memory, "a", "Yes.", 4)
    memory.forget("a")
    speak(memory, "a", "Yes.", 2)
    assert shown(memory.segments((AgentSpeech("a", "Yes."),))) == [(0, "Yes.", 2)]


def test_words_only_and_nothing() -> None:
    context = (CallerSpeech("c", "Well.", SOUND), AgentSpeech("a", "Yes", heard_s=0.1))
    words = [(1, "Well.", 0), (0, "Yes", 0)]
    kinds: tuple[ContextKind, ...] = ("text", "nothing")
    for kind, expected in zip(kinds, (words, []), strict=True):
        memory = remembered(kind)
        part = speak(memory, "a", "Yes.", 4)
        assert memory.to_encode(context) == []
        assert shown(memory.segments(context)) == expected
        assert shown(memory.just_said([part])) == ([(0, "Yes.", 0)] if kind == "text" else [])
    assert shown(remembered().just_said([part])) == [(0, "Yes.", 4)]


def test_a_long_call_takes_bounded_memory() -> None:
    memory = remembered()
    for n in range(60):
        speak(memory, f"a/{n}", "Yes.", 200)
        memory.asked(f"c/{n}")
        memory.encoded(f"c/{n}", np.zeros((200, 32), np.int32))
        memory.prune()
    most = MOST_CODEC_FRAMES // 200
    assert len(memory.parts("a/59")) == 1 and memory.parts(f"a/{59 - most}") == ()
    assert len(memory.parts(f"a/{60 - most}")) == 1, "and no more is let go than must be"
    late, early = CallerSpeech("c/59", "x", SOUND), CallerSpeech("c/0", "x", SOUND)
    assert shown(memory.segments((early, late))) == [(1, "x", 0), (1, "x", 200)]
    assert memory.to_encode((early, late)) == [], "what was let go is not encoded again"
