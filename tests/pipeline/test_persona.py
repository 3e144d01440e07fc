"""Who answers the phone."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from models.base import Message, Sampling
from pipeline.documents import DocumentError
from pipeline.persona import Example, Outbound, Persona, load_persona

FOLDER = Path(__file__).parents[2] / "infra" / "personas"
PERSONAS = sorted(path for path in FOLDER.glob("*.toml") if path.name != "routes.toml")
LEAST = {"name": "Desk", "greeting": "Hello.", "system": "You help."}


def test_the_least_persona_can_hold_a_call() -> None:
    persona = Persona.model_validate(LEAST)
    assert persona.prefix() == (Message("system", "You help."), Message("assistant", "Hello."))
    assert all((persona.pardon, persona.apology, persona.goodbye))


def test_the_prefix_holds_role_facts_fallback_greeting_and_then_the_examples() -> None:
    persona = Persona(
        **LEAST,  # type: ignore[arg-type]
        facts=("Open from nine.", "Closed on Sundays."),
        fallback="Please ask the desk.",
        examples=(Example(caller="are you open", agent="Yes, from nine."),),
    )
    system, greeting, *examples = persona.prefix()
    assert greeting == Message("assistant", "Hello."), "after the examples, answers would begin with it"
    assert system == Message(
        "system",
        "You help.\nFacts:\n- Open from nine.\n- Closed on Sundays.\n"
        'If the facts do not answer, say: "Please ask the desk."',
    )
    assert examples == [Message("user", "are you open"), Message("assistant", "Yes, from nine.")]


@pytest.mark.parametrize(
    "wrong",
    [
        {"greeting": ""},
        {"apology": ""},
        {"language": "de"},
        {"facts": [""]},
        {"greting": "Hi"},
        {"voice": {"speed": 9}},
        {"limits": {"call_s": 0}},
        {"limits": {"reply_tokens": 0}},
        {"words": {"temperature": -0.1}},
        {"words": {"temperature": 2.5}},
        {"words": {"temperature": float("nan")}},
        {"words": {"top_p": 0}},
        {"words": {"top_p": 1.01}},
        {"words": {"seed": -1}},
        {"words": {"top_k": 40}},
        {"turns": {"pause_s": 0.0}},
        {"turns": {"endpoint_silence_s": 0.05}},
        {"turns": {"barge_in_s": 60}},
    ],
    ids=str,
)
def test_a_persona_that_could_not_hold_a_call_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        Persona.model_validate({**LEAST, **wrong})


def test_words_are_the_likeliest_unless_the_persona_draws_them() -> None:
    assert Persona.model_validate(LEAST).words.of("one").temperature == 0
    free = Persona.model_validate({**LEAST, "words": {"temperature": 0.7, "top_p": 0.9}}).words
    assert (free.of("one").temperature, free.of("one").top_p) == (0.7, 0.9)
    assert free.of("one") == free.of("one"), "the same call on another front-end"
    assert free.of("one").seed != free.of("other").seed
    fixed = Persona.model_validate({**LEAST, "words": {"temperature": 0.7, "seed": 5}}).words
    assert fixed.of("one") == fixed.of("other") == Sampling(0.7, 1.0, 5)


def test_a_persona_is_frozen() -> None:
    with pytest.raises(ValidationError):
        Persona.model_validate(LEAST).greeting = "Hi."


@pytest.mark.parametrize("path", PERSONAS, ids=lambda path: path.stem)
def test_the_shipped_personas_load(path: Path) -> None:
    persona = load_persona(path)
    assert len(persona.prefix()) == 2 + len(persona.toolbox.examples) + 2 * len(persona.examples)


def test_there_is_a_shipped_persona() -> None:
    assert PERSONAS


def test_a_mistake_is_told_with_file_and_line(tmp_path: Path) -> None:
    path = tmp_path / "desk.toml"
    path.write_text('name = "Desk"\ngreeting = "Hello."\nsystem = "You help."\n\n[limits]\ncall_s = -1\n')
    with pytest.raises(DocumentError) as caught:
        load_persona(path)
    assert (caught.value.path, caught.value.line) == (path, 6)


# Calls that it makes itself


@pytest.mark.parametrize(
    ("opening", "greeting"),
    [
        ("", "Hello, this is an automated call. I am the AI assistant of Clinic."),
        (
            "Is this Mr. Ito?",
            "Hello, this is an automated call. I am the AI assistant of Clinic. Is this Mr. Ito?",
        ),
        ("Hi, the virtual receptionist of Clinic here.", "Hi, the virtual receptionist of Clinic here."),
        ("This is Clinic's A.I. assistant.", "This is Clinic's A.I. assistant."),
        ("I'm Maya, an AI.", "I'm Maya, an AI."),
        # Neither is a shop for washing machines one, nor "said" and "main" an AI.
        (
            "This is Ito's Washing Machine and Computer Repair.",
            "Hello, this is an automated call. I am the AI assistant of Clinic. "
            "This is Ito's Washing Machine and Computer Repair.",
        ),
        (
            "He said to call.",
            "Hello, this is an automated call. I am the AI assistant of Clinic. He said to call.",
        ),
    ],
)
def test_a_call_of_its_own_begins_with_who_is_calling(opening: str, greeting: str) -> None:
    persona = Persona(name="Clinic", greeting="Clinic, hello.", system="You are Maya.")
    calling = persona.model_copy(update={"outbound": Outbound(opening=opening)}).calling()
    assert calling.greeting == greeting
    assert calling.turns.protect_greeting
    assert calling.name == "Clinic"


def test_its_task_and_the_way_out_stand_in_the_prompt() -> None:
    outbound = Outbound(task="You call to confirm Thursday at ten.")
    persona = Persona(name="Clinic", greeting="Hello.", system="You are Maya.", outbound=outbound)
    system = persona.calling().prefix()[0].content
    assert system.startswith("You are Maya. You call to confirm Thursday at ten.")
    assert "want no calls" in system
    assert "want no calls" not in persona.prefix()[0].content


def test_a_message_for_a_machine_says_who_calls() -> None:
    outbound = Outbound(message="Please call us back about Thursday.")
    persona = Persona(name="Clinic", greeting="Hello.", system="You are Maya.", outbound=outbound)
    assert persona.leaving_message().goodbye == (
        "This is an automated message from Clinic. Please call us back about Thursday."
    )


def test_where_calls_are_recorded_callers_are_told() -> None:
    notice = "This call is recorded."
    persona = Persona(name="Clinic", greeting="Hello.", system="You are Maya.", recording_notice=notice)
    assert persona.greeting == "Hello."
    assert persona.recorded().greeting == "Hello. This call is recorded."
    assert persona.recorded().calling().greeting.endswith("of Clinic. This call is recorded.")
    silent = Persona(name="Clinic", greeting="Hello.", system="You are Maya.")
    assert silent.recorded() == silent
