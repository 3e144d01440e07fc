"""A fine-tuned voice holds a call: in virtual time, with the exported files and voice prompt."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Any

from models.csm.assembly import make_engine, voice_options
from models.csm.checkpoint import open_checkpoint
from models.csm.files import CsmFiles, find_csm_files
from models.csm.finetune.job import Job
from models.csm.finetune.recipe import Recipe
from models.csm.finetune.run import finetune
from models.csm.host import LoopHost
from models.csm.prompt import load_prompt
from models.csm.text import TextTokenizer
from models.csm.voice import CsmSynthesizer
from models.placement import CPU
from models.scripted import ScriptedChat
from models.voices import CsmVoicePlan, VoiceChoice
from tests.models.csm.finetune.corpus_kit import sentences, write_folder
from tests.pipeline.virtual_calls import PERSONA, House, hears


def test_the_exported_files_speak_in_a_call(tmp_path: Path, base: CsmFiles, tokenizer: TextTokenizer) -> None:
    corpus = write_folder(tmp_path / "expresso", sentences(5, 1.2))
    recipe = Recipe(steps=4, batch=16, warm_up=1, evaluate_every=2, validation=32)
    finetune(Job(corpus, base, tmp_path / "voice", recipe=recipe, sample_every=0), tokenizer)

    found = find_csm_files(tmp_path / "voice")
    plan = CsmVoicePlan("tuned", replace(found, mimi=base.mimi))
    choice = VoiceChoice(tts=str(tmp_path / "voice"))
    assert found.prompt is not None
    prompt = load_prompt(found.prompt)
    with open_checkpoint(plan.files.base, hashed=False) as checkpoint:
        engine = make_engine(checkpoint, plan, choice, CPU, slots=1, threads=1, clock=virtual_now)
    synthesizer: Any = CsmSynthesizer(
        [LoopHost(engine, tick_s=0.03)], tokenizer, voice_options(choice, prompt)
    )
    desk = House(
        transcriber=hears("when"),
        chat=ScriptedChat(["At nine."], prefill_s=0.05, first_token_s=0.1, tokens_per_s=20),
        synthesizer=synthesizer,
        persona=PERSONA.model_copy(update={"greeting": "Hello."}),
    )
    report = desk.play(["listen", {"say": "when are you open"}, "listen", "hang_up"])
    assert not report.violations and not desk.observed.faults
    assert [turn.text for turn in desk.observed.agent] == ["Hello.", "At nine."]
    (stats,) = synthesizer.stats
    assert stats.codec_frames > 20 and stats.open_slots == 0 and stats.failures == 0


def virtual_now() -> float:
    return asyncio.get_running_loop().time()
