"""Text for CSM: Llama 3.2's tokenizer, and the words around every utterance.

Sesame's `generator.py` (2025-03-27) gives `[speaker]text`, without a space, between one BOS and one EOS.
Without them utterances end at random (huggingface/transformers pull request 45525), and a post-processor may
add either, both or none of them: what it adds is never used.
"""

import base64
import binascii
import json
import logging
from pathlib import Path
from typing import Any

from models.base import ModelError, ModelMissing

BOS, EOS = 128_000, 128_001
VOCABULARY = 128_256

_BASE_TOKENS = 128_000
_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Llama 3 cuts text before it merges bytes (meta-llama/llama-models, `tokenizer.py`)."""
_NAMED = {
    0: "<|begin_of_text|>",
    1: "<|end_of_text|>",
    4: "<|finetune_right_pad_id|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    8: "<|eom_id|>",
    9: "<|eot_id|>",
    10: "<|python_tag|>",
}
"""Llama 3.2's special tokens from 128,000 on; the others are reserved."""
_PROBE = ("Hello world", [9906, 1917])
_BYTES_ONLY = 258

log = logging.getLogger(__name__)


class TextTokenizer:
    """Words to the token ids of one utterance. May be used by several threads."""

    def __init__(self, tokenizer: Any) -> None:
        """`tokenizer` is a `tokenizers.Tokenizer` with Llama 3.2's vocabulary; see `open`."""
        # A caller's or a language model's "<|end_of_text|>" is text like any other.
        tokenizer.encode_special_tokens = True
        self._tokenizer = tokenizer

    @staticmethod
    def open(path: Path) -> "TextTokenizer":
        """Read `tokenizer.json`, or `tokenizer.model` (Llama 3's own format), or the one of them that the
        folder `path` holds. Blocks for about a second. Raises `ModelMissing` when there is none or it cannot
        be read, `ModelError` for another model's vocabulary."""
        path = _find(path)
        try:
            raw = _from_ranks(path) if path.suffix == ".model" else _from_json(path)
        except ImportError as error:
            raise ModelMissing("The package tokenizers is missing: pip install 'maya-voice[csm]'.") from error
        except Exception as error:
            raise ModelMissing(f"{path} cannot be read as a tokenizer ({error}): fetch it again.") from error
        _check(raw, path)
        return TextTokenizer(raw)

    def encode(self, speaker: int, text: str) -> list[int]:
        """Exactly one BOS, the tokens of `[speaker]text`, exactly one EOS."""
        words = self._tokenizer.encode(f"[{speaker}]{text}", add_special_tokens=False).ids
        return [BOS, *words, EOS]


def _find(path: Path) -> Path:
    if path.is_dir():
        for name in ("tokenizer.json", "tokenizer.model"):
            if (path / name).is_file():
                return path / name
        raise ModelMissing(f"{path} holds neither tokenizer.json nor tokenizer.model (Llama 3.2's).")
    if not path.is_file():
        raise ModelMissing(
            f"{path} is missing: it should be Llama 3.2's tokenizer.json or Llama 3's tokenizer.model."
        )
    return path


def _from_json(path: Path) -> Any:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(path))


def _from_ranks(path: Path) -> Any:
    """Llama 3's `tokenizer.model` is tiktoken's format: a line for each token, its bytes in base64 and its
    rank. tiktoken merges the pair whose union ranks lowest, so every split of a token into two tokens is a
    merge of that token's rank."""
    from tokenizers import Regex as Pattern
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers

    ranks = _read_ranks(path)
    letters = _byte_letters()
    vocabulary = {"".join(letters[byte] for byte in token): rank for token, rank in ranks.items()}
    merges = []
    for token in sorted(ranks, key=ranks.__getitem__):
        cuts = [(token[:at], token[at:]) for at in range(1, len(token))]
        known = [(left, right) for left, right in cuts if left in ranks and right in ranks]
        known.sort(key=lambda cut: (ranks[cut[0]], ranks[cut[1]]))
        merges += [
            ("".join(letters[byte] for byte in left), "".join(letters[byte] for byte in right))
            for left, right in known
        ]
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=merges, ignore_merges=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Pattern(_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(_special_tokens())
    return tokenizer


def _read_ranks(path: Path) -> dict[bytes, int]:
    ranks: dict[bytes, int] = {}
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        try:
            token, rank = line.split()
            ranks[base64.b64decode(token, validate=True)] = int(rank)
        except (ValueError, binascii.Error) as error:
            raise ValueError(f"line {number} is not a token in base64 and its rank") from error
    if sorted(ranks.values()) != list(range(_BASE_TOKENS)):
        raise ValueError(f"{len(ranks):,} tokens instead of {_BASE_TOKENS:,}")
    return ranks


def _special_tokens() -> list[str]:
    reserved = iter(range(VOCABULARY - _BASE_TOKENS))
    return [
        _NAMED.get(place) or f"<|reserved_special_token_{next(reserved)}|>"
        for place in range(VOCABULARY - _BASE_TOKENS)
    ]


def _byte_letters() -> list[str]:
    """GPT-2's letters for the 256 bytes, in which `tokenizers` spells byte-level tokens: printable Latin-1
    stands for itself, the others follow from U+0100 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in printable else chr(next(others)) for byte in range(256)]


def _check(tokenizer: Any, path: Path) -> None:
    size = tokenizer.get_vocab_size(with_added_tokens=True)
    marks = [tokenizer.token_to_id(_NAMED[0]), tokenizer.token_to_id(_NAMED[1])]
    if marks != [BOS, EOS]:
        raise ModelError(
            f"{path} is another model's tokenizer: its BOS and EOS are {marks}, Llama 3.2's are {[BOS, EOS]}."
        )
    if size == _BYTES_ONLY:
        log.warning("%s knows bytes only: fit for random weights, not for a trained voice", path)
        return
    text, ids = _PROBE
    if size != VOCABULARY or tokenizer.encode(text, add_special_tokens=False).ids != ids:
        raise ModelError(
            f"{path} is another model's tokenizer ({size:,} tokens; Llama 3.2 has {VOCABULARY:,}):"
            " CSM needs the one of meta-llama/Llama-3.2-1B."
        )


def save_byte_tokenizer(path: Path) -> None:
    """Write a `tokenizer.json` of 256 bytes, BOS and EOS: enough for a model with random weights."""
    vocabulary = {letter: byte for byte, letter in enumerate(_byte_letters())}
    vocabulary |= {_NAMED[0]: BOS, _NAMED[1]: EOS}
    marks = [
        {"id": id_, "content": _NAMED[id_ - BOS], "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
        for id_ in (BOS, EOS)
    ]
    level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    document = {
        "version": "1.0",
        "added_tokens": marks,
        "pre_tokenizer": level,
        "decoder": level,
        "model": {"type": "BPE", "vocab": vocabulary, "merges": []},
    }
    path.write_text(json.dumps(document))
