"""What the clinic of `maya bench tools` can look up."""

from typing import Literal

from pipeline.tools import tool

Day = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]

_FREE = {"Monday": "9 a.m. and 2 p.m.", "Thursday": "10 a.m.", "Friday": "4 p.m."}


@tool(
    side_effects=False,
    example="Is there anything free on Tuesday?",
    example_arguments='{"day": "Tuesday"}',
)
def free_slots(day: Day) -> str:
    """look up when an appointment is free on a day"""
    times = _FREE.get(day)
    return f"{day}: free at {times}." if times else f"{day}: nothing is free."


@tool(
    side_effects=False,
    example="Are the results for sample 2093 in?",
    example_arguments='{"sample": "2093"}',
)
def lab_result(sample: str) -> str:
    """look up whether a lab result is ready, by the sample's number"""
    ready = sample in ("5512", "7301")
    return (
        f"Sample {sample}: ready to be picked up." if ready else f"Sample {sample}: not ready before Friday."
    )
