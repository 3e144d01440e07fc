"""What the agent says in one go, a reply or a stock phrase: its clauses, and what of them was heard. Pure."""

from collections.abc import Callable, Sequence

from pipeline.audible import first_audible
from pipeline.conversation import SpokenClause
from pipeline.heard import heard_words, written_word_spans
from pipeline.line import Pcm
from pipeline.playout import HeardClause

WordSpans = Callable[[SpokenClause], Sequence[tuple[float, float]]]
"""When each voiced word of a clause begins and ends in its sound, in seconds; empty where nobody knows."""


class Passage:
    """`begin_clause` and `made` as it is made, `newly_heard` as it is played, `heard` once it is over.
    `heard_before`: of a reply that was lost in its middle, the clauses that the caller had heard."""

    def __init__(self, heard_before: str = "") -> None:
        self.clauses: list[SpokenClause] = []
        self.audible_at: int | None = None
        """Position of its first audible sample."""
        self._before = heard_before
        self._samples = 0
        self._told = 0

    def begin_clause(self, clause: SpokenClause) -> None:
        self.clauses.append(clause)

    def made(self, pcm: Pcm) -> None:
        """(n,) int16, the passage's next samples."""
        if self.audible_at is not None:
            return
        found = first_audible(pcm)
        if found is not None:
            self.audible_at = self._samples + found
        self._samples += pcm.size

    def newly_heard(self, clauses: int) -> int:
        """How many of its first `clauses`, which were heard to their end, were not counted yet."""
        new, self._told = max(0, clauses - self._told), max(clauses, self._told)
        return new

    @property
    def text(self) -> str:
        """All of its words, as written, heard or not."""
        return self.behind_before(" ".join(clause.text for clause in self.clauses if clause.text))

    def heard(
        self, parts: Sequence[HeardClause] | None, word_spans: WordSpans
    ) -> list[tuple[SpokenClause, str]]:
        """Each clause with its words that were heard. `parts` says how much of each was; None: all of it."""
        if parts is None:
            return [(clause, clause.text) for clause in self.clauses]
        return [
            (clause, _words_of(clause, part, word_spans(clause)))
            for clause, part in zip(self.clauses, parts, strict=True)
        ]

    def behind_before(self, words: str) -> str:
        return f"{self._before} {words}".strip()


def _words_of(clause: SpokenClause, part: HeardClause, spans_s: Sequence[tuple[float, float]]) -> str:
    return heard_words(
        part.text,
        part.samples,
        part.heard_samples,
        complete=part.complete,
        word_spans=written_word_spans(part.text, clause.words, spans_s) if spans_s else None,
    )
