"""What single phrases say about who has answered."""

import pytest

from pipeline.greeting_words import machine_log_odds, opening


@pytest.mark.parametrize(
    "text",
    [
        "The number you have dialed",
        "Please leave your message",
        "we are currently closed",
        "press one for sales",
        "Hi, this is the voicemail of",
        "All our lines are busy",
        "You've reached Anna, I can't come",
    ],
)
def test_what_only_machines_say(text: str) -> None:
    assert machine_log_odds(text, paused=False) > 1.5


@pytest.mark.parametrize(
    "text",
    [
        "Hello?",
        "Who is this?",
        "Anna speaking",
        "How can I help you?",
        "Front desk, this is Anna",
        "One moment please",
        "Thank you for calling Riverside Dental, this is",
    ],
)
def test_what_only_people_say(text: str) -> None:
    assert machine_log_odds(text, paused=False) < -1.5


@pytest.mark.parametrize(
    ("person", "machine"),
    [
        ("Tom on the line, what is this about", "Please stay on the line"),
        ("You are speaking with Anna", "To speak with reception"),
        ("Who is calling", "Tell us who you are"),
        ("It's a great day at the", "It's Anna, leave"),
        ("I'm not interested", "I'm not here"),
        ("Can I put you on hold", "Please hold the line"),
    ],
)
def test_alike_phrases_are_told_apart(person: str, machine: str) -> None:
    assert machine_log_odds(person, paused=False) < machine_log_odds(machine, paused=False) - 1.5


def test_a_phrase_counts_once() -> None:
    once = machine_log_odds("leave a message", paused=False)
    assert machine_log_odds("leave a message, leave a message", paused=False) == once


def test_a_pause_matters_behind_an_opening_alone() -> None:
    assert machine_log_odds("Thank you for calling us.", paused=True) > machine_log_odds(
        "Thank you for calling us.", paused=False
    )
    assert machine_log_odds("Anna here.", paused=True) == machine_log_odds("Anna here.", paused=False)


def test_capitals_do_not_matter() -> None:
    assert machine_log_odds("LEAVE A MESSAGE", paused=False) == machine_log_odds(
        "leave a message", paused=False
    )


@pytest.mark.parametrize("text", ["Thank you for calling us", "Welcome to", "You've reached"])
def test_an_opening_says_who_was_called(text: str) -> None:
    assert opening(text)


def test_a_name_or_a_hello_is_no_opening() -> None:
    assert not opening("Hello, Riverside Dental")


def test_opening_words_alone_are_anybodys() -> None:
    assert abs(machine_log_odds("Thank you for calling Riverside Dental.", paused=False)) < 0.5
