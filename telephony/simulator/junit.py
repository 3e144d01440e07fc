"""Runs as JUnit XML, in the dialect that pytest writes and CI servers read.

One suite for each scenario; in it one case for each run, with the length of the call as its time, and one
for each expectation of it. A call that never came about is an error.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from xml.etree import ElementTree

from telephony.simulator.expectations import Verdict
from telephony.simulator.report import Report
from telephony.simulator.runs import Runs

_UNPRINTABLE = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""What XML 1.0 cannot hold (section 2.2)."""


@dataclass(frozen=True, slots=True)
class NoCall:
    """A scenario that could not be played, and why."""

    scenario: str
    reason: str


def junit_xml(played: Sequence[Runs | NoCall], at: datetime) -> str:
    """The whole document; `at` is when it began."""
    root = ElementTree.Element("testsuites", name="maya simulate")
    for item in played:
        suite = ElementTree.SubElement(root, "testsuite", timestamp=at.isoformat(timespec="seconds"))
        if isinstance(item, NoCall):
            _name(suite, item.scenario)
            case = _case(suite, item.scenario, "the call", 0.0)
            _told(case, "error", "CannotCall", item.reason)
        else:
            _name(suite, item.scenario.name)
            for number, report in enumerate(item.reports, 1):
                _run(suite, item.scenario.name, report, f" [run {number}]" if len(item.reports) > 1 else "")
        _count(suite)
    _count(root)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"


def _run(suite: ElementTree.Element, name: str, report: Report, label: str) -> None:
    case = _case(suite, name, f"the call{label}", report.duration_s)
    lines = [f"{report.ending} after {report.duration_s:.1f} s"]
    lines += [f"protocol: {violation}" for violation in report.violations]
    if report.recording is not None:
        lines.append(f"recording: {report.recording}")
    ElementTree.SubElement(case, "system-out").text = _clean("\n".join(lines))
    for verdict in report.verdicts:
        _expectation(suite, name, verdict, label)


def _expectation(suite: ElementTree.Element, name: str, verdict: Verdict, label: str) -> None:
    case = _case(suite, name, f"{verdict.where} {verdict.expectation}{label}", 0.0)
    if not verdict.passed:
        _told(case, "failure", "ExpectationFailed", verdict.message)


def _case(suite: ElementTree.Element, scenario: str, name: str, seconds: float) -> ElementTree.Element:
    attributes = {"classname": _clean(scenario), "name": _clean(name), "time": f"{seconds:.3f}"}
    return ElementTree.SubElement(suite, "testcase", attributes)


def _told(case: ElementTree.Element, tag: str, kind: str, message: str) -> None:
    message = _clean(message)
    told = ElementTree.SubElement(case, tag, message=message.partition("\n")[0], type=kind)
    told.text = message


def _name(suite: ElementTree.Element, name: str) -> None:
    suite.set("name", _clean(name))


def _count(parent: ElementTree.Element) -> None:
    cases = list(parent.iter("testcase"))
    parent.set("tests", str(len(cases)))
    parent.set("failures", str(len(list(parent.iter("failure")))))
    parent.set("errors", str(len(list(parent.iter("error")))))
    parent.set("skipped", "0")
    parent.set("time", f"{sum(float(case.get('time', 0)) for case in cases):.3f}")


def _clean(text: str) -> str:
    return _UNPRINTABLE.sub("\ufffd", text)
