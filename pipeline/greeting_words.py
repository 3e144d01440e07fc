"""What the words of a greeting say about who speaks it: somebody, or a machine? English. Pure.

A cue is a phrase that one or the other says. Its weight was guessed first, then fitted to what Whisper base
heard of the tuning part of `bench.greetings`, cut off after 1.0 to 2.2 s or at a pause: logistic regression,
each of the 180 sentences weighing the same, with a ridge towards the guess. So a phrase that is rare there
keeps its guess. With whole sentences left out of the fit (the cues were written with all in sight), 91 % of
those greetings are judged right at 2.2 s. What is judged wrong is mostly "Thank you for calling Riverside
Dental": people at work and machines both say it, and for two seconds nothing else.
"""

import re
from dataclasses import dataclass
from typing import Final

_PRIOR: Final = -0.6
_STOPPED: Final = 1.0
"""For an opening with a pause behind it. People at work say it in one breath with their name or an offer."""
_OPENING: Final = re.compile(
    r"(thank you|thanks) for (c|call|your call|phon)|\bwelcome to\b"
    r"|\breached\b|\byou('ve| have)? (called|dialed|got)\b"
)


@dataclass(frozen=True, slots=True)
class _Cue:
    odds: float
    """Log odds of a machine, once for a greeting that holds the phrase."""
    phrase: re.Pattern[str]


def _cue(odds: float, *phrases: str) -> _Cue:
    return _Cue(odds, re.compile("|".join(phrases)))


_CUES: Final = (
    # What machines say
    _cue(
        3.4,
        # "The voice": what is left of a voicemail on a bad line.
        r"voice ?-?mail|mail ?box|answering machine|voice (message|service|system)|message system",
        r"\bthe voice\b",
    ),
    _cue(2.7, r"automat|virtual"),
    _cue(3.0, r"(after|at|until|for|hear) the (tone|beep|signal)|\bbeep\b|finished recording"),
    _cue(
        3.0,
        r"\bleave (me |us )?(a|your|my)\b|\bleave (me|us)\b|record (a|your)\b|leave .{0,12}message",
        r"\btext me\b|send (me )?an? (text|email)",
    ),
    _cue(
        2.3,
        r"(can'?t|cannot|can not|unable to|not able to|could not|couldn't) "
        r"(be |come|take|answer|get|pick|reach)",
    ),
    _cue(
        2.2,
        r"\bnot (here|in|home|around|at home|available|able)\b|\b(i'm|i am|we're|we are) not\W*$|unavailable",
        r"\b(away|out) from|away from|\b(no ?body|no one)('s| is)|on (the other|another) (line|call)",
        r"\beither (on|with|away|in|a)\b|can'?t talk|on vacation|out of (the |my )?(office|town)",
        r"with a client|are out\b",
        r"missed (you|your call)",
    ),
    _cue(2.0, r"get back to|return your call|(call|ring|phone) you (back|when|later|as)|as soon as"),
    _cue(
        3.4,
        r"(has|have) been (forwarded|transferred|disconnected|changed)|switched off|out of range|in service",
        r"circuits",
        r"\b(person|number|party|customer|subscriber|mobile|extension|caller)s?\b.{0,6}"
        r"\b(you|is|being|cannot|can't|has|at|belong)|subscriber|dialed",
    ),
    _cue(
        2.3,
        r"\breached\b|^\W*(you|we|i)?\W*('ve |have )?reach|\byou('ve| have)? (called|dialed|got)\b",
        r"you(('ve| have) come|'re| are) (calling|connected)",
    ),
    _cue(
        2.8,
        r"\bclosed?\b (today|for|on|until|at|now|$)|\bclosed\b|current(ly)? close|holidays",
        r"(opening|business|office|after) (hours|times)|outside (of )?(our|office|business)",
        r"we('re| are) open\b|open (again|monday|from)",
    ),
    _cue(
        2.9,
        r"press (one|two|three|\d|zero|nine)|menu|following|option|extension|\bdial\b|listen (care|to)",
        r"stay on the line|\bfor (sales|english|service|support|opening|directions|billing|emergenc)",
        r"^to (make|speak|reach|leave|hear)\b",
    ),
    _cue(
        2.4,
        r"your call (is|has|will|may|cannot|can't|can not|was)|\b(this|your|all) calls? (may|is|are|will|to)",
        r"recorded|calls to",
    ),
    _cue(
        3.1,
        r"(agents?|lines?|circuits?|representatives?|call volume).{0,12}(busy|are|high)|next available",
        r"in the queue|\ball (our|lines|circuits|agents|of)\b|due to|patience|shortly|somebody will",
        r"hold (the line|for the)|(you|thank you) for (holding|waiting)",
    ),
    _cue(2.2, r"\bif (you|this is(n't)? an?|it is urgent|you're)\b|in an emergency"),
    _cue(
        2.0,
        r"(make|book) (an?|your) |appointment, (say|press)|\bonline\b|web ?site|information line|visit us",
    ),
    _cue(1.0, r"\bmessages?\b"),
    _cue(1.8, r"sorry (we|i missed)|we('re| are) sorry|unfortunately"),
    _cue(0.2, r"right now|at the moment|at this time|currently|just now"),
    _cue(1.4, r"\bplease\b"),
    _cue(0.6, r"(thank you|thanks) for (c|call|your call|phon)"),
    _cue(1.6, r"\bwelcome to\b"),
    _cue(0.7, r"^(the|all|at|due to|for|before|calls?)\b"),
    _cue(
        1.7,
        r"^((hi|hey|hello)\W*)?(this|it)\b.{0,30}[a-z][.,]? (i|i'm|i am|you know|leave|we|we're)\b",
        r"^(hi|hey|hello)?\W*(i am|i'm)\b",
    ),
    _cue(1.6, r"^(hi|hey|hello)?\W*(it's|it is|you got) (?!a\b|the\b|is\b)[a-z]"),
    _cue(2.6, r"\d{3}|(\b(one|two|three|four|five|six|seven|eight|nine|zero|oh)\b\W*){3}"),
    _cue(1.3, r"\bfamily\b"),
    _cue(0.2, r"\b(our|we|we're|us)\b"),
    # What people say
    _cue(
        -3.1,
        r"how (can|may|could|do|shall|would) (i|we)|(can|may|could) i\b|what (can|could|may) (i|we)|help you",
        r"go ahead|how (can|may)\b|what do you",
    ),
    _cue(-2.9, r"(?<!to )\bspeak(s|ing)?\W*$|\bspe?aking|\bseeking\W*$|(?<!stay )\bon the (phone|line)\b"),
    _cue(-2.3, r"^(?!(hi|hey|hello)?\W*(this is|i'm|i am)).{9,}\b(this is|i'm [a-z]+\W*$|my name)"),
    _cue(-0.4, r"\b[a-z]+ here\W*$"),
    _cue(-1.1, r"\?"),
    _cue(-2.0, r"\bwho('s| is| are| am| do)?\b(?! you are\b)|what (is|are) (this|it)|what's (this|it|up)"),
    _cue(-1.0, r"good (morning|afternoon|evening|day)|(great|beautiful|wonderful|lovely) day"),
    _cue(-1.2, r"^(hello|yes|yeah|hi|hey|speak|talk)\b.{0,8}$"),
    _cue(-2.6, r"\b(one|a) (moment|second|minute|sec)\b|hold on|(can|could|would) you\b"),
    _cue(
        -1.5,
        r"(?<!for )\b(reception|desk|department|customer service|accounts|sales|offices?|residence)\b"
        r"\W*(this|[a-z]+ (speaking|here)|good|how|$)|^\W*(reception|front desk|dr\.? |doctor )",
    ),
    _cue(-2.7, r"^(yes|yeah|okay|no|oh|ah|um)\b|not interested|no thank"),
    _cue(-2.0, r"\b(are you|is this|is it|do you|did you)\b"),
)


def machine_log_odds(text: str, *, paused: bool) -> float:
    """Log odds that a machine says `text`, the words of a greeting so far; `paused` when it has paused
    already. An empty text gives the odds before anything is known."""
    words = text.lower().strip()
    stopped = paused and _OPENING.search(words) is not None
    return _PRIOR + _STOPPED * stopped + sum(cue.odds for cue in _CUES if cue.phrase.search(words))


def opening(text: str) -> bool:
    """Whether `text` says who has been called, as machines and people at work do: "Thank you for calling"."""
    return _OPENING.search(text.lower()) is not None
