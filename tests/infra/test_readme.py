"""What README and docs say that can be reckoned or looked up, held against the code and the files."""

import re
from pathlib import Path
from typing import Literal

import pytest

from models.csm.memory import WeightsKind, gigabytes, total_bytes, voice_memory

ROOT = Path(__file__).parents[2]
VOICE = (ROOT / "docs" / "voice.md").read_text("utf-8")
PAGES = ("README.md", *(f"docs/{page.name}" for page in sorted((ROOT / "docs").glob("*.md"))))


@pytest.mark.parametrize(
    ("device", "weights"), [("cuda", "full"), ("cuda", "int8"), ("cpu", "full"), ("cpu", "w8a8")]
)
def test_the_voice_takes_what_its_page_says(device: Literal["cuda", "cpu"], weights: WeightsKind) -> None:
    title = {"cuda": "GPU", "cpu": "CPU"}[device]
    row = re.search(rf"\| {title} \| `{weights}`.*", VOICE)
    assert row is not None
    told = [cell.strip() for cell in row[0].strip("|").split("|")[2:]]
    assert told == [
        gigabytes(total_bytes(voice_memory(device=device, weights=weights, slots=slots)))
        for slots in (12, 32)
    ]


@pytest.mark.parametrize("page", PAGES)
def test_links_lead_somewhere(page: str) -> None:
    here = ROOT / page
    for link in re.findall(r"\]\(([^)\s]+)\)", here.read_text("utf-8")):
        if link.startswith(("http://", "https://", "sip:")):
            continue
        name, _, anchor = link.partition("#")
        target = (here.parent / name) if name else here
        assert target.exists(), link
        if anchor:
            assert anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^a-z0-9 -]", "", heading.lower()).replace(" ", "-") for heading in headings}
