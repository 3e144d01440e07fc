"""JUnit XML, by what the readers of CI servers share: testsuites, testsuite, testcase, failure."""

from datetime import UTC, datetime
from xml.etree import ElementTree

from telephony.simulator.caller import Speech
from telephony.simulator.junit import NoCall, junit_xml
from telephony.simulator.report import ServerTurn
from telephony.simulator.runs import Runs
from telephony.simulator.scenario import Scenario
from telephony.simulator.virtual import simulate_virtual
from tests.telephony.parrot import Parrot, parrots, tone

AT = datetime(2026, 2, 3, 4, 5, 6, tzinfo=UTC)
ALLOWED = {
    "testsuites": ({"name", "tests", "failures", "errors", "skipped", "time"}, {"testsuite"}),
    "testsuite": (
        {"name", "tests", "failures", "errors", "skipped", "time", "timestamp"},
        {"testcase"},
    ),
    "testcase": ({"classname", "name", "time"}, {"failure", "error", "system-out"}),
    "failure": ({"message", "type"}, set()),
    "error": ({"message", "type"}, set()),
    "system-out": (set(), set()),
}


def runs(agent_says: str, repeat: int = 1, name: str = "hours") -> Runs:
    steps = ["listen", {"say": "one"}, "listen", {"expect": {"gap": 2.0, "reply": "noon"}}]
    script = Scenario.model_validate({"name": name, "steps": steps, "repeat": repeat})
    account = [ServerTurn("", "Hello.", "Hello."), ServerTurn("x", agent_says, agent_says)]
    speeches = {1: Speech.of("one", tone(1.0))}
    return Runs(
        script,
        tuple(
            simulate_virtual(run, parrots(Parrot()), speeches=speeches, transcripts=lambda call_id: account)
            for run in script.runs()
        ),
    )


def read(*played) -> ElementTree.Element:
    text = junit_xml(played, AT)
    root = ElementTree.fromstring(text.encode())  # noqa: S314 - our own
    for element in root.iter():
        attributes, children = ALLOWED[element.tag]
        assert set(element.attrib) <= attributes
        assert {child.tag for child in element} <= children
    for parent in (root, *root):
        cases = list(parent.iter("testcase"))
        assert parent.get("tests") == str(len(cases))
        assert parent.get("failures") == str(len(list(parent.iter("failure"))))
        assert parent.get("errors") == str(len(list(parent.iter("error"))))
    return root


def test_every_run_and_expectation_is_a_case():
    root = read(runs("Until noon.", repeat=2))
    (suite,) = root
    assert (suite.get("name"), suite.get("timestamp")) == ("hours", "2026-02-03T04:05:06+00:00")
    assert [case.get("name") for case in suite] == [
        "the call [run 1]",
        'step 4 of "hours" reply: noon [run 1]',
        'step 4 of "hours" gap: 2.0 [run 1]',
        "the call [run 2]",
        'step 4 of "hours" reply: noon [run 2]',
        'step 4 of "hours" gap: 2.0 [run 2]',
    ]
    assert len({case.get("name") for case in suite}) == 6
    assert float(suite[0].get("time")) > 4
    assert "caller hung up after" in suite[0].findtext("system-out")


def test_a_failure_tells_its_message():
    (suite,) = read(runs("No idea."))
    (failure,) = suite.iter("failure")
    assert failure.get("message").startswith('step 4 of "hours": expected the reply to say "noon", but')
    assert "\n" not in failure.get("message")
    assert 'the caller said "one"' in failure.text
    assert (suite.get("failures"), suite.get("errors")) == ("1", "0")


def test_a_call_that_never_came_about_is_an_error():
    root = read(runs("Until noon."), NoCall("late", "ws://host cannot be reached"))
    assert (root.get("tests"), root.get("errors")) == ("4", "1")
    assert next(root.iter("error")).get("message") == "ws://host cannot be reached"


def test_words_that_xml_cannot_hold_are_replaced():
    (suite,) = read(runs('Is "5 < 6" & \x00\x1b[31m?'))
    assert '"5 < 6" & \ufffd\ufffd[31m?' in next(suite.iter("failure")).text


def test_nothing_played_is_a_document_too():
    assert read().get("tests") == "0"
