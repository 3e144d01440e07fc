"""The stages measured alone, on stand-ins with known latencies."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench.turns_stages import STAGES, measure
from infra.settings import CLINIC_PERSONA
from models.base import Models
from models.scripted import EnergyVoiceActivity, ScriptedChat, ScriptedSynthesizer, ScriptedTranscriber
from pipeline.persona import load_persona
from tests.bench.corpora import turn


async def test_each_stage_is_timed_from_the_end_of_the_one_before() -> None:
    models = Models(
        ScriptedTranscriber(latency_s=0.05),
        ScriptedChat(first_token_s=0.1, tokens_per_s=40.0),
        ScriptedSynthesizer(latency_s=0.02),
        EnergyVoiceActivity(),
    )
    persona = load_persona(CLINIC_PERSONA)
    medians = await measure(models, persona, [turn(n) for n in range(3)])
    assert set(medians) == {*STAGES, "sum"}
    # Sleeps last at least as long as they are told; a loaded machine makes them longer.
    assert medians["transcription"] >= 49 and medians["first_token"] >= 99
    assert medians["first_clause"] >= 0 and medians["first_audio"] >= 19
    assert medians["sum"] >= 49 + 99 + 19


@pytest.mark.models
@pytest.mark.timeout(300)
def test_the_process_prints_its_medians() -> None:
    command = [sys.executable, "-m", "bench.turns_stages", "--profile", "scripted", "--part", "tuning"]
    command += ["--persona", str(CLINIC_PERSONA), "--turns", "2"]
    root = Path(__file__).parents[2]
    done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=True)
    medians = json.loads(done.stdout.splitlines()[-1])
    assert set(medians) == {*STAGES, "sum"} and medians["first_token"] > 100
