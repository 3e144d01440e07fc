"""`maya bench`: speed and quality, measured."""

import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands.options import Json
from infra.errors import CommandError

if TYPE_CHECKING:
    from bench.report import Report

app = typer.Typer(
    help="Measure: turns, overlaps, heard, hearing, media, churn, sip, browser, console, amd, tools, llm, "
    "csm, faults, cluster, flood, sizing, crowd.",
    no_args_is_help=True,
    rich_markup_mode="rich",
)


def _bench(name: str, as_json: bool, options: Mapping[str, object], function: str = "run") -> None:
    from infra.logs import configure_logging

    configure_logging("warning")
    given = {option: value for option, value in options.items() if value is not None}
    report: Report = getattr(import_module(f"bench.{name}"), function)(**given)
    if as_json:
        typer.echo(report.to_json())
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("figure", "value", title=f"maya bench {name}")
    for figure, value in report.figures.items():
        table.add_row(figure, str(value))
    console = Console()
    console.print(table)
    for note in report.notes:
        console.print(f"- {note}")
    console.print(", ".join(f"{key} {value}" for key, value in {**report.machine, **report.load}.items()))


@app.command()
def turns(
    profile: Annotated[str | None, typer.Option(help="Models: embedded (default), tiny, maya.")] = None,
    calls: Annotated[
        int | None, typer.Option(min=1, help="Only the first so many calls of each kind.")
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="turns (gaps, cut-offs) or overlaps (interruptions, mm-hmm).")
    ] = None,
    tiny: Annotated[
        bool, typer.Option("--tiny", help="The tiny profile too, call by call in turns.")
    ] = False,
    peer: Annotated[str | None, typer.Option(help="pipecat: in turns with it, too.")] = None,
    part: Annotated[str | None, typer.Option(help="held_out (default), or tuning while developing.")] = None,
    speech_dir: Annotated[
        Path | None, typer.Option(help="Recorded speech with a transcripts.csv, for the tuning part.")
    ] = None,
    keep: Annotated[Path | None, typer.Option(help="Keep all sides' recordings in this folder.")] = None,
    make: Annotated[
        bool, typer.Option("--make", help="Only make the corpus, and say what is in it.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="With --make: write WAV files there.")] = None,
    policies: Annotated[
        bool, typer.Option("--policies", help="Only compare policies of when a turn is over, offline.")
    ] = False,
    picture: Annotated[Path | None, typer.Option(help="With --policies: draw the curves to a png.")] = None,
    as_json: Json = False,
) -> None:
    """Response gaps, cut-offs and interruptions of whole calls on real models; about 25 minutes.

    Example: [bold]maya bench turns --json[/bold]
    """
    if only not in (None, "turns", "overlaps"):
        raise CommandError(f"--only {only}: it is turns or overlaps.")
    if peer not in (None, "pipecat"):
        raise CommandError(f"--peer {peer}: it is pipecat.")
    if part not in (None, "tuning", "held_out"):
        raise CommandError(f"--part {part}: it is held_out or tuning.")
    if make:
        _bench("turns", as_json, {"out": out, "progress": _say}, function="make_corpus")
        return
    if policies:
        compared = {"part": part, "profile": profile, "picture": picture, "progress": _say}
        _bench("endpoints", as_json, compared)
        return
    options: dict[str, object] = {
        "profile": profile,
        "calls": calls,
        "only": only,
        "tiny": tiny,
        "peer": peer,
    }
    options |= {"part": part, "speech_dir": speech_dir, "keep": keep, "progress": _say}
    _bench("turns", as_json, options)


@app.command()
def overlaps(
    part: Annotated[str | None, typer.Option(help="held_out (default), or tuning while developing.")] = None,
    as_json: Json = False,
) -> None:
    """Who takes the floor and who is let pass, by the sounds of the corpus alone: offline, minutes.

    Example: [bold]maya bench overlaps --json[/bold]
    """
    _bench("overlaps", as_json, {"part": part, "progress": _say})


@app.command()
def heard(
    interruptions: Annotated[int | None, typer.Option(min=1, help="So many; default 300.")] = None,
    seed: Annotated[int | None, typer.Option(help="When they come.")] = None,
    as_json: Json = False,
) -> None:
    """Whether the agent knows to the word what the caller heard of a reply that was cut off.

    Example: [bold]maya bench heard --json[/bold]
    """
    _bench("heard", as_json, {"interruptions": interruptions, "seed": seed, "progress": _say})


@app.command()
def hearing(
    model: Annotated[str | None, typer.Option(help="A transcriber of the catalogue.")] = None,
    speech_dir: Annotated[
        Path | None, typer.Option(help="Recorded speech with a transcripts.csv, besides synthetic voices.")
    ] = None,
    sentences: Annotated[int | None, typer.Option(help="Only the first so many sentences.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the transcriber.")] = None,
    only: Annotated[
        str | None, typer.Option(help="load: eight transcriptions at once against one at a time.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Word error rate through mu-law, and what batches of several calls are worth.

    Example: [bold]maya bench hearing --json[/bold]
    """
    options = {"model": model, "speech_dir": speech_dir, "sentences": sentences, "threads": threads}
    _bench("hearing", as_json, {**options, "only": only})


@app.command()
def flood(
    calls: Annotated[int | None, typer.Option(min=1, help="Calls that are on; 20 by default.")] = None,
    seconds: Annotated[float | None, typer.Option(min=1, help="How long each half is measured.")] = None,
    per_s: Annotated[int | None, typer.Option(min=1, help="Requests a second; 1,000 by default.")] = None,
    as_json: Json = False,
) -> None:
    """Live calls while strangers flood the web server: packet gaps with and without.

    Example: [bold]maya bench flood --json[/bold]
    """
    _bench("flood", as_json, {"calls": calls, "seconds": seconds, "per_s": per_s})


@app.command()
def sizing(
    seconds: Annotated[float | None, typer.Option(min=60, help="Simulated time of each trial.")] = None,
    as_json: Json = False,
) -> None:
    """Calls per GPU and per core from 1 to 10,000, simulated from measured and computed service times; half a
    minute.

    Example: [bold]maya bench sizing --json[/bold]
    """
    _bench("sizing", as_json, {"seconds": seconds, "progress": _say})


@app.command()
def crowd(
    profile: Annotated[str | None, typer.Option(help="Models: embedded (default), tiny, maya.")] = None,
    calls: Annotated[
        list[int] | None, typer.Option(min=1, help="So many at once; may be repeated. Default 1 to 4.")
    ] = None,
    as_json: Json = False,
) -> None:
    """How many calls at once this machine answers in time with a profile's models; three minutes.

    Example: [bold]maya bench crowd --json[/bold]
    """
    _bench("crowd", as_json, {"profile": profile, "calls": calls, "progress": _say})


@app.command()
def media(
    first: Annotated[int | None, typer.Option(help="Calls to begin with.")] = None,
    step: Annotated[int | None, typer.Option(help="Calls to add at a time.")] = None,
    most: Annotated[int | None, typer.Option(help="Calls to end with.")] = None,
    seconds: Annotated[float | None, typer.Option(help="How long to measure each time.")] = None,
    saturated: Annotated[
        bool, typer.Option("--saturated", help="Only packet gaps while the bundled models take every core.")
    ] = False,
    calls: Annotated[int | None, typer.Option(min=1, help="With --saturated: calls; default 20.")] = None,
    as_json: Json = False,
) -> None:
    """Calls on one core, added jitter and memory per call, with stand-in models.

    Example: [bold]maya bench media --json[/bold]
    """
    if saturated:
        loaded = {"calls": calls, "seconds": seconds, "progress": _say}
        _bench("media", as_json, loaded, function="run_saturated")
        return
    options = {"first": first, "step": step, "most": most, "seconds": seconds, "progress": _say}
    _bench("media", as_json, options)


@app.command()
def churn(
    calls: Annotated[int | None, typer.Option(min=0, help="Short calls; default 10,000, 0: none.")] = None,
    live: Annotated[
        int | None, typer.Option(min=0, help="Calls that are on at the restart; default 100, 0: no restart.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What ten thousand short calls leave behind, and whom a rolling restart drops; about four minutes.

    Example: [bold]maya bench churn --json[/bold]
    """
    _bench("churn", as_json, {"calls": calls, "live": live, "progress": _say})


@app.command()
def sip(
    calls: Annotated[
        int | None, typer.Option(min=0, help="Calls without speech work; default 100, 0: none.")
    ] = None,
    dsp_calls: Annotated[
        int | None,
        typer.Option(min=0, help="Calls with voice detection and resampling; default 50, 0: none."),
    ] = None,
    seconds: Annotated[float | None, typer.Option(help="How long to measure each time.")] = None,
    as_json: Json = False,
) -> None:
    """SIP calls on one core: packet gaps, processor time and call set-up, with stand-in models; two minutes.

    Example: [bold]maya bench sip --json[/bold]
    """
    options = {"calls": calls, "dsp_calls": dsp_calls, "seconds": seconds, "progress": _say}
    _bench("sip", as_json, options)


@app.command()
def browser(
    calls: Annotated[int | None, typer.Option(min=1, help="How many calls; default 20.")] = None,
    as_json: Json = False,
) -> None:
    """From a click on the page /talk to the greeting heard, in Debian's Chromium; under a minute.

    Example: [bold]maya bench browser --json[/bold]
    """
    _bench("browser", as_json, {"calls": calls, "progress": _say})


@app.command()
def console(
    calls: Annotated[int | None, typer.Option(min=1, help="Live calls; default 200.")] = None,
    viewers: Annotated[int | None, typer.Option(min=1, help="Viewers beside Chromium; default 3.")] = None,
    seconds: Annotated[float | None, typer.Option(help="How long to measure each time.")] = None,
    rounds: Annotated[int | None, typer.Option(min=1, help="How often with the page and without.")] = None,
    as_json: Json = False,
) -> None:
    """What the operator's page costs a server with many live calls, and how late it is; two minutes.

    Example: [bold]maya bench console --json[/bold]
    """
    options = {"calls": calls, "viewers": viewers, "seconds": seconds, "rounds": rounds, "progress": _say}
    _bench("console", as_json, options)


@app.command()
def amd(
    profile: Annotated[str | None, typer.Option(help="Models: embedded (default), tiny, maya.")] = None,
    part: Annotated[str | None, typer.Option(help="held_out (default), or tuning while developing.")] = None,
    as_json: Json = False,
) -> None:
    """Who answered: somebody or a machine, on the project's own greetings; and how soon it is known.

    Example: [bold]maya bench amd --json[/bold]
    """
    _bench("amd", as_json, {"profile": profile, "part": part, "progress": _say})


@app.command()
def tools(
    model: Annotated[str | None, typer.Option(help="A language model of the catalogue.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads.")] = None,
    as_json: Json = False,
) -> None:
    """How reliably the language model uses the right tool, and none where none is needed; about 3 minutes.

    Example: [bold]maya bench tools --json[/bold]
    """
    _bench("tools", as_json, {"model": model, "threads": threads})


@app.command()
def llm(
    model: Annotated[str | None, typer.Option(help="A language model of the catalogue.")] = None,
    gguf: Annotated[Path | None, typer.Option(help="A GGUF file instead.")] = None,
    threads: Annotated[int | None, typer.Option(help="Threads of the language model.")] = None,
    persona: Annotated[Path | None, typer.Option(help="Whose questions: a persona's TOML file.")] = None,
    only: Annotated[
        str | None, typer.Option(help="answers; or load: eight calls at once against one at a time.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Answers, speed, tokens that two calls evaluate twice, and eight calls at once against one at a time.

    Example: [bold]maya bench llm --json[/bold]
    """
    options = {"model": model, "gguf": gguf, "threads": threads, "persona": persona, "only": only}
    _bench("llm", as_json, options)


@app.command()
def cluster(
    profile: Annotated[
        str | None, typer.Option(help="Models for the latency: tiny (default), embedded.")
    ] = None,
    pairs: Annotated[
        int | None, typer.Option(min=3, help="Questions asked of both sides; default 40.")
    ] = None,
    kills: Annotated[int | None, typer.Option(min=1, help="Voices killed, of each kind; default 3.")] = None,
    only: Annotated[str | None, typer.Option(help="latency, voice or drills.")] = None,
    as_json: Json = False,
) -> None:
    """Models on Ray Serve against models in this process, and calls whose replicas are killed and stopped;
    about 6 minutes. Needs the extra `cluster`.

    Example: [bold]maya bench cluster --json[/bold]
    """
    if only not in (None, "latency", "voice", "drills"):
        raise CommandError(f"--only {only}: it is latency, voice or drills.")
    options = {"profile": profile, "pairs": pairs, "kills": kills, "only": only, "progress": _say}
    _bench("cluster", as_json, options)


@app.command()
def faults(
    profile: Annotated[
        str | None, typer.Option(help="Also with real models: embedded, tiny; default: stand-ins only.")
    ] = None,
    as_json: Json = False,
) -> None:
    """What a caller notices when the front-end that holds the call is killed, and what is lost with a store;
    two minutes.

    Example: [bold]maya bench faults --json[/bold]
    """
    _bench("faults", as_json, {"profile": profile, "progress": _say})


@app.command()
def csm(
    device: Annotated[
        str | None,
        typer.Option(
            help="cpu: against transformers and moshi (needs infra/setup/peers.sh). cuda: under load."
        ),
    ] = None,
    rounds: Annotated[
        int | None, typer.Option(min=1, help="How often everything is measured in turns.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Threads of every rival.")] = None,
    as_json: Json = False,
) -> None:
    """The CSM voice at full size with random weights; about 8 minutes and 12 GB of memory on the CPU.

    Example: [bold]maya bench csm --json[/bold]
    """
    if device and device.partition(":")[0] not in ("cpu", "cuda"):
        raise CommandError(f"--device {device}: it is cpu or cuda.")
    _bench("csm", as_json, {"device": device, "rounds": rounds, "threads": threads, "progress": _say})


def _say(line: str) -> None:
    print(f"  {line}", file=sys.stderr, flush=True)
