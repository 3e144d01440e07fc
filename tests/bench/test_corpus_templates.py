import random

import pytest

from bench.corpus.building import PARTS
from bench.corpus.templates import filled

NAMES = {"name": ("Novak",), "day": ("Monday", "Tuesday")}


def test_digits_are_words() -> None:
    before, after = filled("It is | {digits:3}, {digits:2}.", NAMES, random.Random(1))
    assert before == "It is"
    assert len(after.replace(",", "").split()) == 5


def test_a_name_is_spelt_with_its_own_letters() -> None:
    name, *letters = filled("{name}, | {spell}.", NAMES, random.Random(2))
    assert name == "Novak,"
    assert "".join(letters).replace(",", "").replace(" ", "") == "NOVAK."


def test_a_slot_that_stands_twice_gets_two_fillings() -> None:
    (text,) = filled("{day}, no, {day}", NAMES, random.Random(3))
    assert sorted(text.split(", no, ")) == ["Monday", "Tuesday"]


@pytest.mark.parametrize("part", PARTS, ids=lambda part: part.name)
def test_every_template_of_a_part_can_be_filled(part) -> None:  # type: ignore[no-untyped-def]
    texts = [template.text for template in part.turns]
    for text in (*texts, *part.interruptions, *part.backchannels, *part.side_talk):
        for piece in filled(text, part.fillings, random.Random(4)):
            assert piece and not set("{}|") & set(piece)


def test_the_parts_share_no_template_noise_or_voice() -> None:
    tuning, held_out = PARTS
    for of in ("turns", "interruptions", "side_talk"):
        mine = {getattr(item, "text", item) for item in getattr(tuning, of)}
        assert mine.isdisjoint(getattr(item, "text", item) for item in getattr(held_out, of))
    for of in ("noises", "coughs", "line_noises"):
        assert set(getattr(tuning, of)).isdisjoint(getattr(held_out, of))
    assert {voice.name for voice in tuning.voices}.isdisjoint(voice.name for voice in held_out.voices)
    flites = [{v.engine for v in part.voices if v.engine != "hibari"} for part in PARTS]
    assert flites[0].isdisjoint(flites[1])
