"""One call of `maya bench browser`: that it measures at all; how much is the bench's to say."""

import pytest

pytest.importorskip("playwright", reason="infra/setup/programs.sh installs it")

from bench.browser import run
from infra.errors import CommandError
from tests.infra.browser_kit import CHROMIUM


@pytest.mark.realtime
@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium: infra/setup/programs.sh installs Debian's")
def test_a_click_is_followed_by_a_greeting() -> None:
    told: list[str] = []
    report = run(calls=1, progress=told.append)
    assert report.figures["greeted_n"] == 1
    assert 0 < float(str(report.figures["greeted_p50_ms"])) < 20_000
    assert told[0].startswith("call 1: greeting heard after")


def test_without_chromium_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "/nowhere")
    with pytest.raises(CommandError, match="apt-get install chromium"):
        run()
