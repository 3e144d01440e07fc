"""README's tables that can be reckoned, held against the code."""

import re
from pathlib import Path
from typing import Literal

import pytest

from models.csm.memory import WeightsKind, gigabytes, total_bytes, voice_memory

README = (Path(__file__).parents[2] / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("device", "weights"), [("cuda", "full"), ("cuda", "int8"), ("cpu", "full"), ("cpu", "w8a8")]
)
def test_the_voice_takes_what_the_readme_says(device: Literal["cuda", "cpu"], weights: WeightsKind) -> None:
    title = {"cuda": "GPU", "cpu": "CPU"}[device]
    row = re.search(rf"\| {title} \| `{weights}`.*", README)
    assert row is not None
    told = [cell.strip() for cell in row[0].strip("|").split("|")[2:]]
    assert told == [
        gigabytes(total_bytes(voice_memory(device=device, weights=weights, slots=slots)))
        for slots in (12, 32)
    ]


def test_links_within_the_readme_lead_somewhere() -> None:
    headings = re.findall(r"^#+ (.+)$", README, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
    assert set(re.findall(r"\]\(#([^)]+)\)", README)) <= anchors
