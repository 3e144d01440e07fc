"""The voice against its peers: transformers' CSM in fp32 and moshi's Mimi, interleaved in one run.

Full-size random weights on the CPU. Every rival is a process of its own with the same number of threads;
they are asked in turns. Ratios are of CPU time (all threads together), medians over the rounds. With a CUDA
device `bench.csm_load` measures what real-time service would give instead.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from pathlib import Path

from bench.csm_own import tick_own_ms
from bench.interleaved import Series, Worker, interleave, start
from bench.report import Report
from models.base import ModelError

PEERS_PYTHON = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
SLOTS = 8
PREFILL_ROWS = 200
TURN_TEXT_ROWS, TURN_CODEC_FRAMES = 14, 38
"""A caller's turn of three seconds, as context: a row for each token, and for each 80 ms of sound."""


class PeersMissing(ModelError):
    """The peers' environment has not been built."""


def run(
    *,
    rounds: int = 12,
    threads: int = 1,
    device: str = "cpu",
    progress: Callable[[str], None] = lambda _: None,
) -> Report:
    """Blocks for several minutes and needs 12 GB of memory on the CPU. Raises `PeersMissing`."""
    if device != "cpu":
        from bench.csm_load import run_on

        return run_on(device, progress=progress)
    if not PEERS_PYTHON.is_file():
        raise PeersMissing(
            "the peers are not installed: run infra/setup/peers.sh first (2 GB, a few minutes)"
        )
    with ExitStack() as stack:
        progress("loading ours, transformers and moshi")
        ours = Worker("ours", [sys.executable, "-m", "bench.csm_ours", str(threads), str(SLOTS)])
        csm, mimi = (_peer(name, threads) for name in ("transformers", "moshi"))
        start([ours, csm, mimi], stack)
        ours.ask("tick", SLOTS)
        memory = ours.ask("memory")
        progress(f"{rounds} rounds of a CodecFrame")
        steps = interleave(
            {
                "transformers": (csm, ["codec_frame"]),
                "slot1": (ours, ["tick", 1]),
                "slot8": (ours, ["tick", SLOTS]),
                "moshi": (mimi, ["decode"]),
                "mimi1": (ours, ["mimi", 1]),
                "mimi8": (ours, ["mimi", SLOTS]),
            },
            rounds,
            warm_up=2,
        )
        progress(f"{max(3, rounds // 3)} rounds of a prefill of {PREFILL_ROWS} rows")
        prefills = interleave(
            {
                "transformers_prefill": (csm, ["begin", PREFILL_ROWS]),
                "prefill": (ours, ["prefill", PREFILL_ROWS]),
                "turn_text": (ours, ["prefill", TURN_TEXT_ROWS]),
                "turn_text_and_sound": (ours, ["prefill", TURN_TEXT_ROWS + TURN_CODEC_FRAMES + 1]),
                "turn_encode": (ours, ["encode", TURN_CODEC_FRAMES]),
            },
            max(3, rounds // 3),
        )
    progress("the engine's own cost")
    return _report({**steps, **prefills}, memory, threads, rounds)


def _peer(name: str, threads: int) -> Worker:
    worker = Path(__file__).with_name("csm_peers.py")
    command = [str(PEERS_PYTHON), str(worker), name, str(threads)]
    return Worker(name, command, environment={"NO_TORCH_COMPILE": "1"})


def _report(series: Mapping[str, Series], memory: Mapping[str, float], threads: int, rounds: int) -> Report:
    def ratio(ours: str, theirs: str, share: int = 1) -> float:
        return round(series[ours].cpu / series[theirs].cpu / share, 3)

    return Report(
        figures={
            "slot1_ratio": ratio("slot1", "transformers"),
            "slot8_ratio": ratio("slot8", "transformers", SLOTS),
            "mimi_ratio": ratio("mimi1", "moshi"),
            "mimi_growth": round(series["mimi8"].cpu / series["mimi1"].cpu, 2),
            "prefill_ratio": ratio("prefill", "transformers_prefill"),
            "rss_gb": round(memory["rss_gb"], 2),
            "peak_gb": round(memory["peak_gb"], 2),
            "tick_own_ms": round(tick_own_ms(), 3),
            "context_text_cpu_ms": round(series["turn_text"].cpu),
            "context_audio_cpu_ms": round(series["turn_text_and_sound"].cpu + series["turn_encode"].cpu),
            **{f"{name}_cpu_ms": round(times.cpu) for name, times in series.items()},
            **{f"{name}_wall_ms": round(times.wall) for name, times in series.items()},
        },
        notes=(
            f"{threads} thread(s) for every rival, {rounds} rounds after two that do not count, "
            "medians of CPU time",
            "slot1 and slot8: W8A8, Mimi included, 200 rows of context and more; transformers: fp32, no Mimi",
            "context_*: what a caller's turn of 3 s costs as context, in words alone or with its sound",
            f"tick_own_ms: 32 slots, a stepper that does nothing; rss_gb: {SLOTS} slots of 2,048 rows",
        ),
        details={name: [round(ms, 1) for ms in times.cpu_ms] for name, times in series.items()},
    )
