"""The peer of `maya bench turns`: a phone agent of pipecat 1.14.0, set up as its documentation says.

Runs in `.venv-pipecat` (infra/setup/pipecat.sh), started by `bench.pipecat_peer` with one JSON file of
settings. Of this project only the voice (`models.hibari`) is used, so that both agents speak alike. All else
is pipecat's own, with its defaults: Silero VAD (0.2 s to start, 0.2 s to stop), smart-turn v3.2 (bundled, one
thread; 3 s of silence end a turn that it holds to be unfinished), turns begun by voice or by a transcript,
interruptions allowed, transcription when the VAD stops, the voice given sentence by sentence.

Followed: its Twilio example (`FastAPIWebsocketTransport` with `TwilioFrameSerializer`, 8 kHz out, metrics on,
every service made anew for each call), its example for OpenAI-compatible servers, and its reference pages of
`WhisperSTTService`, `TTSService`, `LLMContextAggregatorPair` and `TwilioFrameSerializer`. Departures:

- Audio comes in at 16 kHz, pipecat's own default, not at the Twilio example's 8 kHz: `WhisperSTTService`
  hands its samples to Whisper as they are, and Whisper wants 16 kHz.
- No automatic hang-up: there is no Twilio to be asked for it.
- The greeting is spoken from the persona's text instead of being asked of the language model, and does not
  enter the context: there it stands already, before the persona's example turns.
- Temperature 0 and the persona's limit of tokens, as for our own language model.
- The voice is loaded once, not for each call: it is the one piece that is not pipecat's.
"""

# mypy: disable-error-code="import-not-found,misc,untyped-decorator"
# pipecat is not installed in the environment that checks types: its classes and decorators are Any there.

import asyncio
import json
import sys
import time
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import numpy as np
import uvicorn
from fastapi import FastAPI, WebSocket
from pipecat.audio.utils import create_stream_resampler
from pipecat.audio.vad.silero import SileroVADAnalyzer
from pipecat.frames.frames import (
    ErrorFrame,
    Frame,
    TTSAudioRawFrame,
    TTSSpeakFrame,
    VADUserStoppedSpeakingFrame,
)
from pipecat.observers.base_observer import BaseObserver, FramePushed
from pipecat.pipeline.pipeline import Pipeline
from pipecat.pipeline.worker import PipelineParams, PipelineWorker
from pipecat.processors.aggregators.llm_context import LLMContext
from pipecat.processors.aggregators.llm_response_universal import (
    LLMContextAggregatorPair,
    LLMUserAggregatorParams,
)
from pipecat.runner.utils import parse_telephony_websocket
from pipecat.serializers.twilio import TwilioFrameSerializer
from pipecat.services.openai.llm import OpenAILLMService
from pipecat.services.settings import TTSSettings
from pipecat.services.tts_service import TTSService
from pipecat.services.whisper.stt import WhisperSTTService
from pipecat.transports.websocket.fastapi import FastAPIWebsocketParams, FastAPIWebsocketTransport
from pipecat.workers.runner import WorkerRunner

from models.hibari import RATE_HZ, HibariSynthesizer

HEARING_RATE_HZ = 16_000
LINE_RATE_HZ = 8_000


class LlamaCppLLMService(OpenAILLMService):
    """pipecat's OpenAI service, told as its local services (Ollama and others) are that the server knows no
    role "developer". `llama_cpp.server` refuses such messages, and pipecat leaves one in the context when the
    caller cut the agent off without a word that was understood: every later turn of the call would fail."""

    supports_developer_role = False


class HibariTTSService(TTSService):
    """The voice as pipecat's guide to services of one's own has it, in the form of its local voices (Kokoro,
    Piper): one sentence in, 16-bit sound at the pipeline's rate out."""

    def __init__(self, synthesizer: HibariSynthesizer) -> None:
        settings = TTSSettings(model=None, voice=None, language=None)
        super().__init__(push_start_frame=True, push_stop_frames=True, settings=settings)
        self._synthesizer = synthesizer
        self._resampler = create_stream_resampler()

    def can_generate_metrics(self) -> bool:
        return True

    async def run_tts(self, text: str, context_id: str) -> AsyncGenerator[Frame, None]:
        try:
            await self.start_tts_usage_metrics(text)
            voice = await self._synthesizer.open()
            async for samples in voice.speak(text):
                await self.stop_ttfb_metrics()
                pcm = (samples * 32767).astype(np.int16).tobytes()
                audio = await self._resampler.resample(pcm, RATE_HZ, self.sample_rate)
                yield TTSAudioRawFrame(
                    audio=audio, sample_rate=self.sample_rate, num_channels=1, context_id=context_id
                )
        except Exception as error:
            yield ErrorFrame(error=f"The voice failed: {error}")
        finally:
            await self.stop_ttfb_metrics()


class Transcript:
    """One call as pipecat understood it, in the form of Maya's own `transcript.json`, which the simulated
    caller reads. Times are in seconds since the stream started; `speech_end_s` is where pipecat's VAD heard
    the speech end."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "transcript.json"
        self._turns: list[dict[str, Any]] = []
        self._started = time.time()
        self._outcome: str | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.speech_end_s: float | None = None

    def voice_ended(self, at: float) -> None:
        """`at` is a time of `time.time()`."""
        self.speech_end_s = at - self._started

    def caller_said(self, text: str) -> None:
        times = {"speech_end_s": self.speech_end_s, "turn_end_s": time.time() - self._started}
        self._turns.append({"caller": text, "agent": "", "heard": "", "times": times})
        self._write()

    def agent_said(self, text: str, interrupted: bool) -> None:
        """What entered the context: after an interruption what pipecat takes for heard."""
        if not self._turns:
            self._turns.append({"caller": "", "agent": "", "heard": ""})
        turn = self._turns[-1]
        turn["agent"] = turn["heard"] = f"{turn['agent']} {text}".strip()
        turn["interrupted"] = interrupted
        self._write()

    def end(self) -> None:
        self._outcome = "ended"
        self._write()

    def _write(self) -> None:
        written = self._path.with_suffix(".part")
        written.write_text(json.dumps({"turns": self._turns, "outcome": self._outcome}, indent=1))
        written.replace(self._path)


class VoiceEnds(BaseObserver):
    """Tells the transcript when the VAD heard the caller fall silent; the turn may be over much later."""

    def __init__(self, transcript: Transcript) -> None:
        super().__init__()
        self._transcript = transcript

    async def on_push_frame(self, data: FramePushed) -> None:
        pushed = data.frame
        if isinstance(pushed, VADUserStoppedSpeakingFrame):
            self._transcript.voice_ended(pushed.timestamp - pushed.stop_secs)


async def hold_call(websocket: WebSocket, settings: dict[str, Any], synthesizer: HibariSynthesizer) -> None:
    """One call, from Twilio's `start` to the end of the stream."""
    _, call = await parse_telephony_websocket(websocket)
    transcript = Transcript(Path(settings["calls_dir"]) / call["call_id"])
    transport = FastAPIWebsocketTransport(
        websocket=websocket,
        params=FastAPIWebsocketParams(
            audio_in_enabled=True,
            audio_out_enabled=True,
            add_wav_header=False,
            serializer=TwilioFrameSerializer(
                stream_sid=call["stream_id"],
                call_sid=call["call_id"],
                params=TwilioFrameSerializer.InputParams(auto_hang_up=False),
            ),
        ),
    )
    stt = WhisperSTTService(
        device="cpu",
        compute_type=settings["whisper_compute_type"],
        settings=WhisperSTTService.Settings(model=settings["whisper"]),
    )
    llm = LlamaCppLLMService(
        api_key="not-needed",
        base_url=settings["llm_url"],
        settings=LlamaCppLLMService.Settings(
            model=settings["llm"],
            system_instruction=settings["system"],
            temperature=0.0,
            max_tokens=settings["reply_tokens"],
        ),
    )
    user, assistant = LLMContextAggregatorPair(
        LLMContext(messages=list(settings["messages"])),
        user_params=LLMUserAggregatorParams(vad_analyzer=SileroVADAnalyzer()),
    )
    voice = HibariTTSService(synthesizer)
    pipeline = Pipeline([transport.input(), stt, user, llm, voice, transport.output(), assistant])
    worker = PipelineWorker(
        pipeline,
        params=PipelineParams(
            audio_in_sample_rate=HEARING_RATE_HZ,
            audio_out_sample_rate=LINE_RATE_HZ,
            enable_metrics=True,
            enable_usage_metrics=True,
        ),
        observers=[VoiceEnds(transcript)],
    )

    @transport.event_handler("on_client_connected")
    async def greet(transport: Any, client: Any) -> None:
        await worker.queue_frames([TTSSpeakFrame(settings["greeting"], append_to_context=False)])

    @transport.event_handler("on_client_disconnected")
    async def leave(transport: Any, client: Any) -> None:
        await worker.cancel()

    @user.event_handler("on_user_turn_stopped")
    async def caller_said(aggregator: Any, strategy: Any, message: Any) -> None:
        transcript.caller_said(message.content or "")

    @assistant.event_handler("on_assistant_turn_stopped")
    async def agent_said(aggregator: Any, message: Any) -> None:
        transcript.agent_said(message.content, message.interrupted)

    runner = WorkerRunner(handle_sigint=False, force_gc=True)
    try:
        await runner.add_workers(worker)
        await runner.run()
    finally:
        transcript.end()


def application(settings: dict[str, Any]) -> FastAPI:
    synthesizer = HibariSynthesizer()
    app = FastAPI()

    @app.get("/readyz")
    async def ready() -> dict[str, str]:
        return {"status": "ready"}

    @app.websocket("/ws")
    async def stream(websocket: WebSocket) -> None:
        await websocket.accept()
        await hold_call(websocket, settings, synthesizer)

    return app


def main() -> None:
    settings = json.loads(Path(sys.argv[1]).read_text())
    config = uvicorn.Config(
        application(settings), host="127.0.0.1", port=settings["port"], timeout_graceful_shutdown=2
    )
    asyncio.run(uvicorn.Server(config).serve())


if __name__ == "__main__":
    main()
