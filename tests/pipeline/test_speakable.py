"""What a reply sounds like, written out; and that no text whatever can break it."""

# ruff: noqa: E501 - a table of sentences

import re

import inflect
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.speakable import speakable, words

CASES = {
    "Open from 9:00-17:00.": "Open from nine A.M. to five P.M.",
    "Our hours are Mon-Thu 9am-5pm, Fri 9-1, and closed Sat & Sun.": "Our hours are Monday to Thursday nine A.M. to five P.M., Friday nine to one, and closed Saturday and Sunday.",
    "A visit costs $85. With insurance it's $20-$30.": "A visit costs eighty-five dollars. With insurance it's twenty to thirty dollars.",
    "The co-pay is $1.": "The co-pay is one dollar.",
    "You owe $1,234.56 by 12/31/2026.": "You owe one thousand two hundred thirty-four dollars and fifty-six cents by December thirty-first, twenty twenty-six.",
    "Your code is 4821.": "Your code is four eight two one.",
    "Press 1 for hours.": "Press one for hours.",
    "We're on the 3rd floor, Suite 1200, 221B Baker Street.": "We're on the third floor, Suite twelve hundred, two twenty-one B Baker Street.",
    "St. Mary's Church is on Oak St., next to Dr. Patel.": "Saint Mary's Church is on Oak Street, next to Doctor Patel.",
    "It's at 45 Elm Dr. near the park.": "It's at forty-five Elm Drive near the park.",
    "Take I-95 to exit 12.": "Take I ninety-five to exit twelve.",
    "Dr. Lee (pediatrics) is in Mon., Wed., and Fri.": "Doctor Lee, pediatrics, is in Monday, Wednesday, and Friday.",
    "She was born on 5 May 1987.": "She was born on the fifth of May, nineteen eighty-seven.",
    "We have been here since 1998 and in the '90s.": "We have been here since nineteen ninety-eight and in the nineties.",
    "Call 911 in an emergency.": "Call nine one one in an emergency.",
    "Fax: 555.123.4567": "Fax: five five five, one two three, four five six seven",
    "Call 1-800-555-0199 now!": "Call one, eight zero zero, five five five, zero one nine nine now!",
    "Your temperature was 101.5°F, BP 120/80 mmHg.": "Your temperature was one hundred one point five degrees Fahrenheit, BP one hundred twenty over eighty.",
    "Take 2 tablets every 4-6 hours; max. 8 per day.": "Take two tablets every four to six hours; maximum eight per day.",
    "A 10-minute visit, a 5-star clinic, a 24-hour line, open 24/7.": "A ten minute visit, a five star clinic, a twenty-four hour line, open twenty-four seven.",
    "3/4 of patients and 2/3 of staff": "three quarters of patients and two thirds of staff",
    "About 60% - 70%": "About sixty to seventy percent",
    "5 x 3 = 15, 10 + 2, 7 - 3": "five times three equals fifteen, ten plus two, seven to three",
    "It's 5' tall and 12\" wide.": "It's five feet tall and twelve inches wide.",
    "100 m² or 50 sq ft": "one hundred square meters or fifty square feet",
    "ages 0-5, 65+": "ages zero to five, sixty-five plus",
    "C++ and C# and Node.js": "C plus plus and C sharp and Node dot js",
    "The file is at C:\\\\Users\\\\me": "The file is at C: Users me",
    "he/she, and/or, w/ food": "he or she, and or, with food",
    "Hello 👋🏽 world ❤️ ✅ done": "Hello world done",
    "# Opening hours": "Opening hours",
    "- **Monday**: 9 am": "Monday: nine A.M.",
    "| Day | Hours |": "Day, Hours",
    "|---|---|": "",
    "It’s “great” — isn’t it?": "It's great, isn't it?",
    "Wait... what?!": "Wait... what?",
    "A.D. 79, 5,000 years": "A D seventy-nine, five thousand years",
    "Jan. 5th at 10:00 a.m. We'll see.": "January fifth at ten A.M. We'll see.",
    "at 10 a.m. tomorrow": "at ten A.M. tomorrow",
    "at noon, 12 p.m., 12:00": "at noon, twelve P.M., twelve o'clock",
    "Flight BA 249 leaves at 06:45 from gate B7": "Flight BA two hundred forty-nine leaves at six forty-five from gate B seven",
    "You are no. 1! I said no. Really no.": "You are number one! I said no . Really no .",
    "I am here in the Sun.": "I am here in the Sun .",
    "$5M and $3bn, 2.5k followers": "five million dollars and three billion dollars, two point five thousand followers",
    "<b>bold</b> &amp; &lt;5 &gt;3": "bold and less than five more than three",
    "~20 minutes, >5 days, <1 hour": "about twenty minutes, more than five days, less than one hour",
    "Visit maya.clinic.com/booking-now.": "Visit maya dot clinic dot com slash booking dash now.",
    "€1.50 and 12,50 €": "one euro and fifty cents and twelve euros and fifty cents",
    "1st, 2nd, 3rd, 11th, 101st": "first, second, third, eleventh, one hundred first",
    "Version 2.0.1 is out.": "Version two point zero point one is out.",
    "Bus 42, room 5, room 12A, apt. 3B": "Bus forty-two, room five, room twelve A, apartment three B",
    "Apr 3-5, April 3rd through 5th": "April third to fifth, April third through fifth",
    "Meet on 3/4 at 5": "Meet on March fourth at five",
    "0.5 mg, .5 mg, -5°C": "zero point five milligrams, zero point five milligrams, minus five degrees Celsius",
    "ASAP, FYI, the NHS and the FBI": "ASAP, FYI, the NHS and the FBI",
    "1000000 or 1,000,000 or 12345678": "one million or one million or one two three four five six seven eight",
    "Order #12345, ticket no. 77": "Order number one two three four five, ticket number seventy-seven",
    "O'Brien's dogs' toys, 'tis rock 'n' roll": "O'Brien's dogs' toys, 'tis rock n' roll",
    "25-30 minutes": "twenty-five to thirty minutes",
    "in 2026, 2025-2026, 2000 and 2005": "in twenty twenty-six, twenty twenty-five to twenty twenty-six, two thousand and two thousand five",
    "self-care, follow-up, X-ray": "self-care, follow-up, X-ray",
    'the word "no."': "the word no .",
    "Type II diabetes, Part I of the form": "Type two diabetes, Part one of the form",
    "U.S. citizens, Ph.D., M.D., J. K. Rowling": "U S citizens, P H D, M D, J. K. Rowling",
    "a.k.a. Bob, Bob Jr. and Co.": "also known as Bob, Bob Junior and Company.",
    "Zip: Springfield, IL 62704-1234.": "Zip: Springfield, I L six two seven zero four, one two three four.",
    "half past 9, 9 o'clock, 9:05": "half past nine, nine o'clock, nine oh five",
    "1. First": "one, First",
    "2) Second": "two, Second",
    "30 min., 2 hrs. and 45 secs": "thirty minutes, two hours and forty-five seconds",
    "It costs $12.50, or £3.20; €5.": "It costs twelve dollars and fifty cents, or three pounds and twenty pence; five euros.",
    "We open at 9:30 am and close at 17:00.": "We open at nine thirty A.M. and close at five P.M.",
    "Your appointment is on 2026-11-22 at 9:05.": "Your appointment is on November twenty-second, twenty twenty-six at nine oh five.",
    "See you Nov. 22, 2026.": "See you November twenty-second, twenty twenty-six.",
    "Or 11/22? Or 1/2? Or 2/14?": "Or November twenty-second? Or one half? Or February fourteenth?",
    "Call (555) 123-4567 or 555-1234, ext. 12.": "Call five five five, one two three, four five six seven or five five five, one two three four, extension one two.",
    "Call +44 20 7946 0958.": "Call plus four four, two zero, seven nine four six, zero nine five eight.",
    "Call 5551234567.": "Call five five five, one two three, four five six seven.",
    "See [our page](https://a.example/b) or `code`.": "See our page or code.",
    "![a map](map.png) Turn left.": "a map Turn left.",
    "Mail info@maya-clinic.com or see https://www.clinic.co.uk/hours?x=1.": "Mail info at maya dash clinic dot com or see clinic dot co dot U K slash hours.",
    "1/2 km or 3/4 mile, 2 1/2 hrs": "one half kilometer or three quarters mile, two and a half hours",
    "The 1990s and 2010s": "The nineteen nineties and twenty tens",
    "$20/hr, $1.5 million, $20k, 99¢, $0.99, -$5": "twenty dollars per hour, one point five million dollars, twenty thousand dollars, ninety-nine cents, ninety-nine cents, minus five dollars",
    "Take 500mg 2x daily (with food) — not more.": "Take five hundred milligrams two times daily, with food, not more.",
    "COVID-19, H1N1, B12": "COVID nineteen, H one N one, B twelve",
    "1, 21, 100, 342, 1,001, 12,345 and 1234567890123": "one, twenty-one, one hundred, three hundred forty-two, one thousand one, twelve thousand three hundred forty-five and one two three four five six seven eight nine zero one two three",
    "007 agents": "zero zero seven agents",
    "in 1905, 1066 and 1800": "in nineteen oh five, one thousand sixty-six and eighteen hundred",
    "Mon–Fri: 8–6": "Monday to Friday: eight to six",
    "On Nov 3rd-5th": "On November third to fifth",
    "from 10 AM-2 PM": "from ten A.M. to two P.M.",
    "9:00 AM - 5:00 PM": "nine A.M. to five P.M.",
    "~~old~~ _new_ *now*": "old new now",
    "It's the 21st century.": "It's the twenty-first century.",
    "We are in Rm. 5, bldg. 2.": "We are in Room five, building two.",
    "approx. 5 min. walk": "approximately five minutes walk",
    "Jan-Mar 2027": "January to March twenty twenty-seven",
    "He's 6'2\" and 180 lbs.": "He's six feet two inches and one hundred eighty pounds.",
    "e.g. apples, i.e. fruit, etc.": "for example apples, that is fruit, et cetera.",
    "3.5% and 100 %": "three point five percent and one hundred percent",
}


@pytest.mark.parametrize(("text", "spoken"), CASES.items())
def test_cases(text: str, spoken: str) -> None:
    assert speakable(text) == spoken


@pytest.mark.parametrize("spoken", CASES.values())
def test_what_is_spoken_stays_as_it_is(spoken: str) -> None:
    assert speakable(spoken) == spoken


@pytest.mark.models
@pytest.mark.parametrize("spoken", CASES.values())
def test_the_bundled_voice_undoes_nothing(spoken: str) -> None:
    """Its own normaliser expands abbreviations too: `no.` at an end would become "number"."""
    from hibari.g2p.normalize import normalize

    assert normalize(spoken) == spoken.replace(" .", ".")


@pytest.mark.parametrize(
    "text",
    ["", " ", "\n\n", "...", "---", "***", "🙂", "# ", "- ", "```", "|---|", "\x00", "\ud800", "()", "?!"],
)
def test_nothing_to_say(text: str) -> None:
    assert speakable(text) == ""


def test_a_code_block_keeps_its_words() -> None:
    assert speakable("Run:\n```python\nprint now\n```\nThanks") == "Run: print now. Thanks"


def test_lines_become_sentences() -> None:
    assert speakable("Bring:\n- a card\n- a pen\n\nThanks!") == "Bring: a card. a pen. Thanks!"


fragments = st.sampled_from(
    [
        *(
            "$",
            "£",
            "€",
            "1",
            "12",
            "3.5",
            "1,200",
            "10:30",
            "17:00",
            "2026",
            "11/22",
            "1/2",
            "-",
            "–",
            "—",
            "%",
            "°C",
        ),
        *(
            "am",
            "p.m.",
            "Dr.",
            "St.",
            "Nov",
            "Mon",
            "Fri.",
            "km",
            "m",
            "s",
            "#",
            "*",
            "_",
            "`",
            "[",
            "](",
            ")",
            "(",
            '"',
        ),
        *(
            "'",
            ".",
            ",",
            "...",
            "@",
            "a.com",
            "http://",
            "www.",
            "/",
            "+",
            "~",
            "<",
            ">",
            "&amp;",
            "|",
            "\n",
            " ",
            "½",
            "²",
        ),
        *(
            "no",
            "I",
            "Room",
            "call",
            "911",
            "ext",
            "to",
            "st",
            "th",
            "k",
            "hr",
            "\\",
            "🙂",
            "٣",
            "①",
            "\u200d",
            "é",
            "x",
        ),
    ]
)
texts = st.one_of(
    st.text(max_size=200),
    st.lists(fragments, max_size=40).map("".join),
    st.lists(fragments, max_size=40).map(" ".join),
    st.text(alphabet="0123456789$.,-/: ap%'\"#", max_size=60),
)


@given(texts)
def test_never_raises_and_leaves_nothing_for_the_eye(text: str) -> None:
    spoken = speakable(text)
    assert not re.search(r"[0-9*_`#<>|\\^~\[\](){}@$%&=+\n\r\"]", spoken)
    assert "  " not in spoken
    assert spoken == spoken.strip()
    assert spoken == "" or any(char.isalnum() for char in spoken)


@given(
    st.lists(
        st.sampled_from(["We", "are", "open", "today", "and", "it's", "self-care", "FBI", "Anna"]), min_size=1
    )
)
def test_plain_words_are_left_alone(plain: list[str]) -> None:
    text = " ".join(plain)
    assert speakable(f"{text}.") == f"{text}."


@pytest.mark.parametrize(
    "text",
    [
        "9" * 20_000,
        "$" + "9" * 20_000,
        "1," * 10_000,
        "1,000" * 4_000,
        "[" * 20_000,
        "(" * 20_000,
        "*a" * 10_000,
        "a." * 10_000,
        "a@" * 10_000,
        "1-" * 10_000,
        "1/" * 10_000,
        "&" * 20_000,
        "<" * 20_000,
        " " * 20_000,
        "a " * 10_000,
        "- " * 10_000,
        "Nov 1 " * 3_000,
        "http://" * 3_000,
        "\n|" * 10_000,
        "'" * 20_000,
        "," * 20_000,
    ],
)
def test_long_texts_end(text: str) -> None:
    """None of the patterns may need the square of a text's length: the whole suite has a time limit."""
    assert isinstance(speakable(text), str)


@given(st.integers(0, words.LARGEST))
def test_cardinals_agree_with_inflect(number: int) -> None:
    assert words.cardinal(number) == inflect.engine().number_to_words(number, andword="", comma="")


@given(st.integers(1, 10**9))
def test_ordinals_agree_with_inflect(number: int) -> None:
    engine = inflect.engine()
    expected = engine.ordinal(engine.number_to_words(number, andword="", comma=""))
    assert words.ordinal(number) == expected


@pytest.mark.parametrize(
    ("written", "said"),
    [
        (1066, "ten sixty-six"),
        (1900, "nineteen hundred"),
        (1905, "nineteen oh five"),
        (2000, "two thousand"),
        (2009, "two thousand nine"),
        (2010, "twenty ten"),
        (2026, "twenty twenty-six"),
        (800, "eight hundred"),
    ],
)
def test_years(written: int, said: str) -> None:
    assert words.year(written) == said
