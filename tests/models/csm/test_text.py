import base64
import json
from itertools import pairwise
from pathlib import Path

import pytest
from tokenizers import Tokenizer

from models.base import ModelError, ModelMissing
from models.catalogue import LLAMA_3_TOKENIZER
from models.csm.text import BOS, EOS, TextTokenizer, save_byte_tokenizer
from models.store import Store


@pytest.fixture(scope="module")
def bytes_only(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    save_byte_tokenizer(path)
    return path


@pytest.fixture(scope="module")
def ranks_file() -> Path:
    return Store().path(LLAMA_3_TOKENIZER.name)


@pytest.fixture(scope="module")
def llama(ranks_file: Path) -> TextTokenizer:
    return TextTokenizer.open(ranks_file)


def test_an_utterance_has_one_beginning_and_one_end(bytes_only: Path) -> None:
    tokenizer = TextTokenizer.open(bytes_only)
    assert tokenizer.encode(0, "Hi é") == [BOS, *b"[0]Hi", *tokenizer.encode(0, " é")[4:-1], EOS]
    assert len(tokenizer.encode(12, "é")) == 2 + len("[12]") + 2
    assert tokenizer.encode(1, "") == [BOS, *tokenizer.encode(1, "")[1:-1], EOS]


def test_what_a_post_processor_adds_is_not_used(bytes_only: Path, tmp_path: Path) -> None:
    plain = TextTokenizer.open(bytes_only).encode(0, "Hi")
    document = json.loads(bytes_only.read_text())
    begin, end = "<|begin_of_text|>", "<|end_of_text|>"
    for single in ([begin, "A"], [begin, begin, "A", end]):
        document["post_processor"] = {
            "type": "TemplateProcessing",
            "single": [
                {"Sequence": {"id": "A", "type_id": 0}}
                if part == "A"
                else {"SpecialToken": {"id": part, "type_id": 0}}
                for part in single
            ],
            "pair": [{"Sequence": {"id": "A", "type_id": 0}}, {"Sequence": {"id": "B", "type_id": 1}}],
            "special_tokens": {
                name: {"id": name, "ids": [id_], "tokens": [name]} for name, id_ in ((begin, BOS), (end, EOS))
            },
        }
        path = tmp_path / "tokenizer.json"
        path.write_text(json.dumps(document))
        assert len(Tokenizer.from_file(str(path)).encode("Hi").ids) > 2
        assert TextTokenizer.open(path).encode(0, "Hi") == plain


def test_marks_in_a_text_are_only_text(bytes_only: Path) -> None:
    ids = TextTokenizer.open(bytes_only).encode(0, "a<|end_of_text|><|begin_of_text|>b")
    assert (ids.count(BOS), ids.count(EOS)) == (1, 1)


def test_another_vocabulary_is_refused(bytes_only: Path, tmp_path: Path) -> None:
    document = json.loads(bytes_only.read_text())
    for mark in document["added_tokens"]:
        mark["id"] -= 128_000 - 256
    document["model"]["vocab"] = {
        token: id_ if id_ < 256 else id_ - 128_000 + 256 for token, id_ in document["model"]["vocab"].items()
    }
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match=r"another model's.*\[256, 257\].*\[128000, 128001\]"):
        TextTokenizer.open(path)


def test_a_vocabulary_of_another_size_is_refused(bytes_only: Path, tmp_path: Path) -> None:
    document = json.loads(bytes_only.read_text())
    document["model"]["vocab"]["and"] = 300
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(document))
    with pytest.raises(ModelError, match=r"259 tokens; Llama 3.2 has 128,256"):
        TextTokenizer.open(path)


def test_a_damaged_or_absent_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelMissing, match=r"neither tokenizer\.json nor tokenizer\.model"):
        TextTokenizer.open(tmp_path)
    with pytest.raises(ModelMissing, match=r"tokenizer\.json is missing"):
        TextTokenizer.open(tmp_path / "tokenizer.json")
    (tmp_path / "tokenizer.json").write_text('{"version":')
    with pytest.raises(ModelMissing, match=r"cannot be read as a tokenizer"):
        TextTokenizer.open(tmp_path)
    ranks = tmp_path / "tokenizer.model"
    ranks.write_bytes(b"IQ== 0\nnot base64! 1\n")
    with pytest.raises(ModelMissing, match=r"line 2 is not a token"):
        TextTokenizer.open(ranks)
    ranks.write_bytes(b"IQ== 0\nIg== 1\n")
    with pytest.raises(ModelMissing, match=r"2 tokens instead of 128,000"):
        TextTokenizer.open(ranks)


TEXTS = (
    "This is a test sentence.",
    "Your appointment is on Tuesday, 24th of March, at half past nine; is that all right?",
    "I'LL take 1234567 of 'em - don't you?",
    "Grüße aus Zürich, naïve café; 東京 привет 🙂👍🏽",
    "  two  spaces\n\nand\tlines  \r\n ",
    "<|end_of_text|>",
)


@pytest.mark.models
def test_published_ids(llama: TextTokenizer) -> None:
    """llama-models, `tests/api/test_tokenizer.py`."""
    assert llama.encode(0, "This is a test sentence.") == [
        *(BOS, 58, 15, 60),
        *(2028, 374, 264, 1296, 11914, 13),
        EOS,
    ]


@pytest.mark.models
@pytest.mark.parametrize("text", TEXTS)
def test_merges_are_those_of_the_ranks(llama: TextTokenizer, ranks_file: Path, text: str) -> None:
    """Byte pair encoding written down again from its definition, on the pieces that the tokenizer cut."""
    lines = (line.split() for line in ranks_file.read_bytes().splitlines())
    ranks = {base64.b64decode(token): int(rank) for token, rank in lines}
    pieces = llama._tokenizer.pre_tokenizer.pre_tokenize_str(f"[0]{text}")
    expected = [token for _, (start, end) in pieces for token in merged(f"[0]{text}"[start:end], ranks)]
    assert llama.encode(0, text) == [BOS, *expected, EOS]
    assert llama._tokenizer.decode(expected) == f"[0]{text}"


def merged(piece: str, ranks: dict[bytes, int]) -> list[int]:
    parts = [bytes([byte]) for byte in piece.encode()]
    while True:
        pairs = [ranks.get(a + b, len(ranks)) for a, b in pairwise(parts)]
        if not pairs or min(pairs) == len(ranks):
            return [ranks[part] for part in parts]
        at = pairs.index(min(pairs))
        parts[at : at + 2] = [parts[at] + parts[at + 1]]


@pytest.mark.models
def test_special_tokens_are_those_of_llama_3_2(llama: TextTokenizer) -> None:
    """https://huggingface.co/meta-llama/Llama-3.2-1B, `tokenizer_config.json`."""
    names = {
        128_000: "<|begin_of_text|>",
        128_001: "<|end_of_text|>",
        128_002: "<|reserved_special_token_0|>",
        128_003: "<|reserved_special_token_1|>",
        128_004: "<|finetune_right_pad_id|>",
        128_005: "<|reserved_special_token_2|>",
        128_008: "<|eom_id|>",
        128_009: "<|eot_id|>",
        128_010: "<|python_tag|>",
        128_011: "<|reserved_special_token_3|>",
        128_255: "<|reserved_special_token_247|>",
    }
    assert {id_: llama._tokenizer.id_to_token(id_) for id_ in names} == names
    assert llama._tokenizer.get_vocab_size() == 128_256
