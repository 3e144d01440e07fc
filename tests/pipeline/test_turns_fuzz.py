"""Any conversation at all: what the turn-taking core promises whatever people and models do."""

from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.line import LINE_RATE_HZ
from pipeline.turn_events import (
    CancelReply,
    CommitTurn,
    DropAttempt,
    HangUp,
    PlayedOut,
    ReplyAudible,
    RetractTurn,
    SpeakStock,
    StartReply,
    Transcribe,
    Transcribed,
    TurnAction,
    TurnEvent,
)
from pipeline.turns import State
from tests.pipeline.conversations import WINDOW_S, Conversation

WHISPER_WINDOW_S = 30


@dataclass(frozen=True)
class Stretch:
    """What the caller does next, and how the models fare meanwhile. Seconds."""

    loud: bool
    lasts_s: float
    words: str
    transcribing_s: float
    answering_s: float
    reply_s: float


STRETCHES = st.lists(
    st.builds(
        Stretch,
        loud=st.booleans(),
        lasts_s=st.sampled_from([0.1, 0.2, 0.4, 1.0, 3.0, 11.0, 17.0, 27.0]),
        words=st.sampled_from(["", "words", "words"]),
        transcribing_s=st.sampled_from([0.1, 0.3, 1.0, 3.0, 9.0]),
        answering_s=st.sampled_from([0.1, 1.0, 5.0, 15.0, 100.0]),
        reply_s=st.sampled_from([0.3, 3.0]),
    ),
    max_size=12,
)


@dataclass
class Shell:
    """Obeys the core, answers it after the stretch's latencies, and checks every action."""

    talk: Conversation = field(default_factory=lambda: Conversation().greeted())
    due: list[tuple[float, TurnEvent]] = field(default_factory=list)
    asked: set[int] = field(default_factory=set)
    committed: list[CommitTurn] = field(default_factory=list)
    forgotten: int = 0
    """The caller's audio before this sample is gone."""
    over: bool = False

    def live(self, stretch: Stretch) -> None:
        probability = 0.95 if stretch.loud else 0.02
        for _ in range(max(1, round(stretch.lasts_s / WINDOW_S))):
            if self.over:
                return
            self.obey(self.talk.hear(WINDOW_S, probability), stretch)
            self.forgotten = max(self.forgotten, self.talk.core.oldest_needed_sample())
            while not self.over and (ready := [entry for entry in self.due if entry[0] <= self.talk.now]):
                self.due.remove(ready[0])
                self.obey(self.talk.tell(ready[0][1]), stretch)

    def obey(self, actions: Iterable[TurnAction], stretch: Stretch) -> None:
        for action in actions:
            assert not self.over, f"{action} after the hang-up"
            match action:
                case Transcribe(attempt, start, end):
                    assert 0 < end - start <= WHISPER_WINDOW_S * LINE_RATE_HZ
                    assert self.forgotten <= start
                    assert end <= self.talk.sample
                    self.asked.add(attempt)
                    self.later(stretch.transcribing_s, Transcribed(attempt, stretch.words))
                case StartReply(attempt, text):
                    assert attempt in self.asked
                    assert text
                case CommitTurn(attempt, text):
                    assert attempt in self.asked
                    assert text
                    self.committed.append(action)
                    self.later(stretch.answering_s, ReplyAudible())
                    self.later(stretch.answering_s + stretch.reply_s, PlayedOut())
                case DropAttempt(attempt):
                    self.due = [(at, e) for at, e in self.due if getattr(e, "attempt", None) != attempt]
                case RetractTurn():
                    self.committed.pop()
                    self.forget(ReplyAudible, PlayedOut)
                case CancelReply():
                    self.forget(ReplyAudible, PlayedOut)
                case SpeakStock():
                    self.later(1.0, PlayedOut())
                case HangUp():
                    self.over = True

    def later(self, delay_s: float, event: TurnEvent) -> None:
        self.due.append((self.talk.now + delay_s, event))

    def forget(self, *kinds: type) -> None:
        self.due = [entry for entry in self.due if not isinstance(entry[1], kinds)]


@settings(max_examples=60, deadline=None)
@given(STRETCHES)
def test_what_is_transcribed_is_held_and_fits_the_transcriber(stretches: list[Stretch]) -> None:
    """Every span is above 0 s and within Whisper's window, no span lies in audio already forgotten, and
    nothing follows the hang-up."""
    shell = Shell()
    for stretch in stretches:
        shell.live(stretch)


@settings(max_examples=60, deadline=None)
@given(STRETCHES)
def test_no_conversation_is_stuck(stretches: list[Stretch]) -> None:
    """Whatever came before, in the silence after it the floor becomes free or the call ends."""
    shell = Shell()
    for stretch in stretches:
        shell.live(stretch)
    shell.live(Stretch(False, 60.0, "words", 0.1, 0.1, 0.3))
    assert shell.talk.core.state in (State.LISTENING, State.ENDED)
