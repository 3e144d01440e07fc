"""What the callers of the held-out part say, who they are and what sounds behind them: the part that is
quoted and that nothing is tuned on. See `tuning` for the form."""

from bench.corpus.templates import Part, Template, Voice

VOICES = (
    Voice("lily", "hibari", pitch=1.20, pace=1.05),
    Voice("walter", "hibari", pitch=0.75, pace=0.85),
    Voice("dora", "hibari", pitch=0.90, pace=1.10),
    Voice("emil", "hibari", pitch=0.80, pace=0.95),
    Voice("sally", "flite:slt", pitch=1.0, pace=1.0),
    Voice("alan", "flite:awb", pitch=1.0, pace=1.0),
)

_FILLINGS = {
    "day": ("Wednesday", "Thursday", "tomorrow", "next week", "the weekend"),
    "hour": ("eight", "a quarter to nine", "noon", "three fifteen", "five"),
    "test": ("blood test", "X ray", "eye test"),
    "insurer": ("Cigna", "Blue Cross", "my insurance"),
    "doctor": ("Doctor Reed", "the doctor", "Doctor Patel"),
    "who": ("my mother", "my wife", "my little girl"),
    "ailment": ("a rash on her arm", "a headache", "trouble breathing"),
    "parcel": ("package", "book", "coffee machine", "pair of shoes"),
    "people": ("three", "six", "eight"),
    "month": ("February", "May", "July", "December"),
    "ordinal": ("second", "ninth", "fifteenth", "thirtieth"),
    "year": ("fifty eight", "sixty nine", "seventy three", "eighty seven"),
    "place": ("the station", "the airport", "the north side"),
    "road": ("Maple Avenue", "Harbour Street", "Station Road"),
    "name": ("Novak", "Henderson", "Ramirez", "Whitfield", "Schneider"),
    "first": ("Laura", "Peter", "Amelia"),
}

_TURNS = (
    Template("question", "Until when are you open {day}?"),
    Template("question", "What do I have to pay for a {test}?"),
    Template("question", "Will {insurer} cover that?"),
    Template("question", "Where can I leave my car?"),
    Template("question", "Do I need to bring anything?"),
    Template("question", "How do I get to you from {place}?"),
    Template("question", "When are the results of my {test} ready?"),
    Template("question", "Does anybody there speak Spanish?"),
    Template("question", "Has my {parcel} been sent yet?"),
    Template("question", "What is the earliest time that you have?"),
    Template("statement", "I'd like to see {doctor} {day}."),
    Template("statement", "Please book us in for {people} people at {hour}."),
    Template("statement", "My {parcel} never came, and I would like my money back."),
    Template("statement", "I want to change the time of my {test}."),
    Template("one_word", "Yeah.", "Shall I book it?"),
    Template("one_word", "Nope.", "Is there anything else?"),
    Template("one_word", "Tomorrow.", "When would you like to come?"),
    Template("one_word", "{name}.", "What is your last name?"),
    Template("one_word", "Exactly.", "So that is for two people?"),
    Template("one_word", "Goodbye."),
    Template("number", "Okay, so that's | {digits:3} | {digits:3} | {digits:4}.", "Can I have your number?"),
    Template("number", "The reference is | {digits:3}, | {digits:3}.", "Do you have a reference?"),
    Template("number", "Call me on | {digits:2}, | {digits:2}, | {digits:3}.", "How can we reach you?"),
    Template("number", "She was born on | {month} {ordinal}, | nineteen {year}.", "When was she born?"),
    Template("number", "My card says | {digits:4}, | {digits:4}, | {digits:2}.", "What does the card say?"),
    Template("spelling", "Yes, | {spell}.", "Could you spell that for me?"),
    Template("spelling", "It is {name}, | so | {spell}.", "Under which name?"),
    Template("spelling", "This is {first} {name}, | that is | {spell}."),
    Template("hesitation", "So, um, | do you have anything | {day}?"),
    Template("hesitation", "It's about, uh, | the {parcel}, | it is not the right one."),
    Template("hesitation", "We would be, let me see, | {people} people, | so a large table."),
    Template("hesitation", "Hmm, | I am not sure, | what else is there?", "Would Thursday at ten suit you?"),
    Template("hesitation", "I'd like, uh, | to talk to {doctor} | about my {test}."),
    Template("false_start", "Is it, | do I have to pay | before the {test}?"),
    Template("false_start", "On the, | on {day} we can't come."),
    Template("false_start", "I have, | well, | {who} has {ailment}."),
    Template("false_start", "My address, | I mean my old address, | was on {road}."),
    Template("clauses", "I could come {day}, | or | if that is too late, | any time before {hour}."),
    Template("clauses", "Before I book that | I would like to know | how long it takes."),
    Template("clauses", "When I called this morning | somebody told me | that you are full."),
    Template("clauses", "It depends on {who}, | so | can I call you back at {hour}?"),
    Template(
        "clauses", "The {parcel} should go to | forty {road}, | not to my office.", "Where should it go?"
    ),
    Template(
        "story",
        "Last month {who} had a {test} with you. | They said | the letter would come in three days, | but"
        " nothing came. | We called twice, | and each time | somebody promised to call back. | Who can "
        "help us?",
    ),
    Template(
        "story",
        "My {parcel} was left with a neighbour, | only | I don't know which one. | I asked everybody in "
        "the house, | and nobody has it. | Could you ask the driver?",
    ),
    Template(
        "story",
        "We are coming from {place} with {people} people, | and one of us | uses a wheelchair. | There "
        "are steps at the front door, | if I remember it right. | Is there another way in?",
    ),
)

_INTERRUPTIONS = (
    "Oh, not that one, the other clinic.",
    "Hang on, did you say {hour}?",
    "Okay, and where can I park?",
    "Yes, but {who} can't walk that far.",
    "Stop, what was the street again?",
    "No, no, I need it {day}.",
    "Right, but what about {insurer}?",
    "I'm sorry, can you say that more slowly?",
    "Let me ask you something else.",
    "Never mind, one more thing, do you speak Spanish?",
    "What did you say?",
    "Fine, can I book for {day}?",
    "I know that already.",
    "Please listen, {who} has {ailment}.",
    "Wait a moment, I'm writing this down.",
)
_STOP_WORDS = ("Stop.", "No.", "Wait.")
_BACKCHANNELS = ("Mm-hmm.", "Yeah.", "Right.", "Okay.", "Uh-huh.", "I see.", "Sure.")
_SIDE_TALK = (
    "Can you turn down the radio?",
    "Yes, dinner is at seven.",
    "Leave it by the door, thanks.",
    "She is on the phone.",
    "Where did you put the charger?",
    "Come here, sit down.",
)

PART = Part(
    name="held_out",
    voices=VOICES,
    turns=_TURNS,
    fillings=_FILLINGS,
    interruptions=_INTERRUPTIONS,
    stop_words=_STOP_WORDS,
    backchannels=_BACKCHANNELS,
    side_talk=_SIDE_TALK,
    noises=("office", "traffic", "cafe"),
    coughs=("double_cough", "sniff"),
    line_noises=("pop", "static", "hum"),
)
