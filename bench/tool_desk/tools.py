"""What the clinic of `maya bench tools` can look up."""

from typing import Literal

from pipeline.tools import Example, tool

Day = Literal["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"]

_FREE = {"Monday": "9 a.m. and 2 p.m.", "Thursday": "10 a.m.", "Friday": "4 p.m."}


@tool(
    side_effects=False,
    example=Example(
        "Is there anything free on Tuesday?",
        {"day": "Tuesday"},
        "Tuesday: free at 11 a.m.",
        "Yes, on Tuesday at 11 a.m. is free.",
    ),
)
def free_slots(day: Day) -> str:
    """look up when an appointment is free on a day"""
    times = _FREE.get(day)
    return f"{day}: free at {times}" if times else f"{day}: nothing is free"


@tool(
    side_effects=False,
    example=Example(
        "Are the results for sample 2093 in?",
        {"sample": "2093"},
        "Sample 2093: not ready before Monday.",
        "No, they will not be ready before Monday.",
    ),
)
def lab_result(sample: str) -> str:
    """look up whether a lab result is ready, by the sample's number"""
    ready = sample in ("5512", "7301")
    return (
        f"Sample {sample}: ready to be picked up." if ready else f"Sample {sample}: not ready before Friday."
    )
