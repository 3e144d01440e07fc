"""What people, shops and machines say first. `|` is a pause of a third to two thirds of a second. The two
parts share no sentence; {name}, {shop} and the like are filled in."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Texts:
    people: tuple[str, ...]
    shops: tuple[str, ...]
    """Somebody at work, who says more before waiting."""
    own_machines: tuple[str, ...]
    network_machines: tuple[str, ...]
    """A carrier's voice mail, or its announcement."""
    shop_machines: tuple[str, ...]
    fillings: dict[str, tuple[str, ...]]


TUNING = Texts(
    people=(
        "Hello?",
        "Yes?",
        "Hello, this is {name}.",
        "{name}.",
        "Hi, {name} here.",
        "Hello? | Who is this?",
        "Yeah, hello?",
        "Hello, hello?",
        "Good evening.",
        "{name} speaking.",
        "Hello, you are speaking with {name}.",
        "Hi there, who's calling?",
    ),
    shops=(
        "Good morning, {shop}, this is {name}. How can I help you?",
        "{shop}, good afternoon, what can I do for you?",
        "Thank you for calling {shop}, {name} speaking.",
        "{shop}, one moment please. | Yes, how may I help you?",
        "Front desk, {name} speaking, how can I help?",
        "{shop}, you are speaking with {name}, how may I direct your call?",
    ),
    own_machines=(
        "Hi, you've reached {name}. I can't come to the phone right now, so please leave a message.",
        "Hello, this is {name}. I am not available now. | Leave your name and number after the beep.",
        "Hi, this is the voicemail of {name}. | I will call you back as soon as I can.",
        "You have reached the {name} family. | Nobody is home right now. | Please leave us a message.",
        "{name} here, sorry I missed your call. Leave a message and I'll get back to you.",
        "Hey, it's {name}. You know what to do. | Leave your message after the tone.",
    ),
    network_machines=(
        "The person you are calling is not available. Please leave a message after the tone.",
        "Your call has been forwarded to an automatic voice message system.",
        "Welcome to the mailbox of {digits}. | Please record your message after the beep.",
        "The number you have dialed is not in service. | Please check the number and dial again.",
        "The customer you are trying to reach is currently unavailable.",
    ),
    shop_machines=(
        "Thank you for calling {shop}. Our office is closed. | Our business hours are nine to five.",
        "You have reached {shop}. | If you know your party's extension, you may dial it now.",
        "Thank you for calling {shop}. | For sales, press one. | For service, press two.",
        "Welcome to {shop}. | All our agents are busy at the moment. Please hold the line.",
        "{shop}. | We are currently closed, and will be back on Monday at eight.",
    ),
    fillings={
        "name": ("Anna Miller", "Robert", "Susan", "Mister Baker"),
        "shop": ("Riverside Dental", "Baker and Sons", "the Harbour Hotel"),
        "digits": ("two one two, five five five, one two three four", "nine one seven, five five five"),
    },
)

HELD_OUT = Texts(
    people=(
        "Hello.",
        "Hi?",
        "Yes, hello?",
        "Hey.",
        "This is {name}.",
        "Hello, {name} speaking?",
        "{name}, hello?",
        "Yes, who is it?",
        "Hello? | Hello?",
        "Good morning.",
        "Yeah?",
        "Speaking.",
    ),
    shops=(
        "{shop}, {name} speaking, good morning.",
        "Good afternoon, you're through to {name} at {shop}. What can I do for you today?",
        "Thanks for calling {shop}, this is {name}, how may I help?",
        "Hello, {shop}, may I help you?",
        "{shop}, hi, how are you today?",
        "Reception, this is {name}, who would you like to speak to?",
    ),
    own_machines=(
        "Hello, {name} can't take your call right now. Please speak after the beep.",
        "Hi, it's {name}. I'm either on the other line or away from my desk. | Leave me a message.",
        "This is {name}'s answering machine. | Say your name and your number, and I will ring you back.",
        "You've got {name}'s voicemail. | I'm sorry that I can't pick up. | Talk after the tone.",
        "Hey there, you have called {name}. I am out of the office until Tuesday.",
        "Hello, we are not able to answer the phone. | If it is urgent, call my mobile, or leave a message.",
    ),
    network_machines=(
        "We're sorry, the subscriber that you have called cannot be reached at this time.",
        "Hello. | No one is available to take your call. | At the tone, please record your message.",
        "You have reached the voice mailbox of {digits}. | To leave a message, wait for the tone.",
        "The mobile phone that you are calling is switched off. | Please try again later.",
        "The wireless customer is not available. | Please leave your message after the signal.",
    ),
    shop_machines=(
        "Hello, and thank you for calling {shop}. | Your call is important to us. Please stay on the line.",
        "You've reached {shop} outside of our opening hours. | We are open from Monday to Friday.",
        "Thanks for phoning {shop}. | To make an appointment, press one. | For anything else, press zero.",
        "This is {shop}. | Our lines are closed now. | Visit our web site, or call again tomorrow.",
        "Good day. {shop} is closed for the holidays. | In an emergency, hang up and dial nine one one.",
    ),
    fillings={
        "name": ("Laura", "Peter Whitfield", "Amelia", "Doctor Novak"),
        "shop": ("Maple Street Pharmacy", "the Garden Clinic", "Whitfield Motors"),
        "digits": ("three one oh, five five five, eight eight oh two", "four one five, five five five"),
    },
)
