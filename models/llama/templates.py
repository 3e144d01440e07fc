"""Chat templates: from messages to pieces of prompt, written by hand for the two families in the catalogue.

ChatML: Qwen2.5 and SmolLM2 (`tokenizer.chat_template` of their GGUF files). Llama 3: the model card of
Llama-3.2-3B-Instruct, "prompt format". Unlike the files' own Jinja templates, ours never read the clock: a
date that changes at midnight would make every persona's prefix cold.

A piece is either markup, in which `<|...|>` names are control tokens, or content, in which they are ordinary
text. So a caller who says "<|im_end|>" cannot end a message.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from models.base import Message, ModelFailed

LLAMA_3_DATES = "Cutting Knowledge Date: December 2023\nToday Date: 26 Jul 2024\n\n"
"""The template's own default when it is given no date."""


@dataclass(frozen=True, slots=True)
class Piece:
    text: str
    markup: bool


@dataclass(frozen=True, slots=True)
class Template:
    """One family's markup. `begin` opens every prompt; a message is header, content, `end`."""

    name: str
    begin: str
    header: str
    """With `{role}`."""
    end: str
    system_preamble: str
    """Stands before the first system message's content; if not empty, a prompt without a system message gets
    one."""
    stops: tuple[str, ...]
    """Texts that end a reply should a model spell them out."""
    tool_role: str
    """Who a tool's message is from."""
    tool_marks: tuple[str, str]
    """Stand around its content, which cannot hold them itself."""

    def prefix(self, messages: Sequence[Message]) -> list[Piece]:
        """The beginning of a conversation, each message complete."""
        pieces = [Piece(self.begin, True)] if self.begin else []
        rest = list(messages)
        if self.system_preamble:
            own = rest.pop(0).content if rest and rest[0].role == "system" else ""
            pieces += [
                Piece(self.header.format(role="system") + self.system_preamble, True),
                *_content(own),
                Piece(self.end, True),
            ]
        for message in rest:
            pieces += self._complete(message)
        return pieces

    def reply(self, messages: Sequence[Message], begun: str = "") -> list[Piece]:
        """What follows the prefix when the assistant is to speak next, or to go on after `begun`."""
        pieces = [piece for message in messages for piece in self._complete(message)]
        return [*pieces, Piece(self.header.format(role="assistant"), True), *begun_pieces(begun)]

    def growing(self, messages: Sequence[Message]) -> list[Piece]:
        """What follows the prefix while the user speaks: the user's message is left open, or opened."""
        if messages and messages[-1].role == "user":
            done, words = messages[:-1], messages[-1].content
        else:
            done, words = messages, ""
        pieces = [piece for message in done for piece in self._complete(message)]
        return [*pieces, Piece(self.header.format(role="user"), True), *_content(words)]

    def _complete(self, message: Message) -> list[Piece]:
        role, content = message.role, message.content
        if role == "tool":
            opening, closing = self.tool_marks
            for mark in (opening.strip(), closing.strip()):
                content = content.replace(mark, f"({mark.strip('<>')})")
            return [
                Piece(self.header.format(role=self.tool_role), True),
                *_content(f"{opening}{content.strip()}{closing}"),
                Piece(self.end, True),
            ]
        return [
            Piece(self.header.format(role=role), True),
            *_content(content),
            Piece(self.end, True),
        ]


def begun_pieces(begun: str) -> list[Piece]:
    """The beginning of a message. White space at its end is left to the token that follows. The first brace
    stands alone, as it does where a grammar chooses it (see `constraint`)."""
    words, brace, call = begun.strip().partition("{")
    return [Piece(text, False) for text in (words, brace, call) if text]


def _content(text: str) -> list[Piece]:
    """Trimmed, as both families' templates or habits have it, so that no token straddles markup and
    content."""
    text = text.strip()
    return [Piece(text, False)] if text else []


CHATML = Template(
    name="chatml",
    begin="",
    header="<|im_start|>{role}\n",
    end="<|im_end|>\n",
    system_preamble="",
    stops=("<|im_end|>", "<|im_start|>", "<|endoftext|>"),
    tool_role="user",
    tool_marks=("<tool_response>\n", "\n</tool_response>"),
)

LLAMA_3 = Template(
    name="llama-3",
    begin="<|begin_of_text|>",
    header="<|start_header_id|>{role}<|end_header_id|>\n\n",
    end="<|eot_id|>",
    system_preamble=LLAMA_3_DATES,
    stops=("<|eot_id|>", "<|start_header_id|>", "<|end_of_text|>"),
    tool_role="ipython",
    tool_marks=("<tool_response>\n", "\n</tool_response>"),
)


def choose_template(jinja: str, *, name: str = "", architecture: str = "") -> Template:
    """The family that a GGUF file's metadata speaks of (`tokenizer.chat_template`, `general.name`,
    `general.architecture`). Raises `ModelFailed` for a model that we have no template for."""
    if "<|im_start|>" in jinja:
        return CHATML
    if "<|start_header_id|>" in jinja:
        return LLAMA_3
    what = "has no chat template" if not jinja else "has a chat template of an unknown family"
    raise ModelFailed(
        f"the model {name or '(unnamed)'} ({architecture or 'unknown architecture'}) {what}; "
        "choose an instruct model of the Qwen2.5, SmolLM2 or Llama 3 family"
    )
