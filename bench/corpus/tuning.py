"""What the callers of the tuning part say, who they are and what sounds behind them. Shares no template, no
caller and no kind of noise with `held_out`; only "stop", "mm-hmm" and their like are the same words there.

`|` is a place where people pause: before a number, between groups of digits or letters, after "um" or a
conjunction, between clauses and sentences.
"""

from bench.corpus.templates import Part, Template, Voice

VOICES = (
    Voice("ruth", "hibari", pitch=0.85, pace=0.95),
    Voice("martin", "hibari", pitch=0.70, pace=1.0),
    Voice("carol", "hibari", pitch=1.10, pace=1.10),
    Voice("boris", "hibari", pitch=0.78, pace=1.15),
    Voice("ned", "flite:rms", pitch=1.0, pace=1.0),
    Voice("otto", "flite:kal16", pitch=0.95, pace=1.0),
)

_FILLINGS = {
    "day": ("Monday", "Tuesday", "Saturday", "Sunday", "Friday"),
    "daypart": ("morning", "afternoon"),
    "hour": ("nine", "ten thirty", "half past two", "four", "six"),
    "visit": ("first visit", "check up", "flu shot"),
    "insurer": ("Aetna", "Medicare"),
    "doctor": ("Doctor Patel", "Doctor Reed"),
    "who": ("my son", "my husband", "my neighbour"),
    "ailment": ("a fever", "a bad cough", "pain in the back"),
    "thing": ("lamp", "kettle", "blue jacket", "desk"),
    "count": ("two", "four", "five"),
    "month": ("January", "March", "August", "October"),
    "ordinal": ("third", "eleventh", "twenty first"),
    "tens": ("sixty two", "seventy five", "eighty one", "ninety four"),
    "street": ("Oak Street", "River Road", "Church Lane"),
    "name": ("Martinez", "Kowalski", "Thompson", "Lindqvist", "Okafor"),
    "first": ("Daniel", "Sarah", "Victor"),
}

_TURNS = (
    Template("question", "What time do you open on {day}?"),
    Template("question", "How much is a {visit}?"),
    Template("question", "Do you take {insurer}?"),
    Template("question", "Is there parking near the building?"),
    Template("question", "Which doctor sees children?"),
    Template("question", "How long does a {visit} take?"),
    Template("question", "Can I come at {hour} on {day}?"),
    Template("question", "Is {doctor} in on {day} {daypart}?"),
    Template("question", "When will the {thing} be delivered?"),
    Template("question", "Where is the clinic?"),
    Template("statement", "I would like an appointment for {day} {daypart}, please."),
    Template("statement", "I need to cancel my appointment on {day}."),
    Template("statement", "The {thing} arrived damaged and I want a refund."),
    Template("statement", "A table for {count} at {hour}, please."),
    Template("one_word", "Yes.", "Have you been here before?"),
    Template("one_word", "No.", "Do you have any allergies?"),
    Template("one_word", "{day}.", "Which day would suit you?"),
    Template("one_word", "{first}.", "What is your first name?"),
    Template("one_word", "Correct.", "Is that for Monday at nine?"),
    Template("one_word", "Hello?"),
    Template(
        "number", "My number is | {digits:3}, | {digits:3}, | {digits:4}.", "What is your phone number?"
    ),
    Template("number", "It's | {digits:2}, | {digits:2}, | {digits:2}.", "What is your order number?"),
    Template("number", "You can reach me at | {digits:3}, | {digits:4}.", "What is your phone number?"),
    Template("number", "{month} | the {ordinal}, | nineteen {tens}.", "What is your date of birth?"),
    Template(
        "number",
        "Member number | {digits:3}, | {digits:3}, | and then {digits:2}.",
        "And your member number?",
    ),
    Template("spelling", "Sure, that's | {spell}.", "How do you spell your last name?"),
    Template("spelling", "{name}, | {spell}.", "What is your last name?"),
    Template("spelling", "My name is {first} {name}. | I can spell it, | {spell}."),
    Template("hesitation", "Um, | I wanted to ask | whether you are open on {day}."),
    Template("hesitation", "I am calling about, um, | the {thing} that I ordered."),
    Template("hesitation", "Can I come on, uh, | {day} | at {hour}?"),
    Template("hesitation", "I think it was | {day}, | or maybe the day before."),
    Template("hesitation", "Well, | I don't know, | I guess {day} is fine.", "Which day would suit you?"),
    Template("false_start", "I was, | I wanted to move my appointment to {day}."),
    Template("false_start", "Do you, | is {doctor} free on {day}?"),
    Template("false_start", "My son, | sorry, | my daughter has {ailment}."),
    Template("false_start", "At {hour}, | no, | at {hour} would be better."),
    Template("clauses", "I would like to come in on {day}, | but only if | {doctor} is there."),
    Template("clauses", "If it costs more than fifty dollars, | I have to ask {who} first."),
    Template("clauses", "Could you tell me where you are | and | whether I can park there?"),
    Template("clauses", "I live at | twelve {street}, | second floor.", "What is your address?"),
    Template("clauses", "I need an appointment for {who}, | because | he has {ailment}."),
    Template(
        "story",
        "I was at your clinic on {day} with {who}, | and {doctor} gave us a prescription. | But at home "
        "we saw | that the second page was missing, | so we could not get the pills. | What should we do?",
    ),
    Template(
        "story",
        "I ordered a {thing} two weeks ago, | and it was meant to come on {day}. | The driver says | that"
        " nobody was at home, | but I was there all day. | Can you send it again?",
    ),
    Template(
        "story",
        "Since {day} {who} has {ailment}. | At first we thought | it would go away, | but it is getting "
        "worse, | and now he can't sleep. | Can he see somebody today?",
    ),
)

_INTERRUPTIONS = (
    "Sorry, I meant {day}.",
    "Wait, where exactly is that?",
    "Hold on, is that this week?",
    "Yes, but what about {day}?",
    "Okay, and how much is it?",
    "No, I have been there before.",
    "Can I say something?",
    "That is not what I asked.",
    "Actually, {day} is better for me.",
    "I only need the address.",
    "Just a second, I have to find a pen.",
    "Could you repeat the first part?",
    "What does it cost?",
    "And what about {insurer}?",
    "Excuse me, I have another question.",
)
_STOP_WORDS = ("Stop.", "No.", "Wait.")
_BACKCHANNELS = ("Mm-hmm.", "Yeah.", "Right.", "Okay.", "Uh-huh.", "I see.", "Sure.")
_SIDE_TALK = (
    "Did you take the keys?",
    "Put it on the table, please.",
    "I'll be right there, one minute.",
    "The dog wants to go out.",
    "Have you seen my glasses?",
    "He said he would be late.",
)

PART = Part(
    name="tuning",
    voices=VOICES,
    turns=_TURNS,
    fillings=_FILLINGS,
    interruptions=_INTERRUPTIONS,
    stop_words=_STOP_WORDS,
    backchannels=_BACKCHANNELS,
    side_talk=_SIDE_TALK,
    noises=("room", "street", "hiss"),
    coughs=("cough", "throat"),
    line_noises=("click", "crackle", "buzz"),
)
