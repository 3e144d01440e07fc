"""What the held-out part says, and in which voices. Written before the rules that it judges, and not changed
since: nothing is tuned on it, so whoever works on the rules does not read it."""

from bench.corpus.templates import Voice
from bench.greetings.texts import Texts

VOICES = (
    Voice("maud", "hibari", pitch=1.03, pace=0.92),
    Voice("victor", "hibari", pitch=0.73, pace=1.08),
    Voice("nina", "hibari", pitch=1.16, pace=1.16),
    Voice("gus", "hibari", pitch=0.82, pace=0.88),
    Voice("iris", "hibari", pitch=0.96, pace=1.02),
    Voice("karl", "flite:kal", pitch=1.04, pace=1.0),
    Voice("hank", "flite:rms", pitch=0.92, pace=1.06),
)
BEEPS_HZ = (480, 950, 1330)

HELD_OUT = Texts(
    people=(
        "Hello, good morning.",
        "Yep?",
        "Hello, who's there?",
        "Hello? | Yes, I can hear you.",
        "Hello, {name} on the line.",
        "Hey, what's up?",
        "Hi, you've got {name}.",
        "Uh, hello?",
        "Hello, {surname}'s house.",
        "Who's calling, please?",
        "Hello? | Sorry, the line is bad. | Who is calling?",
        "Yes, hi, sorry, I just got in. Hello?",
        "Hi, can you hear me?",
        "Good afternoon, {name} speaking.",
    ),
    shops=(
        "Thank you for calling {shop}, how may I direct your call?",
        "{shop}, this is {name}, how can I help you?",
        "Good morning, {shop}.",
        "Hi, thanks for calling {shop}, what can I do for you?",
        "Good afternoon, thank you for calling {shop}, my name is {name}. | How can I help?",
        "{shop}, can you hold, please?",
        "Hello, you're speaking to {name} at {shop}.",
        "Doctor {surname}'s office, {name} speaking, can I help you?",
        "Parts and service, {name} speaking.",
        "Hi, this is {shop}, is this for pickup?",
    ),
    own_machines=(
        "Hi, this is {name}, sorry I can't get to the phone. | Please leave your name and number, "
        "and I'll call you back.",
        "You've reached the voicemail of {name}. | Please leave a detailed message.",
        "Hey, this is {name}, leave a message.",
        "Hello, you've reached the {surname} residence. | We can't come to the phone, "
        "so leave your name and number.",
        "Hi, you have reached {name} with {shop}. | I'm away from my desk or on the other line.",
        "Hi, {name} here. | I'm not able to pick up, so send me a text.",
        "Yo, it's {name}. | You missed me. | Do your thing after the beep.",
        "Hello, this is {name}. | Today is Tuesday, and I am in meetings all day. "
        "| Please call my colleague.",
    ),
    network_machines=(
        "Your call has been forwarded to voicemail. | The person you're trying to reach is not available.",
        "{digits}, | is not available right now. | Please leave a detailed message after the tone.",
        "The number you are calling is busy. Please try later.",
        "Sorry, {name} is not available. | Record your message after the tone. "
        "| When you are finished, hang up, or press pound for more options.",
        "Hi. If you record your name and reason for calling, I'll see if this person is available.",
        "The number you have reached is no longer in service.",
        "The person you've called has a voice mailbox that is full. | Goodbye.",
    ),
    shop_machines=(
        "Thank you for calling {shop}, where your health comes first. "
        "| If you know the extension, dial it at any time.",
        "Thanks for calling {shop}. | We are closed right now. "
        "| Our hours are Monday through Friday, nine a.m. to five p.m.",
        "Welcome to {shop}. | To hear this message in Spanish, press nine.",
        "Thank you for calling {shop}. | For quality assurance, this call will be recorded.",
        "Hello, you've reached {shop}. | We're helping other customers right now. "
        "| Leave a message and we'll call you back.",
        "Hello and welcome to {shop}. | Please hold while I connect you.",
        "Thank you for calling {shop} on {street}. | To refill a prescription, press one.",
        "Good evening, {shop} opens again tomorrow at nine.",
        "Hi, thanks for calling {shop}. | I'm an automated assistant. How can I help you today?",
    ),
    fillings={
        "name": ("Karen Doyle", "Steve", "Priya", "Mister Alvarez", "Megan"),
        "surname": ("Holloway", "Kim", "Petersen"),
        "shop": (
            "Lakeside Family Practice",
            "Tony's Auto Repair",
            "the Grand Plaza",
            "Blue Heron Veterinary",
            "First Community Bank",
            "Bella Salon",
        ),
        "street": ("Main Street", "Fifth Avenue"),
        "digits": ("six one seven, five five five, oh one nine two", "eight four seven, five five five"),
    },
)
