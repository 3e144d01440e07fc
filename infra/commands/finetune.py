"""`maya finetune`, and the gate of quantised weights."""

import json
import shlex
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from infra.commands import options
from infra.commands.options import ConfigFile, Json, LogLevel, settings_for
from infra.errors import CommandError
from infra.finetuning import base_files, chosen_device, telling, text_tokenizer

if TYPE_CHECKING:
    from models.csm.evaluate import GateReport
    from models.csm.files import CsmFiles
    from models.csm.finetune.corpus import Corpus
    from models.csm.finetune.run import Outcome
    from models.csm.linear import Weights

app = typer.Typer(rich_markup_mode="rich")

CorpusPath = Annotated[
    Path | None,
    typer.Option("--corpus", help="Expresso's tar, its folder, or parquet files.", show_default=False),
]
Splits = Annotated[
    Path | None, typer.Option(help="Folder with train.txt, dev.txt, test.txt for a corpus without splits.")
]
Base = Annotated[str, typer.Option(help="The base model: a catalogue name, or the path of its files.")]
Voice = Annotated[str, typer.Option("--voice", help="The speaker of the corpus.")]
Styles = Annotated[list[str] | None, typer.Option("--style", help="Only this style; may be repeated.")]
Device = Annotated[str, typer.Option(help="cuda, cuda:1 or cpu; default: cuda where there is one.")]


class Quantised(StrEnum):
    W8A8 = "w8a8"
    INT8 = "int8"


@app.callback(invoke_without_command=True)
def finetune(
    context: typer.Context,
    corpus: CorpusPath = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for all that comes out; a run there goes on.")
    ] = None,
    base: Base = "csm-1b",
    mimi: options.Mimi = None,
    tokenizer: options.Tokenizer = None,
    splits: Splits = None,
    voice: Voice = "ex04",
    styles: Styles = None,
    speaker: Annotated[int, typer.Option(help="CSM's number for the speaker.")] = 0,
    steps: Annotated[int, typer.Option(min=1, help="Steps of training.")] = 5000,
    batch: Annotated[int, typer.Option(min=1, help="CodecFrames per step.")] = 2048,
    at_once: Annotated[int, typer.Option(min=1, help="CodecFrames in memory at once.")] = 512,
    rate: Annotated[float, typer.Option(min=0, help="Learning rate of decoder and heads.")] = 1e-4,
    projection_rate: Annotated[float, typer.Option(min=0, help="Learning rate of the projection.")] = 3e-5,
    warm_up: Annotated[int, typer.Option(min=0, help="Steps until the full rate.")] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Of the order of the CodecFrames.")] = 0,
    evaluate_every: Annotated[int, typer.Option(min=1, help="Steps from validation to validation.")] = 250,
    sample_every: Annotated[int, typer.Option(min=0, help="Steps from sample to sample; 0: none.")] = 1000,
    cache: Annotated[
        Path | None, typer.Option(help="Folder for codes and states; default: in --out.")
    ] = None,
    device: Device = "",
    as_json: Json = False,
    config: ConfigFile = None,
    log_level: LogLevel = None,
) -> None:
    """Train decoder, heads and projection of CSM-1B; the backbone stays as it is. The same command goes on
    where a run was stopped.

    Example: [bold]maya finetune --corpus expresso.tar --base csm-1b --out voices/ex04[/bold]
    """
    if context.invoked_subcommand is not None:
        return
    if corpus is None or out is None:
        raise CommandError("say where the corpus is and where the files go: --corpus PATH --out FOLDER")
    if not corpus.exists():
        raise CommandError(f"{corpus} does not exist: give Expresso's tar, its folder, or parquet files.")
    settings = settings_for(config, mimi=mimi, tokenizer=tokenizer, log_level=log_level or "warning")
    device = chosen_device(device)
    from models.csm.finetune.corpus import Wanted
    from models.csm.finetune.job import Job
    from models.csm.finetune.recipe import Recipe
    from models.csm.finetune.run import finetune as train

    files = base_files(base, settings)
    recipe = Recipe(
        steps=steps,
        batch=batch,
        rate=rate,
        projection_rate=projection_rate,
        warm_up=warm_up,
        seed=seed,
        evaluate_every=evaluate_every,
    )
    job = Job(
        corpus=corpus,
        files=files,
        out=out,
        wanted=Wanted(voice, tuple(styles or ())),
        splits=splits,
        cache=cache,
        speaker=speaker,
        recipe=recipe,
        device=device,
        at_once=at_once,
        sample_every=sample_every,
    )
    with telling() as told:
        outcome = train(job, text_tokenizer(files), told)
    if as_json:
        typer.echo((out / "report.json").read_text("utf-8"), nl=False)
    else:
        _show(outcome, _say_it(out, base, mimi, tokenizer, device))


@app.command()
def gate(
    weights: Annotated[Quantised, typer.Option(help="w8a8 is for the CPU, int8 for a GPU.")] = Quantised.W8A8,
    corpus: CorpusPath = None,
    base: Base = "csm-1b",
    mimi: options.Mimi = None,
    tokenizer: options.Tokenizer = None,
    splits: Splits = None,
    voice: Voice = "ex04",
    clips: Annotated[int, typer.Option(min=1, help="How many held-out clips are compared.")] = 40,
    speaker: Annotated[int, typer.Option(help="CSM's number for the speaker.")] = 0,
    device: Device = "",
    as_json: Json = False,
    config: ConfigFile = None,
    log_level: LogLevel = None,
) -> None:
    """Compare quantised weights with whole ones on real speech; fails where a codebook is 1 % worse.

    Example: [bold]maya finetune gate --weights w8a8 --corpus expresso.tar --base voices/ex04[/bold]
    """
    if corpus is None:
        raise CommandError("say where the corpus is: --corpus PATH")
    if not corpus.exists():
        raise CommandError(f"{corpus} does not exist: give Expresso's tar, its folder, or parquet files.")
    settings = settings_for(config, mimi=mimi, tokenizer=tokenizer, log_level=log_level or "warning")
    device = chosen_device(device or ("cpu" if weights is Quantised.W8A8 else ""))
    from models.csm.finetune.corpus import Wanted, open_corpus

    files = base_files(base, settings)
    report = _compared(
        files, open_corpus(corpus, Wanted(voice), splits=splits), weights.value, clips, speaker, device
    )
    if as_json:
        figures = {"worse": report.worse, "mean_worse": report.mean_worse, "passed": report.passed}
        typer.echo(json.dumps(asdict(report) | figures, indent=1))
    else:
        _show_gate(report)
    if not report.passed:
        raise typer.Exit(1)


def _compared(
    files: "CsmFiles", corpus: "Corpus", weights: "Weights", clips: int, speaker: int, device: str
) -> "GateReport":
    import torch

    from models.csm.checkpoint import open_checkpoint
    from models.csm.evaluate import compare
    from models.csm.finetune.coded import coded_clips
    from models.csm.model import CsmModel
    from models.mimi.opening import open_codec

    if files.mimi is None:
        raise CommandError("Mimi is missing: say --mimi FILE")
    dtype = torch.bfloat16 if device.startswith("cuda") else torch.float32
    with telling() as told, open_checkpoint(files.base, parts=files.parts) as checkpoint:
        codec = open_codec("own", files.mimi, device)
        coded = coded_clips(
            corpus, text_tokenizer(files), codec, most=clips, speaker=speaker, device=device, telling=told
        )
        if not coded:
            raise CommandError("the corpus holds no clip outside its train split that can be compared on.")

        def load(quantised: bool) -> CsmModel:
            kind = weights if quantised else "full"
            told.stage(f"{kind} weights", 0, len(coded))
            return CsmModel(checkpoint.shape, checkpoint, device=device, dtype=dtype, weights=kind)

        return compare(load, weights, coded, lambda: told.advance(""))


def _say_it(out: Path, base: str, mimi: Path | None, tokenizer: Path | None, device: str) -> str:
    """The command that speaks with what came out. Mimi and the tokenizer stay where the base had them."""
    from models.csm.files import find_csm_files

    words = ["maya", "say", "Hello there.", "--tts", str(out)]
    beside = find_csm_files(Path(base)) if Path(base).expanduser().exists() else None
    for option, given, found in (
        ("--mimi", mimi, beside and beside.mimi),
        ("--tokenizer", tokenizer, beside and beside.tokenizer),
    ):
        if place := given or found:
            words += [option, str(place)]
    return shlex.join([*words, *(["--devices", "tts=cpu"] if device == "cpu" else [])])


def _show(outcome: "Outcome", say_it: str) -> None:
    from models.csm.finetune.run import NOTICE

    clips, hours = outcome.clips, outcome.hours
    typer.echo(
        f"trained on {clips['train']} clips ({60 * hours['train']:.1f} min), validated on {clips['dev']}"
        f" ({60 * hours['dev']:.1f} min)"
        + "".join(f"; {n} {reason}" for reason, n in sorted(outcome.skipped.items()))
    )
    typer.echo(
        f"cross-entropy of codebooks 1 to 31: {outcome.base_loss:.4f} before, {outcome.best_loss:.4f} at step"
        f" {outcome.best_step}; of codebook 0: {outcome.codebook0_loss:.4f} before and after, not trained"
    )
    for file in outcome.files:
        typer.echo(f"{file.path}  {file.tensor_bytes:,} bytes of tensors, {file.file_bytes:,} in all")
    typer.echo(f"speak with it: {say_it}")
    typer.echo(NOTICE)


def _show_gate(report: "GateReport") -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table("codebook", "full", report.weights, "worse by", title="Cross-entropy, nats")
    for number, (whole, quantised) in enumerate(zip(report.whole, report.quantised, strict=True)):
        table.add_row(str(number), f"{whole:.4f}", f"{quantised:.4f}", f"{report.worse[number]:+.2%}")
    Console().print(table)
    typer.echo(
        f"{report.n_clips} clips, {report.n_codec_frames} CodecFrames; mean {report.mean_worse:+.2%}, "
        f"worst codebook {max(report.worse):+.2%}: " + ("passed" if report.passed else "not good enough")
    )
