"""What `maya finetune` and its gate share: devices, the base's files, progress on the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING

import typer

from infra.errors import CommandError

if TYPE_CHECKING:
    from infra.settings import Settings
    from models.csm.files import CsmFiles
    from models.csm.finetune.job import Telling
    from models.csm.text import TextTokenizer


def chosen_device(asked: str) -> str:
    """Where it runs. Raises `CommandError` without torch, or where the asked device is not there."""
    from models.machine import torch_cuda_devices

    if find_spec("torch") is None:
        raise CommandError("training needs torch: pip install 'maya-voice[csm,finetune]'")
    n_cuda = torch_cuda_devices()
    if not asked:
        asked = "cuda" if n_cuda else "cpu"
        if asked == "cpu":
            typer.echo("no CUDA device: on the CPU a step of the full model takes minutes.", err=True)
    kind, _, number = asked.partition(":")
    if kind not in ("cpu", "cuda") or (number and not number.isdigit()):
        raise CommandError(f"--device {asked}: it is cpu, cuda, or cuda:1.")
    if kind == "cuda" and int(number or 0) >= n_cuda:
        raise CommandError(f"--device {asked}: this machine has {n_cuda} CUDA devices that torch can use.")
    return asked


def base_files(base: str, settings: "Settings") -> "CsmFiles":
    """The base's files, Mimi's and the tokenizer's. Raises `CommandError` for what is missing."""
    from dataclasses import replace

    from models.mimi.checkpoint import MIMI_FILE
    from models.store import Store
    from models.voices import VoiceChoice, find_voice

    problems: list[str] = []
    choice = VoiceChoice(tts=base, mimi=settings.mimi, tokenizer=settings.tokenizer)
    plan = find_voice(settings.profile, choice, Store(settings.models_dir), problems)
    if problems:
        raise CommandError(" ".join(problems))
    if plan is None:
        raise CommandError(f"--base {base}: it is no model of CSM.")
    mimi = plan.files.mimi
    return replace(plan.files, mimi=mimi / MIMI_FILE if mimi and mimi.is_dir() else mimi)


def text_tokenizer(files: "CsmFiles") -> "TextTokenizer":
    from models.csm.text import TextTokenizer

    if files.tokenizer is None:
        raise CommandError("the tokenizer is missing: say --tokenizer FILE")
    return TextTokenizer.open(files.tokenizer)


@contextmanager
def telling() -> Iterator["Telling"]:
    """Progress bars on stderr, and lines above them."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    from models.csm.finetune.job import Telling

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:

        def stage(name: str, done: int, total: int) -> None:
            if not console.is_terminal:
                console.print(f"{name}: {done} of {total} done", highlight=False)
            progress.add_task(name, total=total, completed=done, note="")

        def advance(note: str) -> None:
            if progress.task_ids:
                progress.update(progress.task_ids[-1], advance=1, note=note)

        yield Telling(stage, advance, lambda line: console.print(line, highlight=False))
