"""What the language model is shown of the conversation."""

from models.base import Message
from pipeline.history import INTERRUPTED, History


def test_the_conversation_is_kept_in_order() -> None:
    history = History()
    history.agent_said("Hello.", interrupted=False)
    history.caller_said("are you open")
    history.agent_said("Yes.", interrupted=False)
    assert history.messages == (
        Message("assistant", "Hello."),
        Message("user", "are you open"),
        Message("assistant", "Yes."),
    )


def test_a_turn_that_may_still_grow_leaves_no_trace() -> None:
    history = History()
    history.agent_said("Hello.", interrupted=False)
    assert history.with_caller("are you")[-1] == Message("user", "are you")
    assert history.messages == (Message("assistant", "Hello."),)


def test_a_reply_cut_off_says_so() -> None:
    history = History()
    history.agent_said("We are open", interrupted=True)
    assert history.messages == (Message("assistant", f"We are open {INTERRUPTED}"),)


def test_a_reply_cut_off_before_its_first_word_is_still_an_answer() -> None:
    """Two turns of the caller in a row would read as one."""
    history = History()
    history.caller_said("tell me")
    history.agent_said("", interrupted=True)
    assert history.messages[-1] == Message("assistant", INTERRUPTED)


def test_a_reply_without_words_is_nothing() -> None:
    history = History()
    history.agent_said("", interrupted=False)
    assert history.messages == ()


def test_only_the_callers_last_words_are_taken_back() -> None:
    history = History()
    history.retract_caller()
    history.agent_said("Hello.", interrupted=False)
    history.retract_caller()
    assert history.messages == (Message("assistant", "Hello."),)
    history.caller_said("I would like")
    history.retract_caller()
    assert history.messages == (Message("assistant", "Hello."),)


def test_what_was_handed_out_does_not_change() -> None:
    history = History()
    before = history.messages
    history.caller_said("hello")
    assert before == ()


def test_a_tool_stands_between_what_was_said_before_and_after_it() -> None:
    history = History()
    history.caller_said("where is it")
    history.agent_acted("Let me look.", '{"tool": "order_status"}', "On its way.")
    history.agent_said("It is on its way.", interrupted=False)
    assert history.messages == (
        Message("user", "where is it"),
        Message("assistant", 'Let me look. {"tool": "order_status"}'),
        Message("tool", "On its way."),
        Message("assistant", "It is on its way."),
    )


def test_a_result_that_comes_late_takes_its_place() -> None:
    history = History()
    shown = history.agent_acted("", '{"tool": "book"}', "No result yet.")
    same = history.agent_acted("", '{"tool": "book"}', "No result yet.")
    history.caller_said("hello")
    history.result_known(same, "Booked.")
    assert [m.content for m in history.messages if m.role == "tool"] == ["No result yet.", "Booked."]
    history.result_known(shown, "Failed.")
    assert [m.content for m in history.messages if m.role == "tool"] == ["Failed.", "Booked."]
    assert history.messages[-1] == Message("user", "hello")
