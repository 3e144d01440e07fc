"""Guessing a reply's next tokens from what was said before, so that one pass through the model settles
several.

Replies copy: facts and stock sentences of the prompt, the caller's words, earlier answers. Where the last
tokens stood before, what followed them there is a good guess at what follows now. The guesses pass through
the model together with the token that they follow, and count only as far as the model, asked after each of
them, chooses the same: so a reply's text is what it would be without them (prompt lookup; the idea is in
arXiv 2304.04487). Pure: tokens in, tokens out.
"""

from collections.abc import Callable, Sequence

DRAFT_ROWS = 4
"""What decoding replies leave free of a pass of so many tokens is filled with guesses. On 2 cores with
AVX-512 a pass through Qwen2.5-1.5B Q4_K_M took, with 1, 2, 3, 4, 5, 6 and 8 tokens, 101, 134, 162, 145, 177,
207 and 250 ms (llama.cpp's kernels take rows by fours), whether of one call or of several; through
SmolLM2-135M Q4_1 46, 58, 66, 78, 88, 97 and 119. So three guesses pay where the first is right every second
time."""
CROWD_ROWS = 16
"""The same where more than `DRAFT_ROWS` replies are decoded. On another such machine a pass with 4, 8,
12 and 16 tokens took 139, 237, 320 and 281 ms: sixteen rows have a kernel of their own, and the eight beside
those of eight calls cost 18 %. With these guesses, 52 to 62 % of them right, eight calls at once wrote 18 %
more tokens per second of CPU time; as Q8_0, which has no such kernel (262 ms for 8 rows, 430 for 16), as many
as without."""
_SHORTEST, _LONGEST = 2, 3
"""Tokens that must have stood together before; the shortest, always before the same token. In 96 of Qwen's
answers to the demo persona's callers 85 % of such guesses were right, 82 % without that condition, and 52 %
where one equal token was enough; these took as many passes or more."""


def draft(tokens: Sequence[int], most: int, ends: Callable[[int], bool]) -> list[int]:
    """At most `most` tokens that may follow `tokens`: those that followed where its last three stood last, or
    else its last two, before the first that `ends` a reply. Empty where its last two tokens never stood
    together, or not always before the same."""
    if most < 1 or len(tokens) < _SHORTEST:
        return []
    final = len(tokens) - 1
    matched = at = 0
    followers: set[int] = set()
    found = _next(tokens, tokens[final], 0, final)
    while found is not None:
        length = 1
        while length < _LONGEST and length <= found and tokens[found - length] == tokens[final - length]:
            length += 1
        if length >= max(matched, _SHORTEST):
            matched, at = length, found + 1
            followers.add(tokens[at])
        found = _next(tokens, tokens[final], found + 1, final)
    if not matched or (matched == _SHORTEST and len(followers) > 1):
        return []
    guesses: list[int] = []
    for token in tokens[at : at + most]:
        if ends(token):
            break
        guesses.append(token)
    return guesses


def _next(tokens: Sequence[int], token: int, start: int, stop: int) -> int | None:
    try:
        return tokens.index(token, start, stop)
    except ValueError:
        return None
